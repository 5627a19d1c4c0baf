package defenderhub_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// forwarderTemplate returns the template of a forwarder with both topics.
func forwarderTemplate(t *testing.T, props defenderhub.ForwarderProps) template {
	t.Helper()
	stack := newStack()
	props.Prebuilt = prebuilt
	props.AuditTopic = awssns.NewTopic(stack, jsii.String("Audits"), nil)
	props.DetectTopic = awssns.NewTopic(stack, jsii.String("Alerts"), nil)
	defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &props)
	return synth(t, stack)
}

func TestQueuesLoseNothing(t *testing.T) {
	tp := forwarderTemplate(t, defenderhub.ForwarderProps{Timeout: 2 * time.Minute, AuditTimeout: 10 * time.Minute, BatchWindow: 5 * time.Minute})
	dead := tp.idOf(t, "AWS::SQS::Queue", "ForwarderDeadLetters")
	visibility := map[string]float64{"ForwarderQueue": 1020, "ForwarderErrorQueue": 1020, "ForwarderAuditQueue": 3600}
	for _, id := range tp.ids("AWS::SQS::Queue") {
		p := tp[id].Properties
		if p["MessageRetentionPeriod"] != 14*24*3600.0 || p["SqsManagedSseEnabled"] != true {
			t.Errorf("%s: want 14 days of retention and encryption in %s", id, text(p))
		}
		policy := tp.named(t, "AWS::SQS::QueuePolicy", id[:len(id)-8]+"Policy")
		if !strings.Contains(text(policy.Properties), `"Condition":{"Bool":{"aws:SecureTransport":"false"}},"Effect":"Deny"`) {
			t.Errorf("%s does not require TLS", id)
		}
		if id == dead {
			continue
		}
		if got, want := p["VisibilityTimeout"], visibility[id[:len(id)-8]]; got != want {
			t.Errorf("%s hides a message for %v s, want %v", id, got, want)
		}
		if redrive := text(p["RedrivePolicy"]); !strings.Contains(redrive, dead) || !strings.Contains(redrive, `"maxReceiveCount":1000`) {
			t.Errorf("%s: redrive policy %s, want %s after 1000 receives", id, redrive, dead)
		}
	}
}

func TestEventSourcesRetryOnlyFailedMessages(t *testing.T) {
	tp := forwarderTemplate(t, defenderhub.ForwarderProps{BatchSize: 1000, BatchWindow: time.Minute, MaxConcurrency: 7})
	mappings := tp.ids("AWS::Lambda::EventSourceMapping")
	if len(mappings) != 3 {
		t.Fatalf("event source mappings %v, want 3", mappings)
	}
	for _, id := range mappings {
		p := tp[id].Properties
		if text(p["FunctionResponseTypes"]) != `["ReportBatchItemFailures"]` {
			t.Errorf("%s: response types %v, want ReportBatchItemFailures", id, p["FunctionResponseTypes"])
		}
		size, window, concurrency := 1000.0, any(60.0), 7.0
		if strings.HasPrefix(id, "ForwarderAuditFunction") {
			size, window, concurrency = 1, nil, 2
		}
		if p["BatchSize"] != size || p["MaximumBatchingWindowInSeconds"] != window || path(p, "ScalingConfig", "MaximumConcurrency") != concurrency {
			t.Errorf("%s: got %s, want batch size %v, window %v, concurrency %v", id, text(p), size, window, concurrency)
		}
	}
}

func TestForwarderHasItsEnvironment(t *testing.T) {
	tp := forwarderTemplate(t, defenderhub.ForwarderProps{
		EventTopic: "plant/+", ClientPattern: "(.+)-agent", QuietTime: 48 * time.Hour, Function: &defenderhub.FunctionProps{LogLevel: slog.LevelDebug},
		Severities:           map[defender.Source]defender.Severity{defender.RejectedReports: defender.High},
		DisconnectSeverities: map[string]defender.Severity{"DUPLICATE_CLIENTID": defender.Low},
		EventTypes:           map[string]defender.Severity{"tamper": defender.Critical, "boot": defender.SeverityDefault},
	})
	for _, id := range tp.ids("AWS::Lambda::Function") {
		p := tp[id].Properties
		env := path(p, "Environment", "Variables").(map[string]any)
		for name, want := range map[string]string{
			contract.EnvLedgerTable:        `{"Ref":"` + tp.ids("AWS::DynamoDB::Table")[0] + `"}`,
			contract.EnvDeadLetterQueueURL: `{"Ref":"` + tp.idOf(t, "AWS::SQS::Queue", "ForwarderDeadLetters") + `"}`,
			contract.EnvEventTopic:         `"plant/+"`,
			contract.EnvClientPattern:      `"(.+)-agent"`,
			contract.EnvLogLevel:           `"DEBUG"`,
			contract.EnvQuietTime:          `"48h0m0s"`,
			contract.EnvSeverities:         `"disconnect/DUPLICATE_CLIENTID=LOW,event/boot,event/tamper=CRITICAL,rejected-report=HIGH"`,
		} {
			if got := text(env[name]); got != want {
				t.Errorf("%s: %s is %s, want %s", id, name, got, want)
			}
		}
		if p["Runtime"] != "provided.al2023" || p["Handler"] != "bootstrap" || text(p["Architectures"]) != `["arm64"]` || p["ReservedConcurrentExecutions"] != nil {
			t.Errorf("%s: want runtime, handler and architecture of a Go function, without reserved concurrency, in %s", id, text(p))
		}
	}
}

func TestForwarderWithoutAuditsCannotReadAudits(t *testing.T) {
	stack := newStack()
	forwarder := defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt})
	if forwarder.AuditQueue() != nil || forwarder.AuditFunction() != nil {
		t.Error("an accessor of a part that is not created is not nil")
	}
	tp := synth(t, stack)
	if policy := text(tp.one(t, "AWS::IAM::Policy").Properties); strings.Contains(policy, "Audit") || strings.Count(policy, "iot:") != 1 || strings.Count(policy, `"Action":"iot:ListPrincipalThings","Effect":"Allow","Resource":"*"`) != 1 {
		t.Errorf("the policy allows more of AWS IoT than iot:ListPrincipalThings: %s", policy)
	}
}

// Only device events need the things of a certificate.
func TestWithoutDeviceEventsTheRegistryIsNotRead(t *testing.T) {
	tp := hubTemplate(t, &defenderhub.DefenderHubProps{Forward: []defender.Source{defender.SecurityDisconnects}})
	for _, id := range tp.ids("AWS::IAM::Policy") {
		if policy := text(tp[id].Properties); strings.Contains(policy, "iot:ListPrincipalThings") {
			t.Errorf("%s allows iot:ListPrincipalThings: %s", id, policy)
		}
	}
}

func TestOnlyReadsOfAWSIoTAreAllowedOnAllResources(t *testing.T) {
	tp := forwarderTemplate(t, defenderhub.ForwarderProps{})
	for _, id := range tp.ids("AWS::IAM::Policy") {
		for _, s := range path(tp[id].Properties, "PolicyDocument", "Statement").([]any) {
			actions := text(path(s, "Action"))
			if path(s, "Resource") == "*" && actions != `"iot:ListPrincipalThings"` && actions != `["iot:DescribeAccountAuditConfiguration","iot:ListAuditFindings","iot:ListRelatedResourcesForAuditFinding"]` {
				t.Errorf("%s allows %s on all resources", id, actions)
			}
			if strings.Contains(actions, "securityhub") && !strings.HasSuffix(text(path(s, "Resource")), `":product/",{"Ref":"AWS::AccountId"},"/default"]]}`) {
				t.Errorf("%s allows an import into %s, want only the account's own product", id, text(path(s, "Resource")))
			}
		}
		if !strings.Contains(text(tp[id].Metadata), "AwsSolutions-IAM5") {
			t.Errorf("%s has no suppression of AwsSolutions-IAM5", id)
		}
	}
}

func TestTopicsReachTheirQueues(t *testing.T) {
	tp := forwarderTemplate(t, defenderhub.ForwarderProps{})
	want := map[string]string{"Alerts": "ForwarderQueue", "Audits": "ForwarderAuditQueue"}
	for _, id := range tp.ids("AWS::SNS::Subscription") {
		p := tp[id].Properties
		if len(tp[id].DependsOn) != 1 || tp[tp[id].DependsOn[0]].Type != "AWS::SQS::QueuePolicy" {
			t.Errorf("%s depends on %v, want the queue policy that allows Amazon SNS", id, tp[id].DependsOn)
		}
		for topic, queue := range want {
			if strings.Contains(text(p["TopicArn"]), tp.idOf(t, "AWS::SNS::Topic", topic)) && strings.Contains(text(p["Endpoint"]), tp.idOf(t, "AWS::SQS::Queue", queue)) {
				delete(want, topic)
			}
		}
		if p["RawMessageDelivery"] != nil || !strings.Contains(text(p["RedrivePolicy"]), "DeadLetters") {
			t.Errorf("%s: want a redrive policy and no raw delivery in %s", id, text(p))
		}
	}
	if len(want) > 0 {
		t.Errorf("no subscription from topic to queue: %v", want)
	}
}

// By default Amazon SNS looks for the topic in the subscription's own Region.
func TestTopicOfAnotherRegionIsSubscribedThere(t *testing.T) {
	stack := newStack()
	topic := awssns.Topic_FromTopicArn(stack, jsii.String("Topic"), jsii.String("arn:aws:sns:eu-west-1:123456789012:alerts"))
	defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, DetectTopic: topic})
	if region := synth(t, stack).one(t, "AWS::SNS::Subscription").Properties["Region"]; region != "eu-west-1" {
		t.Errorf("subscribed in Region %v, want eu-west-1", region)
	}
	tp := forwarderTemplate(t, defenderhub.ForwarderProps{})
	for _, id := range tp.ids("AWS::SNS::Subscription") {
		if region, set := tp[id].Properties["Region"]; set {
			t.Errorf("%s: Region %v, want none for a topic of the stack", id, region)
		}
	}
}

func TestFindingsAreRefreshedOnSchedule(t *testing.T) {
	p := forwarderTemplate(t, defenderhub.ForwarderProps{}).one(t, "AWS::Events::Rule").Properties
	if p["ScheduleExpression"] != "rate(1 hour)" || text(path(p["Targets"].([]any)[0], "InputTransformer")) != `{"InputPathsMap":{"time":"$.time"},"InputTemplate":"{\"defenderhub\":\"refresh\",\"at\":\u003ctime\u003e}"}` {
		t.Errorf("got %s, want an hourly refresh with the time of the event", text(p))
	}
}

func TestLedgerTable(t *testing.T) {
	r := forwarderTemplate(t, defenderhub.ForwarderProps{PointInTimeRecovery: true, LedgerRemovalPolicy: awscdk.RemovalPolicy_RETAIN}).one(t, "AWS::DynamoDB::Table")
	p := r.Properties
	for property, want := range map[string]string{
		"KeySchema":                        `[{"AttributeName":"pk","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}]`,
		"BillingMode":                      `"PAY_PER_REQUEST"`,
		"TimeToLiveSpecification":          `{"AttributeName":"expires","Enabled":true}`,
		"SSESpecification":                 `{"SSEEnabled":true}`,
		"PointInTimeRecoverySpecification": `{"PointInTimeRecoveryEnabled":true}`,
		"GlobalSecondaryIndexes":           `[{"IndexName":"refresh","KeySchema":[{"AttributeName":"refreshShard","KeyType":"HASH"},{"AttributeName":"refreshAt","KeyType":"RANGE"}],"Projection":{"ProjectionType":"ALL"}}]`,
	} {
		if got := text(p[property]); got != want {
			t.Errorf("%s: got %s, want %s", property, got, want)
		}
	}
	if r.DeletionPolicy != "Retain" || r.Metadata["cdk_nag"] != nil {
		t.Errorf("deletion policy %s, metadata %v, want Retain and no suppression", r.DeletionPolicy, r.Metadata)
	}
}

func TestAlarmsFollowTheirProps(t *testing.T) {
	stack := newStack()
	topic := awssns.NewTopic(stack, jsii.String("Oncall"), nil)
	forwarder := defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{Prebuilt: prebuilt, AlarmTopic: topic, Alarms: &defenderhub.AlarmsProps{
		DeadLetters: defenderhub.Alarm{Off: true}, OldestMessage: defenderhub.Alarm{Above: 3600, Periods: 2},
		RefreshFailures: defenderhub.Alarm{Periods: 3},
	}})
	if got := len(forwarder.Alarms()); got != 5 {
		t.Errorf("%d alarms, want 5", got)
	}
	tp := synth(t, stack)
	for prefix, want := range map[string][2]float64{
		"ForwarderOldestMessageAlarm": {3600, 2}, "ForwarderSecurityHubOffAlarm": {0, 1}, "ForwarderImportFailuresAlarm": {0, 3},
		"ForwarderErrorsAlarm": {0, 3}, "ForwarderRefreshFailuresAlarm": {0, 3},
	} {
		p := tp.named(t, "AWS::CloudWatch::Alarm", prefix).Properties
		if p["Threshold"] != want[0] || p["EvaluationPeriods"] != want[1] || p["TreatMissingData"] != "notBreaching" {
			t.Errorf("%s: want threshold %v, periods %v and notBreaching in %s", prefix, want[0], want[1], text(p))
		}
		oncall := `[{"Ref":"` + tp.ids("AWS::SNS::Topic")[0] + `"}]`
		if text(p["AlarmActions"]) != oncall || text(p["OKActions"]) != oncall {
			t.Errorf("%s notifies %s and %s, want %s for both", prefix, text(p["AlarmActions"]), text(p["OKActions"]), oncall)
		}
	}
}

func TestAlarmsWatchBothFunctionsAndEveryQueue(t *testing.T) {
	tp := forwarderTemplate(t, defenderhub.ForwarderProps{})
	for prefix, want := range map[string][]string{
		"ForwarderOldestMessageAlarm":  {"ForwarderQueue", "ForwarderErrorQueue", "ForwarderAuditQueue"},
		"ForwarderSecurityHubOffAlarm": {"ForwarderFunction", "ForwarderAuditFunction"},
		"ForwarderImportFailuresAlarm": {"ForwarderFunction", "ForwarderAuditFunction"},
		"ForwarderErrorsAlarm":         {"ForwarderFunction", "ForwarderAuditFunction"},
	} {
		metrics := text(tp.named(t, "AWS::CloudWatch::Alarm", prefix).Properties["Metrics"])
		for _, id := range want {
			if !strings.Contains(metrics, `"`+id) {
				t.Errorf("%s does not watch %s: %s", prefix, id, metrics)
			}
		}
	}
}

// Only the hourly run invokes a function of the forwarder asynchronously.
func TestHourlyRunIsRetriedForAnHour(t *testing.T) {
	tp := forwarderTemplate(t, defenderhub.ForwarderProps{})
	function := tp.idOf(t, "AWS::Lambda::Function", "ForwarderFunction")
	if got, want := text(tp.one(t, "AWS::Lambda::EventInvokeConfig").Properties), `{"FunctionName":{"Ref":"`+function+`"},"MaximumEventAgeInSeconds":3600,"MaximumRetryAttempts":2,"Qualifier":"$LATEST"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	target := tp.one(t, "AWS::Events::Rule").Properties["Targets"].([]any)[0]
	if got := text(path(target, "RetryPolicy")); got != `{"MaximumEventAgeInSeconds":3600}` {
		t.Errorf("the rule has the retry policy %s, want an event age of one hour", got)
	}
	p := tp.named(t, "AWS::CloudWatch::Alarm", "ForwarderRefreshFailuresAlarm").Properties
	if p["MetricName"] != "AsyncEventsDropped" || p["Period"] != 3600.0 || !strings.Contains(text(p["Dimensions"]), `"`+function+`"`) {
		t.Errorf("the alarm watches %s, want AsyncEventsDropped of the function, hourly", text(p))
	}
}

func TestFunctionPropsReachTheForwarder(t *testing.T) {
	stack := newStack()
	vpc := awsec2.NewVpc(stack, jsii.String("Net"), &awsec2.VpcProps{MaxAzs: jsii.Number(1)})
	defenderhub.NewForwarder(stack, jsii.String("Forwarder"), &defenderhub.ForwarderProps{
		Prebuilt: prebuilt, MemoryMiB: 1024, Timeout: 3 * time.Minute,
		Function: &defenderhub.FunctionProps{
			Architecture: defenderhub.AMD64, Tracing: true, LogRetention: awslogs.RetentionDays_ONE_YEAR, VPC: vpc,
			VPCSubnets: &awsec2.SubnetSelection{SubnetType: awsec2.SubnetType_PRIVATE_WITH_EGRESS},
		},
	})
	tp := synth(t, stack)
	p := tp.named(t, "AWS::Lambda::Function", "ForwarderFunction").Properties
	if text(p["Architectures"]) != `["x86_64"]` || p["MemorySize"] != 1024.0 || p["Timeout"] != 180.0 || path(p, "TracingConfig", "Mode") != "Active" || p["VpcConfig"] == nil {
		t.Errorf("got %s, want the values of the props", text(p))
	}
	if got := tp.named(t, "AWS::Logs::LogGroup", "ForwarderFunctionLogs").Properties["RetentionInDays"]; got != 365.0 {
		t.Errorf("logs are kept for %v days, want 365", got)
	}
	policy := text(tp.named(t, "AWS::IAM::Policy", "ForwarderFunctionRoleDefaultPolicy").Properties)
	interfaces := `"ec2:CreateNetworkInterface","ec2:DeleteNetworkInterface","ec2:DescribeNetworkInterfaces","ec2:DescribeSubnets","ec2:UnassignPrivateIpAddresses"],`
	if !strings.Contains(policy, interfaces+`"Effect":"Allow"`) || !strings.Contains(policy, interfaces+`"Condition":{"ArnLike":{"lambda:SourceFunctionArn":`) || !strings.Contains(policy, `"Effect":"Deny"`) {
		t.Errorf("Lambda cannot create network interfaces, or the function can: %s", policy)
	}
	if role := tp.named(t, "AWS::IAM::Role", "ForwarderFunctionRole").Properties; role["ManagedPolicyArns"] != nil {
		t.Errorf("the role also has the permissions of %s", text(role["ManagedPolicyArns"]))
	}
}

func TestMemoryFollowsTheBatchSize(t *testing.T) {
	for name, c := range map[string]struct {
		props  defenderhub.ForwarderProps
		memory float64
		limit  string
		want   []string
	}{
		"default":                       {defenderhub.ForwarderProps{}, 256, "204MiB", nil},
		"small":                         {defenderhub.ForwarderProps{BatchSize: 1000, MemoryMiB: 128}, 128, "102MiB", nil},
		"large":                         {defenderhub.ForwarderProps{BatchSize: 10000}, 384, "307MiB", nil},
		"too little":                    {defenderhub.ForwarderProps{BatchSize: 8000, MemoryMiB: 256}, 0, "", []string{"MemoryMiB"}},
		"batch and memory out of range": {defenderhub.ForwarderProps{BatchSize: 10001, MemoryMiB: 64}, 0, "", []string{"BatchSize", "MemoryMiB"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.want != nil {
				got, _ := faults(t, func() { defenderhub.NewForwarder(newStack(), jsii.String("Forwarder"), &c.props) })
				if !slices.Equal(got, c.want) {
					t.Errorf("got %v, want %v", got, c.want)
				}
				return
			}
			tp := forwarderTemplate(t, c.props)
			for _, id := range tp.ids("AWS::Lambda::Function") {
				p := tp[id].Properties
				if p["MemorySize"] != c.memory || path(p, "Environment", "Variables", "GOMEMLIMIT") != c.limit {
					t.Errorf("%s: %v MiB, GOMEMLIMIT %v, want %v and %s", id, p["MemorySize"], path(p, "Environment", "Variables", "GOMEMLIMIT"), c.memory, c.limit)
				}
			}
		})
	}
}

func TestWrongKeysOfSeveritiesAreErrors(t *testing.T) {
	long := map[string]defender.Severity{}
	for i := range 80 {
		long[fmt.Sprintf("type-%040d", i)] = defender.Low
	}
	for name, c := range map[string]struct {
		props defenderhub.ForwarderProps
		want  []string
	}{
		"disconnects": {defenderhub.ForwarderProps{DisconnectSeverities: map[string]defender.Severity{"CONNECTION_LOST": defender.Low, "AUTH_ERROR": 9}}, []string{`DisconnectSeverities["AUTH_ERROR"]`, `DisconnectSeverities["CONNECTION_LOST"]`}},
		"types":       {defenderhub.ForwarderProps{EventTypes: map[string]defender.Severity{"Tamper": defender.Low, "a,b": defender.Low}}, []string{`EventTypes["Tamper"]`, `EventTypes["a,b"]`}},
		"too long":    {defenderhub.ForwarderProps{EventTypes: long}, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := faults(t, func() { defenderhub.NewForwarder(newStack(), jsii.String("Forwarder"), &c.props) })
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestWrongForwarderPropsAreErrors(t *testing.T) {
	got, _ := faults(t, func() {
		defenderhub.NewForwarder(newStack(), jsii.String("Forwarder"), &defenderhub.ForwarderProps{
			EventTopic: "#/a", ClientPattern: "pump-7#2", QuietTime: time.Minute,
			Severities: map[defender.Source]defender.Severity{defender.DeviceEvents: 9, 77: defender.Low},
			BatchSize:  10001, BatchWindow: 301 * time.Second, MaxConcurrency: 1,
			MemoryMiB: 64, Timeout: 1500 * time.Millisecond, AuditTimeout: time.Second,
			Function:            &defenderhub.FunctionProps{Architecture: 2, LogLevel: 3, LogRetention: "FOREVER", VPCSubnets: &awsec2.SubnetSelection{SubnetType: "PUBIC"}},
			LedgerRemovalPolicy: awscdk.RemovalPolicy_SNAPSHOT,
			Alarms:              &defenderhub.AlarmsProps{DeadLetters: defenderhub.Alarm{Above: -1}, ImportFailures: defenderhub.Alarm{Periods: 289}, RefreshFailures: defenderhub.Alarm{Above: -1, Periods: 169}},
		})
	})
	want := []string{
		"EventTopic", "ClientPattern", "QuietTime", "Severities[device-event]", "Severities[Source(77)]", "BatchSize", "BatchWindow", "MaxConcurrency",
		"Function.Architecture", "Function.LogLevel", "Function.LogRetention", "Function.VPCSubnets", "Function.VPCSubnets.SubnetType", "MemoryMiB", "Timeout", "AuditTimeout", "LedgerRemovalPolicy",
		"Alarms.DeadLetters.Above", "Alarms.ImportFailures.Periods", "Alarms.RefreshFailures.Above", "Alarms.RefreshFailures.Periods",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
