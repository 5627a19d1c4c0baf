package localaws

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"

	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
	"github.com/defenderhub/defenderhub/test/localaws/eventbridge"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/iotsql"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
	"github.com/defenderhub/defenderhub/test/localaws/rules"
)

// serveIoT starts AWS IoT Core with its broker and rules engine, and Device Defender.
func (c *Cloud) serveIoT() (err error) {
	log := slog.New(slog.NewTextHandler(c.log("iot.log"), nil))
	c.Rules = rules.New(c.deliver, log)
	if c.IoT, err = iotcore.New(iotcore.Config{Account: c.Account, Region: c.Region, Now: c.Clock.Now, ValidateRule: rules.Check}); err != nil {
		return fmt.Errorf("start the local AWS IoT Core: %w", err)
	}
	if c.Broker, err = mqtt.Start(mqtt.Config{Registry: c.IoT, Now: c.Clock.Now, PlainAddress: "127.0.0.1:0", Logger: log}); err != nil {
		return fmt.Errorf("start the local MQTT broker: %w", err)
	}
	c.Broker.OnMessage(func(m mqtt.Message) {
		c.onMessage(m)
		if topic, answer, ok := devicedefender.AnswerReport(m.Topic, m.Payload, c.Clock.Now()); ok && m.Origin == mqtt.FromClient {
			c.Broker.PublishAsService(topic, answer)
		}
	})

	topics := sns.NewFromConfig(c.Config())
	c.Defender, err = devicedefender.New(devicedefender.Config{
		Account: c.Account, Region: c.Region, Registry: c.IoT, Connections: c.Broker, Now: c.Clock.Now, Logger: log,
		SecurityHub: c.SecurityHub.Hub(c.Account, c.Region),
		May: func(ctx context.Context, roleARN string, actions ...string) error {
			return c.serviceMay(ctx, "iot", c.IoT.ARN("audit"), "audit", roleARN, "*", actions...)
		},
		Notify: func(ctx context.Context, roleARN, topicARN, message string) error {
			// AWS does not document the source ARN: some ARN of AWS IoT in this account (unverified).
			if err := c.serviceMay(ctx, "iot", c.IoT.ARN("audit"), "audit", roleARN, topicARN, "sns:Publish"); err != nil {
				return err
			}
			_, err := topics.Publish(ctx, &sns.PublishInput{TopicArn: &topicARN, Message: &message})
			return err
		},
	})
	if err != nil {
		return fmt.Errorf("start the local Device Defender: %w", err)
	}
	handler := iotcore.NewHandler(c.IoT, c.Broker)
	devicedefender.Register(handler, c.Defender)
	c.serveDetect(handler)
	c.Edge.Handle("iot", handler)
	c.Edge.Handle("iotdata", handler)
	return nil
}

// onMessage runs the present rules on a published message.
func (c *Cloud) onMessage(m mqtt.Message) {
	c.syncRules()
	sql := iotsql.Message{
		Topic: m.Topic, ClientID: m.ClientID, Principal: m.Principal, AccountID: c.Account, Time: m.Time, Payload: m.Payload,
	}
	if m.SourceIP.IsValid() {
		sql.SourceIP = m.SourceIP.String()
	}
	if m.ClientID != "" {
		sql.TraceID = uuid.NewString()
	}
	c.Rules.Publish(c.ctx, sql)
}

// syncRules gives the rules engine the rules that AWS IoT has.
func (c *Cloud) syncRules() {
	c.syncMu.Lock()
	defer c.syncMu.Unlock()
	deployed := map[string]types.TopicRulePayload{}
	for _, r := range c.IoT.TopicRules() {
		deployed[r.Name] = r.TopicRulePayload
		if reflect.DeepEqual(c.running[r.Name], r.TopicRulePayload) {
			continue
		}
		if err := c.Rules.Put(r.Name, r.TopicRulePayload); err != nil {
			c.say("rule %s does not run: %v", r.Name, err)
		}
	}
	for name := range c.running {
		if _, ok := deployed[name]; !ok {
			c.Rules.Delete(name)
		}
	}
	c.running = deployed
}

// deliver sends what a rule's action sends to its service.
func (c *Cloud) deliver(ctx context.Context, d rules.Delivery) error {
	body, role := string(d.Body), d.Fields["roleArn"]
	switch d.Kind {
	case "sqs":
		queue := d.Fields["queueUrl"]
		if err := c.ruleMay(ctx, d.Rule, role, c.arn("sqs", queue[strings.LastIndex(queue, "/")+1:]), "sqs:SendMessage"); err != nil {
			return err
		}
		_, err := c.queues().SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(d.Fields["queueUrl"]), MessageBody: &body})
		return err
	case "sns":
		if err := c.ruleMay(ctx, d.Rule, role, d.Fields["targetArn"], "sns:Publish"); err != nil {
			return err
		}
		message := &sns.PublishInput{TopicArn: aws.String(d.Fields["targetArn"]), Message: &body}
		if d.Fields["messageFormat"] == "JSON" { // the message has a text for each protocol
			message.MessageStructure = aws.String("json")
		}
		_, err := sns.NewFromConfig(c.Config()).Publish(ctx, message)
		return err
	case "lambda":
		// AWS IoT invokes asynchronously: the action succeeds even if the function fails.
		return c.send(ctx, eventbridge.Origin{ARN: c.IoT.ARN("rule/" + d.Rule)}, d.Fields["functionArn"], d.Body)
	case "kinesis":
		if err := c.ruleMay(ctx, d.Rule, role, c.arn("kinesis", "stream/"+d.Fields["streamName"]), "kinesis:PutRecord"); err != nil {
			return err
		}
		_, err := c.streamsAPI().PutRecord(ctx, &kinesis.PutRecordInput{
			StreamName: aws.String(d.Fields["streamName"]), PartitionKey: aws.String(d.Fields["partitionKey"]), Data: d.Body,
		})
		return err
	case "republish":
		qos, ok := map[string]byte{"": 0, "0": 0, "1": 1}[d.Fields["qos"]]
		if !ok {
			return fmt.Errorf("qos is %q, want 0 or 1", d.Fields["qos"])
		}
		topic := strings.Replace(d.Fields["topic"], "$$", "$", 1) // a rule writes a reserved topic as $$aws/...
		if err := c.ruleMay(ctx, d.Rule, role, c.IoT.ARN("topic/"+topic), "iot:Publish"); err != nil {
			return err
		}
		return c.Broker.Republish(topic, d.Body, qos)
	}
	return errors.New("the local AWS does not support the action " + d.Kind)
}
