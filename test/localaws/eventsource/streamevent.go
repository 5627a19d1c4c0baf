package eventsource

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// streamRecord is a record as the function gets it, with what the poller needs of it.
type streamRecord struct {
	sequence string
	arrived  time.Time
	record   json.RawMessage
}

func (r streamRecord) payload() json.RawMessage { return r.record }

// newStreamRecord makes the event's record in the form that AWS shows.
// https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
func newStreamRecord(streamARN, shard string, r types.Record, arrived time.Time) (streamRecord, error) {
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

// discarded is what a queue is told of records that were given up; they themselves are
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
