package securityhubtest

import (
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
)

func TestSecurityHubCompletesANewFinding(t *testing.T) {
	c, h, client := enabled(t)
	c.pass(time.Minute)
	mustImport(t, client, sample("a/b"))
	f := stored(t, h, "a/b")
	want := map[string]any{
		"Region": region, "RecordState": "ACTIVE", "WorkflowState": "NEW",
		"ProcessedAt": "2026-09-15T03:01:00.000Z", "ProductName": "Default", "CompanyName": "Personal",
		"Workflow": object{"Status": "NEW"},
		"Severity": object{"Label": "MEDIUM", "Normalized": 40.0, "Original": "5"},
		"Types":    []any{"Unusual Behaviors"},
		"ProductFields": object{
			"BehaviorName":                "MessagesPub",
			"aws/securityhub/FindingId":   ownProduct + "/a/b",
			"aws/securityhub/ProductName": "Default",
			"aws/securityhub/CompanyName": "Personal",
		},
	}
	var got map[string]any
	if err := json.Unmarshal(f.JSON, &got); err != nil {
		t.Fatal(err)
	}
	for name, v := range want {
		if !reflect.DeepEqual(got[name], v) {
			t.Errorf("%s is %s, want %s", name, raw(got[name]), raw(v))
		}
	}
}

func TestDefaultProductCanSetCompanyAndProductName(t *testing.T) {
	_, h, client := enabled(t)
	mustImport(t, client, with(sample("1"), object{"CompanyName": "Example", "ProductName": "Defender Hub"}))
	if f := stored(t, h, "1"); f.CompanyName != "Example" || f.ProductFields["aws/securityhub/ProductName"] != "Defender Hub" {
		t.Errorf("got %s, want the given company and product", f.JSON)
	}
}

func TestSeverityLabelAndNumberAreDerivedFromEachOther(t *testing.T) {
	for _, tt := range []struct {
		severity   object
		label      string
		normalized int
	}{
		{object{"Label": "INFORMATIONAL"}, "INFORMATIONAL", 0},
		{object{"Label": "LOW"}, "LOW", 1},
		{object{"Label": "MEDIUM"}, "MEDIUM", 40},
		{object{"Label": "HIGH"}, "HIGH", 70},
		{object{"Label": "CRITICAL"}, "CRITICAL", 90},
		{object{"Label": "LOW", "Product": 3.5}, "LOW", 1},
		{object{"Normalized": 0}, "INFORMATIONAL", 0},
		{object{"Normalized": 39}, "LOW", 39},
		{object{"Normalized": 69}, "MEDIUM", 69},
		{object{"Normalized": 89}, "HIGH", 89},
		{object{"Normalized": 100}, "CRITICAL", 100},
	} {
		_, h, client := enabled(t)
		mustImport(t, client, with(sample("1"), object{
			"Severity": tt.severity, "FindingProviderFields": object{"Types": []any{"TTPs"}},
		}))
		f := stored(t, h, "1")
		if f.Severity.Label != tt.label || f.Severity.Normalized != tt.normalized || f.FindingProviderFields.Severity.Label != tt.label || strings.Contains(string(f.JSON), "3.5") {
			t.Errorf("the severity %v is stored as %s, want %s, %d", tt.severity, f.JSON, tt.label, tt.normalized)
		}
	}
}

func TestProviderFieldsOverrideTheTopLevelOfANewFinding(t *testing.T) {
	_, h, client := enabled(t)
	mustImport(t, client, with(sample("1"), object{"Severity": object{"Label": "CRITICAL"}, "Types": []any{"Effects"}, "Confidence": 7}))
	f := stored(t, h, "1")
	if f.Severity.Label != "MEDIUM" || f.Types[0] != "Unusual Behaviors" || !strings.Contains(string(f.JSON), `"Confidence":7`) {
		t.Errorf("got %s, want the severity and type of FindingProviderFields", f.JSON)
	}
}

func TestEqualOrOlderUpdateIsIgnoredWithoutError(t *testing.T) {
	c, h, client := enabled(t)
	mustImport(t, client, sample("1"))
	c.events()
	for _, at := range []string{
		"2026-09-15T03:00:00.000Z", "2026-09-15T03:00:00Z", "2026-09-15T03:00:00.0009Z",
		"2026-09-15T04:00:00+01:00", "2026-09-15T02:59:59.999Z",
	} {
		mustImport(t, client, with(sample("1"), object{"UpdatedAt": at, "Title": "late"}))
		if f := stored(t, h, "1"); f.Title == "late" {
			t.Errorf("an import with UpdatedAt %s changed the finding", at)
		}
	}
	if events := c.events(); len(events) != 0 {
		t.Errorf("%d events for imports that changed nothing", len(events))
	}
	mustImport(t, client, with(sample("1"), object{"UpdatedAt": "2026-09-15T03:00:00.001Z", "Title": "new"}))
	if f := stored(t, h, "1"); f.Title != "new" {
		t.Error("an import with a newer UpdatedAt did not change the finding")
	}
	if events := c.events(); len(events) != 1 || events[0].Finding.Title != "new" || events[0].Account != account || events[0].Region != region {
		t.Errorf("events %+v, want one of the new finding", events)
	}
}

func TestUpdateReplacesTheWholeFinding(t *testing.T) {
	_, h, client := enabled(t)
	mustImport(t, client, with(sample("1"), object{"SourceUrl": "https://example.com", "ProductFields": object{"Old": "1"}}))
	mustImport(t, client, with(sample("1"), object{"UpdatedAt": "2026-09-15T03:00:01Z", "ProductFields": object{"New": "1"}}))
	f := stored(t, h, "1")
	if f.SourceURL != "" || f.ProductFields["Old"] != "" || f.ProductFields["New"] != "1" || len(f.ProductFields) != 4 {
		t.Errorf("got %s, want only the fields of the update", f.JSON)
	}
}

func TestImportCannotChangeTheCustomersFields(t *testing.T) {
	_, h, client := enabled(t)
	first := object{
		"Note":              object{"Text": "first", "UpdatedBy": "importer", "UpdatedAt": "2026-09-15T03:00:00.123456789+0100"},
		"UserDefinedFields": object{"team": "a"},
		"VerificationState": "UNKNOWN",
		"Workflow":          object{"Status": "NOTIFIED"},
	}
	mustImport(t, client, with(sample("1"), first))
	mustImport(t, client, with(sample("1"), object{
		"UpdatedAt":         "2026-09-15T03:00:01Z",
		"Note":              object{"Text": "second", "UpdatedBy": "importer", "UpdatedAt": "2026-09-15T03:00:01Z"},
		"UserDefinedFields": object{"team": "b"},
		"VerificationState": "FALSE_POSITIVE",
		"Workflow":          object{"Status": "SUPPRESSED"},
	}))
	f := stored(t, h, "1")
	if f.Note.Text != "first" || f.UserDefinedFields["team"] != "a" || f.VerificationState != "UNKNOWN" || f.Workflow.Status != "NOTIFIED" {
		t.Errorf("got %s, want the values of the first import", f.JSON)
	}
}

func TestTopLevelOfAnUpdateIsIgnored(t *testing.T) {
	_, h, client := enabled(t)
	mustImport(t, client, with(sample("1"), object{"Confidence": 10}))
	mustImport(t, client, with(sample("1"), object{
		"UpdatedAt": "2026-09-15T03:00:01Z", "FindingProviderFields": nil,
		"Severity": object{"Label": "CRITICAL"}, "Types": []any{"Effects"}, "Confidence": 99, "Criticality": 99,
	}))
	f := stored(t, h, "1")
	if f.Severity.Label != "MEDIUM" || f.Types[0] != "Unusual Behaviors" ||
		!strings.Contains(string(f.JSON), `"Confidence":10,`) || strings.Contains(string(f.JSON), "99") {
		t.Errorf("got %s, want the severity, type and confidence of the first import", f.JSON)
	}
	mustImport(t, client, with(sample("1"), object{
		"UpdatedAt": "2026-09-15T03:00:02Z",
		"FindingProviderFields": object{
			"Severity": object{"Label": "HIGH"}, "Types": []any{"TTPs"}, "Criticality": 3,
			"RelatedFindings": []any{object{"ProductArn": ownProduct, "Id": "2"}},
		},
	}))
	f = stored(t, h, "1")
	if f.Severity.Label != "HIGH" || f.Severity.Normalized != 70 || f.Types[0] != "TTPs" || strings.Count(string(f.JSON), `"Criticality":3`) != 2 {
		t.Errorf("got %s, want the values of FindingProviderFields", f.JSON)
	}
}

func TestReopeningResetsNotifiedAndResolved(t *testing.T) {
	for status, want := range map[string]string{"NEW": "NEW", "NOTIFIED": "NEW", "RESOLVED": "NEW", "SUPPRESSED": "SUPPRESSED"} {
		_, h, client := enabled(t)
		mustImport(t, client, with(sample("1"), object{"Workflow": object{"Status": status}}))
		mustImport(t, client, with(sample("1"), object{"UpdatedAt": "2026-09-15T03:00:01Z", "RecordState": "ARCHIVED"}))
		if f := stored(t, h, "1"); f.RecordState != "ARCHIVED" || f.Workflow.Status != status {
			t.Errorf("%s: after archiving, state %s and workflow %s, want ARCHIVED and no change", status, f.RecordState, f.Workflow.Status)
		}
		mustImport(t, client, with(sample("1"), object{"UpdatedAt": "2026-09-15T03:00:02Z", "RecordState": "ACTIVE"}))
		if f := stored(t, h, "1"); f.RecordState != "ACTIVE" || f.Workflow.Status != want {
			t.Errorf("%s: after reopening, state %s and workflow %s, want ACTIVE and %s", status, f.RecordState, f.Workflow.Status, want)
		}
	}
}

func TestFailingComplianceResetsTheWorkflow(t *testing.T) {
	_, h, client := enabled(t)
	mustImport(t, client, with(sample("1"), object{"Workflow": object{"Status": "RESOLVED"}, "Compliance": object{"Status": "PASSED"}}))
	mustImport(t, client, with(sample("1"), object{"UpdatedAt": "2026-09-15T03:00:01Z", "Compliance": object{"Status": "FAILED"}}))
	if f := stored(t, h, "1"); f.Workflow.Status != "NEW" {
		t.Errorf("workflow %s, want NEW", f.Workflow.Status)
	}
}

func TestImportWithoutRecordStateKeepsIt(t *testing.T) {
	_, h, client := enabled(t)
	mustImport(t, client, with(sample("1"), object{"RecordState": "ARCHIVED"}))
	mustImport(t, client, with(sample("1"), object{"UpdatedAt": "2026-09-15T03:00:01Z"}))
	if f := stored(t, h, "1"); f.RecordState != "ARCHIVED" {
		t.Errorf("record state %s, want ARCHIVED", f.RecordState)
	}
}

func TestFindingIsDeleted90DaysAfterItsLastChange(t *testing.T) {
	c, h, client := enabled(t)
	mustImport(t, client, sample("old"), sample("updated"), sample("noted"))
	c.pass(FindingLifetime - time.Hour)
	mustImport(t, client, with(sample("updated"), object{"UpdatedAt": "2026-12-01T00:00:00Z"}), sample("old"))
	if _, err := client.BatchUpdateFindings(context.Background(), &securityhub.BatchUpdateFindingsInput{
		FindingIdentifiers: []types.AwsSecurityFindingIdentifier{id("noted")},
		Workflow:           &types.WorkflowUpdate{Status: types.WorkflowStatusNotified},
	}); err != nil {
		t.Fatal(err)
	}
	c.pass(time.Hour)
	if ids := idsOf(h.Findings()); !reflect.DeepEqual(ids, []string{"updated", "noted"}) {
		t.Errorf("findings %v, want updated and noted: an ignored import is no change", ids)
	}
	c.pass(FindingLifetime)
	if ids := idsOf(h.Findings()); len(ids) != 0 {
		t.Errorf("findings %v, want none after 90 days", ids)
	}
	mustImport(t, client, sample("old"))
	if f := stored(t, h, "old"); f.Workflow.Status != "NEW" {
		t.Errorf("the deleted finding has the workflow %s again, want NEW", f.Workflow.Status)
	}
}

func TestSameIDOfAnotherProductIsAnotherFinding(t *testing.T) {
	_, h, client := enabled(t)
	if _, err := h.EnableProduct(audit); err != nil {
		t.Fatal(err)
	}
	mustImport(t, client, sample("1"))
	result, err := h.ImportNative(raw(with(sample("1"), object{"ProductArn": audit})))
	if err != nil || result.Succeeded != 1 {
		t.Fatal(result, err)
	}
	native, _ := h.Finding(audit, "1")
	if len(h.Findings()) != 2 || native.ProductName != "IoT Device Defender - Audit" || native.CompanyName != "AWS" {
		t.Errorf("%d findings, that of the product is %s, want 2, and its names", len(h.Findings()), native.JSON)
	}
}

func TestNativeFindingsNeedTheSubscription(t *testing.T) {
	_, h, _ := enabled(t)
	f := raw(with(sample("1"), object{"ProductArn": audit}))
	result, err := h.ImportNative(f)
	if err != nil || result.Succeeded != 0 || len(result.Failed) != 1 || result.Failed[0].Code != "InvalidAccess" || result.Failed[0].ID != "1" {
		t.Errorf("without the subscription: %+v, error %v, want InvalidAccess", result, err)
	}
	if _, err := h.ImportNative(raw(sample("1"))); err == nil {
		t.Error("ImportNative accepts a finding of the default product")
	}
}

func TestFindingsOfGuardDutyImport(t *testing.T) {
	_, h, _ := enabled(t)
	guardDuty := strings.Replace(audit, "aws/iot-device-defender-audit", "aws/guardduty", 1)
	f := raw(with(sample("1"), object{"ProductArn": guardDuty}))
	if result, err := h.ImportNative(f); err != nil || result.Succeeded != 0 {
		t.Errorf("without the subscription: %+v, error %v, want a failed finding", result, err)
	}
	if _, err := h.EnableProduct(guardDuty); err != nil {
		t.Fatal(err)
	}
	if result, err := h.ImportNative(f); err != nil || result.Succeeded != 1 {
		t.Fatal(result, err)
	}
	if stored, _ := h.Finding(guardDuty, "1"); stored.ProductName != "GuardDuty" || stored.CompanyName != "Amazon" {
		t.Errorf("got %s, want the product GuardDuty of Amazon", stored.JSON)
	}
	if _, err := h.EnableProduct(strings.Replace(guardDuty, "guardduty", "macie", 1)); err == nil {
		t.Error("a product that the local Security Hub does not have is enabled")
	}
}

func TestSamplesOfTheNativeIntegrationImport(t *testing.T) {
	names := []string{"native-audit", "native-check-summary", "native-detect"}
	for _, name := range names {
		text, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		f, err := decodeObject(text)
		if err != nil {
			t.Fatal(err)
		}
		h := newCloud(t, Config{}).Hub(account, f["Region"].(string))
		if err := h.Enable(Settings{}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.EnableProduct(f["ProductArn"].(string)); err != nil {
			t.Fatal(err)
		}
		if result, err := h.ImportNative(text); err != nil || result.Succeeded != 1 {
			t.Fatal(name, result, err)
		}
		back, err := decodeObject(h.Findings()[0].JSON)
		if err != nil {
			t.Fatal(err)
		}
		delete(back, "ProcessedAt")
		if !reflect.DeepEqual(back, f) {
			t.Errorf("%s is stored as %s, want it unchanged", name, raw(back))
		}
	}
}

func TestOnlyTheAccountCanImportForItsDefaultProduct(t *testing.T) {
	for name, tt := range map[string]struct {
		change object
		code   string
		status int
	}{
		"other account":          {object{"AwsAccountId": "999999999999"}, "AccessDeniedException", http.StatusForbidden},
		"native product":         {object{"ProductArn": audit}, "AccessDeniedException", http.StatusForbidden},
		"other Region":           {object{"ProductArn": strings.ReplaceAll(ownProduct, region, "us-east-1")}, "AccessDeniedException", http.StatusForbidden},
		"default of another":     {object{"ProductArn": strings.ReplaceAll(ownProduct, account, "999999999999")}, "AccessDeniedException", http.StatusForbidden},
		"no product":             {object{"ProductArn": "arn:aws:iot:eu-west-1:123456789012:thing/x"}, "InvalidInputException", http.StatusBadRequest},
		"product without Region": {object{"ProductArn": "arn:aws:securityhub:::product/a/b"}, "InvalidInputException", http.StatusBadRequest},
	} {
		_, h, client := enabled(t)
		_, err := tryImport(t, client, sample("good"), with(sample("1"), tt.change))
		if err == nil || len(h.Findings()) != 0 {
			t.Errorf("%s: error %v, findings %v, want an error and none", name, err, idsOf(h.Findings()))
			continue
		}
		wantError(t, err, tt.code, tt.status)
	}
}

func TestPartitionFollowsTheRegion(t *testing.T) {
	for region, arn := range map[string]string{
		"cn-north-1":    "arn:aws-cn:securityhub:cn-north-1:123456789012:product/123456789012/default",
		"us-gov-west-1": "arn:aws-us-gov:securityhub:us-gov-west-1:123456789012:product/123456789012/default",
	} {
		c := newCloud(t, Config{})
		h := c.Hub(account, region)
		if err := h.Enable(Settings{}); err != nil {
			t.Fatal(err)
		}
		if h.DefaultProductARN() != arn {
			t.Errorf("%s: default product %s, want %s", region, h.DefaultProductARN(), arn)
		}
		mustImport(t, c.client(account, region), with(sample("1"), object{"ProductArn": arn}))
	}
}

func TestAccountsAndRegionsAreSeparate(t *testing.T) {
	c, h, client := enabled(t)
	mustImport(t, client, sample("1"))
	if n := len(c.Hub(account, "us-east-1").Findings()) + len(c.Hub("999999999999", region).Findings()); n != 0 || len(h.Findings()) != 1 {
		t.Error("a finding is in a hub of another account or Region")
	}
	_, err := tryImport(t, c.client("999999999999", region), sample("1"))
	wantError(t, err, "InvalidAccessException", http.StatusUnauthorized)
}

func TestNewestVersionWinsInAnyOrderWithDuplicates(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		h := newCloud(t, Config{}).Hub(account, region)
		if err := h.Enable(Settings{}); err != nil {
			t.Fatal(err)
		}
		var last object
		var versions []object
		for i := range 1 + random.IntN(8) {
			last = with(sample("1"), object{
				"UpdatedAt": formatInstant(time.Date(2026, 9, 15, 3, 0, i, 0, time.UTC)), "Title": string(rune('a' + i)),
				"RecordState": []string{"ACTIVE", "ARCHIVED"}[random.IntN(2)],
			})
			versions = append(versions, last, last)
		}
		random.Shuffle(len(versions), func(i, j int) { versions[i], versions[j] = versions[j], versions[i] })
		for _, v := range versions {
			submissions, err := decodeImport([]json.RawMessage{raw(v)})
			if err != nil {
				t.Fatal(err)
			}
			if result, err := h.importOwn(submissions, func(string) *FindingError { return nil }); err != nil || result.Succeeded != 1 {
				t.Fatal(result, err)
			}
		}
		if f := h.Findings()[0]; f.Title != last["Title"] || f.RecordState != last["RecordState"] || f.Workflow.Status != "NEW" {
			t.Errorf("seed %d: the finding is %s, want %s", seed, f.JSON, raw(last))
		}
	}
}

func id(id string) types.AwsSecurityFindingIdentifier {
	product := ownProduct
	return types.AwsSecurityFindingIdentifier{Id: &id, ProductArn: &product}
}

func idsOf(findings []Finding) []string {
	var ids []string
	for _, f := range findings {
		ids = append(ids, f.ID)
	}
	return ids
}

func TestUpdateDoesNotChangeTheReturnedFinding(t *testing.T) {
	_, h, client := enabled(t)
	mustImport(t, client, sample("1"))
	before := string(stored(t, h, "1").JSON)
	kept := h.findings[findingKey{ownProduct, "1"}].content
	copyOf := maps.Clone(kept)
	mustImport(t, client, with(sample("1"), object{"UpdatedAt": "2026-09-15T03:00:01Z", "FindingProviderFields": object{
		"Severity": object{"Label": "LOW"}, "Types": []any{"TTPs"}}}))
	if !reflect.DeepEqual(copyOf, kept) || string(raw(kept)) != before {
		t.Error("an update changed the content that an earlier call may have returned")
	}
}
