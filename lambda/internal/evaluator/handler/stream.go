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
	// maxShards limits the shards that one run reads. If telemetry of a larger stream waits, it
	// waits in most shards.
	maxShards = 100
	// maxReads limits the read requests per shard and run: all readers of a shard, including the
	// evaluator's event source, may make five per second.
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	maxReads = 3
	// iteratorAge is how long a shard iterator is reused. Amazon Kinesis keeps it for five
	// minutes.
	// https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetShardIterator.html
	iteratorAge = 4 * time.Minute
)

// positions stores how far the shards were read since the evaluator's last progress, so that
// hours without a record are not read again each minute.
type positions struct {
	mu    sync.Mutex
	since time.Time
	by    map[string]position
}

// position is where reading a shard continues: before its first unread record.
type position struct {
	iterator string
	since    time.Time
}

// waits reports whether the stream may hold unjudged telemetry that arrived between from and
// until. It reads one shard after the other and stops at the first that does.
func (h *Handler) waits(ctx context.Context, p state.Progress, from, until, at time.Time) (bool, error) {
	h.positions.mu.Lock()
	defer h.positions.mu.Unlock()
	if h.positions.by == nil || !h.positions.since.Equal(p.At) {
		h.positions.since, h.positions.by = p.At, map[string]position{}
	}
	shards, all, err := h.shards(ctx, from)
	if err != nil {
		return false, err
	}
	maps.DeleteFunc(h.positions.by, func(shard string, here position) bool {
		return at.Sub(here.since) > iteratorAge || !slices.Contains(shards, shard)
	})
	for _, shard := range shards {
		here, waits, err := h.look(ctx, shard, from, until, at)
		if err != nil {
			delete(h.positions.by, shard)
			return false, fmt.Errorf("shard %s of the stream: %w", shard, err)
		}
		h.positions.by[shard] = here
		if waits {
			return true, nil
		}
	}
	if !all {
		h.Log.Info("no telemetry waits in the shards that were read, which are not all shards", "shards", len(shards))
	}
	return false, nil
}

// shards returns the shards with records since a time, and whether these are all.
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
		in = &kinesis.ListShardsInput{NextToken: out.NextToken} // the token identifies the stream
	}
}

// look reads a shard from its last position, up to its first record. If it reaches its limit of
// reads, it assumes that a record waits.
func (h *Handler) look(ctx context.Context, shard string, from, until, at time.Time) (here position, waits bool, err error) {
	here, ok := h.positions.by[shard]
	if !ok {
		out, err := h.Kinesis.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
			StreamName: &h.TelemetryStream, ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeAtTimestamp, Timestamp: &from,
		})
		if err != nil {
			return here, false, fmt.Errorf("GetShardIterator: %w", err)
		}
		here = position{aws.ToString(out.ShardIterator), at}
	}
	for range maxReads {
		out, err := h.Kinesis.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: &here.iterator, Limit: aws.Int32(1)})
		if err != nil {
			return here, false, fmt.Errorf("GetRecords: %w", err)
		}
		if len(out.Records) > 0 {
			// A record that just arrived may be waiting for its batch to fill.
			return here, !aws.ToTime(out.Records[0].ApproximateArrivalTimestamp).After(until), nil
		}
		if out.NextShardIterator == nil { // a closed shard, at its end
			return here, false, nil
		}
		here = position{*out.NextShardIterator, at}
		if aws.ToInt64(out.MillisBehindLatest) == 0 {
			return here, false, nil
		}
	}
	return here, true, nil
}
