package handler_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

// redeploy deploys a version with one severity per source, and another one for the behavior
// small.
func (r *rig) redeploy(version string, severity, small defender.Severity) {
	r.version = version
	r.handler.Severities.Sources = map[defender.Source]defender.Severity{}
	for _, s := range defender.Sources() {
		r.handler.Severities.Sources[s] = severity
	}
	l := live("large")
	l.Add("plant", "small", small)
	r.deploy(l)
}

// active raises findings of each source, and two that have ended.
func (r *rig) active() {
	r.t.Helper()
	disconnected := strings.Replace(sample(r.t, "lifecycle-disconnected"), "CLIENT_INITIATED_DISCONNECT", "DUPLICATE_CLIENTID", 1)
	r.must(
		r.alarm("pump-1", "small"), r.alarm("pump-1", "large"),
		r.device("pump-1", r.now, tamper), r.device("pump-2", r.now, tamper),
		r.message(ruleBody(defender.SecurityDisconnects, "$aws/events/presence/disconnected/186b5", disconnected, nil)),
		r.message(ruleBody(defender.RefusedConnections, "$aws/events/presence/connect_failed/186b5", sample(r.t, "lifecycle-connect-failed"), nil)),
		r.message(ruleBody(defender.RejectedReports, "$aws/things/myThing/defender/metrics/json/rejected", sample(r.t, "report-rejected"), nil)),
		r.message(notification("arn:aws:sns:us-east-1:123456789012:audits", sample(r.t, "sns-audit-failed-check"))),
		r.message(sample(r.t, "sns-detect-cidrs")),
	)
	r.must(r.device("pump-2", r.now.Add(time.Second), `{"type":"tamper","state":"cleared"}`))
}

// severities returns those of the active findings.
func (r *rig) severities() map[string]string {
	all := map[string]string{}
	for _, f := range r.hub.Findings() {
		if f.RecordState == "ACTIVE" {
			all[strings.TrimPrefix(f.ID, "defenderhub/")] = f.FindingProviderFields.Severity.Label
		}
	}
	return all
}

func TestChangedSeverityReachesActiveFindingsOfEachSource(t *testing.T) {
	r := newRig(t)
	r.redeploy("1", defender.Medium, defender.High)
	r.active()
	r.refresh(time.Hour)
	r.refresh(time.Hour)
	before := r.severities()
	if len(before) < len(defender.Sources()) || before["behavior/us-east-1/plant/small/pump-1"] != "HIGH" {
		t.Fatalf("active findings %v, want one of each source, and the behavior small with HIGH", before)
	}
	calls := len(r.service.Calls("BatchImportFindings"))
	r.redeploy("2", defender.Low, defender.Critical)
	r.refresh(time.Hour)
	for id, got := range r.severities() {
		want := "LOW"
		if strings.Contains(id, "/small/") {
			want = "CRITICAL"
		}
		if got != want {
			t.Errorf("%s is %s, want %s", id, got, want)
		}
	}
	if after := r.severities(); len(after) != len(before) {
		t.Errorf("%d active findings, want %d: %v", len(after), len(before), after)
	}
	if n := len(r.service.Calls("BatchImportFindings")) - calls; n != 1 {
		t.Errorf("%d calls, want one", n)
	}
	// The first repeat of a restated finding is imported, because its digest differs.
	r.must(r.alarm("pump-1", "large"))
	calls = len(r.service.Calls("BatchImportFindings"))
	r.must(r.alarm("pump-1", "large"))
	r.refresh(time.Hour)
	r.refresh(time.Hour)
	if n := len(r.service.Calls("BatchImportFindings")) - calls; n != 0 {
		t.Errorf("%d calls although nothing changed, want none", n)
	}
}

func TestRestatingKeepsAnAnalystsChanges(t *testing.T) {
	r := newRig(t)
	r.redeploy("1", defender.Medium, defender.Medium)
	r.must(r.alarm("pump-1", "small"), r.alarm("pump-2", "small"))
	analyst := securityhub.NewFromConfig(inprocess.Config(r.service, account, region))
	var id types.AwsSecurityFindingIdentifier
	for _, f := range r.hub.Findings() {
		if strings.Contains(f.ID, "pump-1") {
			id = types.AwsSecurityFindingIdentifier{Id: aws.String(f.ID), ProductArn: aws.String(f.ProductARN)}
		}
	}
	if _, err := analyst.BatchUpdateFindings(context.Background(), &securityhub.BatchUpdateFindingsInput{
		FindingIdentifiers: []types.AwsSecurityFindingIdentifier{id},
		Severity:           &types.SeverityUpdate{Label: types.SeverityLabelInformational},
		Note:               &types.NoteUpdate{Text: aws.String("A spare pump."), UpdatedBy: aws.String("ana")},
		Workflow:           &types.WorkflowUpdate{Status: types.WorkflowStatusNotified},
		UserDefinedFields:  map[string]string{"ticket": "7"}, VerificationState: types.VerificationStateBenignPositive,
	}); err != nil {
		t.Fatal(err)
	}
	r.redeploy("2", defender.Medium, defender.Critical)
	r.refresh(time.Hour)
	for _, f := range r.hub.Findings() {
		own := strings.Contains(f.ID, "pump-1")
		want := map[bool]string{true: "INFORMATIONAL", false: "CRITICAL"}[own]
		if f.Severity.Label != want || f.FindingProviderFields.Severity.Label != "CRITICAL" {
			t.Errorf("%s: severity %s, provider's %s; want %s and CRITICAL", f.ID, f.Severity.Label, f.FindingProviderFields.Severity.Label, want)
		}
		if own && (f.Note == nil || f.Note.Text != "A spare pump." || f.Workflow.Status != "NOTIFIED" || f.UserDefinedFields["ticket"] != "7" || f.VerificationState != "BENIGN_POSITIVE") {
			t.Errorf("%s lost an analyst's change: %s", f.ID, f.JSON)
		}
	}
}

// Here another program writes other texts.
func TestChangedTextsReachActiveFindings(t *testing.T) {
	r := newRig(t)
	r.redeploy("1", defender.Medium, defender.Medium)
	r.active()
	other := func(e ledger.Entry) asff.Finding {
		f := *e.Finding
		f.Title, f.Remediation = "New title of "+e.Source.String(), &asff.Remediation{Recommendation: asff.Recommendation{Text: "New remedy."}}
		return f
	}
	r.version = "2"
	r.now = r.now.Add(time.Hour)
	if n, err := r.restater.Run(context.Background(), r.now, other); err != nil || n != len(r.severities()) {
		t.Errorf("%d restated, error %v; want %d", n, err, len(r.severities()))
	}
	for _, f := range r.hub.Findings() {
		restated := strings.HasPrefix(f.Title, "New title") && f.Remediation.Recommendation.Text == "New remedy."
		if restated != (f.RecordState == "ACTIVE") || restated && !f.UpdatedAt.Equal(r.now) {
			t.Errorf("%s, %s: title %q, remedy %q, updated %v; want active findings restated", f.ID, f.RecordState, f.Title, f.Remediation.Recommendation.Text, f.UpdatedAt)
		}
	}
	// A later event still clears the finding.
	r.now = r.now.Add(time.Minute)
	r.must(r.device("pump-1", r.now, `{"type":"tamper","state":"cleared"}`))
	if got := r.states()["device-event/us-east-1/pump-1/tamper"]; got != "ARCHIVED" {
		t.Errorf("the device event is %s, want ARCHIVED", got)
	}
}

// An invocation of the previous deployment does not undo the present one's changes, however
// long it runs.
func TestOlderDeploymentDoesNotRestate(t *testing.T) {
	r := newRig(t)
	r.redeploy("1", defender.Medium, defender.Medium)
	r.must(r.alarm("pump-1", "small"))
	old := r.now.Add(time.Hour)
	r.redeploy("2", defender.Medium, defender.Critical)
	r.must(r.alarm("pump-2", "small"))
	r.refresh(time.Hour + time.Minute)
	r.redeploy("1", defender.Medium, defender.Medium)
	if _, err := r.restater.Run(context.Background(), old, func(e ledger.Entry) asff.Finding {
		f := *e.Finding
		f.FindingProviderFields.Severity.Label = "MEDIUM"
		return f
	}); err != nil {
		t.Fatal(err)
	}
	for id, got := range r.severities() {
		if got != "CRITICAL" {
			t.Errorf("%s is %s, want the severity of the newer deployment", id, got)
		}
	}
	// A rollback is a deployment.
	r.refresh(time.Hour)
	if got := r.severities()["behavior/us-east-1/plant/small/pump-1"]; got != "MEDIUM" {
		t.Errorf("severity %s after the rollback, want MEDIUM", got)
	}
}

// The second run restates findings that the previous deployment imported after the first run.
func TestFindingRaisedDuringADeploymentIsRestated(t *testing.T) {
	r := newRig(t)
	r.redeploy("2", defender.Medium, defender.Critical)
	r.must(r.alarm("pump-1", "small"))
	r.refresh(time.Hour)
	r.redeploy("1", defender.Medium, defender.Medium)
	r.must(r.alarm("pump-2", "small"))
	r.redeploy("2", defender.Medium, defender.Critical)
	r.refresh(time.Hour)
	for id, got := range r.severities() {
		if got != "CRITICAL" {
			t.Errorf("%s is %s, want CRITICAL", id, got)
		}
	}
}

// A finding whose import is unconfirmed is imported as claimed, and then restated.
func TestUnconfirmedFindingIsRestatedWhenItIsConfirmed(t *testing.T) {
	r := newRig(t)
	r.redeploy("1", defender.Medium, defender.Medium)
	puts := 0
	r.table.Step = func(_ context.Context, operation string, done bool) error {
		if operation == "Put" && !done {
			if puts++; puts == 3 { // live behaviors, claim, confirmation
				return errors.New("the function was killed")
			}
		}
		return nil
	}
	if again := r.handle(context.Background(), r.alarm("pump-1", "small")); len(again) != 1 {
		t.Fatalf("messages %v are retried", again)
	}
	r.redeploy("2", defender.Medium, defender.Critical)
	for range 6 {
		r.refresh(20 * time.Minute)
	}
	if got := r.severities()["behavior/us-east-1/plant/small/pump-1"]; got != "CRITICAL" {
		t.Errorf("severity %s, want CRITICAL", got)
	}
}

// The change is applied after any failure has ended.
func TestRestatingResumesAfterAFault(t *testing.T) {
	failing := securityhubtest.Fault{Operation: "BatchImportFindings", FailFinding: func(string) *securityhubtest.FindingError {
		return &securityhubtest.FindingError{Code: "InternalFailure", Message: "later"}
	}}
	for name, fault := range map[string]func(*rig) (mend func()){
		"Security Hub is off": func(r *rig) func() {
			if err := r.hub.Disable(); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := r.hub.Enable(securityhubtest.Settings{}); err != nil {
					t.Fatal(err)
				}
			}
		},
		"Security Hub fails findings": func(r *rig) func() { return r.service.Inject(failing) },
		"the ledger fails": func(r *rig) func() {
			r.table.Step = func(_ context.Context, operation string, done bool) error {
				if operation == "Put" && done {
					return errors.New("the table is unavailable")
				}
				return nil
			}
			return func() { r.table.Step = nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.redeploy("1", defender.Medium, defender.Medium)
				r.must(r.alarm("pump-1", "small"), r.device("pump-1", r.now, tamper))
				r.redeploy("2", defender.Low, defender.Critical)
				mend := fault(r)
				for range 3 {
					r.now = r.now.Add(time.Hour)
					_, _ = r.handler.Handle(context.Background(), refreshAt(r.now))
				}
				mend()
				if name == "Security Hub is off" {
					r.must(r.alarm("pump-1", "small"), r.device("pump-1", r.now, tamper)) // Security Hub has deleted the findings
				}
				for range 3 {
					r.refresh(time.Hour)
				}
				if got := fmt.Sprint(r.severities()); got != "map[behavior/us-east-1/plant/small/pump-1:CRITICAL device-event/us-east-1/pump-1/tamper:LOW]" {
					t.Errorf("severities %s", got)
				}
			})
		})
	}
}
