package providers_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/providers"
)

const account = "123456789012"

// api is the AWS API behind the providers: it records calls and answers as configured.
type api struct {
	mu      sync.Mutex
	calls   []string // METHOD PATH BODY
	answers map[string]string
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	call := r.Method + " " + r.URL.RequestURI() + " "
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		call += target + " "
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, call+string(body))
	for prefix, answer := range a.answers {
		if strings.HasPrefix(call+string(body), prefix) {
			if code, refused := strings.CutPrefix(answer, "refuse "); refused {
				w.Header().Set("X-Amzn-Errortype", code)
				w.WriteHeader(http.StatusConflict)
				answer = `{"message":"refused"}`
			}
			fmt.Fprint(w, answer)
			return
		}
	}
	fmt.Fprint(w, "{}")
}

// newAccount returns a registry with all providers, and the API that they call.
func newAccount(t *testing.T, answers map[string]string) (*cloudformation.Registry, *api) {
	t.Helper()
	a := &api{answers: answers}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	r := &cloudformation.Registry{}
	client := awsapi.Client{Endpoint: server.URL, Region: "us-east-1"}
	providers.Register(providers.Account{API: client, Emulator: client, Registry: r})
	return r, a
}

func create(t *testing.T, r *cloudformation.Registry, resourceType, properties string) (cloudformation.Resource, error) {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal([]byte(properties), &p); err != nil {
		t.Fatalf("%s: %v", properties, err)
	}
	return r.Apply(t.Context(), cloudformation.Request{
		RequestType: cloudformation.Create, ResourceType: resourceType, StackID: "stack", LogicalResourceID: "L",
		PhysicalResourceID: "Stack-L-SUFFIX", ResourceProperties: p, AccountID: account, Region: "us-east-1",
	})
}

const (
	role  = `"arn:aws:iam::123456789012:role/r"`
	topic = `"arn:aws:sns:us-east-1:123456789012:t"`
	alarm = `"Namespace":"N","Statistic":"Sum","EvaluationPeriods":1,"Threshold":1,"ComparisonOperator":"GreaterThanThreshold"`
)

func rule(payload string) string {
	return `{"RuleName":"r","TopicRulePayload":{"Sql":"SELECT * FROM 't'",` + payload + `}}`
}

func profile(behavior string) string {
	return `{"SecurityProfileName":"p","Behaviors":[` + behavior + `]}`
}

func behavior(metric, criteria string) string {
	return profile(`{"Name":"b","Metric":"` + metric + `","Criteria":{` + criteria + `}}`)
}

func stream(properties string) string {
	return `{"EventSourceArn":"arn:aws:kinesis:us-east-1:123456789012:stream/s","FunctionName":"f","StartingPosition":"LATEST",` + properties + `}`
}

func TestReferences(t *testing.T) {
	answers := map[string]string{
		"POST / Action=Subscribe":          `<SubscribeResponse><SubscribeResult><SubscriptionArn>arn:aws:sns:us-east-1:123456789012:t:1</SubscriptionArn></SubscribeResult></SubscribeResponse>`,
		"POST / Action=PutMetricAlarm":     `<PutMetricAlarmResponse/>`,
		"POST / Action=SetTopicAttributes": `<SetTopicAttributesResponse/>`,
		"POST /thing-groups/":              `{"thingGroupArn":"arn:group","thingGroupId":"id"}`,
		"POST /policies/":                  `{"policyArn":"arn:policy"}`,
		"POST /things/":                    `{"thingArn":"arn:thing","thingId":"id"}`,
		"POST /insights":                   `{"InsightArn":"arn:insight"}`,
		"POST /productSubscriptions":       `{"ProductSubscriptionArn":"arn:subscription"}`,
	}
	for _, tt := range []struct {
		resourceType, properties, ref string
		attributes                    map[string]any
	}{
		{"AWS::SNS::Subscription", `{"TopicArn":` + topic + `,"Protocol":"sqs","Endpoint":"arn:aws:sqs:us-east-1:123456789012:q","RawMessageDelivery":"true","FilterPolicy":{"a":["b"]}}`,
			"arn:aws:sns:us-east-1:123456789012:t:1", map[string]any{"Arn": "arn:aws:sns:us-east-1:123456789012:t:1"}},
		{"AWS::SNS::TopicPolicy", `{"Topics":[` + topic + `],"PolicyDocument":{}}`, "Stack-L-SUFFIX", map[string]any{"Id": "Stack-L-SUFFIX"}},
		{"AWS::SQS::QueuePolicy", `{"Queues":["https://sqs/1/q"],"PolicyDocument":{}}`, "Stack-L-SUFFIX", map[string]any{"Id": "Stack-L-SUFFIX"}},
		{"AWS::S3::BucketPolicy", `{"Bucket":"assets","PolicyDocument":{}}`, "assets", nil},
		{"AWS::CloudWatch::Alarm", `{"MetricName":"M",` + alarm + `,"Period":60}`, "Stack-L-SUFFIX", map[string]any{"Arn": "arn:aws:cloudwatch:us-east-1:123456789012:alarm:Stack-L-SUFFIX"}},
		{"AWS::Scheduler::Schedule", `{"ScheduleExpression":"rate(1 day)","FlexibleTimeWindow":{"Mode":"OFF"},"Target":{"Arn":"arn:aws:sqs:us-east-1:123456789012:q","RoleArn":` + role + `}}`, "Stack-L-SUFFIX", map[string]any{"Arn": "arn:aws:scheduler:us-east-1:123456789012:schedule/default/Stack-L-SUFFIX"}},
		{"AWS::Events::Rule", `{"EventPattern":{"source":["aws.securityhub"]},"Targets":[{"Id":"1","Arn":"arn:aws:sqs:us-east-1:123456789012:q"}]}`, "Stack-L-SUFFIX", map[string]any{"Arn": "arn:aws:events:us-east-1:123456789012:rule/Stack-L-SUFFIX"}},
		{"AWS::IoT::TopicRule", `{"TopicRulePayload":{"Sql":"SELECT 1","Actions":[]}}`, "Stack_L_SUFFIX", map[string]any{"Arn": "arn:aws:iot:us-east-1:123456789012:rule/Stack_L_SUFFIX"}},
		{"AWS::Kinesis::Stream", `{"ShardCount":1}`, "Stack-L-SUFFIX", map[string]any{"Arn": "arn:aws:kinesis:us-east-1:123456789012:stream/Stack-L-SUFFIX"}},
		{"AWS::IoT::ThingGroup", `{}`, "Stack-L-SUFFIX", map[string]any{"Arn": "arn:group", "Id": "id"}},
		{"AWS::IoT::Policy", `{"PolicyName":"open","PolicyDocument":"{}"}`, "open", map[string]any{"Arn": "arn:policy", "Id": "open"}},
		{"AWS::IoT::Thing", `{"ThingName":"camera"}`, "camera", map[string]any{"Arn": "arn:thing", "Id": "id"}},
		{"AWS::IoT::SecurityProfile", profile(""), "p", map[string]any{"SecurityProfileArn": "arn:aws:iot:us-east-1:123456789012:securityprofile/p"}},
		{"AWS::IoT::CustomMetric", `{"MetricName":"battery","MetricType":"number"}`, "battery", map[string]any{"MetricArn": "arn:aws:iot:us-east-1:123456789012:custommetric/battery"}},
		{"AWS::IoT::Dimension", `{"Name":"d","Type":"TOPIC_FILTER","StringValues":["a/#"]}`, "d", map[string]any{"Arn": "arn:aws:iot:us-east-1:123456789012:dimension/d"}},
		{"AWS::SecurityHub::Hub", `{"EnableDefaultStandards":false}`, "arn:aws:securityhub:us-east-1:123456789012:hub/default", map[string]any{"ARN": "arn:aws:securityhub:us-east-1:123456789012:hub/default"}},
		{"AWS::SecurityHub::Insight", `{"Name":"n","Filters":{},"GroupByAttribute":"ResourceId"}`, "arn:insight", map[string]any{"InsightArn": "arn:insight"}},
		{"AWS::CloudWatch::Dashboard", `{"DashboardBody":"{}"}`, "Stack-L-SUFFIX", nil},
		{"AWS::SecurityHub::ProductSubscription", `{"ProductArn":"arn:aws:securityhub:us-east-1::product/aws/x"}`, "arn:subscription", map[string]any{"ProductSubscriptionArn": "arn:subscription"}},
		{"AWS::Chatbot::SlackChannelConfiguration", `{"ConfigurationName":"alarms","SlackWorkspaceId":"T1","SlackChannelId":"C1","IamRoleArn":` + role + `,"SnsTopicArns":[` + topic + `]}`,
			"arn:aws:chatbot::123456789012:chat-configuration/slack-channel/alarms", map[string]any{"Arn": "arn:aws:chatbot::123456789012:chat-configuration/slack-channel/alarms"}},
		{"AWS::CDK::Metadata", `{"Analytics":"v2"}`, "Stack-L-SUFFIX", nil},
	} {
		r, _ := newAccount(t, answers)
		made, err := create(t, r, tt.resourceType, tt.properties)
		if err != nil || made.PhysicalID != tt.ref || fmt.Sprint(made.Attributes) != fmt.Sprint(tt.attributes) {
			t.Errorf("%s: Ref %q, attributes %v, error %v; want %q, %v", tt.resourceType, made.PhysicalID, made.Attributes, err, tt.ref, tt.attributes)
		}
	}
}

func TestRefusals(t *testing.T) {
	const schedule = `"FlexibleTimeWindow":{"Mode":"OFF"},"Target":{"Arn":"arn:aws:sqs:us-east-1:123456789012:q","RoleArn":` + role + `}`
	for _, tt := range []struct{ resourceType, properties, want string }{
		{"AWS::SNS::Subscription", `{"TopicArn":` + topic + `,"Protocol":"pigeon"}`, "#/Protocol"},
		{"AWS::SNS::Subscription", `{"TopicArn":` + topic + `,"Protocol":"sqs"}`, "Invalid parameter: Endpoint"},
		{"AWS::SNS::TopicPolicy", `{"Topics":[],"PolicyDocument":{}}`, "#/Topics"},
		{"AWS::CloudWatch::Alarm", `{` + alarm + `}`, "exactly one of MetricName and Metrics"},
		{"AWS::CloudWatch::Alarm", `{"MetricName":"M",` + alarm + `,"Period":90}`, "multiple of 60"},
		{"AWS::CloudWatch::Alarm", `{"MetricName":"M",` + strings.Replace(alarm, `"EvaluationPeriods":1`, `"EvaluationPeriods":289`, 1) + `,"Period":300}`, "more than 86400 s together"},
		{"AWS::CloudWatch::Alarm", `{"MetricName":"M",` + strings.Replace(alarm, `"EvaluationPeriods":1`, `"EvaluationPeriods":169`, 1) + `,"Period":3600}`, "more than 604800 s together"},
		{"AWS::CloudWatch::Alarm", `{"MetricName":"M",` + alarm + `,"Period":60,"DatapointsToAlarm":2}`, "DatapointsToAlarm is 2, and EvaluationPeriods 1"},
		{"AWS::CloudWatch::Dashboard", `{"DashboardBody":"{"}`, "must be a valid JSON"},
		{"AWS::SecurityHub::Insight", `{"Name":"n","Filters":{}}`, "required key [GroupByAttribute]"},
		{"AWS::Events::Rule", `{"Name":"r"}`, "EventPattern or ScheduleExpression"},
		{"AWS::Events::Rule", `{"ScheduleExpression":"rate(1 day)","Targets":[{"Id":"1","Arn":"arn:q","EcsParameters":{}}]}`, "[EcsParameters]"},
		{"AWS::Events::Rule", `{"ScheduleExpression":"rate(1 day)","Targets":[{"Id":"1","Arn":"arn:q","InputPath":"detail"}]}`, "[InputPath]"},
		{"AWS::Events::Rule", `{"ScheduleExpression":"rate(1 day)","Targets":[{"Id":"1","Arn":"arn:q","HttpParameters":{}}]}`, "[HttpParameters]"},
		{"AWS::Scheduler::Schedule", `{"ScheduleExpression":"rate(1 day)","FlexibleTimeWindow":{"Mode":"OFF"},"Target":{"Arn":"arn:aws:sqs:us-east-1:123456789012:q","RoleArn":` + role + `,"EcsParameters":{}}}`, "[EcsParameters]"},
		{"AWS::Scheduler::Schedule", `{"ScheduleExpression":"daily",` + schedule + `}`, "#/ScheduleExpression"},
		{"AWS::Scheduler::Schedule", `{"ScheduleExpression":"rate(1 day)","FlexibleTimeWindow":{"Mode":"FLEXIBLE"},"Target":{"Arn":"arn:aws:sqs:us-east-1:123456789012:q","RoleArn":` + role + `}}`, "MaximumWindowInMinutes"},
		{"AWS::IoT::TopicRule", `{"RuleName":"my-rule","TopicRulePayload":{"Sql":"SELECT 1","Actions":[]}}`, "#/RuleName"},
		{"AWS::IoT::TopicRule", rule(`"Actions":[{}]`), "#/TopicRulePayload/Actions/0: minProperties: got 0, want 1"},
		{"AWS::IoT::TopicRule", rule(`"Actions":[{"Sqs":{"QueueUrl":"https://q"}}]`), "required key [RoleArn]"},
		{"AWS::IoT::TopicRule", rule(`"Actions":[],"AwsIotSqlVersion":"2020-01-01"`), "AwsIotSqlVersion"},
		{"AWS::IoT::ThingGroup", `{"QueryString":"connectivity.connected:true"}`, "[QueryString]"},
		{"AWS::IoT::Thing", `{"ThingName":"my camera"}`, "#/ThingName"},
		{"AWS::IoT::Policy", `{"PolicyDocument":"not JSON"}`, "#/PolicyDocument"},
		{"AWS::IoT::SecurityProfile", behavior("aws:message-size", `"ComparisonOperator":"less-than","Value":{"Count":"8"}`), "#/Behaviors/0/Metric: aws:message-size: value must be one of"},
		{"AWS::IoT::SecurityProfile", behavior("battery", `"ComparisonOperator":"less-than","Value":{"Number":8}`), "custom metric battery does not exist"},
		{"AWS::IoT::SecurityProfile", behavior("aws:disconnect-duration", `"ComparisonOperator":"greater-than","Value":{"Count":"8"}`), "greater-than: value must be one of 'less-than', 'less-than-equals'"},
		{"AWS::IoT::SecurityProfile", behavior("aws:source-ip-address", `"ComparisonOperator":"in-cidr-set","Value":{"Cidrs":["10.0.0.0/8"]},"DurationSeconds":300`), "DurationSeconds"},
		{"AWS::IoT::SecurityProfile", behavior("aws:num-disconnects", `"ComparisonOperator":"less-than","Value":{"Count":"8"},"DurationSeconds":60`), "DurationSeconds"},
		{"AWS::IoT::SecurityProfile", behavior("aws:num-disconnects", `"ComparisonOperator":"less-than"`), "#/Behaviors/0/Criteria: required key [StatisticalThreshold] not found"},
		{"AWS::IoT::SecurityProfile", behavior("aws:num-disconnects", `"MlDetectionConfig":{"ConfidenceLevel":"LOW"},"Value":{"Count":"8"}`), "#/Behaviors/0/Criteria: extraneous key [Value]"},
		{"AWS::IoT::SecurityProfile", behavior("aws:num-disconnects", `"ComparisonOperator":"less-than","Value":{"Count":"8","Number":1}`), "#/Behaviors/0/Criteria/Value: maxProperties: got 2, want 1"},
		{"AWS::IoT::SecurityProfile", profile(`{"Name":"b","Metric":"aws:num-messages-sent","MetricDimension":{"DimensionName":"none"},"Criteria":{"ComparisonOperator":"less-than","Value":{"Count":"8"}}}`), "dimension none does not exist"},
		{"AWS::IoT::SecurityProfile", profile(`{"Name":"b","SuppressAlerts":true},{"Name":"b"}`), "is used twice"},
		{"AWS::IoT::SecurityProfile", `{"TargetArns":["arn:aws:iot:us-east-1:123456789012:all/devices"]}`, "#/TargetArns/0"},
		{"AWS::IoT::SecurityProfile", `{"AlertTargets":{"SQS":{"AlertTargetArn":` + topic + `,"RoleArn":` + role + `}}}`, "[SQS]"},
		{"AWS::IoT::CustomMetric", `{"MetricName":"aws:mine","MetricType":"number"}`, "reserved"},
		{"AWS::IoT::Dimension", `{"Type":"TOPIC_FILTER","StringValues":[]}`, "#/StringValues"},
		{"AWS::SecurityHub::ProductSubscription", `{"ProductArn":"arn:aws:sns:us-east-1::x"}`, "#/ProductArn"},
		{"AWS::Lambda::EventSourceMapping", `{"EventSourceArn":"arn:aws:dynamodb:us-east-1:123456789012:table/t","FunctionName":"f"}`, "#/EventSourceArn"},
		{"AWS::Lambda::EventSourceMapping", `{"EventSourceArn":"arn:aws:kinesis:us-east-1:123456789012:stream/s","FunctionName":"f"}`, "[StartingPosition]"},
		{"AWS::Lambda::EventSourceMapping", `{"EventSourceArn":"arn:aws:sqs:us-east-1:123456789012:q","FunctionName":"f","StartingPosition":"LATEST"}`, "[StartingPosition]"},
		{"AWS::Lambda::EventSourceMapping", stream(`"ParallelizationFactor":2`), "#/ParallelizationFactor"},
		{"AWS::Lambda::EventSourceMapping", stream(`"StartingPositionTimestamp":1`), "[StartingPositionTimestamp]"},
		{"AWS::Lambda::EventSourceMapping", stream(`"DestinationConfig":{"OnFailure":{"Destination":"arn:aws:s3:::lost"}}`), "#/DestinationConfig/OnFailure/Destination"},
		{"AWS::Lambda::EventSourceMapping", stream(`"BatchSize":10`), "f was not deployed"},
		{"AWS::Chatbot::SlackChannelConfiguration", `{"ConfigurationName":"a","SlackWorkspaceId":"lower","SlackChannelId":"C1","IamRoleArn":` + role + `}`, "#/SlackWorkspaceId"},
		{"AWS::Chatbot::MicrosoftTeamsChannelConfiguration", `{}`, "no provider for resource type AWS::Chatbot::MicrosoftTeamsChannelConfiguration"},
		{"AWS::Kinesis::Stream", `{"ShardCount":0}`, "#/ShardCount"},
		{"AWS::Kinesis::Stream", `{"StreamModeDetails":{"StreamMode":"ELASTIC"}}`, "#/StreamModeDetails/StreamMode"},
		{"AWS::Kinesis::Stream", `{"WarmThroughputMiBps":1}`, "[WarmThroughputMiBps]"},
		{"AWS::IoT::TopicRule", rule(`"Actions":[{"Kinesis":{"RoleArn":` + role + `}}]`), "required key [StreamName]"},
		{"AWS::Lambda::EventSourceMapping", `{"EventSourceArn":"arn:aws:sqs:us-east-1:123456789012:q.fifo","FunctionName":"f"}`, "FIFO"},
		{"AWS::Lambda::EventSourceMapping", `{"EventSourceArn":"arn:aws:sqs:us-east-1:123456789012:q","FunctionName":"f","BatchSize":11}`, "Maximum batch window"},
		{"AWS::Lambda::EventSourceMapping", `{"EventSourceArn":"arn:aws:sqs:us-east-1:123456789012:q","FunctionName":"f","FilterCriteria":{}}`, "[FilterCriteria]"},
		{"AWS::Lambda::EventSourceMapping", `{"EventSourceArn":"arn:aws:sqs:us-east-1:123456789012:q","FunctionName":"f"}`, "f was not deployed"},
	} {
		r, a := newAccount(t, nil)
		if _, err := create(t, r, tt.resourceType, tt.properties); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %.200s: got %v, want %q", tt.resourceType, tt.properties, err, tt.want)
		}
		if len(a.calls) != 0 || len(r.Deployed("")) != 0 {
			t.Errorf("%s: a refused resource was created: %v", tt.resourceType, a.calls)
		}
	}
}

func TestSecondResourceIsRefusedAsAWSRefusesIt(t *testing.T) {
	for _, tt := range []struct{ resourceType, properties, want string }{
		{"AWS::IoT::TopicRule", rule(`"Actions":[]`), "already exists"},
		{"AWS::Events::Rule", `{"Name":"r","ScheduleExpression":"rate(1 day)"}`, "already exists"},
		{"AWS::IoT::ThingGroup", `{"ThingGroupName":"g"}`, "already exists"},
		{"AWS::IoT::Policy", `{"PolicyName":"p","PolicyDocument":{}}`, "already exists"},
		{"AWS::IoT::Thing", `{"ThingName":"t"}`, "already exists"},
		{"AWS::Kinesis::Stream", `{"Name":"s"}`, "already exists"},
		{"AWS::IoT::SecurityProfile", profile(""), "already exists"},
		{"AWS::IoT::CustomMetric", `{"MetricName":"m","MetricType":"number"}`, "already exists"},
		{"AWS::IoT::Dimension", `{"Name":"d","Type":"TOPIC_FILTER","StringValues":["a"]}`, "already exists"},
	} {
		r, _ := newAccount(t, nil)
		if _, err := create(t, r, tt.resourceType, tt.properties); err != nil {
			t.Errorf("first %s: %v", tt.resourceType, err)
		}
		if _, err := create(t, r, tt.resourceType, tt.properties); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("second %s: got %v, want %q", tt.resourceType, err, tt.want)
		}
	}
}

func TestErrorOfTheServiceIsReturned(t *testing.T) {
	r, _ := newAccount(t, map[string]string{"POST /accounts": "refuse ResourceConflictException"})
	if _, err := create(t, r, "AWS::SecurityHub::Hub", `{}`); !awsapi.HasCode(err, "ResourceConflictException") {
		t.Errorf("got %v, want ResourceConflictException", err)
	}
}

func TestCustomMetricInUseCannotBeDeleted(t *testing.T) {
	r, _ := newAccount(t, nil)
	if _, err := create(t, r, "AWS::IoT::CustomMetric", `{"MetricName":"battery","MetricType":"number"}`); err != nil {
		t.Fatal(err)
	}
	if _, err := create(t, r, "AWS::IoT::SecurityProfile", behavior("battery", `"ComparisonOperator":"greater-than","Value":{"Number":20}`)); err != nil {
		t.Fatal(err)
	}
	remove := cloudformation.Request{RequestType: cloudformation.Delete, ResourceType: "AWS::IoT::CustomMetric", StackID: "stack", PhysicalResourceID: "battery"}
	if _, err := r.Apply(t.Context(), remove); err == nil {
		t.Error("a metric that a profile uses was deleted")
	}
	if _, err := r.Apply(t.Context(), cloudformation.Request{RequestType: cloudformation.Delete, ResourceType: "AWS::IoT::SecurityProfile", StackID: "stack", PhysicalResourceID: "p"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Apply(t.Context(), remove); err != nil {
		t.Error(err)
	}
}

func TestUnsupportedUpdateIsRefused(t *testing.T) {
	r, _ := newAccount(t, nil)
	update := cloudformation.Request{RequestType: cloudformation.Update, ResourceType: "AWS::IoT::Thing", PhysicalResourceID: "t"}
	if _, err := r.Apply(t.Context(), update); err == nil || !strings.Contains(err.Error(), "AWS::IoT::Thing") {
		t.Errorf("got %v, want an error that names AWS::IoT::Thing", err)
	}
	update.ResourceType, update.ResourceProperties = "AWS::CDK::Metadata", map[string]any{"Analytics": "v3"}
	if _, err := r.Apply(t.Context(), update); err != nil {
		t.Error(err)
	}
}

func TestRuleIsSentInTheSpellingOfTheAPI(t *testing.T) {
	r, a := newAccount(t, nil)
	payload := `"Actions":[{"Republish":{"RoleArn":` + role + `,"Topic":"x","Headers":{"UserProperties":[{"Key":"k","Value":"v"}]}}}],"AwsIotSqlVersion":"2016-03-23","RuleDisabled":false`
	if _, err := create(t, r, "AWS::IoT::TopicRule", rule(payload)); err != nil {
		t.Fatal(err)
	}
	want := `POST /rules/r {"actions":[{"republish":{"headers":{"UserProperties":[{"Key":"k","Value":"v"}]},"roleArn":` + role + `,"topic":"x"}}],"awsIotSqlVersion":"2016-03-23","ruleDisabled":false,"sql":"SELECT * FROM 't'"}`
	if len(a.calls) != 1 || a.calls[0] != want {
		t.Errorf("called %v\nwant %s", a.calls, want)
	}
}

func TestStreamIsSentWithModeAndEncryption(t *testing.T) {
	r, a := newAccount(t, nil)
	if _, err := create(t, r, "AWS::Kinesis::Stream", `{"Name":"s","RetentionPeriodHours":48,"StreamModeDetails":{"StreamMode":"ON_DEMAND"},"StreamEncryption":{"EncryptionType":"KMS","KeyId":"alias/aws/kinesis"}}`); err != nil {
		t.Fatal(err)
	}
	if _, err := create(t, r, "AWS::Kinesis::Stream", `{"Name":"p","ShardCount":"3"}`); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`POST / Kinesis_20131202.CreateStream {"StreamModeDetails":{"StreamMode":"ON_DEMAND"},"StreamName":"s"}`,
		`POST / Kinesis_20131202.IncreaseStreamRetentionPeriod {"RetentionPeriodHours":48,"StreamName":"s"}`,
		`POST / Kinesis_20131202.StartStreamEncryption {"EncryptionType":"KMS","KeyId":"alias/aws/kinesis","StreamName":"s"}`,
		`POST / Kinesis_20131202.CreateStream {"ShardCount":3,"StreamModeDetails":{"StreamMode":"PROVISIONED"},"StreamName":"p"}`,
	}
	if !slices.Equal(a.calls, want) {
		t.Errorf("called %q\nwant %q", a.calls, want)
	}
}

func TestAlarmIsSentFlattened(t *testing.T) {
	r, a := newAccount(t, map[string]string{"POST /": "<PutMetricAlarmResponse/>"})
	if _, err := create(t, r, "AWS::CloudWatch::Alarm", `{`+alarm+`,"Metrics":[{"Id":"m1","MetricStat":{"Metric":{"MetricName":"M","Dimensions":[{"Name":"D","Value":"V"}]},"Period":60,"Stat":"Sum"}}]}`); err != nil {
		t.Fatal(err)
	}
	form, err := url.ParseQuery(strings.TrimPrefix(a.calls[0], "POST / "))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"Action": "PutMetricAlarm", "AlarmName": "Stack-L-SUFFIX", "Threshold": "1",
		"Metrics.member.1.MetricStat.Metric.Dimensions.member.1.Name": "D", "Metrics.member.1.MetricStat.Period": "60",
	} {
		if form.Get(key) != want {
			t.Errorf("%s is %q, want %q", key, form.Get(key), want)
		}
	}
}

func TestUnsupportedAlarmIsInert(t *testing.T) {
	r, _ := newAccount(t, map[string]string{"POST /": "<Response/>"})
	for _, metric := range []string{`"Namespace":"Fleet"`, `"Namespace":"AWS/Lambda"`} {
		properties := strings.Replace(alarm, `"Namespace":"N"`, metric, 1)
		if _, err := create(t, r, "AWS::CloudWatch::Alarm", `{"MetricName":"Duration",`+properties+`,"Period":60}`); err != nil {
			t.Fatal(err)
		}
	}
	deployed := r.Deployed("AWS::CloudWatch::Alarm")
	if deployed[0].Inert != "" || deployed[1].Inert != "metric Duration of AWS/Lambda is not measured" {
		t.Errorf("inert reasons %q and %q, want one only for AWS/Lambda", deployed[0].Inert, deployed[1].Inert)
	}
	if alarms := providers.Alarms(r); len(alarms) != 1 {
		t.Errorf("%d alarms are judged, want 1", len(alarms))
	}
}

func TestChangedRuleKeepsItsName(t *testing.T) {
	r, a := newAccount(t, map[string]string{"PATCH /rules/r": "{}"})
	change := func(properties string) error {
		var p map[string]any
		if err := json.Unmarshal([]byte(properties), &p); err != nil {
			t.Fatal(err)
		}
		_, err := r.Apply(t.Context(), cloudformation.Request{
			RequestType: cloudformation.Update, ResourceType: "AWS::IoT::TopicRule", PhysicalResourceID: "r",
			ResourceProperties: p, AccountID: account, Region: "us-east-1",
		})
		return err
	}
	if err := change(rule(`"Actions":[]`)); err != nil {
		t.Fatal(err)
	}
	if len(a.calls) != 1 || !strings.HasPrefix(a.calls[0], "PATCH /rules/r") || !strings.Contains(a.calls[0], `"sql":"SELECT * FROM 't'"`) {
		t.Errorf("called %v, want one PATCH of the rule", a.calls)
	}
	if err := change(strings.Replace(rule(`"Actions":[]`), `"RuleName":"r"`, `"RuleName":"s"`, 1)); err == nil || !strings.Contains(err.Error(), "rename") {
		t.Errorf("another name: error %v, want a refusal", err)
	}
}

func TestGeneratedNamesFitAndDiffer(t *testing.T) {
	r, _ := newAccount(t, nil)
	long := strings.Repeat("Stack", 20) + "-Schedule-"
	for _, suffix := range []string{"AAAA", "BBBB"} {
		made, err := r.Apply(t.Context(), cloudformation.Request{
			RequestType: cloudformation.Create, ResourceType: "AWS::Scheduler::Schedule", PhysicalResourceID: long + suffix,
			ResourceProperties: map[string]any{
				"ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": map[string]any{"Mode": "OFF"},
				"Target": map[string]any{"Arn": "arn:aws:sqs:us-east-1:123456789012:q", "RoleArn": "arn:aws:iam::123456789012:role/r"},
			},
		})
		if err != nil || !regexp.MustCompile(`^[0-9a-zA-Z_.-]{1,64}$`).MatchString(made.PhysicalID) || !strings.HasSuffix(made.PhysicalID, suffix) {
			t.Errorf("name %q, error %v, want at most 64 characters that end in %s", made.PhysicalID, err, suffix)
		}
	}
}
