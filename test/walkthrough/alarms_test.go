package walkthrough

import (
	"context"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
)

// TestFailingEvaluatorRaisesAlarm deletes the evaluator's table, so that every message fails and
// is retried, and restores the table.
func TestFailingEvaluatorRaisesAlarm(t *testing.T) {
	t.Parallel()
	ctx, s := begin(t)
	if err := s.deployWith(ctx, map[string]string{"engine": "self-managed", "profile": "demo", "audit-subscription": "off", "enable-security-hub": "true"}); err != nil {
		t.Fatal(err)
	}
	meter, err := s.newDevice(ctx, "meter-2")
	if err != nil {
		t.Fatal(err)
	}
	retrySoon(ctx, t, s, s.deployed(t, "AWS::SQS::Queue", "DetectTelemetry"))
	if err := s.toNextWindow(ctx); err != nil {
		t.Fatal(err)
	}
	if err := meter.connect(); err != nil {
		t.Fatal(err)
	}
	if err := s.pass(ctx, 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	wantAlarm(ctx, t, s, "DetectFailuresAlarm", "OK")

	evaluator := s.deployed(t, "AWS::Lambda::Function", "DetectEvaluator")
	restore := deleteTable(ctx, t, s, s.deployed(t, "AWS::DynamoDB::Table", "DetectState"))
	if err := meter.publish("data/meter-2", large); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		failed, began := logged(t, s, evaluator, `"Failed":`), s.cloud.Clock.Now()
		for end := time.Now().Add(patience); logged(t, s, evaluator, `"Failed":`) == failed; {
			if time.Now().After(end) {
				t.Fatalf("the evaluator did not log a failure within %s", patience)
			}
			s.cloud.Clock.Step(time.Second) // ends the batching window
			time.Sleep(100 * time.Millisecond)
		}
		s.cloud.Clock.Step(5*time.Minute - s.cloud.Clock.Now().Sub(began))
	}
	wantAlarm(ctx, t, s, "DetectFailuresAlarm", "ALARM")
	wantAlarm(ctx, t, s, "DetectErrorsAlarm", "ALARM") // for the closer
	wantAlarm(ctx, t, s, "DetectOversizedStatesAlarm", "OK")

	restore()
	for range 6 {
		if err := s.pass(ctx, 5*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	wantAlarm(ctx, t, s, "DetectFailuresAlarm", "OK")
	wantAlarm(ctx, t, s, "DetectErrorsAlarm", "OK")
	// The retried messages were judged: the behavior went into alarm and has cleared since.
	if err := s.expect(ctx, types.SeverityLabelMedium, types.RecordStateArchived, "meter-2", "small-messages"); err != nil {
		t.Fatal(err)
	}
}

// retrySoon makes the queue retry failed messages after one second of real time instead of six
// minutes, without a limit. A message that is already hidden keeps its old timeout.
func retrySoon(ctx context.Context, t *testing.T, s *story, queue string) {
	t.Helper()
	url := s.cloud.Endpoint + "/" + s.cloud.Account + "/" + queue
	was, err := s.queues.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{"RedrivePolicy"}})
	if err != nil {
		t.Fatal(err)
	}
	often := regexp.MustCompile(`("maxReceiveCount": *"?)\d+`).ReplaceAllString(was.Attributes["RedrivePolicy"], "${1}1000")
	if _, err := s.queues.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{
		QueueUrl: &url, Attributes: map[string]string{"VisibilityTimeout": "1", "RedrivePolicy": often},
	}); err != nil {
		t.Fatal(err)
	}
}

// deployed returns the physical ID of a resource. It contains the logical ID of the construct.
func (s *story) deployed(t *testing.T, resourceType, id string) string {
	t.Helper()
	for _, d := range s.cloud.Resources.Deployed(resourceType) {
		if strings.Contains(d.PhysicalID, id) {
			return d.PhysicalID
		}
	}
	t.Fatalf("no %s with %s in its name is deployed", resourceType, id)
	return ""
}

// deleteTable deletes a table and returns a function that creates it again.
func deleteTable(ctx context.Context, t *testing.T, s *story, name string) (restore func()) {
	t.Helper()
	db := dynamodb.NewFromConfig(s.cloud.Config())
	described, err := db.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &name})
	if err != nil {
		t.Fatal(err)
	}
	was := described.Table
	again := &dynamodb.CreateTableInput{
		TableName: &name, BillingMode: dynamodbtypes.BillingModePayPerRequest, KeySchema: was.KeySchema, AttributeDefinitions: was.AttributeDefinitions,
	}
	for _, index := range was.GlobalSecondaryIndexes {
		again.GlobalSecondaryIndexes = append(again.GlobalSecondaryIndexes, dynamodbtypes.GlobalSecondaryIndex{IndexName: index.IndexName, KeySchema: index.KeySchema, Projection: index.Projection})
	}
	if _, err := db.DeleteTable(ctx, &dynamodb.DeleteTableInput{TableName: &name}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := db.CreateTable(ctx, again); err != nil {
			t.Fatal(err)
		}
	}
}

// logged counts a text in a function's log.
func logged(t *testing.T, s *story, function, message string) int {
	t.Helper()
	text, err := os.ReadFile(s.cloud.Functions.LogFile(function))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), message)
}

func wantAlarm(ctx context.Context, t *testing.T, s *story, id, want string) {
	t.Helper()
	var answer struct {
		Alarms []struct {
			Name   string `xml:"AlarmName"`
			State  string `xml:"StateValue"`
			Reason string `xml:"StateReason"`
		} `xml:"DescribeAlarmsResult>MetricAlarms>member"`
	}
	if err := (awsapi.Client{Endpoint: s.cloud.Endpoint, Region: s.cloud.Region}).Query(ctx, "monitoring", "2010-08-01", "DescribeAlarms", url.Values{}, &answer); err != nil {
		t.Fatal(err)
	}
	for _, a := range answer.Alarms {
		if strings.Contains(a.Name, id) {
			if a.State != want {
				t.Errorf("%s is %s, want %s: %s", a.Name, a.State, want, a.Reason)
			}
			return
		}
	}
	t.Errorf("none of %d alarms has %s in its name", len(answer.Alarms), id)
}
