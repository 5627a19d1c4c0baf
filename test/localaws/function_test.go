package localaws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// TestMain is also the Lambda function of the tests, whose code is this program. As a custom
// resource it returns a greeting. From a queue or a stream it sends each body to the queue OUTPUT,
// except for these: "panic" panics, "sleep" sleeps, "fail" fails, "count" counts in an embedded
// metric, and "say" publishes "hello" to the MQTT topic "said". For "settings" it sends the file
// settings.json of its code, for "arn" its ARN, and for "record" the whole record.
func TestMain(m *testing.M) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		lambda.Start(handle)
		return
	}
	os.Exit(m.Run())
}

func handle(ctx context.Context, event json.RawMessage) (any, error) {
	var kind struct{ RequestType cfn.RequestType }
	if err := json.Unmarshal(event, &kind); err != nil {
		return nil, err
	}
	if kind.RequestType != "" {
		var e cfn.Event
		if err := json.Unmarshal(event, &e); err != nil {
			return nil, err
		}
		return cfn.LambdaWrap(greet)(ctx, e)
	}
	var e struct{ Records []json.RawMessage }
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, err
	}
	var messages []message
	for _, r := range e.Records {
		var stream events.KinesisEventRecord
		var queue events.SQSMessage
		if err := json.Unmarshal(r, &stream); err == nil && stream.EventSource == "aws:kinesis" {
			messages = append(messages, message{stream.Kinesis.SequenceNumber, string(stream.Kinesis.Data), r})
			continue
		}
		if err := json.Unmarshal(r, &queue); err != nil {
			return nil, err
		}
		messages = append(messages, message{queue.MessageId, queue.Body, r})
	}
	return forward(ctx, messages)
}

// message is a record of a queue or a stream.
type message struct {
	id, body string
	record   json.RawMessage
}

func greet(_ context.Context, e cfn.Event) (string, map[string]any, error) {
	name, _ := e.ResourceProperties["Name"].(string)
	if name == "nobody" {
		return "", nil, os.ErrInvalid
	}
	return "greeting-" + name, map[string]any{"Text": "hello " + name + " " + e.ResourceProperties["Times"].(string)}, nil
}

func forward(ctx context.Context, messages []message) (events.SQSEventResponse, error) {
	var response events.SQSEventResponse
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return response, err
	}
	queue := sqs.NewFromConfig(settings)
	for _, m := range messages {
		body := m.body
		switch body {
		case "panic":
			panic("the message is \"panic\"")
		case "sleep":
			time.Sleep(time.Hour)
		case "count":
			fmt.Printf(`{"_aws":{"Timestamp":%d,"CloudWatchMetrics":[{"Namespace":"Fleet","Dimensions":[["Function"]],"Metrics":[{"Name":"Counted"}]}]},"Function":%q,"Counted":1}`+"\n",
				time.Now().UnixMilli(), os.Getenv("AWS_LAMBDA_FUNCTION_NAME"))
			continue
		case "fail":
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.id})
			continue
		case "settings":
			text, err := os.ReadFile(filepath.Join(os.Getenv("LAMBDA_TASK_ROOT"), "settings.json"))
			if err != nil {
				return response, err
			}
			body = string(text)
		case "arn":
			invoked, _ := lambdacontext.FromContext(ctx)
			body = invoked.InvokedFunctionArn
		case "record":
			body = string(m.record)
		case "say":
			if _, err := iotdataplane.NewFromConfig(settings).Publish(ctx, &iotdataplane.PublishInput{Topic: aws.String("said"), Payload: []byte("hello")}); err != nil {
				return response, err
			}
			continue
		}
		if _, err := queue.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(os.Getenv("OUTPUT")), MessageBody: &body}); err != nil {
			return response, err
		}
	}
	return response, nil
}
