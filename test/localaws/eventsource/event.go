package eventsource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// payloadLimit is Lambda's limit for an event, 6 MiB.
const payloadLimit = 6 << 20

// timeAttributes are the system attributes of a message that are times, in ms.
var timeAttributes = []types.MessageSystemAttributeName{
	types.MessageSystemAttributeNameSentTimestamp, types.MessageSystemAttributeNameApproximateFirstReceiveTimestamp,
}

// record is one message as the function gets it.
func record(m types.Message, queueARN string, at func(time.Time) time.Time) (json.RawMessage, error) {
	system := maps.Clone(m.Attributes)
	for _, name := range timeAttributes {
		if text, ok := system[string(name)]; ok && at != nil {
			ms, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			system[string(name)] = strconv.FormatInt(at(time.UnixMilli(ms)).UnixMilli(), 10)
		}
	}
	attributes := map[string]events.SQSMessageAttribute{}
	for name, a := range m.MessageAttributes {
		attributes[name] = events.SQSMessageAttribute{
			StringValue: a.StringValue, BinaryValue: a.BinaryValue, DataType: aws.ToString(a.DataType),
			StringListValues: []string{}, BinaryListValues: [][]byte{},
		}
	}
	return json.Marshal(events.SQSMessage{
		MessageId: aws.ToString(m.MessageId), ReceiptHandle: aws.ToString(m.ReceiptHandle), Body: aws.ToString(m.Body),
		Md5OfBody: aws.ToString(m.MD5OfBody), Md5OfMessageAttributes: aws.ToString(m.MD5OfMessageAttributes),
		Attributes: system, MessageAttributes: attributes,
		EventSourceARN: queueARN, EventSource: "aws:sqs", AWSRegion: region(queueARN),
	})
}

func region(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 3 {
		return parts[3]
	}
	return ""
}

// entry is what a batch is made of: a record of the function's event.
type entry interface{ payload() json.RawMessage }

// take moves entries that were carried over into the batch until it has most of them
// or reaches the payload limit. full says that no more fit.
func take[E entry](batch, carried []E, most int) (_, left []E, full bool) {
	size := len(`{"Records":[]}`)
	for _, e := range batch {
		size += len(e.payload()) + 1
	}
	for len(carried) > 0 {
		size += len(carried[0].payload()) + 1
		if len(batch) == most || len(batch) > 0 && size > payloadLimit {
			return batch, carried, true
		}
		batch, carried = append(batch, carried[0]), carried[1:]
	}
	return batch, carried, len(batch) == most
}

// event is the function's payload.
func event[E entry](batch []E) []byte {
	records := make([][]byte, len(batch))
	for i, e := range batch {
		records[i] = e.payload()
	}
	return append(append([]byte(`{"Records":[`), bytes.Join(records, []byte(","))...), "]}"...)
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
