// Package eventsource does what Lambda does between an SQS queue or a Kinesis stream and
// a function: it polls, gathers batches by size, time and payload, and invokes the
// function. From a queue it deletes what the function handled; what failed stays there,
// and the queue's visibility timeout and redrive policy decide what follows. A stream
// keeps its records, and the mapping goes on behind them.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
// https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
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
	kinesistypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
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

// Mapping is an event source mapping from a standard queue to a function.
type Mapping struct {
	UUID     string
	QueueARN string
	QueueURL string
	Function string // name or ARN
	// BatchSize is 1 to 10,000 messages.
	BatchSize int
	// Window is how long a batch is gathered after its first message, at most 5 minutes.
	Window time.Duration
	// PartialFailures is ReportBatchItemFailures: the function's answer names the
	// messages that failed. Without it a batch succeeds or fails as a whole.
	PartialFailures bool
}

// StreamMapping is an event source mapping from a Kinesis stream to a function, with one
// batch a shard at a time.
// https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html
type StreamMapping struct {
	UUID      string
	StreamARN string
	Function  string // name or ARN
	// BatchSize is 1 to 10,000 records.
	BatchSize int
	// Window is how long a batch is gathered after its first record, at most 5 minutes.
	Window time.Duration
	// Latest starts behind the records that the stream has when the mapping is made;
	// otherwise it starts with the oldest (TRIM_HORIZON).
	Latest bool
	// PartialFailures is ReportBatchItemFailures: the function's answer names the records
	// that failed, and the mapping repeats from the first of them on.
	PartialFailures bool
	// Bisect splits a batch in two when the function fails, which costs no retry.
	Bisect bool
	// Retries is how often a failed batch is repeated; below 0: until it succeeds.
	Retries int
	// MaximumAge is how old a record may be; 0: as old as it likes.
	MaximumAge time.Duration
	// OnFailure is the ARN of a queue that receives discarded records, or "".
	OnFailure string
}

// StreamBatch reports the outcome of the records of one invocation.
type StreamBatch struct {
	Mapping StreamMapping
	Shard   string
	// Records were in the batch, Failed of them, the last ones, are repeated or discarded.
	Records, Failed int
	// Discarded are given up.
	Discarded int
	// Err is why the whole batch failed, nil where the function named the failed ones.
	Err error
}

// Batch reports the outcome of the messages of one invocation.
type Batch struct {
	Mapping    Mapping
	MessageIDs []string
	// Failed are the messages that stay in the queue.
	Failed []string
	// Err is why the whole batch failed, nil where the function named the failed ones.
	Err error
}

// streamRecord is a record as the function gets it, with what the poller needs of it.
type streamRecord struct {
	sequence string
	arrived  time.Time
	record   json.RawMessage
}

func (r streamRecord) payload() json.RawMessage { return r.record }

// newStreamRecord makes the event's record in the form that AWS shows.
// https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
func newStreamRecord(streamARN, shard string, r kinesistypes.Record, arrived time.Time) (streamRecord, error) {
	type data struct {
		SchemaVersion  string  `json:"kinesisSchemaVersion"`
		PartitionKey   string  `json:"partitionKey"`
		SequenceNumber string  `json:"sequenceNumber"`
		Data           []byte  `json:"data"`
		Arrival        float64 `json:"approximateArrivalTimestamp"` // seconds since 1970
	}
	sequence := aws.ToString(r.SequenceNumber)
	encoded, err := json.Marshal(struct {
		Kinesis   data   `json:"kinesis"`
		Source    string `json:"eventSource"`
		Version   string `json:"eventVersion"`
		ID        string `json:"eventID"`
		Name      string `json:"eventName"`
		Invoker   string `json:"invokeIdentityArn"`
		Region    string `json:"awsRegion"`
		StreamARN string `json:"eventSourceARN"`
	}{
		data{"1.0", aws.ToString(r.PartitionKey), sequence, r.Data, float64(arrived.UnixMilli()) / 1000},
		"aws:kinesis", "1.0", shard + ":" + sequence, "aws:kinesis:record",
		sibling(streamARN, "iam", "", "role/local"), region(streamARN), streamARN,
	})
	return streamRecord{sequence, arrived, encoded}, err
}

// sibling is the ARN of something in the account of arn.
func sibling(arn, service, region, resource string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return resource
	}
	return strings.Join([]string{parts[0], parts[1], service, region, parts[4], resource}, ":")
}

// discarded is what a queue receives about records that were given up; they themselves are
// not in it.
// https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
func discarded(m StreamMapping, shard string, p part, n int, condition string, at time.Time) any {
	const form = "2006-01-02T15:04:05.000Z"
	first, last := p.records[0], p.records[n-1]
	function := m.Function
	if !strings.HasPrefix(function, "arn:") {
		function = sibling(m.StreamARN, "lambda", region(m.StreamARN), "function:"+function)
	}
	type object map[string]any
	message := object{
		"requestContext": object{"requestId": m.UUID, "functionArn": function, "condition": condition, "approximateInvokeCount": p.invocations},
		"version":        "1.0",
		"timestamp":      at.UTC().Format(form),
		"KinesisBatchInfo": object{
			"shardId": shard, "startSequenceNumber": first.sequence, "endSequenceNumber": last.sequence,
			"approximateArrivalOfFirstRecord": first.arrived.UTC().Format(form), "approximateArrivalOfLastRecord": last.arrived.UTC().Format(form),
			"batchSize": n, "streamArn": m.StreamARN,
		},
	}
	if p.invocations > 0 {
		message["responseContext"] = object{"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
	}
	return message
}
