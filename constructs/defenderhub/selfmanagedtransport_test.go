package defenderhub_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

func TestRulesOfTheEngineSendTelemetryToTheQueue(t *testing.T) {
	tp := selfManagedTemplate(t, defenderhub.SelfManagedProps{})
	telemetry, failed := tp.idOf(t, "AWS::SQS::Queue", "HubDetectTelemetry"), tp.idOf(t, "AWS::SQS::Queue", "HubDetectErrorQueue")
	config := engine.Config{Profiles: []engine.ProfileConfig{{Name: "defenderhub", Behaviors: selfManaged(defenderhub.SelfManagedProps{}).Behaviors}}, Reports: true}
	behaviors, err := config.Compile()
	if err != nil {
		t.Fatal(err)
	}
	rules := engine.Rules(behaviors, "")
	for _, r := range rules {
		made := tp.named(t, "AWS::IoT::TopicRule", "HubDetectRule"+strings.ReplaceAll(r.ID, "-", ""))
		payload := made.Properties["TopicRulePayload"]
		if path(payload, "Sql") != r.SQL || path(payload, "AwsIotSqlVersion") != iotrule.SQLVersion || made.Properties["RuleName"] != nil {
			t.Errorf("%s: %s, want %s", r.ID, text(payload), r.SQL)
		}
		if actions := text(path(payload, "Actions")); !strings.Contains(actions, telemetry) || !strings.Contains(text(path(payload, "ErrorAction")), failed) {
			t.Errorf("%s: got %s, want the telemetry queue, and the error queue for errors", r.ID, text(payload))
		}
	}
	if got := len(rules); got != 3 {
		t.Errorf("the test has %d rules, want 3", got)
	}
	trust := text(tp.named(t, "AWS::IAM::Role", "HubDetectRulesRole"))
	if strings.Contains(trust, "GetAtt") || !strings.Contains(trust, "aws:SourceAccount") || !strings.Contains(trust, ":rule/*") {
		t.Errorf("the role depends on other resources, or does not name rules of this account: %s", trust)
	}
}

func TestRuleOfReportsHasTheGivenName(t *testing.T) {
	tp := selfManagedTemplate(t, defenderhub.SelfManagedProps{ReportsRuleName: "fleet_reports"})
	for _, id := range tp.ids("AWS::IoT::TopicRule") {
		want := any(nil)
		if strings.HasPrefix(id, "HubDetectRulereports") {
			want = "fleet_reports"
		}
		if got := tp[id].Properties["RuleName"]; got != want {
			t.Errorf("%s is named %v, want %v", id, got, want)
		}
	}
}

func TestQueuesOfTelemetryLoseNothing(t *testing.T) {
	tp := selfManagedTemplate(t, defenderhub.SelfManagedProps{Timeout: 2 * time.Minute, BatchSize: 50, BatchWindow: time.Minute, MaxConcurrency: 4})
	dead := tp.idOf(t, "AWS::SQS::Queue", "HubDetectDeadLetters")
	sources := map[string]bool{}
	for _, id := range tp.ids("AWS::Lambda::EventSourceMapping") {
		p := tp[id].Properties
		if !strings.HasPrefix(id, "HubDetect") {
			continue
		}
		if p["BatchSize"] != 50.0 || p["MaximumBatchingWindowInSeconds"] != 60.0 || path(p, "ScalingConfig", "MaximumConcurrency") != 4.0 || text(p["FunctionResponseTypes"]) != `["ReportBatchItemFailures"]` {
			t.Errorf("%s: got %s, want the batches and the concurrency of the props", id, text(p))
		}
		sources[text(p["EventSourceArn"])] = true
	}
	for _, name := range []string{"HubDetectTelemetry", "HubDetectErrorQueue"} {
		id := tp.idOf(t, "AWS::SQS::Queue", name)
		p := tp[id].Properties
		if p["VisibilityTimeout"] != 780.0 || p["MessageRetentionPeriod"] != 14*24*3600.0 || !strings.Contains(text(p["RedrivePolicy"]), dead) || path(p, "RedrivePolicy", "maxReceiveCount") != 27.0 {
			t.Errorf("%s: want a visibility timeout of 780 s, 14 days of retention and 27 receives in %s", id, text(p))
		}
		if !sources[`{"Fn::GetAtt":["`+id+`","Arn"]}`] {
			t.Errorf("%s invokes no function: the event sources are %v", id, sources)
		}
	}
}

func TestStreamCarriesTheTelemetryInOrderPerDevice(t *testing.T) {
	stack := newStack()
	hub := defenderhub.NewDefenderHub(stack, jsii.String("Hub"), withPrebuilt(&defenderhub.DefenderHubProps{
		Detect: selfManaged(defenderhub.SelfManagedProps{Transport: defenderhub.TransportKinesis}),
	}))
	if parts := hub.Detect().SelfManaged(); parts.Stream() == nil || parts.TelemetryQueue() != nil {
		t.Errorf("parts %+v, want a stream and no telemetry queue", parts)
	}
	tp := synth(t, stack)
	stream := tp.one(t, "AWS::Kinesis::Stream")
	if text(stream.Properties["StreamModeDetails"]) != `{"StreamMode":"ON_DEMAND"}` || path(stream.Properties, "StreamEncryption", "EncryptionType") != "KMS" || stream.Properties["ShardCount"] != nil {
		t.Errorf("stream %s, want it on demand and encrypted", text(stream))
	}
	for _, id := range tp.ids("AWS::IoT::TopicRule") {
		if !strings.HasPrefix(id, "HubDetect") {
			continue
		}
		payload := tp[id].Properties["TopicRulePayload"]
		action := path(path(payload, "Actions").([]any)[0], "Kinesis")
		key := "${clientid()}"
		if strings.HasPrefix(id, "HubDetectRulelifecycle") {
			key = "${clientId}"
		}
		if path(action, "PartitionKey") != key || path(action, "StreamName") == nil || !strings.Contains(text(path(payload, "ErrorAction")), "HubDetectErrorQueue") {
			t.Errorf("%s: got %s, want the partition key %s, and the error queue", id, text(payload), key)
		}
	}
	source := tp.idOf(t, "AWS::Lambda::EventSourceMapping", "HubDetectStreamSource")
	p := tp[source].Properties
	want := map[string]any{
		"StartingPosition": "TRIM_HORIZON", "BatchSize": 1000.0, "MaximumBatchingWindowInSeconds": 10.0,
		"BisectBatchOnFunctionError": true, "MaximumRecordAgeInSeconds": 6 * 3600.0,
	}
	for name, value := range want {
		if p[name] != value {
			t.Errorf("event source mapping: %s is %v, want %v", name, p[name], value)
		}
	}
	if text(p["FunctionResponseTypes"]) != `["ReportBatchItemFailures"]` || !strings.Contains(text(p["DestinationConfig"]), "HubDetectDeadLetters") {
		t.Errorf("event source mapping %s, want partial failures, and the dead-letter queue", text(p))
	}
	policy := tp.idOf(t, "AWS::IAM::Policy", "HubDetectEvaluatorRoleDefaultPolicy")
	if !slices.Contains(tp[source].DependsOn, policy) {
		t.Errorf("the event source mapping depends on %v, want the policy that allows reading", tp[source].DependsOn)
	}
	env := path(tp.named(t, "AWS::Lambda::Function", "HubDetectEvaluator").Properties, "Environment", "Variables")
	if path(env, contract.EnvTelemetryQueueURL) != nil {
		t.Errorf("the evaluator has the variable %s", contract.EnvTelemetryQueueURL)
	}
	id := tp.idOf(t, "AWS::Kinesis::Stream", "HubDetectStream")
	streamName := path(tp.named(t, "AWS::Lambda::Function", "HubDetectCloser").Properties, "Environment", "Variables", contract.EnvTelemetryStream)
	if text(streamName) != `{"Ref":"`+id+`"}` || path(env, contract.EnvTelemetryStream) != nil {
		t.Errorf("the closer reads the stream %s, want %s; the evaluator has the variable too: %v", text(streamName), id, path(env, contract.EnvTelemetryStream))
	}
	reads := `{"Action":["kinesis:GetRecords","kinesis:GetShardIterator","kinesis:ListShards"],"Effect":"Allow","Resource":{"Fn::GetAtt":["` + id + `","Arn"]}}`
	if policy := text(tp.named(t, "AWS::IAM::Policy", "HubDetectCloserRoleDefaultPolicy").Properties); !strings.Contains(policy, reads) {
		t.Errorf("the closer is allowed %s, want %s", policy, reads)
	}
	provisioned := selfManagedTemplate(t, defenderhub.SelfManagedProps{Transport: defenderhub.TransportKinesis, Shards: 3}).one(t, "AWS::Kinesis::Stream")
	if provisioned.Properties["ShardCount"] != 3.0 || text(provisioned.Properties["StreamModeDetails"]) != `{"StreamMode":"PROVISIONED"}` {
		t.Errorf("stream %s, want 3 provisioned shards", text(provisioned))
	}
}
