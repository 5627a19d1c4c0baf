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
		t.Errorf("events %+v, want one of the resolved finding", events)
	}
	before := stored(t, h, "1")
	if before.UpdatedAt != stored(t, h, "2").UpdatedAt {
		t.Error("the customer's update changed UpdatedAt")
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
		t.Errorf("the import did not update the other fields: %s", f.JSON)
	}
}

func TestCustomersRelatedFindingsAndTypesReplaceTheImported(t *testing.T) {
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
		t.Errorf("got %s, want the customer's types, severity and related findings", f.JSON)
	}
}

func TestUpdateReturnsAResultForEachFinding(t *testing.T) {
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
		t.Errorf("got %s, want one processed finding, and a code for each of the others", raw(out))
	}
	if stored(t, h, "1").Workflow.Status != "NOTIFIED" || stored(t, h, "busy").Workflow.Status != "NEW" {
		t.Error("the finding 1 is not updated, or busy is")
	}
	if failed := c.Calls("BatchUpdateFindings")[0].Failed; failed["none"] != "FindingNotFound" || failed["busy"] != "ConcurrentUpdateError" {
		t.Errorf("recorded failures %v, want those of none and busy", failed)
	}
}

func TestUpdateThatMakesAFindingTooLargeFails(t *testing.T) {
	c, h, _ := enabled(t)
	f := sample("1")
	f["Resources"] = []any{object{"Type": "AwsIamRole", "Id": "x", "Details": object{"AwsIamRole": object{"Description": strings.Repeat("x", MaxFindingBytes-2000)}}}}
	c.signed(t, "POST", "/findings/import", string(raw(object{"Findings": []any{f}})))
	stored(t, h, "1")
	_, _, answer := c.signed(t, "PATCH", "/findings/batchupdate", string(raw(object{
		"FindingIdentifiers": []any{object{"Id": "1", "ProductArn": ownProduct}}, "UserDefinedFields": fieldsOf(10, 10, 1000),
	})))
	if !strings.Contains(answer, "FindingSizeExceeded") || stored(t, h, "1").UserDefinedFields != nil {
		t.Errorf("got %s, want FindingSizeExceeded and no user-defined fields", answer)
	}
}

func TestInvalidUpdatesAreErrors(t *testing.T) {
	c, h, client := enabled(t)
	mustImport(t, client, sample("1"))
	one := object{"Id": "1", "ProductArn": ownProduct}
	for name, change := range map[string]object{
		"nothing to update": {},
		"RecordState":       {"RecordState": "ARCHIVED"},
		"Title":             {"Title": "x"},
		"no identifiers":    {"FindingIdentifiers": nil, "Confidence": 1},
		"101 identifiers":   {"FindingIdentifiers": repeated(101, one), "Confidence": 1},
		"identifier":        {"FindingIdentifiers": []any{object{"Id": "1"}}, "Confidence": 1},
		"Confidence":        {"Confidence": 101},
		"Criticality":       {"Criticality": -1},
		"Note":              {"Note": object{"Text": letters(513), "UpdatedBy": "u"}},
		"Note without name": {"Note": object{"Text": "t"}},
		"Severity":          {"Severity": object{"Label": "HUGE"}},
		"empty Severity":    {"Severity": object{}},
		"Types":             {"Types": repeated(51, "TTPs")},
		"UserDefinedFields": {"UserDefinedFields": fieldsOf(51, 10, 10)},
		"VerificationState": {"VerificationState": "MAYBE"},
		"Workflow":          {"Workflow": object{"Status": "DONE"}},
		"empty Workflow":    {"Workflow": object{}},
		"RelatedFindings":   {"RelatedFindings": []any{}},
	} {
		body := raw(with(object{"FindingIdentifiers": []any{one}}, change))
		if status, code, answer := c.signed(t, "PATCH", "/findings/batchupdate", string(body)); status != http.StatusBadRequest || code != "InvalidInputException" {
			t.Errorf("%s: status %d, %s, want InvalidInputException", name, status, answer)
		}
	}
	if f := stored(t, h, "1"); f.RecordState != "ACTIVE" || f.Workflow.Status != "NEW" {
		t.Errorf("the finding changed to %s", f.JSON)
	}
}
