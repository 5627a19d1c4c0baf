package eventsource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// payloadLimit is Lambda's limit for an event, 6 MiB.
const payloadLimit = 6 << 20

// record is one message as the function gets it.
func record(m types.Message, queueARN string) (json.RawMessage, error) {
	attributes := map[string]events.SQSMessageAttribute{}
	for name, a := range m.MessageAttributes {
		attributes[name] = events.SQSMessageAttribute{
			StringValue: a.StringValue, BinaryValue: a.BinaryValue, DataType: aws.ToString(a.DataType),
			StringListValues: []string{}, BinaryListValues: [][]byte{},
		}
	}
	region := ""
	if parts := strings.Split(queueARN, ":"); len(parts) > 3 {
		region = parts[3]
	}
	return json.Marshal(events.SQSMessage{
		MessageId: aws.ToString(m.MessageId), ReceiptHandle: aws.ToString(m.ReceiptHandle), Body: aws.ToString(m.Body),
		Md5OfBody: aws.ToString(m.MD5OfBody), Md5OfMessageAttributes: aws.ToString(m.MD5OfMessageAttributes),
		Attributes: m.Attributes, MessageAttributes: attributes,
		EventSourceARN: queueARN, EventSource: "aws:sqs", AWSRegion: region,
	})
}

// event is the function's payload.
func event(records []json.RawMessage) []byte {
	return append(append([]byte(`{"Records":[`), bytes.Join(rawBytes(records), []byte(","))...), "]}"...)
}

func rawBytes(records []json.RawMessage) [][]byte {
	list := make([][]byte, len(records))
	for i, r := range records {
		list[i] = r
	}
	return list
}

// failures reads the message ids that the function's answer names. As on AWS, an empty
// or null answer or list means that all went well, and an answer that names something
// else than a message of the batch fails it whole.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
func failures(answer []byte, batch []string) ([]string, error) {
	if len(bytes.TrimSpace(answer)) == 0 {
		return nil, nil
	}
	var response struct {
		Failures []map[string]any `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(answer, &response); err != nil {
		return nil, fmt.Errorf("the answer is no batch response: %w", err)
	}
	known := map[string]bool{}
	for _, id := range batch {
		known[id] = true
	}
	failed := []string{}
	for _, item := range response.Failures {
		id, _ := item["itemIdentifier"].(string)
		if id == "" {
			return nil, errors.New("the answer has a batch item failure without itemIdentifier")
		}
		if !known[id] {
			return nil, fmt.Errorf("the answer names message %q, which is not in the batch", id)
		}
		failed = append(failed, id)
	}
	return failed, nil
}
