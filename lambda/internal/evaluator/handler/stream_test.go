package handler_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// shards is a Kinesis stream: the arrival times of its records, by shard. Its
// iterators contain a shard and a position.
type shards struct {
	arrived [][]time.Time
	page    int // the page size of ListShards; 0 means one page
	// empty is how many calls of GetRecords first return no record, although the shard may have more.
	// closed reports whether the shards are closed.
	empty  int
	closed bool
	fails  map[string]error // by operation
	// asked has the operations called, from the timestamp of the last iterator.
	asked []string
	from  time.Time
}

func (s *shards) call(operation string) error {
	s.asked = append(s.asked, operation)
	return s.fails[operation]
}

func (s *shards) count(operation string) int {
	n := 0
	for _, o := range s.asked {
		if o == operation {
			n++
		}
	}
	return n
}

func (s *shards) ListShards(_ context.Context, in *kinesis.ListShardsInput, _ ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	if err := s.call("ListShards"); err != nil {
		return nil, err
	}
	first, out := 0, &kinesis.ListShardsOutput{}
	if in.NextToken != nil {
		if in.StreamName != nil || in.ShardFilter != nil {
			return nil, errors.New("a token with other parameters")
		}
		fmt.Sscan(*in.NextToken, &first)
	} else if aws.ToString(in.StreamName) != "telemetry" || in.ShardFilter.Type != types.ShardFilterTypeFromTimestamp {
		return nil, fmt.Errorf("unexpected ListShards %+v", in)
	}
	last := len(s.arrived)
	if s.page > 0 && first+s.page < last {
		last = first + s.page
		out.NextToken = aws.String(fmt.Sprint(last))
	}
	for i := first; i < last; i++ {
		out.Shards = append(out.Shards, types.Shard{ShardId: aws.String(fmt.Sprint(i))})
	}
	return out, nil
}

func (s *shards) GetShardIterator(_ context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	if err := s.call("GetShardIterator"); err != nil {
		return nil, err
	}
	if *in.StreamName != "telemetry" || in.ShardIteratorType != types.ShardIteratorTypeAtTimestamp {
		return nil, fmt.Errorf("unexpected GetShardIterator %+v", in)
	}
	s.from = *in.Timestamp
	shard, position := 0, 0
	fmt.Sscan(*in.ShardId, &shard)
	for position < len(s.arrived[shard]) && s.arrived[shard][position].Before(*in.Timestamp) {
		position++
	}
	return &kinesis.GetShardIteratorOutput{ShardIterator: aws.String(fmt.Sprint(shard, position))}, nil
}

func (s *shards) GetRecords(_ context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	if err := s.call("GetRecords"); err != nil {
		return nil, err
	}
	if *in.Limit != 1 {
		return nil, fmt.Errorf("unexpected GetRecords %+v", in)
	}
	shard, position := 0, 0
	fmt.Sscan(*in.ShardIterator, &shard, &position)
	if s.empty > 0 {
		s.empty--
		return &kinesis.GetRecordsOutput{NextShardIterator: in.ShardIterator, MillisBehindLatest: aws.Int64(1)}, nil
	}
	out := &kinesis.GetRecordsOutput{NextShardIterator: in.ShardIterator, MillisBehindLatest: aws.Int64(0)}
	if position < len(s.arrived[shard]) {
		out.Records = []types.Record{{ApproximateArrivalTimestamp: &s.arrived[shard][position], Data: []byte("{}")}}
		out.NextShardIterator = aws.String(fmt.Sprint(shard, position+1))
	} else if s.closed {
		out.NextShardIterator, out.MillisBehindLatest = nil, aws.Int64(1)
	}
	return out, nil
}

// newStreamRig returns a rig whose evaluator last wrote progress at minute 0, when pump opened telnet.
func newStreamRig(t tester, s *shards) *rig {
	r := newRig(t, telnet())
	r.handler.TelemetryQueueURL, r.handler.TelemetryStream, r.handler.Kinesis = "", "telemetry", s
	r.now = at(0)
	r.deliver(report("1", "pump", at(0), ports(1, 23)))
	return r
}

// arrivals returns the arrival times of one shard.
func arrivals(minutes ...float64) []time.Time {
	all := []time.Time{}
	for _, m := range minutes {
		all = append(all, at(m))
	}
	return all
}

// Batching is a minute here: a record two minutes old may be waiting for its batch, and one that
// arrived up to a minute and a half after the last progress may have been judged.
func TestCloserChecksWhetherTelemetryWaitsInTheStream(t *testing.T) {
	for name, c := range map[string]struct {
		stream shards
		at     float64
		blind  bool
		reads  int
	}{
		"empty shards":                           {shards{arrived: [][]time.Time{{}, {}}}, 60, false, 2},
		"judged records are still in the stream": {shards{arrived: [][]time.Time{arrivals(-5, 0, 1.4)}}, 60, false, 1},
		"a record waits":                         {shards{arrived: [][]time.Time{arrivals(0, 2)}}, 60, true, 1},
		"two records, of which one is enough":    {shards{arrived: [][]time.Time{{}, arrivals(2), arrivals(2)}}, 60, true, 2},
		"a record waits for its batch":           {shards{arrived: [][]time.Time{arrivals(0, 58.5)}}, 60, false, 1},
		"shards on another page":                 {shards{arrived: [][]time.Time{{}, {}, arrivals(2)}, page: 1}, 60, true, 3},
		"empty pages before the record":          {shards{arrived: [][]time.Time{arrivals(2)}, empty: 2}, 60, true, 3},
		"empty pages before the end":             {shards{arrived: [][]time.Time{arrivals(0)}, empty: 2}, 60, false, 3},
		"too many empty pages":                   {shards{arrived: [][]time.Time{arrivals(0), {}}, empty: 3}, 60, true, 3},
		"a closed shard at its end":              {shards{arrived: [][]time.Time{arrivals(0)}, closed: true}, 60, false, 1},
		"records older than the retry period":    {shards{arrived: [][]time.Time{arrivals(2)}}, 7 * 60, false, 1},
		"more shards than are read":              {shards{arrived: append(make([][]time.Time, 100), arrivals(2))}, 60, false, 100},
		"recent progress":                        {shards{arrived: [][]time.Time{arrivals(2)}}, 3.4, false, 0},
	} {
		r := newStreamRig(t, &c.stream)
		r.close(at(c.at), 0)
		if got := r.counted(contract.MetricBlind) == 1; got != c.blind || c.stream.count("GetRecords") != c.reads || r.queue.asked > 0 {
			t.Errorf("%s: blind %v, %d reads, the queue asked %d times; want %v, %d and none", name, got, c.stream.count("GetRecords"), r.queue.asked, c.blind, c.reads)
		}
		if logged := strings.Contains(r.logs.String(), "which are not all"); logged != (len(c.stream.arrived) > 100) {
			t.Errorf("%s: log %s", name, r.logs.String())
		}
	}
}

func TestCloserWithoutProgressReadsTheWholeRetryPeriod(t *testing.T) {
	s := &shards{arrived: [][]time.Time{arrivals(-7 * 60)}}
	r := newRig(t, telnet())
	r.handler.TelemetryQueueURL, r.handler.TelemetryStream, r.handler.Kinesis = "", "telemetry", s
	r.close(at(0), 0)
	if want := at(0).Add(-contract.TelemetryRetry); !s.from.Equal(want) || r.counted(contract.MetricBlind) != 0 {
		t.Errorf("read from %v, want %v; blind %d times, want none", s.from, want, r.counted(contract.MetricBlind))
	}
	s.arrived[0] = arrivals(-7*60, -30)
	r.close(at(1), 0)
	if r.counted(contract.MetricBlind) != 1 {
		t.Error("a record that no evaluator has read does not make the closer blind")
	}
}

// The closer reads a quiet hour once. The next run continues at the last position, until the iterator
// expires or the evaluator writes progress.
func TestCloserResumesInTheShard(t *testing.T) {
	s := &shards{arrived: [][]time.Time{{}}, empty: 5}
	r := newStreamRig(t, s)
	for minute, want := range []string{
		"ListShards GetShardIterator GetRecords GetRecords GetRecords", "ListShards GetRecords GetRecords GetRecords", "ListShards GetRecords",
	} {
		s.asked = nil
		r.close(at(60+float64(minute)), 0)
		if got := strings.Join(s.asked, " "); got != want {
			t.Errorf("minute %d: calls %s, want %s", minute, got, want)
		}
	}
	if got := r.counted(contract.MetricBlind); got != 1 {
		t.Errorf("blind %d times, want once, before the end of the shard was reached", got)
	}
	s.arrived[0] = arrivals(62)
	r.close(at(63), 0) // the record may be waiting for its batch
	r.close(at(65), 0)
	if got := r.counted(contract.MetricBlind); got != 2 || s.count("GetShardIterator") != 0 {
		t.Errorf("blind %d times, want twice; calls %v, want no new iterator", got, s.asked)
	}
	r.close(at(68), 0)
	if s.count("GetShardIterator") != 1 {
		t.Error("an expired iterator was used")
	}
	r.now = at(65)
	r.deliver(report("2", "other", at(65), ports(1, 443)))
	s.arrived[0] = arrivals(62, 68)
	r.close(at(69), 0)
	if s.count("GetShardIterator") != 2 || !s.from.Equal(at(66.5)) || r.counted(contract.MetricBlind) != 3 {
		t.Errorf("read from %v, blind %d times; want from minute 66.5 and 3 times", s.from, r.counted(contract.MetricBlind))
	}
}

// If the stream cannot be read, for example because it is throttled, the run fails, as with a queue:
// it judges nothing, and the closer's errors show it.
func TestUnreadableStreamFailsTheRun(t *testing.T) {
	for _, operation := range []string{"ListShards", "GetShardIterator", "GetRecords"} {
		s := &shards{arrived: [][]time.Time{{}}, fails: map[string]error{operation: &types.ProvisionedThroughputExceededException{Message: aws.String("slow down")}}}
		r := newStreamRig(t, s)
		if err := r.tryClose(t.Context(), at(60), 0, 1); err == nil || !strings.Contains(err.Error(), operation) || !strings.Contains(err.Error(), "slow down") || r.changes() != "" {
			t.Errorf("%s: error %v, changes %q; want an error that names the call, and no change", operation, err, r.changes())
		}
		s.fails = nil
		r.close(at(61))
		if r.changes() != "pump ports in-alarm" {
			t.Errorf("%s: changes %q after the failure, want the alarm of pump", operation, r.changes())
		}
	}
}

// The lag in a heartbeat counts until the stream can be read.
func TestLagOfAStreamHoldsUntilItIsRead(t *testing.T) {
	s := &shards{arrived: [][]time.Time{{}}}
	r := newStreamRig(t, s)
	r.now = at(60)
	r.deliver(report("2", "other", at(-5), ports(1, 443)))
	r.close(at(65))
	if r.changes() != "" || len(s.asked) > 0 {
		t.Errorf("changes %q, calls %v; want none", r.changes(), s.asked)
	}
	r.close(at(66))
	if r.changes() != "pump ports in-alarm" || !s.from.Equal(at(63.5)) {
		t.Errorf("changes %q, read from %v; want the alarm of pump, and minute 63.5", r.changes(), s.from)
	}
}

// A lag that batching explains does not count, because it would block later heartbeats.
func TestHeartbeatsWithoutLagReplaceEachOther(t *testing.T) {
	r := newRig(t, telnet())
	for minute, lag := range []time.Duration{90 * time.Second, time.Second} {
		r.deploy(r.config) // another environment
		r.now = at(float64(minute))
		r.deliver(report(fmt.Sprint(minute), "pump", r.now.Add(-lag), ports(1, 443)))
		if p, err := r.handler.Store.Progress(t.Context()); err != nil || !p.At.Equal(r.now) || p.Lag != 0 {
			t.Errorf("minute %d: progress %+v, error %v; want no lag", minute, p, err)
		}
	}
}

// stream returns messages as records of a Kinesis stream.
func stream(messages ...events.SQSMessage) events.KinesisEvent {
	var e events.KinesisEvent
	for _, m := range messages {
		var ms int64
		fmt.Sscan(m.Attributes["SentTimestamp"], &ms)
		e.Records = append(e.Records, events.KinesisEventRecord{EventSource: "aws:kinesis", Kinesis: events.KinesisRecord{
			Data: []byte(m.Body), SequenceNumber: m.MessageId, ApproximateArrivalTimestamp: events.SecondsEpochTime{Time: time.UnixMilli(ms)},
		}})
	}
	return e
}

func TestStreamReportsTheLowestFailedSequenceNumber(t *testing.T) {
	r := newRig(t, telnet())
	event := stream(report("9", "a", at(0), ports(1, 23)), report("10", "b", at(0), ports(1, 23)), report("11", "b", at(1), ports(2, 23)), report("12", "a", at(1), ports(2, 443)))
	if got := r.handle(context.Background(), event).(events.KinesisEventResponse); len(got.BatchItemFailures) != 0 {
		t.Errorf("failures %+v, want none", got)
	}
	r.table.step = func(operation, key string, done bool) error {
		if operation == "PutItem" && key == "thing#c" {
			return fmt.Errorf("no capacity")
		}
		return nil
	}
	event = stream(report("98", "d", at(2), ports(1, 23)), report("100", "c", at(2), ports(1, 23)), report("99", "c", at(2), ports(1, 23)))
	got := r.handle(context.Background(), event).(events.KinesisEventResponse)
	if len(got.BatchItemFailures) != 1 || got.BatchItemFailures[0].ItemIdentifier != "99" {
		t.Errorf("failures %+v, want 99", got)
	}
	r.close(at(7))
	if got := r.changes(); got != "a ports in-alarm, b ports in-alarm, d ports in-alarm" {
		t.Errorf("changes %q, want alarms of a, b and d", got)
	}
}
