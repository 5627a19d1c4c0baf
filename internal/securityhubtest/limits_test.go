package securityhubtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// letters returns n characters of two bytes each, because the limits count characters.
func letters(n int) string { return strings.Repeat("ä", n) }

// fieldsOf returns n members with keys and values of the given lengths.
func fieldsOf(n, key, value int) object {
	o := object{}
	for i := range n {
		k := fmt.Sprint(i)
		o[k+strings.Repeat("k", key-len(k))] = letters(value)
	}
	return o
}

func repeated(n int, v any) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = v
	}
	return list
}

// resource returns a change of a finding: its only resource is valid, changed by change.
func resource(change object) object {
	return object{"Resources": []any{with(object{"Type": "Other", "Id": "x"}, change)}}
}

// provided returns a change of a finding: its FindingProviderFields are valid, changed by change.
func provided(change object) object {
	return object{"FindingProviderFields": with(object{"Severity": object{"Label": "LOW"}, "Types": []any{"TTPs"}}, change)}
}

func recommendation(o object) object { return object{"Remediation": object{"Recommendation": o}} }

func other(v any) object { return resource(object{"Details": object{"Other": v}}) }

func note(change object) object {
	return object{"Note": with(object{"Text": "t", "UpdatedBy": "u", "UpdatedAt": "2026-09-15T03:00:00Z"}, change)}
}

// limits are pairs of a valid and an invalid change of a finding, with the service's message.
var limits = []struct {
	name     string
	conforms object
	violates object
	says     string
}{
	{"SchemaVersion", object{"SchemaVersion": "2018-10-08"}, object{"SchemaVersion": "2019-10-08"}, "data.SchemaVersion should be equal to one of the allowed values"},
	{"SchemaVersion missing", nil, object{"SchemaVersion": nil}, "data should have required property 'SchemaVersion'"},
	{"GeneratorId", object{"GeneratorId": letters(512)}, object{"GeneratorId": letters(513)}, "data.GeneratorId should NOT be longer than 512 characters"},
	{"GeneratorId missing", nil, object{"GeneratorId": nil}, "required property 'GeneratorId'"},
	{"Title", object{"Title": letters(256)}, object{"Title": letters(257)}, "data.Title should NOT be longer than 256 characters"},
	{"Title missing", nil, object{"Title": nil}, "required property 'Title'"},
	{"Title empty", object{"Title": "t"}, object{"Title": ""}, "data.Title should NOT be shorter than 1 characters"},
	{"Title blank", object{"Title": " t "}, object{"Title": " \n\t"}, "data.Title should match pattern"},
	{"Title type", nil, object{"Title": 7}, "data.Title should be string"},
	{"Description", object{"Description": letters(1024)}, object{"Description": letters(1025)}, "longer than 1024"},
	{"Description missing", nil, object{"Description": nil}, "required property 'Description'"},
	{"CreatedAt missing", nil, object{"CreatedAt": nil}, "required property 'CreatedAt'"},
	{"UpdatedAt missing", nil, object{"UpdatedAt": nil}, "required property 'UpdatedAt'"},
	{"seconds", object{"UpdatedAt": "2026-09-15T03:00:00Z"}, object{"UpdatedAt": "2026-09-15T03:00Z"}, `data.UpdatedAt should match format "date-time"`},
	{"zone", object{"UpdatedAt": "2026-09-15T03:00:00+17:59"}, object{"UpdatedAt": "2026-09-15T03:00:00"}, `format "date-time"`},
	{"offset without colon", object{"UpdatedAt": "2026-09-15T03:00:00-1759"}, object{"UpdatedAt": "2026-09-15T03:00:00-1801"}, `format "date-time"`},
	{"decimals", object{"CreatedAt": "2026-09-15T03:00:00.123456789Z"}, object{"CreatedAt": "2026-09-15T03:00:00.1234567890Z"}, `format "date-time"`},
	{"milliseconds since 1970", nil, object{"UpdatedAt": "1789441200000"}, `format "date-time"`},
	{"day of month", object{"FirstObservedAt": "2028-02-29T00:00:00Z"}, object{"FirstObservedAt": "2026-02-29T00:00:00Z"}, `data.FirstObservedAt should match format`},
	{"LastObservedAt", object{"LastObservedAt": "2026-09-15T03:00:00.123Z"}, object{"LastObservedAt": "yesterday"}, `data.LastObservedAt should match format`},
	{"Resources", object{"Resources": repeated(32, object{"Type": "Other", "Id": "x"})}, object{"Resources": repeated(33, object{"Type": "Other", "Id": "x"})}, "data.Resources should NOT have more than 32 items"},
	{"Resources empty", nil, object{"Resources": []any{}}, "data.Resources should NOT have fewer than 1 items"},
	{"Resources missing", nil, object{"Resources": nil}, "required property 'Resources'"},
	{"Resource.Type", resource(object{"Type": letters(256)}), resource(object{"Type": letters(257)}), "data.Resources[0].Type should NOT be longer than 256 characters"},
	{"Resource.Type empty", nil, resource(object{"Type": ""}), "data.Resources[0].Type should NOT be shorter than 1 characters"},
	{"Resource.Id missing", nil, resource(object{"Id": nil}), "data.Resources[0] should have required property 'Id'"},
	{"Resource.Id", resource(object{"Id": letters(512)}), resource(object{"Id": letters(513)}), "data.Resources[0].Id should NOT be longer"},
	{"Resource.Region", resource(object{"Region": letters(16)}), resource(object{"Region": letters(17)}), "data.Resources[0].Region should NOT be longer than 16"},
	{"Resource.Partition", resource(object{"Partition": "aws-us-gov"}), resource(object{"Partition": "aws-iso"}), "data.Resources[0].Partition should be equal to one of the allowed values"},
	{"Details type", resource(object{"Details": object{"AwsIamRole": object{"RoleName": "r"}}}), resource(object{"Details": object{"AwsIotPolicy": object{"Name": "p"}}}), "data.Resources[0].Details should NOT have additional properties, but has 'AwsIotPolicy'"},
	{"Details blank", nil, resource(object{"Details": object{"AwsIamRole": object{"RoleName": " "}}}), "data.Resources[0].Details.AwsIamRole.RoleName should match pattern"},
	{"Details.Other pairs", other(fieldsOf(50, 128, 1024)), other(fieldsOf(51, 128, 10)), "data.Resources[0].Details.Other should NOT have more than 50 properties"},
	{"Details.Other value", nil, other(object{"k": letters(1025)}), "data.Resources[0].Details.Other['k'] should NOT be longer than 1024"},
	{"Details.Other number", nil, other(object{"k": 1}), "data.Resources[0].Details.Other['k'] should be string"},
	{"Resource.Tags", resource(object{"Tags": fieldsOf(50, 128, 256)}), resource(object{"Tags": fieldsOf(51, 128, 256)}), "data.Resources[0].Tags should NOT have more than 50"},
	{"Types", provided(object{"Types": repeated(50, "TTPs/a/b")}), provided(object{"Types": repeated(51, "TTPs/a/b")}), "data.FindingProviderFields.Types should NOT have more than 50 items"},
	{"Types blank", nil, provided(object{"Types": []any{" "}}), "data.FindingProviderFields.Types[0] should match pattern"},
	{"Types missing", with(provided(object{"Types": nil}), object{"Types": []any{"TTPs"}}), provided(object{"Types": nil}), "required property 'Types'"},
	{"Severity missing", with(object{"FindingProviderFields": nil, "Types": []any{"TTPs"}}, object{"Severity": object{"Normalized": 0}}), object{"FindingProviderFields": nil, "Types": []any{"TTPs"}}, "data should have required property 'FindingProviderFields', data should match some schema in anyOf"},
	{"Severity empty", nil, provided(object{"Severity": object{"Original": "9"}}), "data.FindingProviderFields.Severity should have required property 'Label'"},
	{"Severity.Label", provided(object{"Severity": object{"Label": "INFORMATIONAL"}}), provided(object{"Severity": object{"Label": "HUGE"}}), "data.FindingProviderFields.Severity.Label should be equal to one of the allowed values"},
	{"Severity.Original", provided(object{"Severity": object{"Label": "LOW", "Original": letters(64)}}), provided(object{"Severity": object{"Label": "LOW", "Original": letters(65)}}), "Severity.Original should NOT be longer than 64"},
	{"Severity.Normalized", object{"Severity": object{"Label": "LOW", "Normalized": 100}}, object{"Severity": object{"Label": "LOW", "Normalized": 101}}, "data.Severity.Normalized should be <= 100"},
	{"Confidence", provided(object{"Confidence": 100}), provided(object{"Confidence": 101}), "data.FindingProviderFields.Confidence should be <= 100"},
	{"Criticality", provided(object{"Criticality": 0}), provided(object{"Criticality": -1}), "data.FindingProviderFields.Criticality should be >= 0"},
	{"RelatedFindings", provided(object{"RelatedFindings": repeated(10, object{"ProductArn": audit, "Id": "1"})}), provided(object{"RelatedFindings": repeated(11, object{"ProductArn": audit, "Id": "1"})}), "RelatedFindings should NOT have more than 10 items"},
	{"RelatedFindings empty", nil, provided(object{"RelatedFindings": []any{}}), "RelatedFindings should NOT have fewer than 1 items"},
	{"RelatedFindings.Id", nil, provided(object{"RelatedFindings": []any{object{"ProductArn": audit}}}), "RelatedFindings[0] should have required property 'Id'"},
	{"ProductFields pairs", object{"ProductFields": fieldsOf(47, 128, 2048)}, object{"ProductFields": fieldsOf(48, 10, 10)}, "data.ProductFields should NOT have more than 47 properties"},
	{"ProductFields derived", object{"ProductFields": with(fieldsOf(47, 10, 10), object{"aws/securityhub/FindingId": "x"})}, object{"ProductFields": with(fieldsOf(47, 10, 10), object{"aws/securityhub/Other": "x"})}, "data.ProductFields should NOT have more than 47 properties"},
	{"ProductFields key", nil, object{"ProductFields": fieldsOf(1, 129, 1)}, "should NOT be longer than 128 characters"},
	{"ProductFields value", nil, object{"ProductFields": object{"k": letters(2049)}}, "data.ProductFields['k'] should NOT be longer than 2048 characters"},
	{"ProductFields empty", nil, object{"ProductFields": object{"k": ""}}, "data.ProductFields['k'] should NOT be shorter than 1 characters"},
	{"UserDefinedFields pairs", object{"UserDefinedFields": fieldsOf(50, 128, 1024)}, object{"UserDefinedFields": fieldsOf(51, 10, 10)}, "data.UserDefinedFields should NOT have more than 50 properties"},
	{"UserDefinedFields value", nil, object{"UserDefinedFields": object{"k": letters(1025)}}, "data.UserDefinedFields['k'] should NOT be longer than 1024"},
	{"Recommendation.Text", recommendation(object{"Text": letters(512)}), recommendation(object{"Text": letters(513)}), "data.Remediation.Recommendation.Text should NOT be longer than 512 characters"},
	{"Recommendation.Url blank", recommendation(object{"Url": "https://example.com"}), recommendation(object{"Url": " "}), "data.Remediation.Recommendation.Url should match pattern"},
	{"SourceUrl empty", object{"SourceUrl": "https://example.com"}, object{"SourceUrl": ""}, "data.SourceUrl should NOT be shorter"},
	{"Note.Text", note(object{"Text": letters(512)}), note(object{"Text": letters(513)}), "data.Note.Text should NOT be longer than 512"},
	{"Note.UpdatedBy", nil, note(object{"UpdatedBy": nil}), "data.Note should have required property 'UpdatedBy'"},
	{"CompanyName", object{"CompanyName": letters(128)}, object{"CompanyName": letters(129)}, "data.CompanyName should NOT be longer than 128"},
	{"ProductName", object{"ProductName": letters(128)}, object{"ProductName": letters(129)}, "data.ProductName should NOT be longer than 128"},
	{"Region", object{"Region": letters(16)}, object{"Region": letters(17)}, "data.Region should NOT be longer than 16"},
	{"AwsAccountName", object{"AwsAccountName": letters(50)}, object{"AwsAccountName": letters(51)}, "data.AwsAccountName should NOT be longer than 50"},
	{"RecordState", object{"RecordState": "ARCHIVED"}, object{"RecordState": "DELETED"}, "data.RecordState should be equal to one of the allowed values"},
	{"Workflow", object{"Workflow": object{"Status": "SUPPRESSED"}}, object{"Workflow": object{"Status": "DONE"}}, "data.Workflow.Status should be equal to one of the allowed values"},
	{"VerificationState", object{"VerificationState": "BENIGN_POSITIVE"}, object{"VerificationState": "MAYBE"}, "data.VerificationState should be equal to one of the allowed values"},
	{"Compliance.Status", object{"Compliance": object{"Status": "NOT_AVAILABLE"}}, object{"Compliance": object{"Status": "MAYBE"}}, "data.Compliance.Status should be equal to one of the allowed values"},
	{"Malware", object{"Malware": repeated(5, object{"Name": "m"})}, object{"Malware": repeated(6, object{"Name": "m"})}, "data.Malware should NOT have more than 5 items"},
	{"Threats", object{"Threats": repeated(32, object{"Name": "m"})}, object{"Threats": repeated(33, object{"Name": "m"})}, "data.Threats should NOT have more than 32 items"},
	{"ThreatIntelIndicators", object{"ThreatIntelIndicators": repeated(5, object{"Value": "v"})}, object{"ThreatIntelIndicators": repeated(6, object{"Value": "v"})}, "data.ThreatIntelIndicators should NOT have more than 5 items"},
	{"Sample", object{"Sample": true}, object{"Sample": "yes"}, "data.Sample should be boolean"},
	{"unknown member", nil, object{"Titel": "x"}, "data should NOT have additional properties, but has 'Titel'"},
}

func TestEachLimitOfAFinding(t *testing.T) {
	c, h, _ := enabled(t)
	for i, tt := range limits {
		t.Run(tt.name, func(t *testing.T) {
			good, bad := fmt.Sprint("good", i), fmt.Sprint("bad", i)
			body := raw(object{"Findings": []any{with(sample(bad), tt.violates), with(sample(good), tt.conforms)}})
			status, _, answer := c.signed(t, "POST", "/findings/import", string(body))
			if status != http.StatusOK {
				t.Fatal(status, answer)
			}
			if !strings.Contains(answer, `"FailedCount":1,"SuccessCount":1`) || !strings.Contains(answer, `"Id":"`+bad+`","ErrorCode":"InvalidInput","ErrorMessage":"Finding does not adhere to Amazon Finding Format. `) {
				t.Errorf("got %s, want one success, and InvalidInput for %s", answer, bad)
			}
			if said := strings.ReplaceAll(answer, `\"`, `"`); !strings.Contains(said, tt.says) {
				t.Errorf("got %s, want the message %q", said, tt.says)
			}
			if _, ok := h.Finding(ownProduct, bad); ok {
				t.Error("the invalid finding is imported")
			}
			stored(t, h, good)
		})
	}
}

func TestFindingIDHasAtMost512Characters(t *testing.T) {
	_, h, client := enabled(t)
	mustImport(t, client, sample(letters(512)))
	out := importAll(t, client, sample(letters(513)))
	if *out.FailedCount != 1 || len(h.Findings()) != 1 || *out.FailedFindings[0].Id != letters(513) {
		t.Errorf("got %s and %d findings, want a failed and an imported one", raw(out), len(h.Findings()))
	}
}

func TestFindingHasAtMost240KB(t *testing.T) {
	c, h, _ := enabled(t)
	sized := func(id string, size int) string {
		f := sample(id)
		details := object{"Description": "x"}
		f["Resources"] = []any{object{"Type": "AwsIamRole", "Id": "x", "Details": object{"AwsIamRole": details}}}
		details["Description"] = strings.Repeat("x", 1+size-len(raw(f)))
		return string(raw(f))
	}
	fits, exceeds := sized("fits", MaxFindingBytes), sized("exceeds", MaxFindingBytes+1)
	_, _, answer := c.signed(t, "POST", "/findings/import", `{"Findings":[`+exceeds+","+fits+`]}`)
	if !strings.Contains(answer, `{"FailedCount":1,"SuccessCount":1,"FailedFindings":[{"Id":"exceeds","ErrorCode":"FindingSizeExceeded"`) {
		t.Errorf("got %s, want FindingSizeExceeded for the larger finding alone", answer)
	}
	stored(t, h, "fits")
}

func TestCallHasAtMost6MB(t *testing.T) {
	c, _, _ := enabled(t)
	body := `{"Findings":[` + string(raw(sample("1"))) + `]}`
	fits := body + strings.Repeat(" ", MaxCallBytes-len(body))
	if status, _, answer := c.signed(t, "POST", "/findings/import", fits); status != http.StatusOK {
		t.Errorf("6 MB: status %d, %s, want 200", status, answer)
	}
	if status, code, answer := c.signed(t, "POST", "/findings/import", fits+" "); status != http.StatusBadRequest || code != "InvalidInputException" || !strings.Contains(answer, "6 MB") {
		t.Errorf("6 MB and a byte: status %d, %s, %s, want InvalidInputException that says 6 MB", status, code, answer)
	}
}

func TestCallHas1To100Findings(t *testing.T) {
	_, h, client := enabled(t)
	var findings []object
	for i := range 101 {
		findings = append(findings, sample(fmt.Sprint(i)))
	}
	_, err := tryImport(t, client, findings...)
	wantError(t, err, "InvalidInputException", http.StatusBadRequest)
	if !strings.Contains(err.Error(), "Size '101' is greater than maximum value: 100.") || len(h.Findings()) != 0 {
		t.Errorf("101 findings: error %v, %d imported, want an error about the size and none", err, len(h.Findings()))
	}
	mustImport(t, client, findings[:100]...)
}

func TestInvalidRequestImportsNothing(t *testing.T) {
	c, h, _ := enabled(t)
	one := string(raw(sample("1")))
	for name, body := range map[string]string{
		"nothing":            ``,
		"no list":            `{"Findings":{}}`,
		"empty list":         `{"Findings":[]}`,
		"null":               `{"Findings":null}`,
		"no object":          `{"Findings":["x"]}`,
		"null finding":       `{"Findings":[null]}`,
		"other member":       `{"findings":[` + one + `]}`,
		"broken":             `{"Findings":[` + one,
		"trailing":           `{"Findings":[` + one + `]}x`,
		"without Id":         `{"Findings":[` + string(raw(with(sample(""), object{"Id": nil}))) + `]}`,
		"blank Id":           `{"Findings":[` + string(raw(sample(" "))) + `]}`,
		"Id is a number":     `{"Findings":[` + string(raw(with(sample(""), object{"Id": 1}))) + `]}`,
		"one Id twice":       `{"Findings":[` + one + `,` + one + `]}`,
		"Id of two products": `{"Findings":[` + one + `,` + string(raw(with(sample("1"), object{"ProductArn": audit}))) + `]}`,
	} {
		if status, code, answer := c.signed(t, "POST", "/findings/import", body); status != http.StatusBadRequest || code != "InvalidInputException" || !strings.Contains(answer, `"Message":"`) {
			t.Errorf("%s: status %d, %s, %s, want InvalidInputException with a message", name, status, code, answer)
		}
	}
	if len(h.Findings()) != 0 {
		t.Errorf("findings %v, want none", idsOf(h.Findings()))
	}
}

func TestNullIsAnAbsentMember(t *testing.T) {
	c, h, _ := enabled(t)
	f := sample("1")
	f["SourceUrl"], f["Note"] = nil, nil
	if _, _, answer := c.signed(t, "POST", "/findings/import", string(raw(object{"Findings": []any{f}}))); !strings.Contains(answer, `"SuccessCount":1`) {
		t.Fatal(answer)
	}
	if text := string(stored(t, h, "1").JSON); strings.Contains(text, "null") || strings.Contains(text, "Note") {
		t.Errorf("got %s, want it without Note", text)
	}
}

func TestOneMessageListsAllFaultsOfAFinding(t *testing.T) {
	_, _, client := enabled(t)
	out := importAll(t, client, with(sample("1"), object{"Title": letters(257), "Description": " "}))
	if m := aws.ToString(out.FailedFindings[0].ErrorMessage); !strings.Contains(m, "data.Title") || !strings.Contains(m, "data.Description") {
		t.Errorf("got the message %s, want the faults of Title and Description", m)
	}
}
