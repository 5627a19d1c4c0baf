package securityhubtest

import (
	"strings"
	"testing"
)

// FuzzImport checks that no body makes the service panic or return an internal error, and that
// every stored finding is valid and can be read back.
func FuzzImport(f *testing.F) {
	for _, seed := range []object{
		sample("1"),
		with(sample("1"), object{"Severity": object{"Normalized": 3}, "FindingProviderFields": object{"Types": []any{"x"}}}),
		with(sample("1"), object{"Note": object{"Text": "t", "UpdatedBy": "u", "UpdatedAt": "2026-09-15T03:00:00.123456-1759"}}),
		with(sample("1"), object{"Network": object{"SourcePort": 1e300}, "Compliance": object{"Status": "PASSED"}}),
	} {
		f.Add([]byte(`{"Findings":[` + string(raw(seed)) + `]}`))
	}
	f.Add([]byte(`{"Findings":[{"Id":"1"},null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h := New(Config{OnImported: func(Imported) {}}).Hub(account, region)
		if err := h.Enable(Settings{}); err != nil {
			t.Fatal(err)
		}
		submissions, err := decodeImportBody(body)
		if err != nil {
			return
		}
		pass := func(string) *FindingError { return nil }
		result, err := h.importOwn(submissions, pass)
		if err != nil {
			return
		}
		if result.Succeeded+len(result.Failed) != len(submissions) {
			t.Errorf("%d findings succeeded or failed, want %d", result.Succeeded+len(result.Failed), len(submissions))
		}
		for _, stored := range h.Findings() {
			back, err := decodeObject(stored.JSON)
			if err != nil {
				t.Fatal(err)
			}
			delete(back, "ProcessedAt")
			faults := faultsOf(asff, back)
			if len(faults) > 0 {
				t.Errorf("an invalid finding is stored: %s", strings.Join(faults, ", "))
			}
		}
		if again, err := h.importOwn(submissions, pass); err != nil || again.Succeeded != result.Succeeded {
			t.Errorf("the same import again returns %+v, error %v, want %+v", again, err, result)
		}
	})
}

// FuzzQuery checks that no filter panics, and that GetFindings returns only stored findings.
func FuzzQuery(f *testing.F) {
	f.Add([]byte(`{"Filters":{"Id":[{"Value":"1","Comparison":"PREFIX"}],"UpdatedAt":[{"DateRange":{"Value":1,"Unit":"DAYS"}}]},"MaxResults":1}`))
	f.Add([]byte(`{"Filters":{"SeverityNormalized":[{"Gte":1,"Lt":1e9}],"NetworkSourceIpV4":[{"Cidr":"10.0.0.0/8"}]},"SortCriteria":[{"Field":"Title","SortOrder":"desc"}]}`))
	f.Add([]byte(`{"Filters":{"ProductFields":[{"Key":"k","Value":"v","Comparison":"NOT_EQUALS"}],"Sample":[{"Value":true}]},"NextToken":"AAAA"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		h := New(Config{}).Hub(account, region)
		if err := h.Enable(Settings{}); err != nil {
			t.Fatal(err)
		}
		submissions, err := decodeImportBody(raw(object{"Findings": []any{sample("1"), sample("2")}}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.importOwn(submissions, func(string) *FindingError { return nil }); err != nil {
			t.Fatal(err)
		}
		answer, err := getFindings(&request{call: &Call{}, hub: h, body: body})
		if err != nil {
			return
		}
		for _, found := range answer.(object)["Findings"].([]object) {
			if id := found["Id"]; id != "1" && id != "2" {
				t.Errorf("the result has the finding %v, which was not imported", id)
			}
		}
	})
}
