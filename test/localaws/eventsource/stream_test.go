package eventsource_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/defenderhub/defenderhub/test/localaws/eventsource"
)

const streamARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/telemetry"

// stream is a Kinesis stream. Sequence numbers begin at 1 in each shard.
type stream struct {
	mu     sync.Mutex
	shards map[string][]types.Record
	fail   error
	reads  int
	hurry  atomic.Bool
}

func newStream(shards ...string) *stream {
	s := &stream{shards: map[string][]types.Record{}}
	for _, id := range shards {
		s.shards[id] = nil
	}
	return s
}

func (s *stream) put(shard string, bodies ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range bodies {
		s.shards[shard] = append(s.shards[shard], types.Record{
			SequenceNumber: aws.String(strconv.Itoa(len(s.shards[shard]) + 1)), PartitionKey: aws.String("key"), Data: []byte(b),
			ApproximateArrivalTimestamp: aws.Time(time.Now()),
		})
	}
}

func (s *stream) ListShards(_ context.Context, in *kinesis.ListShardsInput, _ ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := slices.Sorted(func(yield func(string) bool) {
		for id := range s.shards {
			if !yield(id) {
				return
			}
		}
	})
	// One shard per page.
	at := 0
	if in.NextToken != nil {
		at, _ = strconv.Atoi(*in.NextToken)
	}
	out := &kinesis.ListShardsOutput{Shards: []types.Shard{{ShardId: &ids[at]}}}
	if at+1 < len(ids) {
		out.NextToken = aws.String(strconv.Itoa(at + 1))
	}
	return out, s.fail
}

func (s *stream) GetShardIterator(_ context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := 0
	if in.ShardIteratorType == types.ShardIteratorTypeLatest {
		at = len(s.shards[*in.ShardId])
	}
	return &kinesis.GetShardIteratorOutput{ShardIterator: aws.String(*in.ShardId + ":" + strconv.Itoa(at))}, s.fail
}

func (s *stream) GetRecords(_ context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	id, text, _ := strings.Cut(*in.ShardIterator, ":")
	at, err := strconv.Atoi(text)
	if err != nil || s.fail != nil {
		return nil, errors.Join(err, s.fail)
	}
	records := s.shards[id][at:]
	return &kinesis.GetRecordsOutput{Records: slices.Clone(records), NextShardIterator: aws.String(id + ":" + strconv.Itoa(at+len(records)))}, nil
}

// streamRun records what happened while a mapping was served.
type streamRun struct {
	mu        sync.Mutex
	start     time.Time
	batches   []string // the bodies of each invocation
	at        []time.Duration
	events    []events.KinesisEvent
	reports   []eventsource.Batch
	discarded []string
	behind    int
}

// runStream serves a mapping for a while of synthetic time. answer is the function's handler. The
// test must run in a bubble.
func runStream(t *testing.T, s *stream, change func(*eventsource.Mapping), answer func(bodies []string) (string, error), during func(*eventsource.Sources)) *streamRun {
	t.Helper()
	m := eventsource.Mapping{UUID: "mapping", SourceARN: streamARN, Function: "evaluator", BatchSize: 100, Retries: -1, PartialFailures: true}
	if change != nil {
		change(&m)
	}
	r := &streamRun{start: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	streams := &eventsource.Sources{
		Stream: s, Hurry: s.hurry.Load, May: func(context.Context, string, string) error { return nil }, At: func(machine time.Time) time.Time { return machine.Add(time.Hour) },
		Invoke: func(_ context.Context, function string, payload []byte) ([]byte, error, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			var e events.KinesisEvent
			if err := json.Unmarshal(payload, &e); err != nil || function != "evaluator" {
				t.Errorf("invoked %s with a bad event: %v", function, err)
			}
			var bodies []string
			for _, record := range e.Records {
				bodies = append(bodies, string(record.Kinesis.Data))
			}
			r.batches, r.at, r.events = append(r.batches, strings.Join(bodies, " ")), append(r.at, time.Since(r.start)), append(r.events, e)
			if answer == nil {
				return nil, nil, nil
			}
			text, err := answer(bodies)
			var unreached *unreached
			if errors.As(err, &unreached) {
				return nil, nil, err
			}
			return []byte(text), err, nil
		},
		Report: func(b eventsource.Batch) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.reports = append(r.reports, b)
		},
		Discard: func(_ context.Context, _, queue string, message []byte) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.discarded = append(r.discarded, queue+" "+string(message))
			return nil
		},
	}
	streams.Set(ctx, []eventsource.Mapping{m})
	during(streams)
	synctest.Wait()
	var err error
	if r.behind, err = streams.Behind(ctx); err != nil && s.fail == nil {
		t.Error(err)
	}
	cancel()
	streams.Wait()
	return r
}

// unreached is an error of an invocation that did not reach the function.
type unreached struct{ error }

// failing answers that the records with these bodies failed. Bodies are "b" and the
// sequence number.
func failing(failed ...string) func([]string) (string, error) {
	return func(bodies []string) (string, error) {
		items := []string{}
		for _, b := range bodies {
			if slices.Contains(failed, b) {
				items = append(items, fmt.Sprintf(`{"itemIdentifier":%q}`, strings.TrimPrefix(b, "b")))
			}
		}
		return `{"batchItemFailures":[` + strings.Join(items, ",") + `]}`, nil
	}
}

func TestRecordsReachTheFunctionInOrderOfTheirShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("shardId-0", "shardId-1")
		s.put("shardId-0", "old")
		r := runStream(t, s, nil, nil, func(*eventsource.Sources) {
			time.Sleep(3500 * time.Millisecond)
			s.put("shardId-1", "b1", "b2")
			time.Sleep(time.Second)
		})
		if want := []string{"old", "b1 b2"}; !slices.Equal(r.batches, want) || r.at[1] != 4*time.Second || r.behind != 0 {
			t.Errorf("batches %q at %v with %d behind, want %q with the poll after 3.5 s", r.batches, r.at, r.behind, want)
		}
		record := r.events[1].Records[1]
		arrived := r.start.Add(3500*time.Millisecond + time.Hour)
		if record.EventID != "shardId-1:2" || record.EventSource != "aws:kinesis" || record.EventSourceArn != streamARN || record.AwsRegion != "eu-west-1" ||
			record.EventName != "aws:kinesis:record" || record.Kinesis.SequenceNumber != "2" || record.Kinesis.PartitionKey != "key" ||
			record.Kinesis.ApproximateArrivalTimestamp.UnixMilli() != arrived.UnixMilli() {
			t.Errorf("record %+v, want one that arrived at %v", record, arrived)
		}
	})
}

func TestLatestSkipsExistingRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("shardId-0")
		s.put("shardId-0", "b1")
		r := runStream(t, s, func(m *eventsource.Mapping) { m.Latest = true }, nil, func(*eventsource.Sources) {
			s.put("shardId-0", "b2") // immediately: no record after Set may be missed
			time.Sleep(2 * time.Second)
		})
		if !slices.Equal(r.batches, []string{"b2"}) {
			t.Errorf("batches %q, want only the later record b2", r.batches)
		}
	})
}

func TestStreamBatchesBySizeWindowAndPayload(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*eventsource.Mapping)
		body   string
		want   int
	}{
		"size":           {func(m *eventsource.Mapping) { m.BatchSize = 3 }, "b", 4},
		"one batch":      {nil, "b", 1},
		"full in window": {func(m *eventsource.Mapping) { m.BatchSize, m.Window = 5, time.Minute }, "b", 2},
		"payload limit":  {nil, strings.Repeat("x", 1<<20), 3}, // 1.33 MiB each in base64
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStream("shardId-0")
				s.put("shardId-0", slices.Repeat([]string{tt.body}, 10)...)
				r := runStream(t, s, tt.change, nil, func(*eventsource.Sources) { time.Sleep(10 * time.Second) })
				if len(r.batches) != tt.want || r.behind != 0 {
					t.Errorf("%d batches with %d behind, want %d with none", len(r.batches), r.behind, tt.want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := newStream("shardId-0")
		s.put("shardId-0", "b1")
		r := runStream(t, s, func(m *eventsource.Mapping) { m.Window = 5 * time.Second }, nil, func(*eventsource.Sources) {
			time.Sleep(3 * time.Second)
			s.put("shardId-0", "b2")
			time.Sleep(3 * time.Second)
		})
		if !slices.Equal(r.batches, []string{"b1 b2"}) || r.at[0] != 5*time.Second {
			t.Errorf("batches %q at %v, want one of both after 5 s", r.batches, r.at)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newStream("shardId-0")
		r := runStream(t, s, func(m *eventsource.Mapping) { m.Window = 5 * time.Minute }, nil, func(*eventsource.Sources) {
			s.hurry.Store(true)
			s.put("shardId-0", "b1", "b2")
			time.Sleep(2 * time.Second)
		})
		if !slices.Equal(r.batches, []string{"b1 b2"}) {
			t.Errorf("batches %q, want one of both, without waiting for the window", r.batches)
		}
	})
}

func TestFailedRecordsOfAStream(t *testing.T) {
	whole := func([]string) (string, error) { return "", errors.New("boom") }
	poisoned := func(bodies []string) (string, error) {
		if slices.Contains(bodies, "b3") {
			return "", errors.New("boom")
		}
		return "", nil
	}
	for name, tt := range map[string]struct {
		change    func(*eventsource.Mapping)
		answer    func([]string) (string, error)
		want      []string
		discarded int
	}{
		"retries from the lowest failed record on": {
			answer: func() func([]string) (string, error) {
				calls := 0
				return func(bodies []string) (string, error) {
					if calls++; calls == 1 {
						return failing("b4", "b2")(bodies)
					}
					return "", nil
				}
			}(),
			want: []string{"b1 b2 b3 b4", "b2 b3 b4"},
		},
		"retries a whole batch until the retries are used up": {
			change: func(m *eventsource.Mapping) { m.Retries = 2 }, answer: whole,
			want: []string{"b1 b2 b3 b4", "b1 b2 b3 b4", "b1 b2 b3 b4"}, discarded: 4,
		},
		"discards without a retry": {
			change: func(m *eventsource.Mapping) { m.Retries = 0 }, answer: failing("b3"),
			want: []string{"b1 b2 b3 b4"}, discarded: 2,
		},
		"bisects without using up retries": {
			change: func(m *eventsource.Mapping) { m.Retries, m.Bisect = 1, true }, answer: poisoned,
			want: []string{"b1 b2 b3 b4", "b1 b2", "b3 b4", "b3", "b3", "b4"}, discarded: 1,
		},
		"bisects at the record that failed": {
			change: func(m *eventsource.Mapping) { m.Retries, m.Bisect = 0, true }, answer: failing("b2"),
			want: []string{"b1 b2 b3 b4", "b2 b3 b4", "b2", "b3 b4"}, discarded: 1,
		},
		"ignores reported failures unless they are enabled": {
			change: func(m *eventsource.Mapping) { m.PartialFailures = false }, answer: failing("b1"), want: []string{"b1 b2 b3 b4"},
		},
		"fails the whole batch for a record that is not in it": {
			change: func(m *eventsource.Mapping) { m.Retries = 0 }, want: []string{"b1 b2 b3 b4"}, discarded: 4,
			answer: func([]string) (string, error) { return `{"batchItemFailures":[{"itemIdentifier":"9"}]}`, nil },
		},
		"retries without a limit when the function is not reached": {
			change: func(m *eventsource.Mapping) { m.Retries = 0 }, want: []string{"b1 b2 b3 b4", "b1 b2 b3 b4", "b1 b2 b3 b4"},
			answer: func() func([]string) (string, error) {
				calls := 0
				return func([]string) (string, error) {
					if calls++; calls < 3 {
						return "", &unreached{errors.New("throttled")}
					}
					return "", nil
				}
			}(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStream("shardId-0")
				s.put("shardId-0", "b1", "b2", "b3", "b4")
				r := runStream(t, s, tt.change, tt.answer, func(*eventsource.Sources) { time.Sleep(20 * time.Second) })
				if !slices.Equal(r.batches, tt.want) {
					t.Errorf("batches %q, want %q", r.batches, tt.want)
				}
				discarded := 0
				for _, b := range r.reports {
					discarded += b.Discarded
				}
				if discarded != tt.discarded || r.behind != 0 {
					t.Errorf("%d discarded and %d behind, want %d and none", discarded, r.behind, tt.discarded)
				}
			})
		})
	}
}

func TestDiscardedRecordsAreReported(t *testing.T) {
	const queue = "arn:aws:sqs:eu-west-1:123456789012:lost"
	synctest.Test(t, func(t *testing.T) {
		s := newStream("shardId-0")
		s.put("shardId-0", "b1", "b2", "b3")
		r := runStream(t, s, func(m *eventsource.Mapping) { m.Retries, m.OnFailure = 1, queue }, failing("b2"), func(*eventsource.Sources) { time.Sleep(10 * time.Second) })
		if len(r.discarded) != 1 {
			t.Fatalf("got %q, want one message", r.discarded)
		}
		to, text, _ := strings.Cut(r.discarded[0], " ")
		var message struct {
			RequestContext struct {
				FunctionArn, Condition string
				ApproximateInvokeCount int
			}
			Info struct {
				ShardID, StartSequenceNumber, EndSequenceNumber, StreamArn, ApproximateArrivalOfFirstRecord string
				BatchSize                                                                                   int
			} `json:"KinesisBatchInfo"`
		}
		if err := json.Unmarshal([]byte(text), &message); err != nil {
			t.Fatal(err)
		}
		context, info := message.RequestContext, message.Info
		if to != queue || context.FunctionArn != "arn:aws:lambda:eu-west-1:123456789012:function:evaluator" || context.Condition != "RetryAttemptsExhausted" || context.ApproximateInvokeCount != 2 ||
			info.ShardID != "shardId-0" || info.StartSequenceNumber != "2" || info.EndSequenceNumber != "3" || info.BatchSize != 2 || info.StreamArn != streamARN ||
			info.ApproximateArrivalOfFirstRecord != r.start.Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000Z") {
			t.Errorf("got %s, want a message about the records 2 and 3", r.discarded[0])
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := newStream("shardId-0")
		s.put("shardId-0", "b1")
		r := runStream(t, s, func(m *eventsource.Mapping) { m.MaximumAge, m.OnFailure = time.Minute, queue }, func([]string) (string, error) { return "", errors.New("boom") }, func(*eventsource.Sources) {
			time.Sleep(30 * time.Second)
			s.put("shardId-0", "b2")
			time.Sleep(45 * time.Second)
		})
		if len(r.discarded) != 1 || !strings.Contains(r.discarded[0], `"condition":"RecordAgeExceeded"`) || r.batches[len(r.batches)-1] != "b2" || r.behind != 1 {
			t.Errorf("got %q, last invoked with %q, %d behind; want the first record too old after a minute", r.discarded, r.batches[len(r.batches)-1], r.behind)
		}
	})
}

func TestStreamPollerSurvivesAStreamThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("shardId-0")
		s.fail = errors.New("connection refused")
		r := runStream(t, s, nil, nil, func(*eventsource.Sources) {
			time.Sleep(2500 * time.Millisecond)
			s.mu.Lock()
			s.fail = nil
			s.mu.Unlock()
			s.put("shardId-0", "b1")
			time.Sleep(2 * time.Second)
		})
		if !slices.Equal(r.batches, []string{"b1"}) || len(r.reports) < 3 || r.reports[0].Err == nil {
			t.Errorf("batches %q, reports %v, want b1 after at least two errors", r.batches, r.reports)
		}
	})
}

func TestBehindCountsUnfinishedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("shardId-0")
		r := runStream(t, s, func(m *eventsource.Mapping) { m.BatchSize = 1 }, func(bodies []string) (string, error) {
			if bodies[0] == "b2" {
				return "", errors.New("boom")
			}
			return "", nil
		}, func(streams *eventsource.Sources) {
			synctest.Wait() // the first poll has found nothing
			s.put("shardId-0", "b1", "b2", "b3")
			if n, err := streams.Behind(t.Context()); n != 3 || err != nil {
				t.Errorf("%d behind before the next poll, error %v; want 3", n, err)
			}
			time.Sleep(5 * time.Second)
		})
		if r.behind != 2 {
			t.Errorf("%d behind, want the failing record and the one after it", r.behind)
		}
	})
}

func TestRemovedMappingIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream("shardId-0")
		r := runStream(t, s, nil, nil, func(streams *eventsource.Sources) {
			streams.Set(t.Context(), nil)
			synctest.Wait()
			s.put("shardId-0", "b1")
			time.Sleep(10 * time.Second)
		})
		if len(r.batches) != 0 || r.behind != 0 {
			t.Errorf("batches %q, %d behind, want none", r.batches, r.behind)
		}
	})
}
