// Package templates tests whole templates: snapshots for reviewers, and invariants of every
// resource.
package templates

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
)

func TestMain(m *testing.M) {
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// deployment is a stack to test. It is built each time in its own app.
type deployment struct {
	name  string
	build func() awscdk.Stack
}

// stacks are the deployments with snapshots.
var stacks = []deployment{
	{"defaults", func() awscdk.Stack {
		return hub(nil, &defenderhub.DefenderHubProps{})
	}},
	{"everything-on", func() awscdk.Stack { return everything() }},
	{"native-detect-off", func() awscdk.Stack {
		return hub(nil, &defenderhub.DefenderHubProps{
			Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off},
		})
	}},
	{"self-managed", func() awscdk.Stack { return selfManaged() }},
	{"incidents", func() awscdk.Stack { return incidents() }},
	{"embedded", func() awscdk.Stack { return embedded() }},
	{"aws-cn", func() awscdk.Stack {
		return hub(&awscdk.StackProps{Env: &awscdk.Environment{Account: jsii.String("123456789012"), Region: jsii.String("cn-north-1")}},
			&defenderhub.DefenderHubProps{Detect: &defenderhub.DetectProps{Native: &defenderhub.NativeProps{}, Behaviors: defender.DemoBehaviors()}})
	}},
}

// all are the deployments that every invariant is tested on: those with snapshots, and others
// with similar templates.
var all = append(slices.Clone(stacks), []deployment{
	{"stream", func() awscdk.Stack { return stream() }},
	{"stream-without-key", func() awscdk.Stack { return streamWithoutKey() }},
	{"alias", func() awscdk.Stack { return alias() }},
	{"references-native", func() awscdk.Stack { return references(true) }},
	{"references-self-managed", func() awscdk.Stack { return references(false) }},
	{"aws-us-gov", func() awscdk.Stack {
		return hub(&awscdk.StackProps{Env: &awscdk.Environment{Account: jsii.String("123456789012"), Region: jsii.String("us-gov-west-1")}},
			&defenderhub.DefenderHubProps{Detect: &defenderhub.DetectProps{
				Behaviors: defender.StarterBehaviors(), SelfManaged: &defenderhub.SelfManagedProps{},
			}})
	}},
}...)

// newScope returns the parent of stacks; a test may replace it.
var newScope = func() constructs.Construct { return awscdk.NewApp(nil) }

func newStack(id string, props *awscdk.StackProps) awscdk.Stack {
	return awscdk.NewStack(newScope(), &id, props)
}

const prebuilt = "testdata/prebuilt/bootstrap"

// hub returns a stack with the construct, whose functions are not compiled.
func hub(stackProps *awscdk.StackProps, props *defenderhub.DefenderHubProps) awscdk.Stack {
	stack := newStack("Fleet", stackProps)
	newHub(stack, props)
	return stack
}

func newHub(stack awscdk.Stack, props *defenderhub.DefenderHubProps) defenderhub.DefenderHub {
	if props.Forwarder == nil {
		props.Forwarder = &defenderhub.ForwarderProps{}
	}
	if props.Audit == nil {
		props.Audit = &defenderhub.AuditProps{}
	}
	props.Forwarder.Prebuilt = prebuilt
	props.Audit.Prebuilt = prebuilt
	if props.Detect != nil && props.Detect.SelfManaged != nil {
		props.Detect.SelfManaged.Prebuilt = prebuilt
	}
	if props.Correlate != nil {
		props.Correlate.Prebuilt = prebuilt
	}
	if props.Notify != nil {
		props.Notify.Prebuilt = prebuilt
	}
	return defenderhub.NewDefenderHub(stack, jsii.String("Hub"), props)
}

// everything enables every feature: Device Defender's notifications are forwarded, through topics
// that the user's own key encrypts.
func everything() awscdk.Stack {
	stack := newStack("Fleet", nil)
	key := awskms.NewKey(stack, jsii.String("Key"), &awskms.KeyProps{EnableKeyRotation: jsii.Bool(true)})
	newHub(stack, &defenderhub.DefenderHubProps{
		EncryptionKey: key, Function: &defenderhub.FunctionProps{Tracing: true, Architecture: defenderhub.AMD64},
		Subscriptions: &defenderhub.ProductSubscriptionsProps{
			EnableSecurityHub: true, Audit: defenderhub.Off, Detect: defenderhub.Off,
		},
		Audit: &defenderhub.AuditProps{
			Schedule: defender.Monthly(31), ScheduleName: "fleet-audit", RunOnDeploy: true,
			Except: []defender.Check{defender.LoggingDisabled}, Include: []defender.Check{defender.IntermediateCARevoked},
			Disabled:           []defender.Check{defender.UnauthenticatedCognitoRoleOverlyPermissive},
			CertificateAgeDays: 730, CertificateExpiringDays: 60,
			Suppressions: []defenderhub.AuditSuppression{{
				Check: defender.ConflictingClientIDs, Resource: "gateway-1", Until: time.Date(2027, time.June, 1, 0, 0, 0, 0, time.UTC), Why: "Two gateways share it.",
			}, {Check: defender.RoleAliasOverlyPermissive, Resource: "camera", Why: "For the pilot."}},
		},
		Detect: &defenderhub.DetectProps{
			Native: &defenderhub.NativeProps{
				RetainedMetrics: []defender.Metric{defender.MessagesReceived}, Verification: &defenderhub.VerificationProps{Prebuilt: prebuilt},
			},
			Behaviors: []defender.Behavior{
				{Name: "small-messages", Criteria: defender.MessageByteSize.LessThan(8), ToAlarm: 2, ToClear: 3, Severity: defender.High,
					Dimension: &defender.Dimension{TopicFilters: []string{"data/${iot:ClientId}/#"}}},
				{Name: "few-refusals", Criteria: defender.AuthorizationFailures.LessThan(5, defender.Window15m)},
				{Name: "like-the-fleet", Criteria: defender.MessagesSent.LessThanEqualsPercentile(defender.P99, defender.Window1h)},
				{Name: "as-ever", Criteria: defender.Disconnects.Learned(defender.HighConfidence), SuppressAlerts: true},
				{Name: "known-networks", Criteria: defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"))},
				{Name: "known-ports", Criteria: defender.ListeningTCPPorts.InPorts(22, 443)},
				{Name: "warm-enough", Criteria: defender.CustomNumber("temperature").GreaterThan(-12.5, defender.Window5m)},
				{Name: "known-processes", Criteria: defender.CustomStringList("processes").In("agent", "sshd")},
			},
			Targets: []defender.Target{defender.RegisteredThings, defender.ThingGroup("cameras")},
		},
		Forwarder: &defenderhub.ForwarderProps{PointInTimeRecovery: true},
		Dashboard: &defenderhub.DashboardProps{},
	})
	return stack
}

// selfManaged is the self-managed engine with every kind of rule, both kinds of statistics, and
// targets by registration and by group.
func selfManaged() awscdk.Stack {
	return hub(nil, &defenderhub.DefenderHubProps{
		Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off},
		Detect: &defenderhub.DetectProps{
			Behaviors: []defender.Behavior{
				{Name: "small-messages", Criteria: defender.MessageByteSize.LessThan(8), ToAlarm: 2, ToClear: 3, Severity: defender.High,
					Dimension: &defender.Dimension{TopicFilters: []string{"data/${iot:ClientId}/#"}}},
				{Name: "few-refusals", Criteria: defender.AuthorizationFailures.LessThan(5, defender.Window15m)},
				{Name: "like-the-fleet", Criteria: defender.MessagesSent.LessThanEqualsPercentile(defender.P99, defender.Window1h),
					Dimension: &defender.Dimension{TopicFilters: []string{"alarms/#"}}},
				{Name: "as-ever", Criteria: defender.Disconnects.Learned(defender.HighConfidence), SuppressAlerts: true},
				{Name: "known-ports", Criteria: defender.ListeningTCPPorts.InPorts(22, 443)},
			},
			Targets:     []defender.Target{defender.RegisteredThings, defender.ThingGroup("cameras")},
			SelfManaged: &defenderhub.SelfManagedProps{ReportsEvery: 15 * time.Minute},
		},
	})
}

// incidents has only Correlate and Notify, with a forwarder.
func incidents() awscdk.Stack {
	stack := newStack("Fleet", nil)
	correlate := &defenderhub.CorrelateProps{Prebuilt: prebuilt}
	correlate.Forwarder = defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, Correlate: correlate})
	defenderhub.NewCorrelate(stack, jsii.String("Correlate"), correlate)
	defenderhub.NewNotify(stack, jsii.String("Notify"), &defenderhub.NotifyProps{
		Prebuilt: prebuilt, Correlate: correlate, Emails: []string{"security@example.com"},
		Slack: &defenderhub.SlackProps{WorkspaceID: "T0123ABCD", ChannelID: "C0123ABCD"}, Digest: &defenderhub.DigestProps{},
	})
	return stack
}

// stream is the self-managed engine for a large fleet with strict rules: with a stream, and the
// user's own key, network and topic. It has no snapshot.
func stream() awscdk.Stack {
	stack := newStack("Fleet", nil)
	key := awskms.NewKey(stack, jsii.String("Key"), &awskms.KeyProps{EnableKeyRotation: jsii.Bool(true)})
	vpc := awsec2.NewVpc(stack, jsii.String("Network"), &awsec2.VpcProps{MaxAzs: jsii.Number(1.0)})
	vpc.AddFlowLog(jsii.String("Flows"), nil)
	newHub(stack, &defenderhub.DefenderHubProps{
		EncryptionKey: key,
		Correlate:     &defenderhub.CorrelateProps{OtherAccounts: true, Function: &defenderhub.FunctionProps{VPC: vpc, Tracing: true}},
		Notify:        &defenderhub.NotifyProps{OtherAccounts: true, Function: &defenderhub.FunctionProps{VPC: vpc, Tracing: true}},
		Detect: &defenderhub.DetectProps{
			Behaviors: []defender.Behavior{{Name: "known-ports", Criteria: defender.ListeningTCPPorts.InPorts(22, 443)}},
			SelfManaged: &defenderhub.SelfManagedProps{
				Transport: defenderhub.TransportKinesis, ReportTopic: "fleet/+/report", Closers: 4, PointInTimeRecovery: true,
				Function: &defenderhub.FunctionProps{VPC: vpc, Tracing: true},
			},
		},
	})
	return stack
}

// streamWithoutKey is the stream with only its prop set.
func streamWithoutKey() awscdk.Stack {
	return hub(nil, &defenderhub.DefenderHubProps{Detect: &defenderhub.DetectProps{
		Behaviors:   defender.DemoBehaviors(),
		SelfManaged: &defenderhub.SelfManagedProps{Transport: defenderhub.TransportKinesis},
	}})
}

// alias is the full self-managed engine with a key known only by an alias, and an alarm topic
// known by its ARN.
func alias() awscdk.Stack {
	stack := newStack("Fleet", nil)
	topic := awssns.Topic_FromTopicArn(stack, jsii.String("OnCall"), stack.FormatArn(&awscdk.ArnComponents{Service: jsii.String("sns"), Resource: jsii.String("on-call")}))
	newHub(stack, &defenderhub.DefenderHubProps{
		EncryptionKey: awskms.Alias_FromAliasName(stack, jsii.String("Key"), jsii.String("alias/fleet")),
		Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off},
		Audit:         &defenderhub.AuditProps{RunOnDeploy: true},
		Detect: &defenderhub.DetectProps{
			Behaviors: defender.StarterBehaviors(), SelfManaged: &defenderhub.SelfManagedProps{AlarmTopic: topic},
		},
		Correlate: &defenderhub.CorrelateProps{},
		Notify:    &defenderhub.NotifyProps{},
		Forwarder: &defenderhub.ForwarderProps{AlarmTopic: topic},
	})
	return stack
}

// references sets all props that may be set at deployment from parameters: texts, lists and
// numbers.
func references(native bool) awscdk.Stack {
	stack := newStack("Fleet", nil)
	parameter := func(id, kind string) awscdk.CfnParameter {
		return awscdk.NewCfnParameter(stack, jsii.String(id), &awscdk.CfnParameterProps{Type: jsii.String(kind)})
	}
	text, list := *parameter("Text", "String").ValueAsString(), *parameter("List", "CommaDelimitedList").ValueAsList()
	group := defender.ThingGroup(*awscdk.Fn_Select(jsii.Number(0.0), &list))
	detect := &defenderhub.DetectProps{
		Behaviors: defender.StarterBehaviors(), Targets: []defender.Target{group, defender.ThingGroup("group-" + text)},
	}
	if !native {
		detect.SelfManaged = &defenderhub.SelfManagedProps{ReportsRuleName: "fleet_" + text}
	} else {
		detect.Native = &defenderhub.NativeProps{}
		number := *parameter("Number", "Number").ValueAsNumber()
		detect.Profiles = []defender.SecurityProfile{{Name: "profile-" + text, Description: text, Behaviors: []defender.Behavior{
			{Name: "behavior-" + text, Severity: defender.High, Criteria: defender.CustomStringList("names").In(*list[0])},
			{Name: "texts", Criteria: defender.CustomStringList("names").In("a", "b-"+text)},
			{Name: "number", Criteria: defender.CustomNumber("warmth").LessThan(number, defender.Window5m)},
			{Name: "numbers", Criteria: defender.CustomNumberList("levels").In(1, number)},
			{Name: "topics", Criteria: defender.MessagesSent.LessThan(5, defender.Window5m), Dimension: &defender.Dimension{TopicFilters: []string{text + "/+"}}},
		}}}
	}
	newHub(stack, &defenderhub.DefenderHubProps{
		Subscriptions: &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Off, Detect: defenderhub.Off},
		Audit:         &defenderhub.AuditProps{ScheduleName: "audit-" + text, RunOnDeploy: true},
		Detect:        detect,
		Rules:         &defenderhub.RulesProps{EventTopic: "fleet/" + text + "/+"},
	})
	return stack
}

// embedded adds the construct to a stack that has its own key, topic, network, permissions boundary
// and tags.
func embedded() awscdk.Stack {
	stack := newStack("Platform", nil)
	key := awskms.NewKey(stack, jsii.String("Key"), &awskms.KeyProps{EnableKeyRotation: jsii.Bool(true)})
	topic := awssns.NewTopic(stack, jsii.String("OnCall"), &awssns.TopicProps{MasterKey: key, EnforceSSL: jsii.Bool(true)})
	alarms := awsiam.NewServicePrincipal(jsii.String("cloudwatch.amazonaws.com"), &awsiam.ServicePrincipalOpts{Conditions: &map[string]any{
		"ArnLike": map[string]any{"aws:SourceArn": stack.FormatArn(&awscdk.ArnComponents{
			Service: jsii.String("cloudwatch"), Resource: jsii.String("alarm"), ResourceName: jsii.String("*"), ArnFormat: awscdk.ArnFormat_COLON_RESOURCE_NAME,
		})},
	}})
	topic.GrantPublish(alarms)
	vpc := awsec2.NewVpc(stack, jsii.String("Network"), &awsec2.VpcProps{MaxAzs: jsii.Number(1.0)})
	vpc.AddFlowLog(jsii.String("Flows"), nil)
	h := newHub(stack, &defenderhub.DefenderHubProps{
		EncryptionKey: key,
		Audit:         &defenderhub.AuditProps{Configuration: defenderhub.Existing, Schedule: defender.Weekly(time.Sunday)},
		Rules:         &defenderhub.RulesProps{EventTopic: "fleet/+/security"},
		AlarmTopic:    topic,
		Function:      &defenderhub.FunctionProps{VPC: vpc},
	})
	awscdk.Tags_Of(h).Add(jsii.String("team"), jsii.String("security"), nil)
	awsiam.PermissionsBoundary_Of(h).Apply(awsiam.ManagedPolicy_FromManagedPolicyName(stack, jsii.String("Boundary"), jsii.String("boundary")))
	return stack
}

// template returns the template that CloudFormation gets.
type template struct {
	Resources map[string]resource
}

type resource struct {
	Type           string
	Properties     map[string]any
	DependsOn      []string
	DeletionPolicy string
	Metadata       map[string]any
}

// synthesized caches the templates: one synthesis per stack serves all tests.
var synthesized = map[string][]byte{}

// synth returns the named stack's template, as indented text and decoded.
func synth(t *testing.T, name string, build func() awscdk.Stack) ([]byte, template) {
	t.Helper()
	text, ok := synthesized[name]
	if !ok {
		var err error
		if text, err = json.MarshalIndent(assertions.Template_FromStack(build(), nil).ToJSON(), "", " "); err != nil {
			t.Fatal(err)
		}
		text = append(text, '\n')
		synthesized[name] = text
	}
	var decoded template
	if err := json.Unmarshal(text, &decoded); err != nil {
		t.Fatal(err)
	}
	return text, decoded
}
