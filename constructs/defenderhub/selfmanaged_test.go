package defenderhub_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// selfManaged returns a Detect with a prebuilt self-managed engine, one behavior for messages and one
// for device reports.
func selfManaged(props defenderhub.SelfManagedProps) *defenderhub.DetectProps {
	props.Prebuilt = prebuilt
	return &defenderhub.DetectProps{
		Behaviors: append(defender.DemoBehaviors(), defender.Behavior{
			Name: "known-ports", Criteria: defender.ListeningTCPPorts.InPorts(22, 443), Severity: defender.High,
		}),
		SelfManaged: &props,
	}
}

// connected adds to props a forwarder that knows their behaviors.
func connected(scope constructs.Construct, props *defenderhub.DetectProps) *defenderhub.DetectProps {
	props.Forwarder = defenderhub.NewForwarder(scope, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, Detects: []*defenderhub.DetectProps{props}})
	return props
}

func selfManagedTemplate(t *testing.T, props defenderhub.SelfManagedProps) template {
	t.Helper()
	return hubTemplate(t, &defenderhub.DefenderHubProps{Detect: selfManaged(props)})
}

// engineConfig returns the configuration beside the evaluator's executable.
func engineConfig(t *testing.T, stack awscdk.Stack) engine.Config {
	t.Helper()
	var c engine.Config
	if err := json.Unmarshal(readAssetFile(t, stack, contract.ConfigFile), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSelfManagedEngineUsesNothingOfDetect(t *testing.T) {
	stack := newStack()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Detect: selfManaged(defenderhub.SelfManagedProps{})}))
	if got, want := hub.Sources(), append(iotrule.Sources(), defender.BehaviorTransitions); !slices.Equal(got, want) {
		t.Errorf("forwards %v, want %v", got, want)
	}
	d := hub.Detect()
	parts := d.SelfManaged()
	if d.Native() != nil {
		t.Error("the native engine is deployed too")
	}
	if parts.TelemetryQueue() == nil || parts.Stream() != nil || parts.ErrorQueue() == nil || parts.DeadLetterQueue() == nil || parts.StateTable() == nil || parts.Evaluator() == nil || parts.Closer() == nil || len(parts.Rules()) != 3 {
		t.Errorf("parts %+v, want all of them, 3 rules and no stream", parts)
	}
	if parts.ReportsRuleName() == nil || parts.ReportTopic() == nil {
		t.Error("the rule name or the topic of reports is nil")
	}
	tp := synth(t, stack)
	for kind, want := range map[string]int{
		"AWS::IoT::SecurityProfile": 0, "AWS::IoT::CustomMetric": 0, "AWS::IoT::Dimension": 0, "AWS::SecurityHub::ProductSubscription": 1,
		"AWS::IoT::TopicRule": 4 + 3, "AWS::SQS::Queue": 3 + 3, "AWS::Lambda::Function": 1 + 2, "AWS::DynamoDB::Table": 2, "AWS::Scheduler::Schedule": 1,
		"AWS::CloudWatch::Alarm": 1 + 6 + 12, "AWS::Kinesis::Stream": 0, "AWS::Lambda::EventSourceMapping": 2 + 2, "AWS::SNS::Topic": 1,
	} {
		if got := len(tp.ids(kind)); got != want {
			t.Errorf("%d of %s, want %d", got, kind, want)
		}
	}
	for _, other := range []*defenderhub.DetectProps{nil, nativeDetect()} {
		d := defenderhub.NewDetect(newStack(), jsii.String("Detect"), other)
		if d.SelfManaged() != nil {
			t.Errorf("%v has parts of the self-managed engine", other)
		}
	}
}

func TestSelfManagedEngineChangesOnlyDetectAndLiveBehaviors(t *testing.T) {
	for name, other := range map[string]*defenderhub.DetectProps{"none": nil, "native": nativeDetect()} {
		t.Run(name, func(t *testing.T) {
			before := hubTemplate(t, &defenderhub.DefenderHubProps{Detect: other})
			after := selfManagedTemplate(t, defenderhub.SelfManagedProps{})
			environment := path(after.named(t, "AWS::Lambda::Function", "HubForwarderFunction").Properties, "Environment", "Variables").(map[string]any)
			live, err := contract.ParseLiveBehaviors(environment[contract.EnvLiveBehaviors].(string))
			if err != nil || len(live) != 3 || !live.Has(defenderhub.DefaultProfile, "small-messages") || !live.Has(engine.AgentProfile, engine.UnreadableReports) {
				t.Errorf("the forwarder knows the behaviors %v, error %v, want 3", live, err)
			}
			delete(environment, contract.EnvLiveBehaviors)
			ofDetect := func(id string) bool {
				return strings.HasPrefix(id, "HubDetect") || strings.HasPrefix(id, "HubSubscriptionsDetect")
			}
			for id := range before {
				if !ofDetect(id) && text(after[id]) != text(before[id]) {
					t.Errorf("%s changes with the engine:\n%s\n%s", id, text(before[id]), text(after[id]))
				}
			}
			for id, r := range after {
				if _, ok := before[id]; !ok && !ofDetect(id) {
					t.Errorf("the engine adds %s (%s), which is not part of Detect", id, r.Type)
				}
			}
		})
	}
}

func TestForwarderHasNoLiveBehaviorsWithoutTheSelfManagedEngine(t *testing.T) {
	tp := hubTemplate(t, &defenderhub.DefenderHubProps{Detect: nativeDetect()})
	env := path(tp.named(t, "AWS::Lambda::Function", "HubForwarderFunction").Properties, "Environment", "Variables")
	if got := path(env, contract.EnvLiveBehaviors); got != nil {
		t.Errorf("the forwarder knows the behaviors %v, want none", got)
	}
}

func TestClosersShareEachMinute(t *testing.T) {
	tp := selfManagedTemplate(t, defenderhub.SelfManagedProps{Closers: 3})
	closer, role := tp.idOf(t, "AWS::Lambda::Function", "HubDetectCloser"), tp.idOf(t, "AWS::IAM::Role", "HubDetectScheduleRole")
	for i := range 3 {
		p := tp.named(t, "AWS::Scheduler::Schedule", fmt.Sprintf("HubDetectClose%d", i)).Properties
		if p["ScheduleExpression"] != "rate(1 minute)" || path(p, "FlexibleTimeWindow", "Mode") != "OFF" || path(p, "Target", "Input") != contract.CloseRequest(i, 3) {
			t.Errorf("schedule %s, want the request %s each minute", text(p), contract.CloseRequest(i, 3))
		}
		if target := text(p["Target"]); !strings.Contains(target, `"`+closer+`","Arn"`) || !strings.Contains(target, `"`+role+`","Arn"`) || !strings.Contains(target, "HubDetectDeadLetters") {
			t.Errorf("target %s, want the closer, its role and the dead-letter queue", target)
		}
	}
	if got := len(tp.ids("AWS::Scheduler::Schedule")); got != 3 {
		t.Errorf("%d schedules, want 3", got)
	}
	r := tp[role]
	if trust := text(r.Properties["AssumeRolePolicyDocument"]); !strings.Contains(trust, "scheduler.amazonaws.com") || !strings.Contains(trust, ":schedule-group/default") || !strings.Contains(trust, "aws:SourceAccount") {
		t.Errorf("the trust policy %s does not name the schedules of this account", trust)
	}
	statements := path(r.Properties["Policies"].([]any)[0], "PolicyDocument", "Statement").([]any)
	if got, want := text(path(statements[0], "Resource")), `{"Fn::GetAtt":["`+closer+`","Arn"]}`; got != want || path(statements[0], "Action") != "lambda:InvokeFunction" {
		t.Errorf("the schedules are allowed %s, want the invocation of the closer", text(statements))
	}
}

// The next run, one minute later, continues unfinished work.
func TestCloserIsNotRetried(t *testing.T) {
	tp := selfManagedTemplate(t, defenderhub.SelfManagedProps{})
	closer := tp.idOf(t, "AWS::Lambda::Function", "HubDetectCloser")
	got := text(tp.named(t, "AWS::Lambda::EventInvokeConfig", "HubDetectCloserEventInvokeConfig").Properties)
	if want := `{"FunctionName":{"Ref":"` + closer + `"},"MaximumEventAgeInSeconds":60,"MaximumRetryAttempts":0,"Qualifier":"$LATEST"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestStateTable(t *testing.T) {
	tp := selfManagedTemplate(t, defenderhub.SelfManagedProps{PointInTimeRecovery: true, StateRemovalPolicy: awscdk.RemovalPolicy_RETAIN})
	r := tp.named(t, "AWS::DynamoDB::Table", "HubDetectState")
	for property, want := range map[string]string{
		"KeySchema":                        `[{"AttributeName":"pk","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}]`,
		"BillingMode":                      `"PAY_PER_REQUEST"`,
		"TimeToLiveSpecification":          `{"AttributeName":"expires","Enabled":true}`,
		"SSESpecification":                 `{"SSEEnabled":true}`,
		"PointInTimeRecoverySpecification": `{"PointInTimeRecoveryEnabled":true}`,
		"GlobalSecondaryIndexes":           `[{"IndexName":"due","KeySchema":[{"AttributeName":"dueShard","KeyType":"HASH"},{"AttributeName":"dueAt","KeyType":"RANGE"}],"Projection":{"ProjectionType":"KEYS_ONLY"}}]`,
		"AttributeDefinitions":             `[{"AttributeName":"pk","AttributeType":"S"},{"AttributeName":"sk","AttributeType":"S"},{"AttributeName":"dueShard","AttributeType":"S"},{"AttributeName":"dueAt","AttributeType":"N"}]`,
	} {
		if got := text(r.Properties[property]); got != want {
			t.Errorf("%s: got %s, want %s", property, got, want)
		}
	}
	if r.DeletionPolicy != "Retain" || r.Metadata["cdk_nag"] != nil {
		t.Errorf("deletion policy %s, metadata %v, want Retain and no suppression", r.DeletionPolicy, r.Metadata)
	}
}

func TestEvaluatorAndCloserHaveTheirSettings(t *testing.T) {
	stack := newStack()
	group := *awscdk.Fn_ImportValue(jsii.String("Group"))
	props := selfManaged(defenderhub.SelfManagedProps{
		ReportInterval: time.Minute, ConfirmFirstTraffic: true, ReportsEvery: 15 * time.Minute, ReportsSeverity: defender.Low, MinDatapoints: 500, MembershipAge: time.Hour, UnregisteredLifetime: 48 * time.Hour, BatchWindow: 20 * time.Second, ReportTopic: "fleet/+/report",
	})
	props.Targets = []defender.Target{defender.ThingGroup("pumps"), defender.RegisteredThings}
	props.Profiles = []defender.SecurityProfile{{Name: "gateways", Behaviors: defender.DemoBehaviors(), Targets: []defender.Target{defender.ThingGroup(group), defender.ThingGroup("pumps")}}}
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Detect: props}))
	if got := *hub.Detect().SelfManaged().ReportTopic(); got != "fleet/+/report" {
		t.Errorf("reports go to %s, want fleet/+/report", got)
	}
	tp := synth(t, stack)
	forwarder := tp.idOf(t, "AWS::Lambda::Function", "HubForwarderFunction")
	reports := tp.idOf(t, "AWS::IoT::TopicRule", "HubDetectRulereports")
	for _, id := range []string{"HubDetectEvaluator", "HubDetectCloser"} {
		r := tp.named(t, "AWS::Lambda::Function", id)
		env := path(r.Properties, "Environment", "Variables")
		for name, want := range map[string]string{
			contract.EnvStateTable:        `{"Ref":"` + tp.idOf(t, "AWS::DynamoDB::Table", "HubDetectState") + `"}`,
			contract.EnvIngestQueueURL:    `{"Ref":"` + tp.idOf(t, "AWS::SQS::Queue", "HubForwarderQueue") + `"}`,
			contract.EnvTelemetryQueueURL: `{"Ref":"` + tp.idOf(t, "AWS::SQS::Queue", "HubDetectTelemetry") + `"}`,
			contract.EnvReportsRule:       `{"Ref":"` + reports + `"}`,
			contract.EnvThingGroups:       `{"Fn::Join":["",["pumps,",{"Fn::ImportValue":"Group"}]]}`,
			contract.EnvLogLevel:          `"INFO"`,
		} {
			if got := text(path(env, name)); got != want {
				t.Errorf("%s: %s is %s, want %s", id, name, got, want)
			}
		}
		if !slices.Contains(r.DependsOn, forwarder) {
			t.Errorf("%s depends on %v, want the forwarder, which must first know the behaviors", id, r.DependsOn)
		}
	}
	if sql := path(tp[reports].Properties, "TopicRulePayload", "Sql").(string); !strings.HasSuffix(sql, " FROM 'fleet/+/report'") {
		t.Errorf("SQL %s, want it on the topic fleet/+/report", sql)
	}
	c := engineConfig(t, stack)
	if got, want := fmt.Sprint(c.Profiles[0].Targets, c.Profiles[1].Targets), "[thinggroup/0 all/registered-things] [thinggroup/1 thinggroup/0]"; got != want {
		t.Errorf("targets %s, want %s", got, want)
	}
	if c.Profiles[0].Name != defenderhub.DefaultProfile || c.Profiles[1].Name != "gateways" || len(c.Profiles[0].Behaviors) != 2 || c.Profiles[0].Behaviors[1].Severity != defender.High {
		t.Errorf("profiles %+v, want the default one with two behaviors, and gateways", c.Profiles)
	}
	c.Profiles = nil
	want := engine.Config{ReportSeconds: 60, ConfirmTraffic: true, ReportsEvery: 15, ReportsSeverity: "LOW", Reports: true, ReportTopic: "fleet/+/report", BatchSeconds: 20, MinDatapoints: 500, MembershipMinutes: 60, UnregisteredMinutes: 2880}
	if text(c) != text(want) {
		t.Errorf("got %s, want %s", text(c), text(want))
	}
}

func TestReportsEveryNeedsNoBehavior(t *testing.T) {
	stack := newStack()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Detect: &defenderhub.DetectProps{
		SelfManaged: &defenderhub.SelfManagedProps{Prebuilt: prebuilt, ReportsEvery: 10 * time.Minute},
	}}))
	if rules := hub.Detect().SelfManaged().Rules(); len(rules) != 1 || rules["reports"] == nil {
		t.Errorf("rules %v, want that of reports alone", rules)
	}
	if c := engineConfig(t, stack); len(c.Profiles) != 0 || !c.Reports || c.ReportsEvery != 10 {
		t.Errorf("config %+v, want no profile, and reports every 10 minutes", c)
	}
}

func TestNoRuleForReportsIfNoBehaviorUsesThem(t *testing.T) {
	stack := newStack()
	props := selfManaged(defenderhub.SelfManagedProps{})
	props.Behaviors = defender.DemoBehaviors()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Detect: props}))
	if hub.Detect().SelfManaged().ReportsRuleName() != nil || hub.Detect().SelfManaged().ReportTopic() != nil {
		t.Error("the rule name or the topic of reports is not nil")
	}
	for _, id := range synth(t, stack).ids("AWS::IoT::TopicRule") {
		if strings.Contains(id, "reports") {
			t.Errorf("the rule %s is deployed", id)
		}
	}
}

// With one pattern of client IDs, alarms and device events name the same thing.
func TestEvaluatorUsesTheForwardersClientPattern(t *testing.T) {
	stack := newStack()
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
		Detect: selfManaged(defenderhub.SelfManagedProps{}), Forwarder: &defenderhub.ForwarderProps{ClientPattern: "(.+)-agent"},
	}))
	if c := engineConfig(t, stack); c.ClientPattern != "(.+)-agent" {
		t.Errorf("config %+v, want the pattern (.+)-agent", c)
	}
}

// A device that sends nothing may be disconnected. Reports and their metrics do not need that.
func TestOnlyMessageAndConnectionBehaviorsReadConnections(t *testing.T) {
	for _, c := range []struct {
		criteria defender.Criteria
		reads    bool
	}{
		{defender.ListeningTCPPorts.InPorts(22, 443), false},
		{defender.AllBytesOut.LessThan(10, defender.Window10m), false},
		{defender.MessageByteSize.LessThan(100), true},
		{defender.MessagesSent.GreaterThan(0, defender.Window5m), true},
		{defender.Disconnects.LessThan(3, defender.Window5m), true},
		{defender.DisconnectDuration.LessThan(30), true},
	} {
		props := selfManaged(defenderhub.SelfManagedProps{})
		props.Behaviors = []defender.Behavior{{Name: "b", Criteria: c.criteria}}
		tp := hubTemplate(t, &defenderhub.DefenderHubProps{Detect: props})
		want := 0
		if c.reads {
			want = 2 // the evaluator's role and the closer's
		}
		if n := strings.Count(text(tp), `"iot:GetConnection"`); n != want {
			t.Errorf("%s: %d statements allow iot:GetConnection, want %d", c.criteria.Metric().Name, n, want)
		}
	}
}

func TestAssetDependsOnlyOnProgramAndBehaviors(t *testing.T) {
	code := func(change func(*defenderhub.DetectProps)) string {
		props := selfManaged(defenderhub.SelfManagedProps{})
		change(props)
		tp := hubTemplate(t, &defenderhub.DefenderHubProps{Detect: props})
		evaluator, closer := tp.named(t, "AWS::Lambda::Function", "HubDetectEvaluator"), tp.named(t, "AWS::Lambda::Function", "HubDetectCloser")
		if text(evaluator.Properties["Code"]) != text(closer.Properties["Code"]) {
			t.Error("evaluator and closer have different assets")
		}
		return text(evaluator.Properties["Code"])
	}
	same := code(func(*defenderhub.DetectProps) {})
	// The same program at another path.
	program, err := os.ReadFile(prebuilt)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "evaluator")
	if err := os.WriteFile(copied, program, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if got := code(func(p *defenderhub.DetectProps) { p.SelfManaged.Prebuilt = copied }); got != same {
		t.Errorf("the same program at another path is the asset %s, want %s", got, same)
	}
	if got := code(func(p *defenderhub.DetectProps) { p.Behaviors[0].ToAlarm = 2 }); got == same {
		t.Error("other behaviors have the same asset")
	}
	if err := os.WriteFile(copied, append(program, 0), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := code(func(p *defenderhub.DetectProps) { p.SelfManaged.Prebuilt = copied }); got == same {
		t.Error("another program has the same asset")
	}
}

func TestFunctionPropsReachTheSelfManagedEngine(t *testing.T) {
	stack := newStack()
	vpc := awsec2.NewVpc(stack, jsii.String("Net"), &awsec2.VpcProps{MaxAzs: jsii.Number(1)})
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{Detect: selfManaged(defenderhub.SelfManagedProps{
		MemoryMiB: 1024, Timeout: 3 * time.Minute,
		Function: &defenderhub.FunctionProps{Architecture: defenderhub.AMD64, Tracing: true, VPC: vpc},
	})}))
	tp := synth(t, stack)
	for _, id := range []string{"HubDetectEvaluator", "HubDetectCloser"} {
		p := tp.named(t, "AWS::Lambda::Function", id).Properties
		if text(p["Architectures"]) != `["x86_64"]` || p["MemorySize"] != 1024.0 || p["Timeout"] != 180.0 || path(p, "TracingConfig", "Mode") != "Active" || p["VpcConfig"] == nil {
			t.Errorf("%s: got %s, want the values of the props", id, text(p))
		}
	}
}

func TestCustomerManagedKeyReachesTheSelfManagedEngine(t *testing.T) {
	for _, transport := range defenderhub.Transports() {
		t.Run(transport.String(), func(t *testing.T) {
			stack := newStack()
			key := awskms.NewKey(stack, jsii.String("Own"), &awskms.KeyProps{EnableKeyRotation: jsii.Bool(true)})
			defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
				EncryptionKey: key, Detect: selfManaged(defenderhub.SelfManagedProps{Transport: transport}),
			}))
			tp := synth(t, stack)
			own := tp.ids("AWS::KMS::Key")
			if len(own) != 1 {
				t.Fatalf("keys %v, want the caller's alone", own)
			}
			for kind, property := range map[string][]string{
				"AWS::SQS::Queue": {"KmsMasterKeyId"}, "AWS::Logs::LogGroup": {"KmsKeyId"}, "AWS::Kinesis::Stream": {"StreamEncryption", "KeyId"},
				"AWS::DynamoDB::Table": {"SSESpecification", "KMSMasterKeyId"},
			} {
				for _, id := range tp.ids(kind) {
					if got := text(path(tp[id].Properties, property...)); !strings.Contains(got, own[0]) {
						t.Errorf("%s is encrypted with %s, want %s", id, got, own[0])
					}
				}
			}
			for _, id := range append(tp.ids("AWS::IAM::Role"), tp.ids("AWS::IAM::Policy")...) {
				policy := text(tp[id].Properties)
				sends := strings.Contains(policy, "sqs:SendMessage") || strings.Contains(policy, "kinesis:PutRecord")
				if sends && (!strings.Contains(policy, "kms:GenerateDataKey") || !strings.Contains(policy, own[0])) {
					t.Errorf("%s sends, but cannot use the key: %s", id, policy)
				}
			}
		})
	}
}

// The queue of the given forwarder may be encrypted with a key that Detect does not have.
func TestDetectsWithoutTheFacadeSendToTheGivenForwarder(t *testing.T) {
	stack := newStack()
	key := awskms.NewKey(stack, jsii.String("ForwarderKey"), nil)
	ids := []string{"One", "Two"}
	var detects []*defenderhub.DetectProps
	for _, id := range ids {
		props := selfManaged(defenderhub.SelfManagedProps{})
		props.Behaviors, props.Profiles = nil, []defender.SecurityProfile{{Name: id, Behaviors: defender.DemoBehaviors()}}
		detects = append(detects, props)
	}
	forwarder := defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, EncryptionKey: key, Detects: detects})
	for i, id := range ids {
		detects[i].Forwarder = forwarder
		defenderhub.NewDetect(stack, jsii.String(id), detects[i])
		if detects[i].SelfManaged.Prebuilt != prebuilt {
			t.Error("the caller's props changed")
		}
	}
	tp := synth(t, stack)
	env := path(tp.named(t, "AWS::Lambda::Function", "ForwarderFunction").Properties, "Environment", "Variables")
	live, err := contract.ParseLiveBehaviors(path(env, contract.EnvLiveBehaviors).(string))
	if err != nil || !live.Has("One", "small-messages") || !live.Has("Two", "small-messages") {
		t.Errorf("the forwarder knows the behaviors %v, error %v, want those of both Detects", live, err)
	}
	policy := text(tp.named(t, "AWS::IAM::Policy", "OneEvaluatorRoleDefaultPolicy").Properties)
	if !strings.Contains(policy, tp.ids("AWS::KMS::Key")[0]) || !strings.Contains(policy, tp.idOf(t, "AWS::SQS::Queue", "ForwarderQueue")) {
		t.Errorf("the evaluator cannot send to the forwarder: %s", policy)
	}
}
