package localaws_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/defenderhub/defenderhub/test/localaws"
)

// connect connects an MQTT client, which stays connected however busy the machine is.
func connect(t *testing.T, cloud *localaws.Cloud, clientID string) paho.Client {
	t.Helper()
	client := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + cloud.Broker.PlainAddress()).SetClientID(clientID).
		SetAutoReconnect(false).SetConnectTimeout(5 * time.Minute).SetKeepAlive(20 * time.Minute))
	if token := client.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { client.Disconnect(0) })
	return client
}

// TestRulesRunOrAreRefused publishes over MQTT, and receives the rules' messages from their queues.
func TestRulesRunOrAreRefused(t *testing.T) {
	t.Parallel()
	ctx, cloud := start(t)
	queues, things := sqs.NewFromConfig(cloud.Config()), iot.NewFromConfig(cloud.Config())
	grant(t, cloud, "r", "iot", `{"Effect": "Allow", "Action": ["sqs:SendMessage", "sns:Publish", "iot:Publish"], "Resource": "*"}`)
	urls := map[string]*string{}
	for _, name := range []string{"wanted", "errors"} {
		made, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name})
		if err != nil {
			t.Fatal(err)
		}
		urls[name] = made.QueueUrl
	}
	create := func(name, sql string, queue *string) error {
		action := func(url *string) types.Action {
			return types.Action{Sqs: &types.SqsAction{RoleArn: aws.String("arn:aws:iam::123456789012:role/r"), QueueUrl: url}}
		}
		failed := action(urls["errors"])
		_, err := things.CreateTopicRule(ctx, &iot.CreateTopicRuleInput{RuleName: &name, TopicRulePayload: &types.TopicRulePayload{
			Sql: &sql, AwsIotSqlVersion: aws.String("2016-03-23"), Actions: []types.Action{action(queue)}, ErrorAction: &failed,
		}})
		return err
	}
	if err := create("bad", "SELECT frobnicate(x) AS y FROM 'data/+'", urls["wanted"]); err == nil || !strings.Contains(err.Error(), "frobnicate") {
		t.Errorf("error %v, want one that names the unknown function", err)
	}
	if err := create("hot", "SELECT topic(2) AS pump, temperature * 2 AS twice FROM 'data/+' WHERE temperature > 20", urls["wanted"]); err != nil {
		t.Fatal(err)
	}
	nowhere := strings.Replace(*urls["wanted"], "wanted", "nowhere", 1)
	if err := create("lost", "SELECT * FROM 'data/+' WHERE temperature > 20", &nowhere); err != nil {
		t.Fatal(err)
	}

	client := connect(t, cloud, "pump-1")
	for _, payload := range []string{`{"temperature": 20}`, `{"temperature": 21}`} {
		if token := client.Publish("data/pump-1", 1, false, payload); token.Wait() && token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	checkOtherActions(t, ctx, cloud, client)
	for name, want := range map[string]string{"wanted": `{"pump":"pump-1","twice":42}`, "errors": `"ruleName":"lost"`} {
		got, err := queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: urls[name], MaxNumberOfMessages: 10, WaitTimeSeconds: 20})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Messages) != 1 || !strings.Contains(*got.Messages[0].Body, want) {
			t.Errorf("queue %s has %d messages, want one with %s", name, len(got.Messages), want)
		}
	}
}

// checkOtherActions checks a rule that publishes to an Amazon SNS topic and to MQTT topics.
func checkOtherActions(t *testing.T, ctx context.Context, cloud *localaws.Cloud, client paho.Client) {
	t.Helper()
	topics, queues := sns.NewFromConfig(cloud.Config()), sqs.NewFromConfig(cloud.Config())
	queue, err := queues.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("subscriber"), Attributes: map[string]string{"Policy": `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*", "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:sns:*:*:people"}}}]}`}})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("people")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := topics.Subscribe(ctx, &sns.SubscribeInput{
		TopicArn: topic.TopicArn, Protocol: aws.String("sqs"), Endpoint: aws.String("arn:aws:sqs:us-east-1:123456789012:subscriber"),
		Attributes: map[string]string{"RawMessageDelivery": "true"},
	}); err != nil {
		t.Fatal(err)
	}
	role := aws.String("arn:aws:iam::123456789012:role/r")
	if _, err := iot.NewFromConfig(cloud.Config()).CreateTopicRule(ctx, &iot.CreateTopicRuleInput{RuleName: aws.String("fan_out"), TopicRulePayload: &types.TopicRulePayload{
		Sql: aws.String("SELECT * FROM 'words'"), AwsIotSqlVersion: aws.String("2016-03-23"), Actions: []types.Action{
			{Sns: &types.SnsAction{RoleArn: role, TargetArn: topic.TopicArn, MessageFormat: types.MessageFormatRaw}},
			{Republish: &types.RepublishAction{RoleArn: role, Topic: aws.String("echo/0/${clientid()}")}},
			{Republish: &types.RepublishAction{RoleArn: role, Topic: aws.String("echo/1/${clientid()}"), Qos: aws.Int32(1)}},
			{Sns: &types.SnsAction{RoleArn: role, TargetArn: topic.TopicArn, MessageFormat: types.MessageFormatJson}},
		},
	}}); err != nil {
		t.Fatal(err)
	}
	echoes := make(chan paho.Message, 2)
	subscribed := client.Subscribe("echo/+/pump-1", 1, func(_ paho.Client, m paho.Message) { echoes <- m })
	if subscribed.Wait(); subscribed.Error() != nil {
		t.Fatal(subscribed.Error())
	}
	if token := client.Publish("words", 1, false, `{"word": "hello", "default": "any", "sqs": "for queues"}`); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	const want = `{"default":"any","sqs":"for queues","word":"hello"}`
	for qos := range byte(2) {
		select {
		case echo := <-echoes:
			if string(echo.Payload()) != want || echo.Qos() != qos || echo.Topic() != fmt.Sprintf("echo/%d/pump-1", qos) {
				t.Errorf("republished %s on %s with QoS %d, want %s with QoS %d", echo.Payload(), echo.Topic(), echo.Qos(), want, qos)
			}
		case <-ctx.Done():
			t.Error("nothing was republished")
		}
	}
	cloud.Rules.Settle()
	// The SDK retries a call whose answer was lost, so a message may arrive twice.
	if got := slices.Compact(receiveAll(t, queues, *queue.QueueUrl)); !slices.Equal(got, []string{"for queues", want}) {
		t.Errorf("Amazon SNS delivered %q, want the text for queues and the whole message", got)
	}
}
