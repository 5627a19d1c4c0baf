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

// Stream has the operations of Kinesis that a poller needs. *kinesis.Client implements it.
type Stream interface {
	ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
	GetShardIterator(context.Context, *kinesis.GetShardIteratorInput, ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error)
	GetRecords(context.Context, *kinesis.GetRecordsInput, ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error)
}

// serve opens the shards of a stream, and returns the function that polls them.
func (s *Sources) serve(ctx context.Context, m Mapping) func(context.Context) {
	shards, err := s.open(ctx, m)
	s.shards[m] = shards
	return func(ctx context.Context) {
		for err != nil && ctx.Err() == nil {
			s.Report(Batch{Mapping: m, Err: err})
			pause(ctx, backoff)
			shards, err = s.open(ctx, m)
			s.mu.Lock()
			s.shards[m] = shards
			s.mu.Unlock()
		}
		var all sync.WaitGroup
		for _, shard := range shards {
			all.Go(func() { shard.run(ctx) })
		}
		all.Wait()
	}
}

// Behind returns the number of records that wait for functions, at most 10,000 per shard.
func (s *Sources) Behind(ctx context.Context) (int, error) {
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

// open returns the shards of a stream, each with its first iterator.
func (s *Sources) open(ctx context.Context, m Mapping) ([]*shard, error) {
	var shards []*shard
	in := &kinesis.ListShardsInput{StreamARN: &m.SourceARN}
	for {
		page, err := s.Stream.ListShards(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("list the shards of %s: %w", m.SourceARN, err)
		}
		for _, listed := range page.Shards {
			from := types.ShardIteratorTypeTrimHorizon
			if m.Latest {
				from = types.ShardIteratorTypeLatest
			}
			_, name, _ := strings.Cut(m.SourceARN, "/")
			out, err := s.Stream.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
				StreamARN: &m.SourceARN, StreamName: &name, ShardId: listed.ShardId, ShardIteratorType: from,
			})
			if err != nil {
				return nil, fmt.Errorf("begin in shard %s of %s: %w", aws.ToString(listed.ShardId), m.SourceARN, err)
			}
			shards = append(shards, &shard{Sources: s, mapping: m, id: aws.ToString(listed.ShardId), iterator: out.ShardIterator})
		}
		if page.NextToken == nil {
			break
		}
		in = &kinesis.ListShardsInput{NextToken: page.NextToken}
	}
	return shards, nil
}

// shard serves one shard of one mapping.
type shard struct {
	*Sources
	mapping Mapping
	id      string

	lock     sync.Mutex
	iterator *string // after the last record that was read
	waiting  int     // records that were read and not settled
	carried  []entry
}

func (s *shard) run(ctx context.Context) {
	for ctx.Err() == nil {
		batch, err := s.gather(ctx, s.mapping, &s.carried, pollEvery, s.read)
		if err != nil && ctx.Err() == nil {
			s.Report(Batch{Mapping: s.mapping, Err: err})
			pause(ctx, backoff)
		}
		s.settle(ctx, batch)
	}
}

// read returns the next records of the shard. If there are none it waits.
func (s *shard) read(ctx context.Context, _ int, wait time.Duration) ([]entry, error) {
	if err := s.May(ctx, s.mapping.Function, s.mapping.SourceARN); err != nil {
		return nil, err
	}
	out, err := s.peek(ctx, s.iterator)
	if err != nil {
		return nil, err
	}
	records := make([]entry, 0, len(out.Records))
	for _, r := range out.Records {
		made, err := newStreamRecord(s.mapping.SourceARN, s.id, r, s.At(aws.ToTime(r.ApproximateArrivalTimestamp)))
		if err != nil {
			return nil, err
		}
		records = append(records, made)
	}
	s.lock.Lock()
	s.waiting += len(records)
	if out.NextShardIterator != nil {
		s.iterator = out.NextShardIterator
	}
	s.lock.Unlock()
	if len(records) == 0 {
		pause(ctx, wait)
	}
	return records, nil
}

func (s *shard) peek(ctx context.Context, iterator *string) (*kinesis.GetRecordsOutput, error) {
	out, err := s.Stream.GetRecords(ctx, &kinesis.GetRecordsInput{StreamARN: &s.mapping.SourceARN, ShardIterator: iterator})
	if err != nil {
		return nil, fmt.Errorf("read shard %s of %s: %w", s.id, s.mapping.SourceARN, err)
	}
	return out, nil
}

// behind returns the number of records that are not settled. The lock changes iterator and waiting
// together, so that no record counts twice.
func (s *shard) behind(ctx context.Context) (int, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	out, err := s.peek(ctx, s.iterator)
	if err != nil {
		return 0, err
	}
	return s.waiting + len(out.Records), nil
}

func (s *shard) settled(n int) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.waiting -= n
}

// part is a part of a batch with which the function is invoked until it is settled.
type part struct {
	records     []entry
	retries     int // so far
	invocations int
}

// settle invokes the function until every record of the batch is handled or discarded, in order.
// Two details are not documented by AWS: a retry follows after one second, and a retry from the
// first failed record on counts like a retry of the whole batch.
// https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html
// https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
func (s *shard) settle(ctx context.Context, batch []entry) {
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
		answer, functionError, err := s.Invoke(ctx, s.mapping.Function, event(p.records))
		if ctx.Err() != nil {
			return
		}
		p.invocations++
		good, failure := s.handled(p.records, answer, errors.Join(err, functionError))
		report := Batch{Mapping: s.mapping, Err: failure}
		for _, r := range p.records[good:] {
			report.Failed = append(report.Failed, r.id)
		}
		s.settled(good)
		size := len(p.records)
		p.records = p.records[good:]
		switch {
		case len(p.records) == 0:
			parts = parts[1:]
		case err != nil: // the function was not invoked: no setting limits these retries
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
		s.Report(report)
	}
}

func (s *shard) wait(ctx context.Context, report Batch) {
	s.Report(report)
	pause(ctx, backoff)
}

// handled returns the number of records before the first failed one.
func (s *shard) handled(records []entry, answer []byte, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	if !s.mapping.PartialFailures {
		return len(records), nil
	}
	failed, err := failures(answer, records)
	if err != nil {
		return 0, err
	}
	first := slices.IndexFunc(records, func(e entry) bool { return slices.Contains(failed, e.id) })
	if first < 0 {
		first = len(records)
	}
	return first, nil
}

// expired returns the number of records at the beginning that are too old.
func (s *shard) expired(records []entry) int {
	if s.mapping.MaximumAge == 0 {
		return 0
	}
	oldest := s.now().Add(-s.mapping.MaximumAge)
	for i, r := range records {
		if !r.arrived.Before(oldest) {
			return i
		}
	}
	return len(records)
}

// discard drops the first n records, and reports them to the OnFailure destination.
func (s *shard) discard(ctx context.Context, p part, n int, condition string) {
	defer s.settled(n)
	if s.mapping.OnFailure == "" {
		return
	}
	message, err := json.Marshal(discarded(s.mapping, s.id, p, n, condition, s.now()))
	if err == nil {
		err = s.Discard(ctx, s.mapping.Function, s.mapping.OnFailure, message)
	}
	if err != nil {
		s.Report(Batch{Mapping: s.mapping, Discarded: n, Err: fmt.Errorf("report discarded records to %s: %w", s.mapping.OnFailure, err)})
	}
}

// StreamAPI refuses operations that change a stream's shards, because pollers would not follow
// them. It passes all other operations of Kinesis to next, the emulator.
func StreamAPI(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		switch operation {
		case "SplitShard", "MergeShards", "UpdateShardCount", "UpdateStreamMode":
			edge.Refuse(w, r, "the shards of a stream cannot change: create another stream")
		default:
			next.ServeHTTP(w, r)
		}
	})
}
