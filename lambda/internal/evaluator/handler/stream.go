package handler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
)

// Kinesis is the part of the Amazon Kinesis client that the handler calls.
type Kinesis interface {
	ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
	GetShardIterator(context.Context, *kinesis.GetShardIteratorInput, ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error)
	GetRecords(context.Context, *kinesis.GetRecordsInput, ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error)
}

const (
	// maxShards bounds the shards that one run looks at: telemetry that needs more of them
	// waits in most.
	maxShards = 100
	// maxReads bounds the requests for records of one shard and run: all readers of a shard
	// together, the evaluator's event source among them, may make five a second.
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	maxReads = 3
	// iteratorStands is how long a place in a shard is used again. Amazon Kinesis keeps it
	// for five minutes.
	// https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetShardIterator.html
	iteratorStands = 4 * time.Minute
)

// places remembers how far the shards were looked at since the evaluator last told, so that
// hours without a record are not crossed anew each minute.
type places struct {
	mu   sync.Mutex
	told time.Time
	by   map[string]place
}

// place is before the first record of a shard that was not seen.
type place struct {
	iterator string
	since    time.Time
}

// waits reports whether the stream may hold telemetry that arrived from a time on, which is
// later than all the evaluator told of, until another. It looks at one shard after the
// other and stops at the first that does.
func (h *Handler) waits(ctx context.Context, p state.Progress, from, until, at time.Time) (bool, error) {
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	if h.places.by == nil || !h.places.told.Equal(p.At) {
		h.places.told, h.places.by = p.At, map[string]place{}
	}
	shards, all, err := h.shards(ctx, from)
	if err != nil {
		return false, err
	}
	maps.DeleteFunc(h.places.by, func(shard string, here place) bool {
		return at.Sub(here.since) > iteratorStands || !slices.Contains(shards, shard)
	})
	for _, shard := range shards {
		here, waits, err := h.look(ctx, shard, from, until, at)
		if err != nil {
			delete(h.places.by, shard)
			return false, fmt.Errorf("shard %s of the stream: %w", shard, err)
		}
		h.places.by[shard] = here
		if waits {
			return true, nil
		}
	}
	if !all {
		h.Log.Info("no telemetry waits in the shards that were read, which are not all shards", "shards", len(shards))
	}
	return false, nil
}

// shards are those that took records from a time on, and whether these are all.
func (h *Handler) shards(ctx context.Context, from time.Time) (ids []string, all bool, err error) {
	in := &kinesis.ListShardsInput{
		StreamName: &h.TelemetryStream, MaxResults: aws.Int32(maxShards),
		ShardFilter: &types.ShardFilter{Type: types.ShardFilterTypeFromTimestamp, Timestamp: &from},
	}
	for {
		out, err := h.Kinesis.ListShards(ctx, in)
		if err != nil {
			return nil, false, fmt.Errorf("ListShards of the stream: %w", err)
		}
		for _, s := range out.Shards {
			if len(ids) == maxShards {
				return ids, false, nil
			}
			ids = append(ids, aws.ToString(s.ShardId))
		}
		if out.NextToken == nil {
			return ids, true, nil
		}
		if len(ids) == maxShards {
			return ids, false, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken} // which names the stream
	}
}

// look reads a shard from where it was left, up to its first record. Where Amazon Kinesis
// answers that there may be more than it looked through, nobody knows yet: that may be a
// record as well.
func (h *Handler) look(ctx context.Context, shard string, from, until, at time.Time) (here place, waits bool, err error) {
	here, ok := h.places.by[shard]
	if !ok {
		out, err := h.Kinesis.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
			StreamName: &h.TelemetryStream, ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeAtTimestamp, Timestamp: &from,
		})
		if err != nil {
			return here, false, fmt.Errorf("GetShardIterator: %w", err)
		}
		here = place{aws.ToString(out.ShardIterator), at}
	}
	for range maxReads {
		out, err := h.Kinesis.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: &here.iterator, Limit: aws.Int32(1)})
		if err != nil {
			return here, false, fmt.Errorf("GetRecords: %w", err)
		}
		if len(out.Records) > 0 {
			// What came just now may wait for its batch to fill.
			return here, !aws.ToTime(out.Records[0].ApproximateArrivalTimestamp).After(until), nil
		}
		if out.NextShardIterator == nil { // a shard that was closed, at its end
			return here, false, nil
		}
		here = place{*out.NextShardIterator, at}
		if aws.ToInt64(out.MillisBehindLatest) == 0 {
			return here, false, nil
		}
	}
	return here, true, nil
}
