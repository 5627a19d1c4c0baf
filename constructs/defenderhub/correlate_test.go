package defenderhub_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/contract"
	rulefile "github.com/defenderhub/defenderhub/internal/correlation"
)

// correlate adds to props a prebuilt program, and a forwarder that knows their rules.
func correlate(scope constructs.Construct, props defenderhub.CorrelateProps) *defenderhub.CorrelateProps {
	props.Prebuilt = prebuilt
	props.Forwarder = defenderhub.NewForwarder(scope, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, Correlate: &props})
	return &props
}

func correlateTemplate(t *testing.T, props defenderhub.CorrelateProps) template {
	t.Helper()
	props.Prebuilt = prebuilt
	return hubTemplate(t, &defenderhub.DefenderHubProps{Correlate: &props})
}

func TestCorrelateDeploysARuleAQueueAndAFunction(t *testing.T) {
	stack := newStack()
	c := defenderhub.NewCorrelate(stack, jsii.String("Correlate"), correlate(stack, defenderhub.CorrelateProps{}))
	if c.Rule() == nil || c.Queue() == nil || c.DeadLetterQueue() == nil || c.Function() == nil || c.StateTable() == nil || len(c.Alarms()) != 9 {
		t.Errorf("parts %+v, want all of them and 8 alarms", c)
	}
	tp := synth(t, stack)
	for kind, want := range map[string]int{
		"AWS::Events::Rule": 1 + 1, "AWS::SQS::Queue": 3 + 2, "AWS::Lambda::Function": 1 + 1, "AWS::DynamoDB::Table": 1 + 1, "AWS::Scheduler::Schedule": 1,
		"AWS::CloudWatch::Alarm": 6 + 9, "AWS::Lambda::EventSourceMapping": 2 + 1, "AWS::SNS::Topic": 0,
	} {
		if got := len(tp.ids(kind)); got != want {
			t.Errorf("%d of %s, want %d", got, kind, want)
		}
	}
	rule := tp.named(t, "AWS::Events::Rule", "CorrelateRule")
	for _, id := range []string{"CorrelateQueue", "CorrelateDeadLetters"} {
		if targets := text(rule.Properties["Targets"]); !strings.Contains(targets, tp.idOf(t, "AWS::SQS::Queue", id)) {
			t.Errorf("the rule sends to %s, want %s", targets, id)
		}
		policy := text(tp.named(t, "AWS::SQS::QueuePolicy", id+"Policy").Properties)
		if !strings.Contains(policy, "events.amazonaws.com") || !strings.Contains(policy, `"aws:SourceArn":{"Fn::GetAtt":["`+tp.idOf(t, "AWS::Events::Rule", "CorrelateRule")) {
			t.Errorf("%s does not let the rule send: %s", id, policy)
		}
	}
	schedule := tp.one(t, "AWS::Scheduler::Schedule").Properties
	if schedule["ScheduleExpression"] != "rate(1 minute)" || path(schedule, "Target", "Input") != contract.CorrelateRequest {
		t.Errorf("the schedule is %v, want %s each minute", schedule, contract.CorrelateRequest)
	}
}

func TestPatternSelectsOnlyThisAccountByDefault(t *testing.T) {
	rules, err := rulefile.Compile(correlation.BuiltIn(), 0)
	if err != nil {
		t.Fatal(err)
	}
	pattern := func(tp template) any {
		return tp.named(t, "AWS::Events::Rule", "HubCorrelateRule").Properties["EventPattern"]
	}
	findings, _ := path(pattern(correlateTemplate(t, defenderhub.CorrelateProps{})), "detail", "findings").(map[string]any)
	if text(findings["AwsAccountId"]) != `[{"Ref":"AWS::AccountId"}]` || text(findings["Region"]) != `[{"Ref":"AWS::Region"}]` {
		t.Errorf("the pattern selects account %s and Region %s, want those of the stack", text(findings["AwsAccountId"]), text(findings["Region"]))
	}
	if got, want := text(pattern(correlateTemplate(t, defenderhub.CorrelateProps{OtherAccounts: true}))), text(rulefile.Pattern(rules, "", "")); got != want {
		t.Errorf("with other accounts the pattern is %s, want %s", got, want)
	}
	empty := defenderhub.CorrelateProps{Rules: []correlation.Rule{}, Pattern: map[string]any{}, OtherAccounts: true}
	if got, want := text(pattern(correlateTemplate(t, empty))), text(rulefile.Pattern(rules, "", "")); got != want {
		t.Errorf("with an empty list of rules and an empty pattern the pattern is %s, want that of the built-in rules: %s", got, want)
	}
	own := map[string]any{"source": []string{"aws.securityhub"}}
	if got := text(pattern(correlateTemplate(t, defenderhub.CorrelateProps{Pattern: own}))); got != text(own) {
		t.Errorf("the pattern of the props became %s", got)
	}
}

func TestCorrelatorReadsItsProps(t *testing.T) {
	stack := newStack()
	props := &defenderhub.DefenderHubProps{
		Forwarder: &defenderhub.ForwarderProps{ClientPattern: "(.+)-agent"},
		Correlate: &defenderhub.CorrelateProps{
			Rules: []correlation.Rule{correlation.Campaign(correlation.Spread{Share: 0.1})}, FleetSize: 500,
			Attributes: []string{"instanceId"}, OtherAccounts: true, RegistryAge: 5 * time.Minute, Prebuilt: prebuilt,
			BatchSize: 20, BatchWindow: 3 * time.Second, MaxConcurrency: 7, MemoryMiB: 512, Timeout: 2 * time.Minute,
			PointInTimeRecovery: true, StateRemovalPolicy: awscdk.RemovalPolicy_RETAIN,
			Function: &defenderhub.FunctionProps{Architecture: defenderhub.AMD64},
			Alarms:   &defenderhub.CorrelateAlarmsProps{Unsent: defenderhub.Alarm{Off: true}},
		},
	}
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(props))
	if hub.Correlate() == nil || len(hub.Correlate().Alarms()) != 8 {
		t.Error("Correlate is missing, or has not 7 alarms")
	}
	var file rulefile.Config
	if err := json.Unmarshal(readAssetFile(t, stack, rulefile.File), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Rules) != 1 || file.Rules[0].Devices != 50 || !slices.Equal(file.Attributes, []string{"instanceId"}) || !file.Elsewhere ||
		file.MaxAge() != 5*time.Minute || file.ClientPattern != "(.+)-agent" {
		t.Errorf("the correlator's file is %+v, want the values of the props", file)
	}
	tp := synth(t, stack)
	live := path(tp.named(t, "AWS::Lambda::Function", "HubForwarderFunction").Properties, "Environment", "Variables", contract.EnvLiveRules)
	if live != rulefile.Live(file.Rules).String() {
		t.Errorf("the forwarder knows the rules %v, want %s", live, rulefile.Live(file.Rules))
	}
	function := tp.named(t, "AWS::Lambda::Function", "HubCorrelateFunction")
	if p := function.Properties; p["MemorySize"] != 512.0 || p["Timeout"] != 120.0 || text(p["Architectures"]) != `["x86_64"]` {
		t.Errorf("function %v, want the memory, timeout and architecture of the props", p)
	}
	if !slices.ContainsFunc(function.DependsOn, func(id string) bool { return strings.HasPrefix(id, "HubForwarderFunction") }) {
		t.Errorf("the function depends on %v, not on the forwarder, which must know the rules first", function.DependsOn)
	}
	if p := tp.named(t, "AWS::SQS::Queue", "HubCorrelateQueue").Properties; p["VisibilityTimeout"] != 723.0 {
		t.Errorf("queue %v, want a visibility timeout of 723 s", p)
	}
	for _, id := range tp.ids("AWS::Lambda::EventSourceMapping") {
		if p := tp[id].Properties; strings.Contains(id, "Correlate") && (p["BatchSize"] != 20.0 || p["MaximumBatchingWindowInSeconds"] != 3.0 || path(p, "ScalingConfig", "MaximumConcurrency") != 7.0) {
			t.Errorf("event source mapping %s: %v, want the batches and the concurrency of the props", id, p)
		}
	}
	if table := tp.named(t, "AWS::DynamoDB::Table", "HubCorrelateState"); table.DeletionPolicy != "Retain" || path(table.Properties, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled") != true {
		t.Errorf("table %+v, want it retained, with point-in-time recovery", table)
	}
}

func TestWithoutCorrelateNothingChanges(t *testing.T) {
	before, after := hubTemplate(t, &defenderhub.DefenderHubProps{}), correlateTemplate(t, defenderhub.CorrelateProps{})
	environment := path(after.named(t, "AWS::Lambda::Function", "HubForwarderFunction").Properties, "Environment", "Variables").(map[string]any)
	if environment[contract.EnvLiveRules] == nil {
		t.Error("the forwarder knows no rule")
	}
	delete(environment, contract.EnvLiveRules)
	for id := range before {
		if text(after[id]) != text(before[id]) {
			t.Errorf("%s changes with Correlate:\n%s\n%s", id, text(before[id]), text(after[id]))
		}
	}
	for id, r := range after {
		if _, ok := before[id]; !ok && !strings.HasPrefix(id, "HubCorrelate") {
			t.Errorf("%s (%s) is not Correlate's", id, r.Type)
		}
	}
}

func TestWrongCorrelatePropsAreReportedAtOnce(t *testing.T) {
	valid := correlation.TwoProducts()
	wrong := defenderhub.CorrelateProps{
		Rules:      []correlation.Rule{valid, valid, {Name: "A rule"}, correlation.Campaign(correlation.Spread{Share: 0.5})},
		Attributes: []string{"instance id", "a", "a"}, RegistryAge: time.Second, BatchSize: 10001, BatchWindow: time.Hour, MaxConcurrency: 1,
		Function: &defenderhub.FunctionProps{Architecture: 7}, Prebuilt: "testdata/none", MemoryMiB: 1, Timeout: time.Second, StateRemovalPolicy: "never",
		Alarms: &defenderhub.CorrelateAlarmsProps{DeadLetters: defenderhub.Alarm{Above: -1}, Stopped: defenderhub.InactivityAlarm{Periods: 1000}},
	}
	fields, message := faults(t, func() { defenderhub.NewCorrelate(newStack(), jsii.String("Correlate"), &wrong) })
	for _, want := range []string{
		"Rules[1].Name", "Rules[2].Name", "Rules[2].Stages", "Rules[3].Spread.Share", "Attributes[0]", "Attributes[2]", "RegistryAge", "BatchSize", "BatchWindow",
		"MaxConcurrency", "Function.Architecture", "Prebuilt", "MemoryMiB", "Timeout", "StateRemovalPolicy", "Alarms.DeadLetters.Above", "Alarms.Stopped.Periods", "Forwarder",
	} {
		if !slices.Contains(fields, want) {
			t.Errorf("no fault of %s in\n%s", want, message)
		}
	}
	long := map[string]any{"source": []string{strings.Repeat("x", 2049)}}
	for field, props := range map[string]defenderhub.CorrelateProps{
		"Pattern": {Pattern: long}, "Attributes": {Attributes: strings.Split("a,b,c,d,e,f,g,h,i,j,k", ",")}, "FleetSize": {FleetSize: -1},
	} {
		stack := newStack()
		if fields, _ := faults(t, func() { defenderhub.NewCorrelate(stack, jsii.String("Correlate"), correlate(stack, props)) }); !slices.Equal(fields, []string{field}) {
			t.Errorf("faults of %v, want %s", fields, field)
		}
	}
}

func TestForwarderMustKnowTheRules(t *testing.T) {
	stack := newStack()
	props := correlate(stack, defenderhub.CorrelateProps{})
	other := *props
	other.FleetSize, other.Rules = 10, []correlation.Rule{correlation.TwoProducts()}
	if fields, message := faults(t, func() { defenderhub.NewCorrelate(stack, jsii.String("Other"), &other) }); !slices.Equal(fields, []string{"Forwarder"}) || !strings.Contains(message, "otherwise it ends their composite findings") {
		t.Errorf("other rules than those of the forwarder: faults of %v, want Forwarder: %s", fields, message)
	}
	stack = newStack()
	props = correlate(stack, defenderhub.CorrelateProps{})
	defenderhub.NewCorrelate(stack, jsii.String("First"), props)
	fields, message := faults(t, func() { defenderhub.NewCorrelate(stack, jsii.String("Second"), props) })
	if len(fields) != len(correlation.BuiltIn()) || fields[0] != "Rules" || !strings.Contains(message, "Fleet/First creates it") {
		t.Errorf("two Correlates of one forwarder: faults of %v, want one for each rule: %s", fields, message)
	}
}

func TestCorrelateNeedsTheForwarder(t *testing.T) {
	for field, props := range map[string]defenderhub.DefenderHubProps{
		"Correlate":           {NoForwarder: true, Correlate: &defenderhub.CorrelateProps{}},
		"Forwarder.Correlate": {Forwarder: &defenderhub.ForwarderProps{Correlate: &defenderhub.CorrelateProps{}}},
		"Correlate.Forwarder": {Correlate: correlate(newStack(), defenderhub.CorrelateProps{})},
		"Correlate.BatchSize": {Correlate: &defenderhub.CorrelateProps{BatchSize: -1}},
	} {
		if fields, message := faults(t, func() { defenderhub.NewDefenderHub(newStack(), jsii.String("Hub"), withPrebuilt(&props)) }); !slices.Equal(fields, []string{field}) {
			t.Errorf("faults of %v, want %s: %s", fields, field, message)
		}
	}
}

func TestCustomerManagedKeyReachesCorrelate(t *testing.T) {
	stack := newStack()
	key := awskms.NewKey(stack, jsii.String("Key"), nil)
	defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{EncryptionKey: key, Correlate: &defenderhub.CorrelateProps{Prebuilt: prebuilt}}))
	tp := synth(t, stack)
	for _, kind := range []string{"AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::Logs::LogGroup"} {
		for _, id := range tp.ids(kind) {
			if strings.HasPrefix(id, "HubCorrelate") && !strings.Contains(text(tp[id].Properties), tp.ids("AWS::KMS::Key")[0]) {
				t.Errorf("%s is not encrypted with the key: %s", id, text(tp[id].Properties))
			}
		}
	}
	var policy struct{ Statement []map[string]any }
	if err := json.Unmarshal([]byte(text(tp[tp.ids("AWS::KMS::Key")[0]].Properties["KeyPolicy"])), &policy); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(policy.Statement, func(s map[string]any) bool {
		return strings.Contains(text(s["Principal"]), "events.amazonaws.com") && s["Condition"] == nil && text(s["Action"]) == `["kms:Decrypt","kms:GenerateDataKey"]`
	}) {
		t.Errorf("EventBridge cannot send to the queues: %s", text(policy))
	}
}
