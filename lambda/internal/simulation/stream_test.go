package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// stream is a stream of Amazon Kinesis with its event source mapping: it keeps the order of a
// shard, splits failing batches, and gives up a record after six hours.
type stream struct {
	world  *world
	fn     *function
	dead   *queue
	shards []*shard
}

type shard struct {
	stream  *stream
	id      string
	records []streamRecord
	// position is the first record that is not finished, limit the size of the next batch.
	position, limit  int
	filling, running bool
}

type streamRecord struct {
	sequence string
	key      string
	data     []byte
	arrived  time.Time
	datum    *datum
}

const streamBatch = 1000

func (w *world) newStream(fn *function, dead *queue) *stream {
	s := &stream{world: w, fn: fn, dead: dead}
	for i := range 2 {
		s.shards = append(s.shards, &shard{stream: s, id: fmt.Sprintf("shardId-%012d", i), limit: streamBatch})
	}
	return s
}

func (s *stream) put(key string, data []byte, d *datum) {
	h := s.shards[int(key[len(key)-1])%len(s.shards)]
	h.records = append(h.records, streamRecord{fmt.Sprintf("%s%d", h.id[len(h.id)-1:], 1_000_000+len(h.records)), key, data, time.Now(), d})
	h.nudge(s.world.between(0, batching))
}

// nudge reads the shard after a time.
func (h *shard) nudge(wait time.Duration) {
	if h.filling || h.running || h.position == len(h.records) || h.stream.fn.paused.holds() {
		return
	}
	h.filling = true
	h.stream.world.after(wait, h.deliver)
}

func (h *shard) deliver() {
	h.filling = false
	s, w := h.stream, h.stream.world
	if s.fn.paused.holds() {
		return
	}
	for h.position < len(h.records) && time.Since(h.records[h.position].arrived) > contract.TelemetryRetry {
		w.counts["records of the stream given up"]++
		s.dead.send(string(h.records[h.position].data), nil)
		h.finish(h.position + 1)
	}
	batch := h.records[h.position:min(len(h.records), h.position+h.limit)]
	if len(batch) == 0 {
		return
	}
	h.running = true
	var event events.KinesisEvent
	var data []*datum
	for _, r := range batch {
		data = append(data, r.datum)
		event.Records = append(event.Records, events.KinesisEventRecord{
			EventSource: "aws:kinesis", EventID: h.id + ":" + r.sequence, EventSourceArn: "arn:aws:kinesis:" + region + ":" + account + ":stream/telemetry",
			Kinesis: events.KinesisRecord{Data: r.data, PartitionKey: r.key, SequenceNumber: r.sequence, ApproximateArrivalTimestamp: events.SecondsEpochTime{Time: r.arrived}},
		})
	}
	text, err := json.Marshal(event)
	if err != nil {
		panic(err)
	}
	w.delivered(data, s.fn.paused)
	w.invoke(s.fn, text, func(value any, err error, failed bool) {
		h.running = false
		wait := time.Duration(0)
		switch response, ok := value.(events.KinesisEventResponse); {
		case err != nil || failed || !ok:
			h.limit, wait = max(1, len(batch)/2), w.between(time.Second, 30*time.Second)
		case len(response.BatchItemFailures) > 0:
			from := h.position
			for from < len(h.records) && h.records[from].sequence != response.BatchItemFailures[0].ItemIdentifier {
				from++
			}
			if from >= h.position+len(batch) {
				w.violations.add("answers of functions", "%s names no record of its batch: %+v", s.fn.name, response)
				from = h.position
			}
			h.finish(from)
			h.limit, wait = max(1, len(batch)/2), w.between(time.Second, 30*time.Second)
		default:
			h.finish(h.position + len(batch))
			h.limit = streamBatch
		}
		h.nudge(wait)
	})
}

// finish moves the position.
func (h *shard) finish(position int) {
	for _, r := range h.records[h.position:position] {
		r.datum.judged()
	}
	h.position = position
}

// waits reports whether records are unfinished.
func (s *stream) waits() bool {
	for _, h := range s.shards {
		if h.running || h.position < len(h.records) {
			return true
		}
	}
	return false
}

// shardReader is the Amazon Kinesis client of an environment.
type shardReader struct{ *environment }

func (r shardReader) ListShards(ctx context.Context, _ *kinesis.ListShardsInput, _ ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	return ask(ctx, r.environment, "Kinesis", "ListShards", "", func() (*kinesis.ListShardsOutput, error) {
		out := &kinesis.ListShardsOutput{}
		for _, h := range r.world.stream.shards {
			out.Shards = append(out.Shards, types.Shard{ShardId: &h.id})
		}
		return out, nil
	})
}

func (r shardReader) find(id string) (*shard, error) {
	for _, h := range r.world.stream.shards {
		if h.id == id {
			return h, nil
		}
	}
	return nil, &types.ResourceNotFoundException{Message: aws.String("no shard " + id)}
}

func (r shardReader) GetShardIterator(ctx context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	return ask(ctx, r.environment, "Kinesis", "GetShardIterator", *in.ShardId, func() (*kinesis.GetShardIteratorOutput, error) {
		h, err := r.find(*in.ShardId)
		if err != nil {
			return nil, err
		}
		n := 0
		for n < len(h.records) && h.records[n].arrived.Before(*in.Timestamp) {
			n++
		}
		return &kinesis.GetShardIteratorOutput{ShardIterator: aws.String(h.id + " " + strconv.Itoa(n))}, nil
	})
}

func (r shardReader) GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	return ask(ctx, r.environment, "Kinesis", "GetRecords", *in.ShardIterator, func() (*kinesis.GetRecordsOutput, error) {
		id, text, _ := strings.Cut(*in.ShardIterator, " ")
		h, err := r.find(id)
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		out := &kinesis.GetRecordsOutput{MillisBehindLatest: aws.Int64(0)}
		if n < len(h.records) {
			out.Records = []types.Record{{Data: h.records[n].data, SequenceNumber: &h.records[n].sequence, ApproximateArrivalTimestamp: &h.records[n].arrived}}
			n++
		}
		out.NextShardIterator = aws.String(h.id + " " + strconv.Itoa(n))
		return out, nil
	})
}
