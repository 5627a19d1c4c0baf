// Package eventsource invokes functions with the messages of SQS queues and the records of Kinesis
// streams, as Lambda does. It polls, and gathers batches by size, time and payload. It deletes
// messages that the function handled; failed messages stay in the queue, for its visibility
// timeout and redrive policy. A stream keeps all records, and the mapping moves past them.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
// https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
package eventsource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// payloadLimit is Lambda's limit for an event, 6 MiB.
const payloadLimit = 6 << 20

// timeAttributes are the system attributes of a message that are times, in milliseconds.
var timeAttributes = []types.MessageSystemAttributeName{
	types.MessageSystemAttributeNameSentTimestamp, types.MessageSystemAttributeNameApproximateFirstReceiveTimestamp,
}

// record encodes a message as the function gets it.
func record(m types.Message, queueARN string, at func(time.Time) time.Time) (json.RawMessage, error) {
	system := maps.Clone(m.Attributes)
	for _, name := range timeAttributes {
		if text, ok := system[string(name)]; ok {
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

// event encodes the function's payload.
func event(batch []entry) []byte {
	records := make([][]byte, len(batch))
	for i, e := range batch {
		records[i] = e.record
	}
	return append(append([]byte(`{"Records":[`), bytes.Join(records, []byte(","))...), "]}"...)
}

// failures returns the message IDs in the function's answer. As on AWS, an empty or null answer or
// list means that all messages succeeded. An answer with an ID that is not in the batch fails the
// whole batch.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
func failures(answer []byte, batch []entry) ([]string, error) {
	if len(bytes.TrimSpace(answer)) == 0 {
		return nil, nil
	}
	var response events.SQSEventResponse
	if err := json.Unmarshal(answer, &response); err != nil {
		return nil, fmt.Errorf("the answer is not a batch response: %w", err)
	}
	failed := []string{}
	for _, item := range response.BatchItemFailures {
		id := item.ItemIdentifier
		if id == "" {
			return nil, errors.New("the answer has a batch item failure without itemIdentifier")
		}
		if !slices.ContainsFunc(batch, func(e entry) bool { return e.id == id }) {
			return nil, fmt.Errorf("the answer names message %q, which is not in the batch", id)
		}
		failed = append(failed, id)
	}
	return failed, nil
}

// newStreamRecord encodes a record as AWS's example shows it.
// https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
func newStreamRecord(streamARN, shard string, r kinesistypes.Record, arrived time.Time) (entry, error) {
	sequence := aws.ToString(r.SequenceNumber)
	encoded, err := json.Marshal(events.KinesisEventRecord{
		Kinesis: events.KinesisRecord{
			KinesisSchemaVersion: "1.0", PartitionKey: aws.ToString(r.PartitionKey), SequenceNumber: sequence, Data: r.Data,
			ApproximateArrivalTimestamp: events.SecondsEpochTime{Time: arrived.Truncate(time.Millisecond)},
		},
		EventSource: "aws:kinesis", EventVersion: "1.0", EventID: shard + ":" + sequence, EventName: "aws:kinesis:record",
		InvokeIdentityArn: sibling(streamARN, "iam", "", "role/local"), AwsRegion: region(streamARN), EventSourceArn: streamARN,
	})
	return entry{id: sequence, arrived: arrived, record: encoded}, err
}

func region(of string) string {
	parsed, _ := arn.Parse(of)
	return parsed.Region
}

// sibling returns the ARN of another resource in the account of the ARN of.
func sibling(of, service, region, resource string) string {
	parsed, _ := arn.Parse(of)
	parsed.Service, parsed.Region, parsed.Resource = service, region, resource
	return parsed.String()
}

// discarded returns the report about the first n records of p. It does not contain the records.
// https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
func discarded(m Mapping, shard string, p part, n int, condition string, at time.Time) any {
	const form = "2006-01-02T15:04:05.000Z"
	first, last := p.records[0], p.records[n-1]
	function := m.Function
	if !strings.HasPrefix(function, "arn:") {
		function = sibling(m.SourceARN, "lambda", region(m.SourceARN), "function:"+function)
	}
	type object map[string]any
	message := object{
		"requestContext": object{"requestId": m.UUID, "functionArn": function, "condition": condition, "approximateInvokeCount": p.invocations},
		"version":        "1.0",
		"timestamp":      at.UTC().Format(form),
		"KinesisBatchInfo": object{
			"shardId": shard, "startSequenceNumber": first.id, "endSequenceNumber": last.id,
			"approximateArrivalOfFirstRecord": first.arrived.UTC().Format(form), "approximateArrivalOfLastRecord": last.arrived.UTC().Format(form),
			"batchSize": n, "streamArn": m.SourceARN,
		},
	}
	if p.invocations > 0 {
		message["responseContext"] = object{"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
	}
	return message
}
