// Command function is the Lambda function of the integration test. As a custom resource
// it greets. From a queue it sends each body on, fails the message "fail", counts the
// message "count" in an embedded metric, and does what the bodies "panic" and "sleep"
// say.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

func main() { lambda.Start(handle) }

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
	var e events.SQSEvent
	if err := json.Unmarshal(event, &e); err != nil {
		return nil, err
	}
	return forward(ctx, e)
}

func greet(_ context.Context, e cfn.Event) (string, map[string]any, error) {
	name, _ := e.ResourceProperties["Name"].(string)
	if name == "nobody" {
		return "", nil, os.ErrInvalid
	}
	return "greeting-" + name, map[string]any{"Text": "hello " + name + " " + e.ResourceProperties["Times"].(string)}, nil
}

func forward(ctx context.Context, e events.SQSEvent) (events.SQSEventResponse, error) {
	var response events.SQSEventResponse
	settings, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return response, err
	}
	queue := sqs.NewFromConfig(settings)
	for _, m := range e.Records {
		switch m.Body {
		case "panic":
			panic("as asked")
		case "sleep":
			time.Sleep(time.Hour)
		case "count":
			fmt.Printf(`{"_aws":{"Timestamp":%d,"CloudWatchMetrics":[{"Namespace":"Fleet","Dimensions":[["Function"]],"Metrics":[{"Name":"Counted"}]}]},"Function":%q,"Counted":1}`+"\n",
				time.Now().UnixMilli(), os.Getenv("AWS_LAMBDA_FUNCTION_NAME"))
			continue
		case "fail":
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
			continue
		}
		if _, err := queue.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(os.Getenv("OUTPUT")), MessageBody: &m.Body}); err != nil {
			return response, err
		}
	}
	return response, nil
}
