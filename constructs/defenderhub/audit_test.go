package defenderhub_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

func auditTemplate(t *testing.T, props *defenderhub.AuditProps) template {
	t.Helper()
	stack := newStack()
	defenderhub.NewAudit(stack, jsii.String("Audit"), props)
	return synth(t, stack)
}

func TestConfigurationEnablesEveryCheck(t *testing.T) {
	checks := path(auditTemplate(t, nil).one(t, "AWS::IoT::AccountAuditConfiguration").Properties, "AuditCheckConfigurations").(map[string]any)
	for _, c := range defender.Checks() {
		if path(checks, c.Info().Property, "Enabled") != true {
			t.Errorf("%v: got %v, want it enabled", c, checks[c.Info().Property])
		}
	}
	if len(checks) != len(defender.Checks()) {
		t.Errorf("%d checks, want %d", len(checks), len(defender.Checks()))
	}
}

// CloudFormation disables checks that are not named, and a Region rejects names of checks that it
// does not support.
func TestDisabledChecksAreNamedNowhere(t *testing.T) {
	disabled := []defender.Check{defender.LoggingDisabled, defender.DeviceCertificateAge, defender.DeviceCertificateExpiring}
	tp := auditTemplate(t, &defenderhub.AuditProps{Disabled: disabled, Except: []defender.Check{defender.CACertificateExpiring}})
	checks := path(tp.one(t, "AWS::IoT::AccountAuditConfiguration").Properties, "AuditCheckConfigurations").(map[string]any)
	names := text(tp.one(t, "AWS::IoT::ScheduledAudit").Properties["TargetCheckNames"])
	for _, c := range disabled {
		if check, ok := checks[c.Info().Property]; ok || strings.Contains(names, c.String()) {
			t.Errorf("%s: configured %v, scheduled %s, want neither", c, check, names)
		}
	}
	if len(checks) != len(defender.Checks())-len(disabled) || path(checks, "CaCertificateExpiringCheck", "Enabled") != true {
		t.Errorf("got %s, want all other checks enabled", text(checks))
	}
	if strings.Contains(names, `"CA_CERTIFICATE_EXPIRING_CHECK"`) {
		t.Errorf("scheduled %s, want no excepted check", names)
	}
}

func TestCheckThatAScheduleMayRejectIsOptIn(t *testing.T) {
	const name = "INTERMEDIATE_CA_REVOKED_FOR_ACTIVE_DEVICE_CERTIFICATES_CHECK"
	for _, included := range []bool{false, true} {
		props := &defenderhub.AuditProps{}
		if included {
			props.Include = []defender.Check{defender.IntermediateCARevoked}
		}
		names := text(auditTemplate(t, props).one(t, "AWS::IoT::ScheduledAudit").Properties["TargetCheckNames"])
		if strings.Contains(names, name) != included {
			t.Errorf("Include contains %s: %v, but the schedule has %s", name, included, names)
		}
	}
}

func TestThresholdsAreText(t *testing.T) {
	for _, c := range []struct {
		props         defenderhub.AuditProps
		age, expiring string
	}{
		{defenderhub.AuditProps{}, "365", "30"},
		{defenderhub.AuditProps{CertificateAgeDays: 3652, CertificateExpiringDays: 90}, "3652", "90"},
	} {
		checks := path(auditTemplate(t, &c.props).one(t, "AWS::IoT::AccountAuditConfiguration").Properties, "AuditCheckConfigurations")
		age := path(checks, "DeviceCertificateAgeCheck", "Configuration", "CertAgeThresholdInDays")
		expiring := path(checks, "DeviceCertificateExpiringCheck", "Configuration", "CertExpirationThresholdInDays")
		if age != c.age || expiring != c.expiring {
			t.Errorf("got %#v and %#v, want %q and %q", age, expiring, c.age, c.expiring)
		}
	}
}

func TestSchedules(t *testing.T) {
	for _, c := range []struct {
		schedule              defender.Schedule
		frequency, week, date any
	}{
		{defender.Daily(), "DAILY", nil, nil},
		{defender.Weekly(time.Sunday), "WEEKLY", "SUN", nil},
		{defender.Biweekly(time.Wednesday), "BIWEEKLY", "WED", nil},
		{defender.Monthly(31), "MONTHLY", nil, "31"},
		{defender.MonthlyOnLastDay(), "MONTHLY", nil, "LAST"},
	} {
		p := auditTemplate(t, &defenderhub.AuditProps{Schedule: c.schedule}).one(t, "AWS::IoT::ScheduledAudit").Properties
		if p["Frequency"] != c.frequency || p["DayOfWeek"] != c.week || p["DayOfMonth"] != c.date || p["ScheduledAuditName"] != nil {
			t.Errorf("got %v, want %v", p, c)
		}
	}
}

func TestScheduleWaitsForTheConfiguration(t *testing.T) {
	tp := auditTemplate(t, nil)
	if got, want := tp.one(t, "AWS::IoT::ScheduledAudit").DependsOn, tp.ids("AWS::IoT::AccountAuditConfiguration"); !slices.Equal(got, want) {
		t.Errorf("depends on %v, want %v", got, want)
	}
}

func TestAccountWideResourcesOutliveTheStack(t *testing.T) {
	kinds := []string{"AWS::IoT::AccountAuditConfiguration", "AWS::IAM::Role", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "AWS::KMS::Key"}
	for policy, want := range map[awscdk.RemovalPolicy]string{
		"": "RetainExceptOnCreate", awscdk.RemovalPolicy_DESTROY: "Delete", awscdk.RemovalPolicy_RETAIN: "Retain",
	} {
		tp := auditTemplate(t, &defenderhub.AuditProps{RemovalPolicy: policy})
		for _, kind := range kinds {
			for _, id := range tp.ids(kind) {
				if got := tp[id].DeletionPolicy; got != want {
					t.Errorf("policy %q: %s has %s, want %s", policy, id, got, want)
				}
			}
		}
		if tp.ids("AWS::IAM::Policy") != nil {
			t.Error("a role outlives the stack, its policy does not")
		}
	}
}

func TestExistingConfigurationIsKept(t *testing.T) {
	stack := newStack()
	audit := defenderhub.NewAudit(stack, jsii.String("Audit"), &defenderhub.AuditProps{Configuration: defenderhub.Existing})
	if audit.Configuration() != nil || audit.Role() != nil || audit.NotificationRole() != nil || audit.Topic() != nil || audit.Key() != nil {
		t.Error("an accessor of a part that is not created is not nil")
	}
	tp := synth(t, stack)
	if len(tp) != 1 || len(tp.one(t, "AWS::IoT::ScheduledAudit").DependsOn) != 0 {
		t.Errorf("got %v, want the scheduled audit alone, without a dependency", tp)
	}
}

func TestGivenTopicIsUsed(t *testing.T) {
	stack := newStack()
	topic := awssns.NewTopic(stack, jsii.String("Own"), nil)
	audit := defenderhub.NewAudit(stack, jsii.String("Audit"), &defenderhub.AuditProps{Topic: topic})
	if audit.Topic() != awssns.ITopic(topic) || audit.Key() != nil {
		t.Error("a new topic or key, want the given topic alone")
	}
	tp := synth(t, stack)
	target := path(tp.one(t, "AWS::IoT::AccountAuditConfiguration").Properties, "AuditNotificationTargetConfigurations", "Sns")
	if !strings.Contains(text(path(target, "TargetArn")), tp.ids("AWS::SNS::Topic")[0]) || path(target, "Enabled") != true {
		t.Errorf("the audit notifies %s, want the given topic", text(target))
	}
	if keys := tp.ids("AWS::KMS::Key"); keys != nil {
		t.Errorf("keys %v, want none", keys)
	}
}

func TestOnlyThisAccountCanUseTheRoles(t *testing.T) {
	tp := auditTemplate(t, nil)
	for _, id := range tp.ids("AWS::IAM::Role") {
		trust := text(path(tp[id].Properties, "AssumeRolePolicyDocument"))
		if !strings.Contains(trust, `"StringEquals":{"aws:SourceAccount":{"Ref":"AWS::AccountId"}}`) || !strings.Contains(trust, "aws:SourceArn") {
			t.Errorf("%s trusts %s", id, trust)
		}
	}
	if got := text(tp.named(t, "AWS::IAM::Role", "AuditRole").Properties["ManagedPolicyArns"]); !strings.Contains(got, ":iam::aws:policy/service-role/AWSIoTDeviceDefenderAudit") {
		t.Errorf("AuditRole has the policies %s, want AWSIoTDeviceDefenderAudit", got)
	}
}

func TestAuditsDecryptWithTheKeyOfAWSIoTCore(t *testing.T) {
	const arn = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for _, given := range []bool{false, true} {
		stack, props := newStack(), &defenderhub.AuditProps{}
		var want any
		if given {
			props.IoTCoreKey = awskms.Key_FromKeyArn(stack, jsii.String("Key"), jsii.String(arn))
			want = []any{map[string]any{"Action": "kms:Decrypt", "Effect": "Allow", "Resource": arn}}
		}
		defenderhub.NewAudit(stack, jsii.String("Audit"), props)
		tp := synth(t, stack)
		var got any // inline, so that it outlives the stack with its role
		if policies, ok := tp.named(t, "AWS::IAM::Role", "AuditRole").Properties["Policies"].([]any); ok && len(policies) == 1 {
			got = path(policies[0], "PolicyDocument", "Statement")
		}
		if text(got) != text(want) || tp.ids("AWS::IAM::Policy") != nil {
			t.Errorf("key given: %v: statements %s, want %s in the role itself", given, text(got), text(want))
		}
	}
}

func TestAuditRunsAfterDeployment(t *testing.T) {
	start := func(props defenderhub.AuditProps) resource {
		props.RunOnDeploy, props.Prebuilt = true, prebuilt
		tp := auditTemplate(t, &props)
		r := tp.one(t, contract.StartAuditResourceType)
		if got := r.Properties["ServiceTimeout"]; got != "600" {
			t.Errorf("CloudFormation waits %v seconds for an answer, want 600", got)
		}
		if props.Configuration == defenderhub.Create && !slices.Contains(r.DependsOn, tp.ids("AWS::IoT::AccountAuditConfiguration")[0]) {
			t.Errorf("the start depends on %v, want the audit configuration", r.DependsOn)
		}
		if policy := text(tp.one(t, "AWS::IAM::Policy").Properties); !strings.Contains(policy, "iot:StartOnDemandAuditTask") {
			t.Errorf("the function cannot start an audit: %s", policy)
		}
		return r
	}
	first := start(defenderhub.AuditProps{})
	if got := len(first.Properties[contract.StartAuditChecks].([]any)); got != len(defender.Checks())-1 {
		t.Errorf("the audit has %d checks, want %d", got, len(defender.Checks())-1)
	}
	if again := start(defenderhub.AuditProps{}); text(again.Properties) != text(first.Properties) {
		t.Error("an audit starts although nothing changed")
	}
	if other := start(defenderhub.AuditProps{CertificateAgeDays: 100}); text(other.Properties) == text(first.Properties) {
		t.Error("no audit starts although a threshold changed")
	}
	start(defenderhub.AuditProps{Configuration: defenderhub.Existing})
}

func TestWrongAuditPropsAreErrors(t *testing.T) {
	all := defender.Checks()
	keys := newStack()
	key, awsKey := awskms.NewKey(keys, jsii.String("Key"), nil), awskms.Alias_FromAliasName(keys, jsii.String("AWS"), jsii.String("alias/aws/iot"))
	for name, c := range map[string]struct {
		props defenderhub.AuditProps
		want  []string
	}{
		"name":                   {defenderhub.AuditProps{ScheduleName: "with:colon"}, []string{"ScheduleName"}},
		"token as a name":        {defenderhub.AuditProps{ScheduleName: *awscdk.Aws_STACK_NAME()}, nil},
		"days at the bounds":     {defenderhub.AuditProps{CertificateAgeDays: 30, CertificateExpiringDays: 3652}, nil},
		"days below the bounds":  {defenderhub.AuditProps{CertificateAgeDays: 29, CertificateExpiringDays: -1}, []string{"CertificateAgeDays", "CertificateExpiringDays"}},
		"days beyond the bounds": {defenderhub.AuditProps{CertificateAgeDays: 3653, CertificateExpiringDays: 1}, []string{"CertificateAgeDays", "CertificateExpiringDays"}},
		"checks":                 {defenderhub.AuditProps{Except: []defender.Check{0}, Include: []defender.Check{99}, Disabled: []defender.Check{1, 1}}, []string{"Except[0]", "Include[0]", "Disabled[1]"}},
		"contradiction":          {defenderhub.AuditProps{Include: all[:2], Except: all[:1], Disabled: all[1:2]}, []string{"Include[0]", "Include[1]"}},
		"nothing enabled":        {defenderhub.AuditProps{Disabled: all}, []string{"Disabled"}},
		"nothing scheduled":      {defenderhub.AuditProps{Except: all}, []string{"Except"}},
		"no schedule":            {defenderhub.AuditProps{Except: all, NoSchedule: true}, nil},
		"retention, subnets":     {defenderhub.AuditProps{Function: &defenderhub.FunctionProps{LogRetention: "FOREVER", VPCSubnets: &awsec2.SubnetSelection{SubnetType: "PUBIC"}}}, []string{"Function.LogRetention", "Function.VPCSubnets", "Function.VPCSubnets.SubnetType"}},
		"nothing to start":       {defenderhub.AuditProps{Except: all, NoSchedule: true, RunOnDeploy: true, Prebuilt: prebuilt}, []string{"Except"}},
		"no network":             {defenderhub.AuditProps{Function: &defenderhub.FunctionProps{VPCSubnets: &awsec2.SubnetSelection{}, SecurityGroups: []awsec2.ISecurityGroup{nil}}}, []string{"Function.VPCSubnets", "Function.SecurityGroups"}},
		"no configuration":       {defenderhub.AuditProps{Configuration: defenderhub.Off}, []string{"Configuration"}},
		"key of AWS":             {defenderhub.AuditProps{IoTCoreKey: awsKey}, []string{"IoTCoreKey"}},
		"policy, architecture":   {defenderhub.AuditProps{RemovalPolicy: "KEEP", Function: &defenderhub.FunctionProps{Architecture: 5}}, []string{"RemovalPolicy", "Function.Architecture"}},
		"existing configuration": {defenderhub.AuditProps{Configuration: defenderhub.Existing, Disabled: all[:1], CertificateAgeDays: 40, CertificateExpiringDays: 40, IoTCoreKey: key}, []string{"Disabled", "CertificateAgeDays", "CertificateExpiringDays", "IoTCoreKey"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := faults(t, func() { defenderhub.NewAudit(newStack(), jsii.String("Audit"), &c.props) })
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestFunctionPropsReachTheFunctionThatStartsAudits(t *testing.T) {
	stack := newStack()
	vpc := awsec2.NewVpc(stack, jsii.String("Net"), &awsec2.VpcProps{MaxAzs: jsii.Number(1)})
	group := awsec2.NewSecurityGroup(stack, jsii.String("Group"), &awsec2.SecurityGroupProps{Vpc: vpc})
	defenderhub.NewAudit(stack, jsii.String("Audit"), &defenderhub.AuditProps{
		RunOnDeploy: true, Prebuilt: prebuilt,
		Function: &defenderhub.FunctionProps{Tracing: true, LogRetention: awslogs.RetentionDays_ONE_YEAR, VPC: vpc, SecurityGroups: []awsec2.ISecurityGroup{group}},
	})
	tp := synth(t, stack)
	p := tp.named(t, "AWS::Lambda::Function", "AuditStartFunction").Properties
	if path(p, "TracingConfig", "Mode") != "Active" || !strings.Contains(text(p["VpcConfig"]), tp.idOf(t, "AWS::EC2::SecurityGroup", "Group")) {
		t.Errorf("got %s, want tracing and the security group", text(p))
	}
	if got := tp.named(t, "AWS::Logs::LogGroup", "AuditStartFunctionLogs").Properties["RetentionInDays"]; got != 365.0 {
		t.Errorf("logs are kept for %v days, want 365", got)
	}
}

func TestAuditOnDeployWaitsForItsSubscriptions(t *testing.T) {
	for listener, subscription := range map[string]defenderhub.Provision{
		"AWS::SecurityHub::ProductSubscription": defenderhub.Create, "AWS::SNS::Subscription": defenderhub.Off,
	} {
		tp := hubTemplate(t, &defenderhub.DefenderHubProps{
			Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: subscription},
			Audit:         &defenderhub.AuditProps{RunOnDeploy: true},
		})
		depends := tp.one(t, contract.StartAuditResourceType).DependsOn
		if !slices.ContainsFunc(depends, func(id string) bool { return tp[id].Type == listener }) {
			t.Errorf("the start depends on %v, want the %s among them", depends, listener)
		}
	}
}

// AWS does not disable a check in the deployment that removes it from the schedule.
func TestNoteSaysHowToDisableAScheduledCheck(t *testing.T) {
	note := func(props defenderhub.AuditProps) string {
		stack := newStack()
		defenderhub.NewAudit(stack, jsii.String("Audit"), &props)
		var notes []string
		for _, m := range *assertions.Annotations_FromStack(stack).FindInfo(jsii.String("/Fleet/Audit"), assertions.Match_AnyValue()) {
			notes = append(notes, fmt.Sprint(m.Entry.Data))
		}
		return strings.Join(notes, "\n")
	}
	disabled := []defender.Check{defender.LoggingDisabled, defender.ConflictingClientIDs}
	for name, props := range map[string]defenderhub.AuditProps{"scheduled": {Disabled: disabled}, "no longer scheduled": {Disabled: disabled, NoSchedule: true}} {
		got, at := note(props), 0
		for _, step := range []string{"LOGGING_DISABLED_CHECK, CONFLICTING_CLIENT_IDS_CHECK", "first with the check in Except", "then with it in Disabled"} {
			i := strings.Index(got[at:], step)
			if i < 0 {
				t.Fatalf("%s: %q is not followed by %q", name, got, step)
			}
			at += i
		}
	}
	if got := note(defenderhub.AuditProps{Except: disabled}); got != "" {
		t.Errorf("without a disabled check the note is %q, want none", got)
	}
}

// The function for RunOnDeploy has no log levels.
func TestLogLevelOfTheAuditIsRejected(t *testing.T) {
	level := &defenderhub.FunctionProps{LogLevel: slog.LevelDebug}
	got, _ := faults(t, func() {
		defenderhub.NewAudit(newStack(), jsii.String("Audit"), &defenderhub.AuditProps{Function: level})
	})
	if want := []string{"Function.LogLevel"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	tp := hubTemplate(t, &defenderhub.DefenderHubProps{Function: level, Audit: &defenderhub.AuditProps{RunOnDeploy: true}})
	for function, want := range map[string]bool{"HubAuditStartFunction": false, "HubForwarderFunction": true} {
		env := text(path(tp.named(t, "AWS::Lambda::Function", function).Properties, "Environment"))
		if strings.Contains(env, "DEBUG") != want {
			t.Errorf("%s has the environment %s, want DEBUG in it: %v", function, env, want)
		}
	}
}
