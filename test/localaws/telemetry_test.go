package localaws_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamodbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/defenderhub/defenderhub/test/localaws"
	"github.com/defenderhub/defenderhub/test/localaws/rules"
)

// TestTelemetry follows MQTT messages through a rule, a stream and a function, and messages of a
// queue through a function.
func TestTelemetry(t *testing.T) {
	t.Parallel()
	ctx, cloud, outputs := deploySample(t, "telemetry")
	client := connect(t, cloud, "pump-1")

	t.Run("streams are as declared", func(t *testing.T) { checkStreams(t, cloud, outputs) })
	t.Run("rules write to streams, which feed functions", func(t *testing.T) { checkStream(t, ctx, cloud, client, outputs) })
	t.Run("records are in the cloud's time", func(t *testing.T) { checkRecordTimes(t, ctx, cloud, client, outputs) })
	t.Run("an alarm reports discarded records", func(t *testing.T) { checkAlarm(t, ctx, cloud, outputs) })
	t.Run("functions read the files of their code and publish", func(t *testing.T) { checkFunction(t, ctx, cloud, client, outputs) })
	t.Run("a table with an index and expiry", func(t *testing.T) { checkTable(t, cloud, outputs["State"]) })
	t.Run("concurrent writes are not lost", func(t *testing.T) { checkConcurrency(t, cloud, "provisioned") })
	t.Run("unsupported mappings and rules are refused", func(t *testing.T) { checkStreamRefusals(t, cloud, outputs) })
}

func checkStreams(t *testing.T, cloud *localaws.Cloud, outputs map[string]string) {
	streams := kinesis.NewFromConfig(cloud.Config())
	for name, want := range map[string]struct {
		mode       kinesistypes.StreamMode
		encryption kinesistypes.EncryptionType
		hours      int32
	}{
		outputs["Stream"]: {kinesistypes.StreamModeOnDemand, kinesistypes.EncryptionTypeKms, 48},
		"provisioned":     {kinesistypes.StreamModeProvisioned, kinesistypes.EncryptionTypeNone, 24},
	} {
		out, err := streams.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: &name})
		if err != nil {
			t.Fatal(err)
		}
		got := out.StreamDescriptionSummary
		if got.StreamModeDetails.StreamMode != want.mode || got.EncryptionType != want.encryption || *got.RetentionPeriodHours != want.hours {
			t.Errorf("stream %s: %s, %s, %d h; want %+v", name, got.StreamModeDetails.StreamMode, got.EncryptionType, *got.RetentionPeriodHours, want)
		}
	}
	shards, err := streams.ListShards(t.Context(), &kinesis.ListShardsInput{StreamName: aws.String("provisioned")})
	if err != nil || len(shards.Shards) != 2 {
		t.Errorf("shards %v, error %v; want 2", shards, err)
	}
	if _, err := streams.UpdateShardCount(t.Context(), &kinesis.UpdateShardCountInput{
		StreamName: aws.String("provisioned"), TargetShardCount: aws.Int32(4), ScalingType: kinesistypes.ScalingTypeUniformScaling,
	}); err == nil || !strings.Contains(err.Error(), "UpdateShardCount") {
		t.Errorf("UpdateShardCount: %v, want a refusal that names it", err)
	}
}

func publish(t *testing.T, cloud *localaws.Cloud, client paho.Client, topic string, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if token := client.Publish(topic, 1, false, p); token.Wait() && token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	cloud.Rules.Settle()
}

func putRecord(t *testing.T, cloud *localaws.Cloud, outputs map[string]string, body string) {
	t.Helper()
	_, err := kinesis.NewFromConfig(cloud.Config()).PutRecord(t.Context(), &kinesis.PutRecordInput{
		StreamName: aws.String(outputs["Stream"]), PartitionKey: aws.String("pump-1"), Data: []byte(body),
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkStream(t *testing.T, ctx context.Context, cloud *localaws.Cloud, client paho.Client, outputs map[string]string) {
	queues := sqs.NewFromConfig(cloud.Config())
	publish(t, cloud, client, "telemetry/pump-1", `{"body":"one"}`, `{"body":"fail"}`, `{"body":"two"}`, `{"other":"no body"}`)
	publish(t, cloud, client, "lost", "{}")
	if err := cloud.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	// SELECT VALUE outputs a JSON string with its quotes, so the function forwards "fail" too.
	if got := receiveAll(t, queues, outputs["OutputUrl"]); !slices.Equal(got, []string{`"fail"`, `"one"`, `"two"`}) {
		t.Errorf("the function forwarded %q, want the three bodies", got)
	}
	if got := receiveAll(t, queues, outputs["UndeliveredUrl"]); len(got) != 1 || !strings.Contains(got[0], `"failedAction":"KinesisAction","failedResource":"gone"`) {
		t.Errorf("the error action sent %q, want one failed KinesisAction", got)
	}
	putRecord(t, cloud, outputs, "fail")
	if err := cloud.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	if got := receiveAll(t, queues, outputs["LostUrl"]); len(got) != 1 || !strings.Contains(got[0], `"condition":"RetryAttemptsExhausted"`) || !strings.Contains(got[0], outputs["StreamArn"]) {
		t.Errorf("the destination of failures got %q, want one message about the record", got)
	}
	if got, want := cloud.Rules.Counters(outputs["Rule"]), (rules.Counters{Triggered: 4, Matched: 3, Delivered: 3}); got != want {
		t.Errorf("the rule counted %+v, want %+v", got, want)
	}
}

func checkRecordTimes(t *testing.T, ctx context.Context, cloud *localaws.Cloud, client paho.Client, outputs map[string]string) {
	queues := sqs.NewFromConfig(cloud.Config())
	cloud.Clock.Step(48 * time.Hour)
	before := cloud.Clock.Now()
	putRecord(t, cloud, outputs, "record")
	if _, err := queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(outputs["PlainUrl"]), MessageBody: aws.String("record")}); err != nil {
		t.Fatal(err)
	}
	if err := cloud.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	near := func(what string, at time.Time) {
		t.Helper()
		if d := at.Sub(before); d < -time.Second || d > 5*time.Minute {
			t.Errorf("%s is %v, want shortly after %v, the cloud's time before it was sent", what, at, before)
		}
	}
	seen := map[string]bool{}
	for _, body := range receiveAll(t, queues, outputs["OutputUrl"]) {
		var stream events.KinesisEventRecord
		var queue events.SQSMessage
		if err := errors.Join(json.Unmarshal([]byte(body), &stream), json.Unmarshal([]byte(body), &queue)); err != nil {
			t.Fatal(err)
		}
		seen[stream.EventSource] = true
		if stream.EventSource == "aws:kinesis" {
			near("approximateArrivalTimestamp", stream.Kinesis.ApproximateArrivalTimestamp.Time)
			if stream.Kinesis.PartitionKey != "pump-1" || stream.EventSourceArn != outputs["StreamArn"] {
				t.Errorf("record %s, want partition key pump-1 of %s", body, outputs["StreamArn"])
			}
			continue
		}
		for _, name := range []string{"SentTimestamp", "ApproximateFirstReceiveTimestamp"} {
			ms, err := strconv.ParseInt(queue.Attributes[name], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			near(name, time.UnixMilli(ms))
		}
	}
	if !seen["aws:kinesis"] || !seen["aws:sqs"] {
		t.Errorf("got records of %v, want both sources", seen)
	}
}

// checkAlarm checks an alarm on the queue of discarded records.
func checkAlarm(t *testing.T, ctx context.Context, cloud *localaws.Cloud, outputs map[string]string) {
	queues := sqs.NewFromConfig(cloud.Config())
	cloud.Clock.Step(10 * time.Minute)
	receiveAll(t, queues, outputs["NotificationsUrl"]) // the notification of the first state
	putRecord(t, cloud, outputs, "fail")
	if err := cloud.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ALARM", "OK"} {
		cloud.Clock.Step(10 * time.Minute)
		wantAlarms(t, cloud, map[string]string{"lost": want})
		if got := receiveAll(t, queues, outputs["NotificationsUrl"]); len(got) != 1 || !strings.Contains(got[0], `"NewStateValue":"`+want+`"`) {
			t.Errorf("the topic got %v, want %s", got, want)
		}
		if got := receiveAll(t, queues, outputs["LostUrl"]); want == "ALARM" && len(got) != 1 {
			t.Errorf("the queue of discarded records has %v, want one message", got)
		}
	}
}

func checkFunction(t *testing.T, ctx context.Context, cloud *localaws.Cloud, client paho.Client, outputs map[string]string) {
	queues := sqs.NewFromConfig(cloud.Config())
	said := make(chan string, 1)
	if token := client.Subscribe("said", 1, func(_ paho.Client, m paho.Message) { said <- string(m.Payload()) }); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	for _, body := range []string{"settings", "arn", "say"} {
		if _, err := queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(outputs["PlainUrl"]), MessageBody: &body}); err != nil {
			t.Fatal(err)
		}
	}
	if err := cloud.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	got := receiveAll(t, queues, outputs["OutputUrl"])
	if len(got) != 2 || !strings.HasPrefix(got[0], "arn:aws:lambda:us-east-1:"+localaws.AccountID+":function:Sample-") || got[1] != `{"greeting":"hi"}` {
		t.Errorf("the function sent %q, want its ARN, and the file of its code", got)
	}
	select {
	case got := <-said:
		if got != "hello" {
			t.Errorf("the function published %q, want hello", got)
		}
	case <-ctx.Done():
		t.Error("the function's MQTT message did not arrive")
	}
}

// checkTable checks what the evaluator's state needs: conditional writes, batch reads, an index
// that lists only items with its keys, and expiry.
func checkTable(t *testing.T, cloud *localaws.Cloud, table string) {
	db, ctx := dynamodb.NewFromConfig(cloud.Config()), t.Context()
	s := func(v string) dynamodbtypes.AttributeValue { return &dynamodbtypes.AttributeValueMemberS{Value: v} }
	n := func(v int64) dynamodbtypes.AttributeValue {
		return &dynamodbtypes.AttributeValueMemberN{Value: strconv.FormatInt(v, 10)}
	}
	type item = map[string]dynamodbtypes.AttributeValue
	for _, i := range []item{
		{"pk": s("a"), "sk": s("state"), "shard": s("0"), "dueAt": n(5)},
		{"pk": s("b"), "sk": s("state"), "expires": n(cloud.Clock.Now().Add(time.Hour).Unix())},
	} {
		if _, err := db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: i}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := db.PutItem(ctx, &dynamodb.PutItemInput{TableName: &table, Item: item{"pk": s("a"), "sk": s("state")}, ConditionExpression: aws.String("attribute_not_exists(pk)")})
	var failed *dynamodbtypes.ConditionalCheckFailedException
	if !errors.As(err, &failed) {
		t.Errorf("a write whose condition is false: %v", err)
	}
	batch := func() int {
		t.Helper()
		out, err := db.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]dynamodbtypes.KeysAndAttributes{
			table: {Keys: []item{{"pk": s("a"), "sk": s("state")}, {"pk": s("b"), "sk": s("state")}, {"pk": s("c"), "sk": s("state")}}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Responses[table])
	}
	if got := batch(); got != 2 {
		t.Errorf("%d items of three keys, want 2", got)
	}
	due, err := db.Query(ctx, &dynamodb.QueryInput{
		TableName: &table, IndexName: aws.String("due"), KeyConditionExpression: aws.String("shard = :s AND dueAt <= :t"),
		ExpressionAttributeValues: item{":s": s("0"), ":t": n(5)},
	})
	if err != nil || len(due.Items) != 1 || len(due.Items[0]) != 4 {
		t.Errorf("due: %v, error %v; want the keys of one item", due, err)
	}
	checkStatements(t, db, table)
	cloud.Clock.Step(2 * time.Hour)
	if got := batch(); got != 1 {
		t.Errorf("%d items after one expired, want 1", got)
	}
}

// checkStatements writes as the forwarder does: each statement has its own condition.
func checkStatements(t *testing.T, db *dynamodb.Client, table string) {
	t.Helper()
	s := func(v string) dynamodbtypes.AttributeValue { return &dynamodbtypes.AttributeValueMemberS{Value: v} }
	// run runs a statement, and the same about the item two instead of one, in a batch.
	run := func(text string, parameters ...string) (codes []string) {
		statement := dynamodbtypes.BatchStatementRequest{Statement: aws.String(text)}
		other := statement
		for _, p := range parameters {
			statement.Parameters = append(statement.Parameters, s(p))
			if p == "one" {
				p = "two"
			}
			other.Parameters = append(other.Parameters, s(p))
		}
		out, err := db.BatchExecuteStatement(t.Context(), &dynamodb.BatchExecuteStatementInput{Statements: []dynamodbtypes.BatchStatementRequest{statement, other}})
		if err != nil {
			return []string{"refused"}
		}
		for _, r := range out.Responses {
			if r.Error != nil {
				codes = append(codes, string(r.Error.Code))
			}
		}
		return codes
	}
	insert := `INSERT INTO "` + table + `" VALUE {'pk': ?, 'sk': ?, 'rev': ?, 'gone': ?}`
	update := `UPDATE "` + table + `" SET "rev" = ? REMOVE "gone" WHERE "pk" = ? AND "sk" = ? AND "rev" = ?`
	const duplicate, stale = "[DuplicateItem DuplicateItem]", "[ConditionalCheckFailed ConditionalCheckFailed]"
	for i, step := range []struct {
		got  []string
		want string
	}{
		{run(insert, "one", "p", "1", "x"), "[]"},
		{run(insert, "one", "p", "2", "x"), duplicate},
		{run(update, "2", "one", "p", "2"), stale},
		{run(update, "2", "absent", "p", "1"), "[refused]"}, // both are about the item absent
		{run(update, "2", "one", "p", "1"), "[]"},
		{run(update, "2", "one", "p", "1"), stale},
		{run(`DELETE FROM "`+table+`" WHERE "pk" = ? AND "sk" = ?`, "one", "p"), "[refused]"},
	} {
		if got := fmt.Sprint(step.got); got != step.want {
			t.Errorf("statement %d: %s, want %s", i, got, step.want)
		}
	}
	out, err := db.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: &table, Key: map[string]dynamodbtypes.AttributeValue{"pk": s("one"), "sk": s("p")}})
	if err != nil || len(out.Item) != 3 {
		t.Errorf("got %v, error %v, want an item with three attributes", out, err)
	}
}

func checkStreamRefusals(t *testing.T, cloud *localaws.Cloud, outputs map[string]string) {
	mapping := func(properties string) string {
		return `{"Resources":{"Mapping":{"Type":"AWS::Lambda::EventSourceMapping","Properties":{"FunctionName":"f","EventSourceArn":"` + outputs["StreamArn"] + `","StartingPosition":"LATEST"` + properties + `}}}}`
	}
	for name, tt := range map[string]struct{ template, want string }{
		"Parallel": {mapping(`,"ParallelizationFactor":2`), "ParallelizationFactor"},
		"Tumbling": {mapping(`,"TumblingWindowInSeconds":60`), "TumblingWindowInSeconds"},
		"Position": {strings.Replace(mapping(""), "LATEST", "AT_TIMESTAMP", 1), "AT_TIMESTAMP"},
		"Function": {mapping(""), "function f was not deployed"},
		"NoKey":    {`{"Resources":{"Rule":{"Type":"AWS::IoT::TopicRule","Properties":{"TopicRulePayload":{"Sql":"SELECT * FROM 'a'","AwsIotSqlVersion":"2016-03-23","Actions":[{"Kinesis":{"RoleArn":"arn:aws:iam::123456789012:role/r","StreamName":"s"}}]}}}}}`, "partitionKey"},
	} {
		if got := refusal(t, cloud, name, tt.template); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %s, want %q", name, got, tt.want)
		}
	}
}
