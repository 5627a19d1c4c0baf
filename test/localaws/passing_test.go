package localaws_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/test/localaws"
	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/moto/python"
)

func TestEventsAndTime(t *testing.T) {
	t.Parallel()
	ctx, cloud, outputs := deploySample(t, "time")
	queues := sqs.NewFromConfig(cloud.Config())
	inert := strings.Join(cloud.Inert(), "\n")
	if !strings.Contains(inert, "AWS::CloudWatch::Alarm (1): metric Duration of AWS/Lambda is not measured") || strings.Contains(inert, "AWS::Events::Rule") || strings.Contains(inert, "AWS::Scheduler::Schedule") {
		t.Errorf("inert:\n%s", inert)
	}

	importFindings(t, cloud, "CRITICAL camera-1", "LOW camera-2", "CRITICAL door-1")
	if err := cloud.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"TicksUrl": "", "OutputUrl": "camera-1", "AlertMessagesUrl": `{"device": "camera-1"}`, "NotificationsUrl": ""} {
		if got := receiveAll(t, queues, outputs[key]); strings.Join(got, "") != want {
			t.Errorf("before any step, %s has %v, want %q", key, got, want)
		}
	}
	if got := receiveAll(t, queues, outputs["UndeliveredUrl"]); len(got) != 1 || !strings.Contains(got[0], "Security Hub Findings - Imported") {
		t.Errorf("the dead-letter queue of the deleted target has %v, want the event", got)
	}

	t.Run("topic rules invoke functions", func(t *testing.T) { checkFunctionAction(t, ctx, cloud, outputs) })
	t.Run("PutEvents is refused", func(t *testing.T) { checkPutEvents(t, ctx, cloud) })
	t.Run("identity pools are refused", func(t *testing.T) { checkIdentityPools(t, cloud) })

	putItems(t, cloud, outputs["Ledger"], map[string]time.Duration{"soon": time.Minute, "later": 24 * time.Hour})
	cloud.Clock.Step(10 * time.Minute)
	wantAlarms(t, cloud, map[string]string{"counted": "OK", "waiting": "OK"})
	cloud.Clock.Step(50 * time.Minute)
	wantAlarms(t, cloud, map[string]string{"counted": "OK", "waiting": "ALARM"})
	if got := receiveAll(t, queues, outputs["TicksUrl"]); !slices.Equal(got, []string{`"tick"`, `"tick"`}) {
		t.Errorf("in an hour the half-hourly rule sent %v, want two ticks", got)
	}
	if got := receiveAll(t, queues, outputs["OutputUrl"]); !slices.Equal(got, []string{"scheduled"}) {
		t.Errorf("in an hour the schedule's function sent %v, want one message", got)
	}
	if got := itemsLeft(t, cloud, outputs["Ledger"]); got != "later" {
		t.Errorf("after an hour the table has %s, want later", got)
	}
	if got := receiveAll(t, queues, outputs["CriticalsUrl"]); !slices.Equal(got, []string{`"camera-1 needs you"`}) {
		t.Errorf("the rule on critical findings of cameras sent %v", got)
	}

	// The period of the metric that the function counted at the end of the hour ends only now.
	stepOverHTTP(t, cloud, "5m")
	wantAlarms(t, cloud, map[string]string{"counted": "ALARM"})
	alarms := receiveAll(t, queues, outputs["NotificationsUrl"])
	if len(alarms) != 2 || !strings.Contains(alarms[0], `"AlarmName":"counted"`) || !strings.Contains(alarms[1], `"AlarmName":"waiting"`) {
		t.Errorf("the topic received %v, want the alarms counted and waiting", alarms)
	}
	began := cloud.Clock.Now()
	cloud.Clock.Step(24 * time.Hour)
	tasks, err := iot.NewFromConfig(cloud.Config()).ListAuditTasks(ctx, &iot.ListAuditTasksInput{StartTime: &began, EndTime: aws.Time(cloud.Clock.Now())})
	if err != nil || len(tasks.Tasks) != 1 || tasks.Tasks[0].TaskType != iottypes.AuditTaskTypeScheduledAuditTask || tasks.Tasks[0].TaskStatus != iottypes.AuditTaskStatusCompleted {
		t.Errorf("in a day the daily audit ran as %+v, error %v", tasks, err)
	}
	if got := receiveAll(t, queues, outputs["TicksUrl"]); len(got) != 48 {
		t.Errorf("in a day the half-hourly rule sent %d messages, want 48", len(got))
	}
	if got := itemsLeft(t, cloud, outputs["Ledger"]); got != "" {
		t.Errorf("after a day the table has %s, want nothing", got)
	}
	t.Run("the clock ends delays", func(t *testing.T) { checkDelays(t, ctx, cloud) })
	t.Run("unsupported rules and schedules are refused", func(t *testing.T) { checkUnsupported(t, cloud) })
}

// checkFunctionAction publishes to a rule that may invoke its function, to one that may not, and to
// one whose function does not exist.
func checkFunctionAction(t *testing.T, ctx context.Context, cloud *localaws.Cloud, outputs map[string]string) {
	client := connect(t, cloud, "camera-1")
	for topic, payload := range map[string]string{"words": `{"Records": [{"messageId": "1", "body": "from the rule"}]}`, "lost": `{}`, "locked": `{}`} {
		if token := client.Publish(topic, 1, false, payload); token.Wait() && token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	cloud.Rules.Settle()
	if err := cloud.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	queues := sqs.NewFromConfig(cloud.Config())
	if got := receiveAll(t, queues, outputs["OutputUrl"]); !slices.Equal(got, []string{"from the rule"}) {
		t.Errorf("the rule's function sent %v", got)
	}
	got := receiveAll(t, queues, outputs["UndeliveredUrl"])
	if all := strings.Join(got, "\n"); len(got) != 2 || strings.Count(all, "LambdaAction") != 2 || strings.Count(all, "AccessDeniedException") != 1 {
		t.Errorf("the error actions sent %v, want two failures, one of them AccessDeniedException", got)
	}
}

// checkDelays sends to a queue that delays messages by a quarter of an hour, and hides one that
// it received.
func checkDelays(t *testing.T, ctx context.Context, cloud *localaws.Cloud) {
	queues := sqs.NewFromConfig(cloud.Config())
	queue, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("held"), Attributes: map[string]string{"DelaySeconds": "900"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: queue.QueueUrl, MessageBody: aws.String("late")}); err != nil {
		t.Fatal(err)
	}
	receive := func() []sqstypes.Message {
		out, err := queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl})
		if err != nil {
			t.Fatal(err)
		}
		return out.Messages
	}
	for _, want := range []int{0, 1, 0, 1} { // delayed for 15 minutes, then hidden for 15
		cloud.Clock.Step(8 * time.Minute)
		got := receive()
		if len(got) != want {
			t.Errorf("received %d messages, want %d", len(got), want)
		}
		for _, m := range got {
			if _, err := queues.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: queue.QueueUrl, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 900}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// checkPutEvents puts an event with boto3, which moto depends on.
func checkPutEvents(t *testing.T, ctx context.Context, cloud *localaws.Cloud) {
	interpreter, err := python.Find(ctx, filepath.Join("..", "..", ".venv"), t.TempDir(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	const program = `
import boto3
try:
    boto3.client("events").put_events(Entries=[{"Source": "fleet.test", "DetailType": "reading", "Detail": "{}"}])
except Exception as e:
    print(e)
`
	put := exec.CommandContext(ctx, interpreter, "-c", program)
	put.Env = cloud.Env()
	if out, err := put.CombinedOutput(); err != nil || !strings.Contains(string(out), "the local AWS does not support events AWSEvents.PutEvents") {
		t.Fatalf("boto3 printed %s, error %v, want a refusal", out, err)
	}
}

// checkIdentityPools checks that no identity pool can exist, which the audit's checks rely on.
func checkIdentityPools(t *testing.T, cloud *localaws.Cloud) {
	err := (awsapi.Client{Endpoint: cloud.Endpoint, Region: cloud.Region}).Target(t.Context(), "cognito-identity", "AWSCognitoIdentityService.CreateIdentityPool",
		map[string]any{"IdentityPoolName": "guests", "AllowUnauthenticatedIdentities": true}, nil)
	if err == nil || !strings.Contains(err.Error(), "it has no service cognito-identity") {
		t.Errorf("CreateIdentityPool: %v, want a refusal", err)
	}
}

// importFindings imports a finding for each "SEVERITY device".
func importFindings(t *testing.T, cloud *localaws.Cloud, severitiesAndDevices ...string) {
	t.Helper()
	var findings []types.AwsSecurityFinding
	now := aws.String(cloud.Clock.Now().Format(time.RFC3339))
	for _, each := range severitiesAndDevices {
		severity, device, _ := strings.Cut(each, " ")
		findings = append(findings, types.AwsSecurityFinding{
			SchemaVersion: aws.String("2018-10-08"), Id: aws.String(each), GeneratorId: aws.String("test"), AwsAccountId: aws.String(cloud.Account),
			ProductArn: aws.String("arn:aws:securityhub:us-east-1:" + cloud.Account + ":product/" + cloud.Account + "/default"),
			CreatedAt:  now, UpdatedAt: now, Title: aws.String("t"), Description: aws.String("d"),
			Resources:             []types.Resource{{Type: aws.String("Other"), Id: aws.String(device)}},
			FindingProviderFields: &types.FindingProviderFields{Severity: &types.FindingProviderSeverity{Label: types.SeverityLabel(severity)}, Types: []string{"Unusual Behaviors"}},
		})
	}
	out, err := securityhub.NewFromConfig(cloud.Config()).BatchImportFindings(t.Context(), &securityhub.BatchImportFindingsInput{Findings: findings})
	if err != nil || *out.FailedCount != 0 {
		t.Fatalf("import: %+v, error %v", out, err)
	}
}

func putItems(t *testing.T, cloud *localaws.Cloud, table string, until map[string]time.Duration) {
	t.Helper()
	for pk, d := range until {
		_, err := dynamodb.NewFromConfig(cloud.Config()).PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: map[string]dynamodbtypes.AttributeValue{
			"pk":    &dynamodbtypes.AttributeValueMemberS{Value: pk},
			"until": &dynamodbtypes.AttributeValueMemberN{Value: strconv.FormatInt(cloud.Clock.Now().Add(d).Unix(), 10)},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// itemsLeft returns the keys of a table's items.
func itemsLeft(t *testing.T, cloud *localaws.Cloud, table string) string {
	t.Helper()
	out, err := dynamodb.NewFromConfig(cloud.Config()).Scan(t.Context(), &dynamodb.ScanInput{TableName: &table})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, item := range out.Items {
		keys = append(keys, item["pk"].(*dynamodbtypes.AttributeValueMemberS).Value)
	}
	return strings.Join(keys, " ")
}

// wantAlarms checks the states of alarms in CloudWatch's API.
func wantAlarms(t *testing.T, cloud *localaws.Cloud, want map[string]string) {
	t.Helper()
	var answer struct {
		Alarms []struct {
			Name  string `xml:"AlarmName"`
			State string `xml:"StateValue"`
		} `xml:"DescribeAlarmsResult>MetricAlarms>member"`
	}
	body, err := awsapi.Client{Endpoint: cloud.Endpoint, Region: cloud.Region}.Send(t.Context(), "monitoring", http.MethodPost, "/",
		"application/x-www-form-urlencoded", []byte("Action=DescribeAlarms&Version=2010-08-01"), nil)
	if err == nil {
		err = xml.NewDecoder(bytes.NewReader(body)).Decode(&answer)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, a := range answer.Alarms {
		got[a.Name] = a.State
	}
	for name, state := range want {
		if got[name] != state {
			t.Errorf("alarm %s is %q, want %s", name, got[name], state)
		}
	}
}

func stepOverHTTP(t *testing.T, cloud *localaws.Cloud, step string) {
	t.Helper()
	resp, err := http.Post(cloud.Endpoint+"/_localaws/clock?step="+step, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("step by %s: status %d", step, resp.StatusCode)
	}
}

func checkUnsupported(t *testing.T, cloud *localaws.Cloud) {
	const rule = `{"Resources":{"Rule":{"Type":"AWS::Events::Rule","Properties":{%s}}}}`
	const schedule = `{"Resources":{"Schedule":{"Type":"AWS::Scheduler::Schedule","Properties":{"FlexibleTimeWindow":{"Mode":"OFF"},%s}}}}`
	for name, tt := range map[string]struct{ template, want string }{
		"Pattern":  {fmt.Sprintf(rule, `"EventPattern":{"source":[{"like":"x"}]}`), `does not support the operator "like"`},
		"Rate":     {fmt.Sprintf(rule, `"ScheduleExpression":"rate(1 fortnight)"`), "rate(1 fortnight)"},
		"Target":   {fmt.Sprintf(rule, `"ScheduleExpression":"rate(1 day)","Targets":[{"Id":"1","Arn":"arn:aws:kinesis:us-east-1:123456789012:stream/s"}]`), "stream/s"},
		"Schedule": {fmt.Sprintf(schedule, `"ScheduleExpression":"cron(0 0 L * ? *)","Target":{"Arn":"arn:aws:sqs:us-east-1:123456789012:q","RoleArn":"arn:aws:iam::123456789012:role/r"}`), "cron(0 0 L * ? *)"},
	} {
		if got := refusal(t, cloud, name, tt.template); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want %q", name, got, tt.want)
		}
	}
}
