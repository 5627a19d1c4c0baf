package securityhubtest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
)

func TestCustomersChangesSurviveImports(t *testing.T) {
	c, h, client := enabled(t)
	mustImport(t, client, sample("1"), sample("2"))
	c.events()
	c.pass(1)
	out, err := client.BatchUpdateFindings(context.Background(), &securityhub.BatchUpdateFindingsInput{
		FindingIdentifiers: []types.AwsSecurityFindingIdentifier{id("1")},
		Note:               &types.NoteUpdate{Text: aws.String("Known"), UpdatedBy: aws.String("user1")},
		Severity:           &types.SeverityUpdate{Label: types.SeverityLabelLow},
		Confidence:         aws.Int32(42),
		Criticality:        aws.Int32(43),
		VerificationState:  types.VerificationStateBenignPositive,
		UserDefinedFields:  map[string]string{"team": "a"},
		Workflow:           &types.WorkflowUpdate{Status: types.WorkflowStatusResolved},
	})
	if err != nil || len(out.ProcessedFindings) != 1 || len(out.UnprocessedFindings) != 0 {
		t.Fatal(out, err)
	}
	if events := c.events(); len(events) != 1 || events[0].Finding.Workflow.Status != "RESOLVED" {
		t.Errorf("events %+v", events)
	}
	before := stored(t, h, "1")
	if before.UpdatedAt != stored(t, h, "2").UpdatedAt {
		t.Error("the customer's update moved UpdatedAt")
	}
	mustImport(t, client, with(sample("1"), with(provided(object{"Severity": object{"Label": "CRITICAL"}, "Types": []any{"Effects"}, "Confidence": 1}),
		object{"UpdatedAt": "2026-09-15T03:00:01Z", "Title": "new"})))
	f := stored(t, h, "1")
	if f.Note.Text != "Known" || f.Note.UpdatedBy != "user1" || !f.Note.UpdatedAt.Equal(before.Note.UpdatedAt) ||
		f.Severity.Label != "LOW" || f.Severity.Normalized != 1 || f.Severity.Original != "5" || f.VerificationState != "BENIGN_POSITIVE" ||
		f.UserDefinedFields["team"] != "a" || f.Workflow.Status != "RESOLVED" ||
		!strings.Contains(string(f.JSON), `"Confidence":42,"Cre`) || !strings.Contains(string(f.JSON), `"Criticality":43`) {
		t.Errorf("the customer's values are lost: %s", f.JSON)
	}
	if f.Title != "new" || f.Types[0] != "Effects" || f.FindingProviderFields.Severity.Label != "CRITICAL" {
		t.Errorf("what the customer did not touch was not updated: %s", f.JSON)
	}
}

func TestCustomersRelatedFindingsAndTypesReplace(t *testing.T) {
	_, h, client := enabled(t)
	mustImport(t, client, sample("1"))
	if _, err := client.BatchUpdateFindings(context.Background(), &securityhub.BatchUpdateFindingsInput{
		FindingIdentifiers: []types.AwsSecurityFindingIdentifier{id("1")},
		Types:              []string{"Effects/Denial of Service"},
		RelatedFindings:    []types.RelatedFinding{{Id: aws.String("2"), ProductArn: aws.String(audit)}},
		Severity:           &types.SeverityUpdate{Normalized: aws.Int32(75)},
	}); err != nil {
		t.Fatal(err)
	}
	if f := stored(t, h, "1"); f.Types[0] != "Effects/Denial of Service" || f.Severity.Label != "HIGH" || f.FindingProviderFields.Types[0] != "Unusual Behaviors" || !strings.Contains(string(f.JSON), `"RelatedFindings":[{`) {
		t.Errorf("%s", f.JSON)
	}
}

func TestUpdateAnswersForEachFinding(t *testing.T) {
	c, h, client := enabled(t)
	mustImport(t, client, sample("1"), sample("busy"))
	c.Inject(Fault{FailFinding: func(id string) *FindingError {
		if id == "busy" {
			return &FindingError{Code: "ConcurrentUpdateError", Message: "An import runs"}
		}
		return nil
	}})
	out, err := client.BatchUpdateFindings(context.Background(), &securityhub.BatchUpdateFindingsInput{
		FindingIdentifiers: []types.AwsSecurityFindingIdentifier{id("1"), id("none"), id("1"), id("busy")},
		Workflow:           &types.WorkflowUpdate{Status: types.WorkflowStatusNotified},
	})
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, u := range out.UnprocessedFindings {
		codes = append(codes, *u.FindingIdentifier.Id+" "+*u.ErrorCode)
	}
	if fmt.Sprint(codes) != "[none FindingNotFound 1 DuplicatedFindingIdentifier busy ConcurrentUpdateError]" || len(out.ProcessedFindings) != 1 {
		t.Errorf("%s", raw(out))
	}
	if stored(t, h, "1").Workflow.Status != "NOTIFIED" || stored(t, h, "busy").Workflow.Status != "NEW" {
		t.Error("the wrong finding was updated")
	}
	if failed := c.Calls("BatchUpdateFindings")[0].Failed; failed["none"] != "FindingNotFound" || failed["busy"] != "ConcurrentUpdateError" {
		t.Error(failed)
	}
}

func TestUpdateOverTheSizeIsRefused(t *testing.T) {
	c, h, _ := enabled(t)
	f := sample("1")
	f["Resources"] = []any{object{"Type": "AwsIamRole", "Id": "x", "Details": object{"AwsIamRole": object{"Description": strings.Repeat("x", MaxFindingBytes-2000)}}}}
	c.signed(t, "POST", "/findings/import", string(raw(object{"Findings": []any{f}})))
	stored(t, h, "1")
	_, _, answer := c.signed(t, "PATCH", "/findings/batchupdate", string(raw(object{
		"FindingIdentifiers": []any{object{"Id": "1", "ProductArn": ownProduct}}, "UserDefinedFields": fieldsOf(10, 10, 1000),
	})))
	if !strings.Contains(answer, "FindingSizeExceeded") || stored(t, h, "1").UserDefinedFields != nil {
		t.Error(answer)
	}
}

func TestUpdatesThatTheServiceRefuses(t *testing.T) {
	c, h, client := enabled(t)
	mustImport(t, client, sample("1"))
	one := object{"Id": "1", "ProductArn": ownProduct}
	for name, change := range map[string]object{
		"nothing to update":  {},
		"RecordState":        {"RecordState": "ARCHIVED"},
		"Title":              {"Title": "x"},
		"no identifiers":     {"FindingIdentifiers": nil, "Confidence": 1},
		"101 identifiers":    {"FindingIdentifiers": repeated(101, one), "Confidence": 1},
		"identifier":         {"FindingIdentifiers": []any{object{"Id": "1"}}, "Confidence": 1},
		"Confidence":         {"Confidence": 101},
		"Criticality":        {"Criticality": -1},
		"Note":               {"Note": object{"Text": letters(513), "UpdatedBy": "u"}},
		"Note without name":  {"Note": object{"Text": "t"}},
		"Severity":           {"Severity": object{"Label": "HUGE"}},
		"Severity of nobody": {"Severity": object{}},
		"Types":              {"Types": repeated(51, "TTPs")},
		"UserDefinedFields":  {"UserDefinedFields": fieldsOf(51, 10, 10)},
		"VerificationState":  {"VerificationState": "MAYBE"},
		"Workflow":           {"Workflow": object{"Status": "DONE"}},
		"Workflow of nobody": {"Workflow": object{}},
		"RelatedFindings":    {"RelatedFindings": []any{}},
	} {
		body := raw(with(object{"FindingIdentifiers": []any{one}}, change))
		if status, code, answer := c.signed(t, "PATCH", "/findings/batchupdate", string(body)); status != http.StatusBadRequest || code != "InvalidInputException" {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	if f := stored(t, h, "1"); f.RecordState != "ACTIVE" || f.Workflow.Status != "NEW" {
		t.Errorf("%s", f.JSON)
	}
}
