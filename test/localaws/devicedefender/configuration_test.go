package devicedefender_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
)

type (
	checkMap  = map[string]types.AuditCheckConfiguration
	targetMap = map[string]types.AuditNotificationTarget
)

const logging, shared = "LOGGING_DISABLED_CHECK", "DEVICE_CERTIFICATE_SHARED_CHECK"

func TestConfigurationOfANewAccount(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	got := must[*iot.DescribeAccountAuditConfigurationOutput](t)(w.DescribeAccountAuditConfiguration(t.Context(), nil))
	if got.RoleArn != nil || got.AuditNotificationTargetConfigurations != nil || len(got.AuditCheckConfigurations) != 17 {
		t.Errorf("got %+v, want 17 checks, no role and no targets", got)
	}
	for name, c := range got.AuditCheckConfigurations {
		if c.Enabled || c.Configuration != nil {
			t.Errorf("%s: %+v, want it disabled", name, c)
		}
	}
	_, err := w.DeleteAccountAuditConfiguration(t.Context(), &iot.DeleteAccountAuditConfigurationInput{})
	wantCode(t, err, "ResourceNotFoundException", "no audit configuration")
	_, err = w.StartOnDemandAuditTask(t.Context(), &iot.StartOnDemandAuditTaskInput{TargetCheckNames: []string{logging}})
	wantCode(t, err, "InvalidRequestException", logging)
}

func TestFirstConfigurationNeedsARoleAndACheck(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	for _, tt := range []struct {
		name string
		in   *iot.UpdateAccountAuditConfigurationInput
		want string
	}{
		{"nothing", &iot.UpdateAccountAuditConfigurationInput{}, "at least one enabled check"},
		{"no check", &iot.UpdateAccountAuditConfigurationInput{RoleArn: aws.String(auditRole)}, "at least one enabled check"},
		{"a disabled check", &iot.UpdateAccountAuditConfigurationInput{RoleArn: aws.String(auditRole), AuditCheckConfigurations: checkMap{logging: {}}}, "at least one enabled check"},
		{"no role", &iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{logging: {Enabled: true}}}, "roleArn"},
	} {
		_, err := w.UpdateAccountAuditConfiguration(t.Context(), tt.in)
		wantCode(t, err, "InvalidRequestException", tt.want)
	}
}

func TestConfigurationIsPatched(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable(defender.LoggingDisabled, defender.DeviceCertificateAge)
	update := func(in iot.UpdateAccountAuditConfigurationInput) *iot.DescribeAccountAuditConfigurationOutput {
		t.Helper()
		must[*iot.UpdateAccountAuditConfigurationOutput](t)(w.UpdateAccountAuditConfiguration(t.Context(), &in))
		return must[*iot.DescribeAccountAuditConfigurationOutput](t)(w.DescribeAccountAuditConfiguration(t.Context(), nil))
	}
	got := update(iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{
		shared: {Enabled: true}, "DEVICE_CERTIFICATE_AGE_CHECK": {Enabled: true, Configuration: map[string]string{"CERT_AGE_THRESHOLD_IN_DAYS": "400"}},
	}})
	if *got.RoleArn != auditRole || *got.AuditNotificationTargetConfigurations["SNS"].TargetArn != topic || !got.AuditCheckConfigurations[logging].Enabled ||
		!got.AuditCheckConfigurations[shared].Enabled || got.AuditCheckConfigurations["DEVICE_CERTIFICATE_AGE_CHECK"].Configuration["CERT_AGE_THRESHOLD_IN_DAYS"] != "400" {
		t.Errorf("after an update that enables two checks: %+v", got)
	}
	got = update(iot.UpdateAccountAuditConfigurationInput{
		AuditCheckConfigurations: checkMap{logging: {}}, AuditNotificationTargetConfigurations: targetMap{"SNS": {}},
	})
	if got.AuditCheckConfigurations[logging].Enabled || !got.AuditCheckConfigurations[shared].Enabled || got.AuditNotificationTargetConfigurations != nil {
		t.Errorf("after an update that disables a check and the topic: %+v", got)
	}
}

func TestWrongConfigurationsAreRefused(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable(defender.LoggingDisabled)
	for _, tt := range []struct {
		name string
		in   iot.UpdateAccountAuditConfigurationInput
		want string
	}{
		{"unknown check", iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{"WEATHER_CHECK": {Enabled: true}}}, "invalid Audit Check Name"},
		{"old name", iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{"REVOKED_CA_CERT_CHECK": {Enabled: true}}}, "invalid Audit Check Name"},
		{"name without its end", iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{"LOGGING_DISABLED": {Enabled: true}}}, "invalid Audit Check Name"},
		{"short role", iot.UpdateAccountAuditConfigurationInput{RoleArn: aws.String("role")}, "20 to 2048"},
		{"parameter of another check", iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{logging: {Enabled: true, Configuration: map[string]string{"CERT_AGE_THRESHOLD_IN_DAYS": "400"}}}}, "no parameter"},
		{"threshold too low", iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{"DEVICE_CERTIFICATE_AGE_CHECK": {Configuration: map[string]string{"CERT_AGE_THRESHOLD_IN_DAYS": "29"}}}}, "30 to 3652"},
		{"threshold too high", iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{"DEVICE_CERTIFICATE_EXPIRING_CHECK": {Configuration: map[string]string{"CERT_EXPIRATION_THRESHOLD_IN_DAYS": "3653"}}}}, "30 to 3652"},
		{"other target", iot.UpdateAccountAuditConfigurationInput{AuditNotificationTargetConfigurations: targetMap{"SQS": {Enabled: true}}}, "SQS"},
		{"target without a topic", iot.UpdateAccountAuditConfigurationInput{AuditNotificationTargetConfigurations: targetMap{"SNS": {Enabled: true, RoleArn: aws.String(auditRole)}}}, "targetArn"},
		{"target without a role", iot.UpdateAccountAuditConfigurationInput{AuditNotificationTargetConfigurations: targetMap{"SNS": {Enabled: true, TargetArn: aws.String(topic)}}}, "roleArn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.UpdateAccountAuditConfiguration(t.Context(), &tt.in)
			wantCode(t, err, "InvalidRequestException", tt.want)
		})
	}
}

func TestCheckOfAScheduleCannotBeDisabled(t *testing.T) {
	w := newWorld(t, devicedefender.Config{})
	w.enable(defender.LoggingDisabled, defender.DeviceCertificateShared)
	must[*iot.CreateScheduledAuditOutput](t)(w.CreateScheduledAudit(t.Context(), &iot.CreateScheduledAuditInput{
		ScheduledAuditName: aws.String("daily"), Frequency: types.AuditFrequencyDaily, TargetCheckNames: []string{logging},
	}))
	disable := func() error {
		_, err := w.UpdateAccountAuditConfiguration(t.Context(), &iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{logging: {}}})
		return err
	}
	wantCode(t, disable(), "InvalidRequestException", "You cannot disable a check if it's used by any scheduled audit.")
	_, err := w.DeleteAccountAuditConfiguration(t.Context(), &iot.DeleteAccountAuditConfigurationInput{})
	wantCode(t, err, "InvalidRequestException", "scheduled audits")

	must[*iot.UpdateScheduledAuditOutput](t)(w.UpdateScheduledAudit(t.Context(), &iot.UpdateScheduledAuditInput{
		ScheduledAuditName: aws.String("daily"), TargetCheckNames: []string{shared},
	}))
	if err := disable(); err != nil {
		t.Error(err)
	}
	must[*iot.DeleteAccountAuditConfigurationOutput](t)(w.DeleteAccountAuditConfiguration(t.Context(), &iot.DeleteAccountAuditConfigurationInput{DeleteScheduledAudits: true}))
	got := must[*iot.DescribeAccountAuditConfigurationOutput](t)(w.DescribeAccountAuditConfiguration(t.Context(), nil))
	schedules := must[*iot.ListScheduledAuditsOutput](t)(w.ListScheduledAudits(t.Context(), &iot.ListScheduledAuditsInput{}))
	if got.RoleArn != nil || got.AuditCheckConfigurations[shared].Enabled || len(schedules.ScheduledAudits) != 0 {
		t.Errorf("after the deletion: %+v, %v", got, schedules.ScheduledAudits)
	}
}

func TestEveryCheckRuns(t *testing.T) {
	w := newWorld(t, devicedefender.Config{Connections: history{}})
	w.enable()
	task := w.describe(w.audit(defender.Checks()...))
	if len(task.AuditDetails) != 17 || *task.TaskStatistics.TotalChecks != 17 {
		t.Errorf("task %+v, want 17 checks", task)
	}
	for name, d := range task.AuditDetails {
		if d.CheckRunStatus == types.AuditCheckRunStatusFailed {
			t.Errorf("%s in an empty account: %s", name, d.CheckRunStatus)
		}
	}
}
