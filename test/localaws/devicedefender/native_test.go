package devicedefender_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
)

// nativeFinding returns the finding or summary with an ID.
func (w *world) nativeFinding(id string) securityhubtest.Finding {
	w.t.Helper()
	f, ok := w.hub.Finding("arn:aws:securityhub:"+w.region+"::product/aws/iot-device-defender-audit", id)
	if !ok {
		var ids []string
		for _, f := range w.hub.Findings() {
			ids = append(ids, f.ID)
		}
		w.t.Fatalf("no finding %s among %q", id, ids)
	}
	return f
}

// stored returns the finding in Security Hub without ProcessedAt, which no sample has.
func stored(t *testing.T, f securityhubtest.Finding) any {
	t.Helper()
	got := object(t, f.JSON).(map[string]any)
	delete(got, "ProcessedAt")
	return got
}

func wantSame(t *testing.T, got, want any) {
	t.Helper()
	for _, d := range differences("", got, want) {
		t.Error(d)
	}
}

func TestNativeFindingIsAWSsSample(t *testing.T) {
	w := newWorld(t, devicedefender.Config{Region: "us-west-2"})
	w.step(time.UnixMilli(1667772700554).Sub(start))
	w.accept()
	w.enable()
	w.policy("policyexample", document(allow("iot:Connect", "arn:aws:iot:us-west-2:123456789012:client/*")))
	w.held = true
	task := w.audit(defender.IoTPolicyOverlyPermissive)
	w.step(387 * time.Millisecond)
	w.run()

	finding := *w.findings(task)[0].FindingId
	id := "123456789012/IOT_POLICY/policyexample/1/IOT_POLICY_OVERLY_PERMISSIVE_CHECK/ALLOWS_BROAD_ACCESS_TO_IOT_DATA_PLANE_ACTIONS"
	text := strings.NewReplacer("9f71b6e90cfb57d4ac671be3a4898e6a", task, "1928b87ab338ee2f541f6fab8c41c4f5", finding).Replace(string(testdata(t, "asff-native-audit.json")))
	wantSame(t, stored(t, w.nativeFinding(id)), object(t, []byte(text)))

	_, listed := w.post("/audit/findings", `{"taskId":"`+task+`"}`)
	sample := replaced(t, "list-audit-findings.json", map[string]any{"findingId": finding, "taskId": task}).(map[string]any)
	wantSame(t, object(t, []byte(listed)).(map[string]any)["findings"].([]any)[0], sample["findings"].([]any)[0])
}

// TestNativeSummaryIsAWSsSample has a thousand policies. Three are broad, and one of these is
// suppressed. AWS's sample is of another check, whose types are CVEs.
func TestNativeSummaryIsAWSsSample(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	due := must[time.Time](t)(time.Parse(time.RFC3339Nano, "2022-10-18T14:20:13.933Z"))
	w.step(due.Add(-24 * time.Hour).Sub(start))
	w.accept()
	w.enable()
	for i := range 1000 {
		document := tidy
		if i < 3 {
			document = allowAll
		}
		must[*iot.CreatePolicyOutput](t)(w.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: aws.String(fmt.Sprint("p", i)), PolicyDocument: &document}))
	}
	w.suppress(permissive, policyVersion("p0", "1"), nil)
	in := daily("daily_audit_schedule")
	in.TargetCheckNames = []string{permissive, defender.DeviceCertificateKeyQuality.String()}
	w.schedule(in)
	w.step(24 * time.Hour)

	const summaries = "123456789012/SCHEDULED_AUDIT_TASK/daily_audit_schedule/"
	got := w.nativeFinding(summaries + permissive)
	text := strings.NewReplacer("f3021945485adf92487c273558fcaa51", got.GeneratorID, "DEVICE_CERTIFICATE_KEY_QUALITY_CHECK", permissive, "/CVE", "").
		Replace(string(testdata(t, "asff-native-check-summary.json")))
	wantSame(t, stored(t, got), object(t, []byte(text)))
	if keys := w.nativeFinding(summaries + "DEVICE_CERTIFICATE_KEY_QUALITY_CHECK"); !slices.Equal(keys.Types, []string{"Software and Configuration Check/Vulnerabilities/CVE"}) {
		t.Errorf("summary of key quality: types %v", keys.Types)
	}
}

func TestNativeFindingsAreArchivedWhenTheNextTaskFindsTheResourceCompliant(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.accept()
	w.enable()
	w.policy("p", allowAll)
	w.policy("q", allowAll)
	const end = "/1/IOT_POLICY_OVERLY_PERMISSIVE_CHECK/ALLOWS_BROAD_ACCESS_TO_IOT_DATA_PLANE_ACTIONS"
	state := func(id string) string {
		t.Helper()
		return w.nativeFinding(account + id).RecordState
	}
	w.audit(defender.IoTPolicyOverlyPermissive, defender.LoggingDisabled)
	first := w.nativeFinding(account + "/IOT_POLICY/q" + end)
	settings := "/ACCOUNT_SETTINGS/" + account + "/LOGGING_DISABLED_CHECK/LOGGING_DISABLED"
	if state("/IOT_POLICY/p"+end) != "ACTIVE" || state(settings) != "ACTIVE" || w.nativeFinding(account + settings).Resources[0].Type != "AwsIotAccountSettings" {
		t.Error("the findings of the first audit are not ACTIVE")
	}

	w.step(time.Hour)
	w.newVersion("p", tidy)
	w.audit(defender.LoggingDisabled)
	if state("/IOT_POLICY/p"+end) != "ACTIVE" {
		t.Error("the check of logging archived the finding of a policy")
	}
	w.audit(defender.IoTPolicyOverlyPermissive)
	archived := w.nativeFinding(account + "/IOT_POLICY/p" + end)
	again := w.nativeFinding(account + "/IOT_POLICY/q" + end)
	if archived.RecordState != "ARCHIVED" || !archived.UpdatedAt.Equal(w.clock()) || !archived.CreatedAt.Equal(start) {
		t.Errorf("fixed policy: %s, created %s, updated %s", archived.RecordState, archived.CreatedAt, archived.UpdatedAt)
	}
	if again.RecordState != "ACTIVE" || !again.CreatedAt.Equal(first.CreatedAt) || !again.UpdatedAt.After(first.UpdatedAt) || again.GeneratorID == first.GeneratorID {
		t.Errorf("broken policy: %+v", again)
	}
	if state(settings) != "ACTIVE" {
		t.Error("the check of policies archived the finding of logging")
	}

	w.newVersion("p", allowAll) // version 3, another resource
	w.audit(defender.IoTPolicyOverlyPermissive)
	w.audit(defender.IoTPolicyOverlyPermissive) // in the same millisecond
	if state("/IOT_POLICY/p"+end) != "ARCHIVED" || state("/IOT_POLICY/p"+strings.Replace(end, "1", "3", 1)) != "ACTIVE" {
		t.Error("version 3 of the policy should have a finding of its own, and not change that of version 1")
	}
}

func TestFailedCheckArchivesNothing(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.accept()
	w.enable()
	w.audit(defender.LoggingDisabled)
	w.held = true
	w.step(time.Minute)
	task := w.audit(defender.LoggingDisabled)
	must[*iot.UpdateAccountAuditConfigurationOutput](t)(w.UpdateAccountAuditConfiguration(t.Context(), &iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{logging: {}}}))
	w.run()
	f := w.nativeFinding(account + "/ACCOUNT_SETTINGS/" + account + "/LOGGING_DISABLED_CHECK/LOGGING_DISABLED")
	if status := w.describe(task).AuditDetails[logging].CheckRunStatus; f.RecordState != "ACTIVE" || !f.UpdatedAt.Equal(start) {
		t.Errorf("after a check that is %s: %s, updated %s", status, f.RecordState, f.UpdatedAt)
	}
}

func TestNativeSummaryFollowsTheCheck(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.accept()
	w.enable()
	w.policy("p", allowAll)
	w.step(time.Hour)
	withoutBroker := defender.ConflictingClientIDs
	summary := func(c defender.Check) securityhubtest.Finding {
		t.Helper()
		return w.nativeFinding(account + "/ON_DEMAND_AUDIT_TASK/" + c.String())
	}
	w.audit(defender.IoTPolicyOverlyPermissive, withoutBroker)
	if f := summary(defender.IoTPolicyOverlyPermissive); f.RecordState != "ACTIVE" || f.ProductFields["NonComopliantResourcesCount"] != "1" {
		t.Errorf("not compliant: %+v", f)
	}
	if f := summary(withoutBroker); f.RecordState != "ACTIVE" || f.ProductFields["CheckRunStatus"] != "FAILED" {
		t.Errorf("failed: %+v", f)
	}
	w.step(time.Minute)
	w.newVersion("p", tidy)
	w.audit(defender.IoTPolicyOverlyPermissive)
	if f := summary(defender.IoTPolicyOverlyPermissive); f.RecordState != "ARCHIVED" || f.Title != permissive+" Summary: Completed with 0 non-compliant resources" {
		t.Errorf("compliant: %+v", f)
	}
}

func TestNativeFindingsNeedTheProduct(t *testing.T) {
	var log bytes.Buffer
	w := newWorld(t, devicedefender.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	w.enable()
	w.policy("p", allowAll)
	w.audit(defender.IoTPolicyOverlyPermissive) // Security Hub is off
	if err := w.hub.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	log.Reset()
	w.audit(defender.IoTPolicyOverlyPermissive) // the product is not accepted
	if got := log.String(); !strings.Contains(got, "2 findings, the first") || strings.Count(got, "InvalidAccess") != 1 {
		t.Errorf("logged %s, want one line about 2 findings", got)
	}
	if n := len(w.hub.Findings()); n != 0 {
		t.Errorf("%d findings without the product, want 0", n)
	}
	must[string](t)(w.hub.EnableProduct("arn:aws:securityhub:us-east-1::product/aws/iot-device-defender-audit"))
	w.newVersion("p", tidy)
	w.audit(defender.IoTPolicyOverlyPermissive)
	if n := len(w.hub.Findings()); n != 1 {
		t.Errorf("%d findings, want only the summary: a finding that was never imported is not archived", n)
	}
	w.newVersion("p", allowAll)
	w.audit(defender.IoTPolicyOverlyPermissive)
	if n := len(w.hub.Findings()); n != 2 {
		t.Errorf("%d findings, want a finding and the summary", n)
	}
}

func TestNativeFindingsGoInBatches(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.accept()
	w.enable()
	for i := range 250 {
		w.policy(fmt.Sprint("p", i), allowAll)
	}
	w.audit(defender.IoTPolicyOverlyPermissive)
	if n := len(w.hub.Findings()); n != 251 {
		t.Errorf("%d findings, want 250 and a summary", n)
	}
}

func TestNativeFindingsFollowThePartition(t *testing.T) {
	for region, link := range map[string]string{
		"cn-north-1": "https://console.amazonaws.cn/iot/home?region=cn-north-1#/policy/p", "us-gov-west-1": "https://console.amazonaws-us-gov.com/iot/home?region=us-gov-west-1#/policy/p",
	} {
		w := newWorld(t, devicedefender.Config{Region: region})
		w.enable()
		w.policy("p", allowAll)
		if err := w.hub.Enable(securityhubtest.Settings{}); err != nil {
			t.Fatal(err)
		}
		partition := strings.Split(w.hub.ARN(), ":")[1]
		must[string](t)(w.hub.EnableProduct("arn:" + partition + ":securityhub:" + region + "::product/aws/iot-device-defender-audit"))
		w.audit(defender.IoTPolicyOverlyPermissive)
		found := w.hub.Findings()
		if len(found) != 2 || found[0].SourceURL != link || found[0].Resources[0].Partition != partition {
			t.Errorf("%s: %+v", region, found)
		}
	}
}

// notified returns the last notification.
func (w *world) notified() any {
	w.t.Helper()
	if len(w.messages) == 0 {
		w.t.Fatal("no notification")
	}
	to, text, _ := strings.Cut(w.messages[len(w.messages)-1], " ")
	if to != topic {
		w.t.Errorf("published to %s", to)
	}
	return object(w.t, []byte(text))
}

func TestNotificationIsAWSsSample(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.step(time.UnixMilli(1524740766191).Add(-24 * time.Hour).Sub(start))
	w.enable()
	w.policy("p", allowAll)
	in := daily("myWeeklyAudit")
	in.TargetCheckNames = []string{permissive}
	w.schedule(in)
	w.step(24 * time.Hour)
	got := w.notified()
	wantSame(t, got, replaced(t, "sns-audit.json", map[string]any{"taskId": got.(map[string]any)["taskId"]}))
	if want := `{"accountId":"123456789012","taskId":`; !strings.Contains(w.messages[0], want) {
		t.Errorf("%s does not begin with %s", w.messages[0], want)
	}
}

func TestNotificationNamesFailedChecks(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.step(time.UnixMilli(1524740766191).Sub(start))
	w.enable()
	w.held = true
	task := w.audit(defender.LoggingDisabled, defender.CACertificateExpiring)
	must[*iot.UpdateAccountAuditConfigurationOutput](t)(w.UpdateAccountAuditConfiguration(t.Context(), &iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{logging: {}}}))
	w.run()
	want := replaced(t, "sns-audit-failed-check.json", map[string]any{
		"taskId": task, "canceledChecksCount": 0, "totalChecksCount": 2, "errorCode": "AUDIT_CHECK_DISABLED", "message": "The check was disabled after the audit had started.",
	}).(map[string]any)
	compliant := want["auditDetails"].([]any)[2].(map[string]any)
	compliant["checkName"], compliant["totalResourcesCount"] = "CA_CERTIFICATE_EXPIRING_CHECK", 0
	want["auditDetails"] = []any{want["auditDetails"].([]any)[0], compliant}
	wantSame(t, w.notified(), want)
}

func TestNotificationCountsSuppressedResources(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	w.policy("p", allowAll)
	w.suppress(permissive, policyVersion("p", "1"), nil)
	w.audit(defender.IoTPolicyOverlyPermissive)
	d := w.notified().(map[string]any)["auditDetails"].([]any)[0].(map[string]any)
	if d["checkRunStatus"] != "COMPLETED_COMPLIANT" || d["suppressedNonCompliantResourcesCount"] != 1.0 || d["nonCompliantResourcesCount"] != 0.0 {
		t.Errorf("details %v, want a compliant check with one suppressed resource", d)
	}
}

func TestNobodyIsNotifiedWithoutATarget(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable()
	must[*iot.UpdateAccountAuditConfigurationOutput](t)(w.UpdateAccountAuditConfiguration(t.Context(), &iot.UpdateAccountAuditConfigurationInput{
		AuditNotificationTargetConfigurations: targetMap{"SNS": {TargetArn: aws.String(topic), RoleArn: aws.String(auditRole)}},
	}))
	w.audit(defender.LoggingDisabled)
	if len(w.messages) != 0 {
		t.Errorf("published %v, want nothing", w.messages)
	}
}

// The account has the resources of AWS's sample, so that the counts are equal. It differs in the
// type of the task and in the reason of the failed check.
func TestDescribedTaskIsAWSsSample(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.step(time.UnixMilli(1560356923434).Sub(start))
	w.enable()
	for _, name := range []string{"a", "b"} {
		w.policy(name, allowAll)
	}
	for _, name := range []string{"c", "d", "e", "f"} {
		w.policy(name, tidy)
	}
	w.suppress(permissive, policyVersion("a", "1"), nil)
	w.held = true
	task := w.audit(defender.CACertificateExpiring, defender.IoTPolicyOverlyPermissive, defender.LoggingDisabled)
	must[*iot.UpdateAccountAuditConfigurationOutput](t)(w.UpdateAccountAuditConfiguration(context.Background(), &iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{logging: {}}}))
	w.run()
	want := replaced(t, "describe-audit-task.json", map[string]any{
		"taskType": "ON_DEMAND_AUDIT_TASK", "errorCode": "AUDIT_CHECK_DISABLED", "message": "The check was disabled after the audit had started.",
	}).(map[string]any)
	delete(want, "scheduledAuditName")
	response := must[*http.Response](t)(http.Get(w.endpoint + "/audit/tasks/" + task))
	defer response.Body.Close()
	wantSame(t, object(t, must[[]byte](t)(io.ReadAll(response.Body))), want)
}
