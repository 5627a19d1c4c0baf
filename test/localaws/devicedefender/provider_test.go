package devicedefender_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
)

const (
	configurationType = "AWS::IoT::AccountAuditConfiguration"
	scheduleType      = "AWS::IoT::ScheduledAudit"
)

// stack applies resources as a deployment does.
type stack struct {
	*world
	registry cloudformation.Registry
}

func newStack(t *testing.T) *stack {
	s := &stack{world: newWorld(t, devicedefender.Config{})}
	devicedefender.RegisterProviders(&s.registry, s.service)
	return s
}

func (s *stack) apply(kind cloudformation.RequestType, resourceType, id, properties string) (cloudformation.Resource, error) {
	s.t.Helper()
	r := cloudformation.Request{
		RequestType: kind, ResourceType: resourceType, StackID: "stack", LogicalResourceID: "R", PhysicalResourceID: id, AccountID: account, Region: "us-east-1",
	}
	if err := json.Unmarshal([]byte(properties), &r.ResourceProperties); err != nil {
		s.t.Fatal(err)
	}
	return s.registry.Apply(s.t.Context(), r)
}

func (s *stack) must(kind cloudformation.RequestType, resourceType, id, properties string) cloudformation.Resource {
	s.t.Helper()
	return must[cloudformation.Resource](s.t)(s.apply(kind, resourceType, id, properties))
}

func (s *stack) refused(kind cloudformation.RequestType, resourceType, id, properties, want string) {
	s.t.Helper()
	if _, err := s.apply(kind, resourceType, id, properties); err == nil || !strings.Contains(err.Error(), want) {
		s.t.Errorf("%s %s: error %v, want %q", kind, resourceType, err, want)
	}
}

func configurationOf(checks, more string) string {
	return `{"AccountId":"123456789012","RoleArn":"` + auditRole + `","AuditCheckConfigurations":{` + checks + `}` + more + `}`
}

const sns = `,"AuditNotificationTargetConfigurations":{"Sns":{"Enabled":true,"TargetArn":"` + topic + `","RoleArn":"` + auditRole + `"}}`

func TestConfigurationOfAStack(t *testing.T) {
	s := newStack(t)
	made := s.must(cloudformation.Create, configurationType, "", configurationOf(
		`"LoggingDisabledCheck":{"Enabled":"true"},"IoTPolicyPotentialMisConfigurationCheck":{"Enabled":true},"IotPolicyOverlyPermissiveCheck":{"Enabled":false},
		"DeviceCertificateAgeCheck":{"Enabled":true,"Configuration":{"CertAgeThresholdInDays":"400"}}`, sns))
	names, target := s.enabled()
	if want := []string{"DEVICE_CERTIFICATE_AGE_CHECK", "IOT_POLICY_POTENTIAL_MISCONFIGURATION_CHECK", logging}; made.PhysicalID != account || made.Inert != "" || !slices.Equal(names, want) || target != topic {
		t.Errorf("made %+v: %v, %s", made, names, target)
	}
	got := must[*iot.DescribeAccountAuditConfigurationOutput](t)(s.DescribeAccountAuditConfiguration(t.Context(), nil))
	if got.AuditCheckConfigurations["DEVICE_CERTIFICATE_AGE_CHECK"].Configuration["CERT_AGE_THRESHOLD_IN_DAYS"] != "400" {
		t.Errorf("configurations %+v, want the threshold 400", got.AuditCheckConfigurations)
	}
	s.refused(cloudformation.Create, configurationType, "", configurationOf(`"LoggingDisabledCheck":{"Enabled":true}`, ""),
		"The AccountAuditConfiguration already exists. (HandlerErrorCode: AlreadyExists)")

	// An update disables the checks that the template does not mention.
	must[*iot.UpdateAccountAuditConfigurationOutput](t)(s.UpdateAccountAuditConfiguration(t.Context(), &iot.UpdateAccountAuditConfigurationInput{AuditCheckConfigurations: checkMap{shared: {Enabled: true}}}))
	s.must(cloudformation.Update, configurationType, account, configurationOf(`"LoggingDisabledCheck":{"Enabled":true}`, ""))
	if names, target := s.enabled(); !slices.Equal(names, []string{logging}) || target != "" {
		t.Errorf("after the update: %v, %s", names, target)
	}

	s.must(cloudformation.Delete, configurationType, account, `{}`)
	if names, _ := s.enabled(); names != nil {
		t.Errorf("after the deletion: %v", names)
	}
	const gone = "The configuration for your account has not been set up or was deleted. (HandlerErrorCode: NotFound)"
	s.refused(cloudformation.Update, configurationType, account, configurationOf(`"LoggingDisabledCheck":{"Enabled":true}`, ""), gone)
	s.refused(cloudformation.Delete, configurationType, account, `{}`, gone)
}

func TestWrongConfigurationOfAStackIsRefused(t *testing.T) {
	s := newStack(t)
	on := `"LoggingDisabledCheck":{"Enabled":true}`
	for _, tt := range []struct{ name, properties, want string }{
		{"other account", strings.Replace(configurationOf(on, ""), account, "999999999999", 1), "AccountId in the template (999999999999) doesn't match actual: 123456789012."},
		{"no role", `{"AccountId":"123456789012","AuditCheckConfigurations":{}}`, "required key [RoleArn] not found"},
		{"nothing enabled", configurationOf(`"LoggingDisabledCheck":{"Enabled":false}`, ""), "at least one enabled check (Service: Iot, Status Code: 400) (HandlerErrorCode: InvalidRequest)"},
		{"misspelt check", configurationOf(`"IotPolicyPotentialMisConfigurationCheck":{"Enabled":true}`, ""), "extraneous key [IotPolicyPotentialMisConfigurationCheck]"},
		{"parameter of another check", configurationOf(`"LoggingDisabledCheck":{"Enabled":true,"Configuration":{}}`, ""), "extraneous key [Configuration]"},
		{"threshold as a number", configurationOf(on+`,"DeviceCertificateAgeCheck":{"Configuration":{"CertAgeThresholdInDays":400}}`, ""), `is "", want 30 to 3652`},
		{"threshold too high", configurationOf(on+`,"DeviceCertificateAgeCheck":{"Configuration":{"CertAgeThresholdInDays":"4000"}}`, ""), "30 to 3652"},
		{"invalid topic", configurationOf(on, strings.Replace(sns, topic, "topic", 1)), "TargetArn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.refused(cloudformation.Create, configurationType, "", tt.properties, tt.want)
		})
	}
}

func TestScheduleOfAStack(t *testing.T) {
	s := newStack(t)
	weekly := `{"Frequency":"WEEKLY","DayOfWeek":"SUN","TargetCheckNames":["LOGGING_DISABLED_CHECK"],"Tags":[{"Key":"team","Value":"red"}]}`
	const name = "a-rather-long-stack-name-AuditSchedule0123ABCD-0123456789AB"
	s.refused(cloudformation.Create, scheduleType, name, weekly, "is not enabled for this account (Service: Iot, Status Code: 400)")
	s.must(cloudformation.Create, configurationType, "", configurationOf(`"LoggingDisabledCheck":{"Enabled":true},"DeviceCertificateSharedCheck":{"Enabled":true}`, ""))
	made := s.must(cloudformation.Create, scheduleType, name, weekly)
	arn := "arn:aws:iot:us-east-1:123456789012:scheduledaudit/" + made.PhysicalID
	if len(made.PhysicalID) != 40 || !strings.HasSuffix(name, made.PhysicalID) || made.Attributes["ScheduledAuditArn"] != arn {
		t.Errorf("made %+v, want the last 40 characters of %s, and ARN %s", made, name, arn)
	}
	s.refused(cloudformation.Update, configurationType, account, configurationOf(`"LoggingDisabledCheck":{"Enabled":false}`, ""), "You cannot disable a check if it's used by any scheduled audit.")
	s.refused(cloudformation.Delete, configurationType, account, `{}`, "scheduled audits")

	s.must(cloudformation.Update, scheduleType, made.PhysicalID, `{"Frequency":"MONTHLY","DayOfMonth":"LAST","TargetCheckNames":["DEVICE_CERTIFICATE_SHARED_CHECK"],"Tags":[{"Key":"cost","Value":"1"}]}`)
	got := must[*iot.DescribeScheduledAuditOutput](t)(s.DescribeScheduledAudit(t.Context(), &iot.DescribeScheduledAuditInput{ScheduledAuditName: &made.PhysicalID}))
	if got.Frequency != types.AuditFrequencyMonthly || *got.DayOfMonth != "LAST" || got.DayOfWeek != "" || !slices.Equal(got.TargetCheckNames, []string{shared}) {
		t.Errorf("updated: %+v", got)
	}
	s.must(cloudformation.Delete, scheduleType, made.PhysicalID, `{}`)
	s.refused(cloudformation.Delete, scheduleType, made.PhysicalID, `{}`, "HandlerErrorCode: NotFound")
	s.refused(cloudformation.Update, scheduleType, made.PhysicalID, weekly, "HandlerErrorCode: NotFound")
}

func TestWrongScheduleOfAStackIsRefused(t *testing.T) {
	s := newStack(t)
	s.must(cloudformation.Create, configurationType, "", configurationOf(`"LoggingDisabledCheck":{"Enabled":true}`, ""))
	named := func(name string) string {
		return `{"ScheduledAuditName":"` + name + `","Frequency":"DAILY","TargetCheckNames":["LOGGING_DISABLED_CHECK"]}`
	}
	for _, tt := range []struct{ name, properties, want string }{
		{"no frequency", `{"TargetCheckNames":["LOGGING_DISABLED_CHECK"]}`, "required key [Frequency] not found"},
		{"unknown check", `{"Frequency":"DAILY","TargetCheckNames":["IOT_POLICY_POTENTIAL_MIS_CONFIGURATION_CHECK"]}`, "Request contains an invalid Audit Check Name."},
		{"colon, which only CloudFormation accepts", named("a:b"), "Status Code: 400"},
		{"placeholder", `{"Frequency":"DAILY","DayOfWeek":"UNSET_VALUE","TargetCheckNames":["LOGGING_DISABLED_CHECK"]}`, "UNSET_VALUE"},
		{"weekly without a day", `{"Frequency":"WEEKLY","TargetCheckNames":["LOGGING_DISABLED_CHECK"]}`, "dayOfWeek"},
		{"a check twice", `{"Frequency":"DAILY","TargetCheckNames":["LOGGING_DISABLED_CHECK","LOGGING_DISABLED_CHECK"]}`, "#/TargetCheckNames: items at 0 and 1 are equal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.refused(cloudformation.Create, scheduleType, "x", tt.properties, tt.want)
		})
	}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		s.must(cloudformation.Create, scheduleType, "x", named(name))
	}
	s.refused(cloudformation.Create, scheduleType, "x", named("f"), "HandlerErrorCode: ServiceLimitExceeded")
	s.refused(cloudformation.Create, scheduleType, "x", named("a"), "HandlerErrorCode: AlreadyExists")
}

// An audit can be started as soon as the stack is deployed.
func TestAuditRightAfterTheDeployment(t *testing.T) {
	s := newStack(t)
	s.must(cloudformation.Create, configurationType, "", configurationOf(`"LoggingDisabledCheck":{"Enabled":true}`, sns))
	if got := s.describe(s.audit(defender.LoggingDisabled)); got.TaskStatus != types.AuditTaskStatusCompleted || len(s.messages) != 1 {
		t.Errorf("%+v, messages %v", got, s.messages)
	}
	s.step(24 * time.Hour)
	if len(s.messages) != 1 {
		t.Errorf("without a schedule: %v", s.messages)
	}
}
