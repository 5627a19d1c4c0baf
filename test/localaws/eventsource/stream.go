package eventsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/defenderhub/defenderhub/test/localaws/edge"
)

// pollEvery is the base rate at which Lambda polls a shard.
// https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
const pollEvery = time.Second

// Stream is what is needed of Kinesis. *kinesis.Client is one.
type Stream interface {
	ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
	GetShardIterator(context.Context, *kinesis.GetShardIteratorInput, ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error)
	GetRecords(context.Context, *kinesis.GetRecordsInput, ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error)
}

// Streams runs a poller for each shard of each mapping of a stream that exists. The
// shards are those that a stream has when the mapping is made.
type Streams struct {
	Stream Stream
	Invoke Invoke
	// May is asked before each request: an error where the function's role does not let
	// Lambda read the stream. Nil: all may be read.
	May May
	// Discard tells the queue with the ARN of records that were discarded for a function.
	Discard func(ctx context.Context, function, queueARN string, message []byte) error
	Report  func(StreamBatch)
	// At converts the times that Kinesis tells to those that functions see; nil: they are
	// the same.
	At func(time.Time) time.Time
	// Hurry reports whether somebody waits for the streams to be read; nil: nobody does.
	Hurry Hurry

	serving serving[StreamMapping]
	mu      sync.Mutex
	shards  map[StreamMapping][]*shard
}

// Set starts and stops pollers so that exactly the given mappings are served. A mapping
// from the latest record on gets every record that comes after Set.
func (s *Streams) Set(ctx context.Context, mappings []StreamMapping) {
	s.serving.set(ctx, mappings, func(ctx context.Context, m StreamMapping) func(context.Context) {
		shards, err := s.open(ctx, m)
		return func(ctx context.Context) {
			for err != nil && ctx.Err() == nil {
				s.Report(StreamBatch{Mapping: m, Err: err})
				pause(ctx, backoff)
				shards, err = s.open(ctx, m)
			}
			var all sync.WaitGroup
			for _, shard := range shards {
				all.Go(func() { shard.run(ctx) })
			}
			all.Wait()
		}
	})
}

// Mappings are those that are served.
func (s *Streams) Mappings() []StreamMapping { return s.serving.mappings() }

// Wait returns when every poller has ended.
func (s *Streams) Wait() { s.serving.wait.Wait() }

// Behind counts the records that wait for functions; a shard reports at most 10,000.
func (s *Streams) Behind(ctx context.Context) (int, error) {
	total := 0
	for _, m := range s.Mappings() {
		s.mu.Lock()
		shards := s.shards[m]
		s.mu.Unlock()
		for _, shard := range shards {
			n, err := shard.behind(ctx)
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}

// open finds where to begin in each shard.
func (s *Streams) open(ctx context.Context, m StreamMapping) ([]*shard, error) {
	var shards []*shard
	in := &kinesis.ListShardsInput{StreamARN: &m.StreamARN}
	for {
		page, err := s.Stream.ListShards(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("list the shards of %s: %w", m.StreamARN, err)
		}
		for _, listed := range page.Shards {
			from := types.ShardIteratorTypeTrimHorizon
			if m.Latest {
				from = types.ShardIteratorTypeLatest
			}
			_, name, _ := strings.Cut(m.StreamARN, "/")
			out, err := s.Stream.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
				StreamARN: &m.StreamARN, StreamName: &name, ShardId: listed.ShardId, ShardIteratorType: from,
			})
			if err != nil {
				return nil, fmt.Errorf("begin in shard %s of %s: %w", aws.ToString(listed.ShardId), m.StreamARN, err)
			}
			shards = append(shards, &shard{streams: s, mapping: m, id: aws.ToString(listed.ShardId), iterator: out.ShardIterator})
		}
		if page.NextToken == nil {
			break
		}
		in = &kinesis.ListShardsInput{NextToken: page.NextToken}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shards == nil {
		s.shards = map[StreamMapping][]*shard{}
	}
	s.shards[m] = shards
	return shards, nil
}

func (s *Streams) at(t time.Time) time.Time {
	if s.At == nil {
		return t
	}
	return s.At(t)
}

// pause waits, or returns when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// shard serves one shard of one mapping.
type shard struct {
	streams *Streams
	mapping StreamMapping
	id      string

	mu       sync.Mutex
	iterator *string // behind what was read
	waiting  int     // read and not settled
	carried  []streamRecord
}

func (s *shard) run(ctx context.Context) {
	for ctx.Err() == nil {
		batch, err := s.gather(ctx)
		if err != nil && ctx.Err() == nil {
			s.streams.Report(StreamBatch{Mapping: s.mapping, Shard: s.id, Err: err})
			pause(ctx, backoff)
		}
		s.settle(ctx, batch)
	}
}

// gather waits for a record and collects those that follow it in the window.
func (s *shard) gather(ctx context.Context) ([]streamRecord, error) {
	var batch []streamRecord
	var end time.Time
	for {
		var full bool
		batch, s.carried, full = take(batch, s.carried, s.mapping.BatchSize)
		if len(batch) > 0 && end.IsZero() {
			end = s.streams.at(time.Now()).Add(s.mapping.Window)
		}
		if full || len(batch) > 0 && !s.streams.at(time.Now()).Before(end) {
			return batch, nil
		}
		read, err := s.read(ctx)
		if err != nil {
			return batch, err
		}
		if s.carried = append(s.carried, read...); len(read) == 0 {
			if len(batch) > 0 && s.streams.Hurry.now() {
				return batch, nil
			}
			wait := pollEvery
			if len(batch) > 0 {
				wait = min(wait, end.Sub(s.streams.at(time.Now())))
			}
			if pause(ctx, wait); ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
}

// read reads on in the shard.
func (s *shard) read(ctx context.Context) ([]streamRecord, error) {
	if err := s.streams.May.read(ctx, s.mapping.Function, s.mapping.StreamARN); err != nil {
		return nil, err
	}
	out, err := s.peek(ctx, s.iterator)
	if err != nil {
		return nil, err
	}
	records := make([]streamRecord, 0, len(out.Records))
	for _, r := range out.Records {
		made, err := newStreamRecord(s.mapping.StreamARN, s.id, r, s.streams.at(aws.ToTime(r.ApproximateArrivalTimestamp)))
		if err != nil {
			return nil, err
		}
		records = append(records, made)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting += len(records)
	if out.NextShardIterator != nil {
		s.iterator = out.NextShardIterator
	}
	return records, nil
}

func (s *shard) peek(ctx context.Context, iterator *string) (*kinesis.GetRecordsOutput, error) {
	out, err := s.streams.Stream.GetRecords(ctx, &kinesis.GetRecordsInput{StreamARN: &s.mapping.StreamARN, ShardIterator: iterator})
	if err != nil {
		return nil, fmt.Errorf("read shard %s of %s: %w", s.id, s.mapping.StreamARN, err)
	}
	return out, nil
}

// behind counts what the function has not settled. A record that is being read counts
// by the iterator, which moves on together with waiting.
func (s *shard) behind(ctx context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, err := s.peek(ctx, s.iterator)
	if err != nil {
		return 0, err
	}
	return s.waiting + len(out.Records), nil
}

func (s *shard) settled(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting -= n
}

// part is a part of a batch that is invoked on its own, as often as it has to.
type part struct {
	records     []streamRecord
	retries     int // used up
	invocations int
}

// settle invokes the function until every record of the batch is handled or discarded,
// in their order. What AWS does not document: retries follow after one second, and
// repeating from the first failed record on uses up a retry like repeating a whole batch.
// https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html
// https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
func (s *shard) settle(ctx context.Context, batch []streamRecord) {
	parts := []part{{records: batch}}
	for len(parts) > 0 && ctx.Err() == nil {
		p := &parts[0]
		if n := s.expired(p.records); n > 0 {
			s.discard(ctx, *p, n, "RecordAgeExceeded")
			p.records = p.records[n:]
		}
		if len(p.records) == 0 {
			parts = parts[1:]
			continue
		}
		answer, functionError, err := s.streams.Invoke(ctx, s.mapping.Function, event(p.records))
		if ctx.Err() != nil {
			return
		}
		p.invocations++
		good, failure := s.handled(p.records, answer, errors.Join(err, functionError))
		report := StreamBatch{Mapping: s.mapping, Shard: s.id, Records: len(p.records), Failed: len(p.records) - good, Err: failure}
		s.settled(good)
		size := len(p.records)
		p.records = p.records[good:]
		switch {
		case len(p.records) == 0:
			parts = parts[1:]
		case err != nil: // the function was not reached, which no setting limits
			s.wait(ctx, report)
			continue
		case s.mapping.Bisect && size > 1:
			if good == 0 {
				half := len(p.records) / 2
				second := part{p.records[half:], p.retries, p.invocations}
				p.records = p.records[:half]
				parts = slices.Insert(parts, 1, second)
			}
			s.wait(ctx, report)
			continue
		case s.mapping.Retries >= 0 && p.retries == s.mapping.Retries:
			report.Discarded = len(p.records)
			s.discard(ctx, *p, len(p.records), "RetryAttemptsExhausted")
			parts = parts[1:]
		default:
			p.retries++
			s.wait(ctx, report)
			continue
		}
		s.streams.Report(report)
	}
}

func (s *shard) wait(ctx context.Context, report StreamBatch) {
	s.streams.Report(report)
	pause(ctx, backoff)
}

// handled counts the records before the first failed one.
func (s *shard) handled(records []streamRecord, answer []byte, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	if !s.mapping.PartialFailures {
		return len(records), nil
	}
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.sequence
	}
	failed, err := failures(answer, ids)
	if err != nil {
		return 0, err
	}
	first := len(records)
	for _, id := range failed {
		first = min(first, slices.Index(ids, id))
	}
	return first, nil
}

// expired counts the records at the beginning that are too old.
func (s *shard) expired(records []streamRecord) int {
	if s.mapping.MaximumAge == 0 {
		return 0
	}
	oldest := s.streams.at(time.Now()).Add(-s.mapping.MaximumAge)
	for i, r := range records {
		if !r.arrived.Before(oldest) {
			return i
		}
	}
	return len(records)
}

// discard gives up the first n records and tells the destination.
func (s *shard) discard(ctx context.Context, p part, n int, condition string) {
	defer s.settled(n)
	if s.mapping.OnFailure == "" {
		return
	}
	message, err := json.Marshal(discarded(s.mapping, s.id, p, n, condition, s.streams.at(time.Now())))
	if err == nil {
		err = s.streams.Discard(ctx, s.mapping.Function, s.mapping.OnFailure, message)
	}
	if err != nil {
		s.streams.Report(StreamBatch{Mapping: s.mapping, Shard: s.id, Discarded: n, Err: fmt.Errorf("tell %s of discarded records: %w", s.mapping.OnFailure, err)})
	}
}

// StreamAPI refuses operations that change a stream's shards, which pollers would not
// follow, and leaves all else of Kinesis to next, the emulator.
func StreamAPI(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		switch operation {
		case "SplitShard", "MergeShards", "UpdateShardCount", "UpdateStreamMode":
			edge.Refuse(w, r, "a stream keeps the shards that it was made with")
		default:
			next.ServeHTTP(w, r)
		}
	})
}
