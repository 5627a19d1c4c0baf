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
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/test/localaws/eventsource"
)

const visibility = 30 * time.Second

// queue is an SQS queue with long polls, visibility timeouts and a dead-letter queue.
type queue struct {
	mu           sync.Mutex
	arrived      chan struct{} // closed and replaced when messages arrive
	messages     []*stored
	maxReceives  int
	dead         []string
	receiveCalls int
	fail         error
}

type stored struct {
	types.Message
	visible  time.Time
	receives int
}

func newQueue() *queue { return &queue{arrived: make(chan struct{}), maxReceives: 1000} }

func (q *queue) send(bodies ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range bodies {
		id := "m" + strconv.Itoa(len(q.messages)+1)
		q.messages = append(q.messages, &stored{Message: types.Message{MessageId: &id, Body: aws.String(b), ReceiptHandle: aws.String("handle-" + id)}})
	}
	close(q.arrived)
	q.arrived = make(chan struct{})
}

// left returns the IDs of the messages in the queue.
func (q *queue) left() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var ids []string
	for _, m := range q.messages {
		if m.Message.MessageId != nil {
			ids = append(ids, *m.MessageId)
		}
	}
	return ids
}

func (q *queue) ReceiveMessage(ctx context.Context, in *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	if in.MaxNumberOfMessages < 1 || in.MaxNumberOfMessages > 10 || in.WaitTimeSeconds < 0 || in.WaitTimeSeconds > 20 {
		return nil, fmt.Errorf("SQS refuses %d messages, %d seconds", in.MaxNumberOfMessages, in.WaitTimeSeconds)
	}
	timeout := time.After(time.Duration(in.WaitTimeSeconds) * time.Second)
	for {
		out, arrived, err := q.take(int(in.MaxNumberOfMessages))
		if err != nil || len(out.Messages) > 0 || in.WaitTimeSeconds == 0 {
			return out, err
		}
		select {
		case <-arrived:
		case <-time.After(time.Second): // something may have become visible
		case <-timeout:
			return &sqs.ReceiveMessageOutput{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (q *queue) take(most int) (*sqs.ReceiveMessageOutput, chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.receiveCalls++
	out := &sqs.ReceiveMessageOutput{}
	if q.fail != nil {
		return nil, nil, q.fail
	}
	for _, m := range q.messages {
		if m.MessageId == nil || time.Now().Before(m.visible) || len(out.Messages) == most {
			continue
		}
		if m.receives == q.maxReceives {
			q.dead = append(q.dead, *m.MessageId)
			m.MessageId = nil
			continue
		}
		m.receives++
		m.visible = time.Now().Add(visibility)
		received := m.Message
		now := strconv.FormatInt(time.Now().UnixMilli(), 10)
		received.Attributes = map[string]string{"ApproximateReceiveCount": strconv.Itoa(m.receives), "SentTimestamp": now, "ApproximateFirstReceiveTimestamp": now}
		out.Messages = append(out.Messages, received)
	}
	return out, q.arrived, nil
}

func (q *queue) DeleteMessageBatch(_ context.Context, in *sqs.DeleteMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(in.Entries) < 1 || len(in.Entries) > 10 {
		return nil, fmt.Errorf("SQS refuses %d entries", len(in.Entries))
	}
	for _, e := range in.Entries {
		for _, m := range q.messages {
			if m.MessageId != nil && *m.ReceiptHandle == *e.ReceiptHandle {
				m.MessageId = nil
			}
		}
	}
	return &sqs.DeleteMessageBatchOutput{}, nil
}

// function records its invocations and answers as configured.
type function struct {
	mu     sync.Mutex
	answer func(events.SQSEvent) (string, error)
	events []events.SQSEvent
	at     []time.Duration
	sizes  []int
	start  time.Time
}

func (f *function) invoke(_ context.Context, name string, payload []byte) ([]byte, error, error) {
	var e events.SQSEvent
	if err := json.Unmarshal(payload, &e); err != nil || name != "forwarder" {
		return nil, nil, fmt.Errorf("invoked %s with a bad event: %v", name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events, f.at, f.sizes = append(f.events, e), append(f.at, time.Since(f.start)), append(f.sizes, len(payload))
	if f.answer == nil {
		return []byte("null"), nil, nil
	}
	text, err := f.answer(e)
	return []byte(text), err, nil
}

func (f *function) batches() [][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all [][]string
	for _, e := range f.events {
		var ids []string
		for _, r := range e.Records {
			ids = append(ids, r.MessageId)
		}
		all = append(all, ids)
	}
	return all
}

func mapping(change func(*eventsource.Mapping)) eventsource.Mapping {
	m := eventsource.Mapping{SourceARN: "arn:aws:sqs:eu-west-1:123456789012:Ingest", QueueURL: "q", Function: "forwarder", BatchSize: 10, PartialFailures: true}
	if change != nil {
		change(&m)
	}
	return m
}

// sources polls q on the machine's clock, without a report.
func sources(q *queue, f *function) *eventsource.Sources {
	return &eventsource.Sources{
		Queue: q, Invoke: f.invoke, Report: func(eventsource.Batch) {}, Hurry: func() bool { return false },
		May: func(context.Context, string, string) error { return nil }, At: func(machine time.Time) time.Time { return machine },
	}
}

// run polls q for a while of synthetic time. The test must run in a bubble.
func run(t *testing.T, m eventsource.Mapping, q *queue, f *function, during func()) []eventsource.Batch {
	ctx, cancel := context.WithCancel(t.Context())
	f.start = time.Now()
	var mu sync.Mutex
	var reports []eventsource.Batch
	pollers := sources(q, f)
	pollers.Report = func(b eventsource.Batch) {
		mu.Lock()
		defer mu.Unlock()
		reports = append(reports, b)
	}
	pollers.Set(ctx, []eventsource.Mapping{m})
	during()
	synctest.Wait()
	cancel()
	pollers.Wait()
	mu.Lock()
	defer mu.Unlock()
	return reports
}

func TestHandledMessagesAreDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, f := newQueue(), &function{}
		run(t, mapping(nil), q, f, func() {
			time.Sleep(50 * time.Second) // idle long polls
			q.send("a", "b", "c")
		})
		if got := f.batches(); len(got) != 1 || !slices.Equal(got[0], []string{"m1", "m2", "m3"}) {
			t.Errorf("batches %v, want one of three", got)
		}
		if left := q.left(); len(left) != 0 {
			t.Errorf("%v stayed in the queue", left)
		}
		r := f.events[0].Records[0]
		if r.Body != "a" || r.EventSource != "aws:sqs" || r.AWSRegion != "eu-west-1" || r.EventSourceARN != "arn:aws:sqs:eu-west-1:123456789012:Ingest" || r.Attributes["ApproximateReceiveCount"] != "1" {
			t.Errorf("record %+v, want body a of the queue Ingest, received once", r)
		}
		if f.at[0] != 50*time.Second {
			t.Errorf("invoked after %v, want at once", f.at[0])
		}
	})
}

func TestFailedMessagesReappearAndEndInTheDeadLetterQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		q.maxReceives = 3
		f := &function{answer: func(e events.SQSEvent) (string, error) {
			return `{"batchItemFailures":[{"itemIdentifier":"m2"}]}`, nil
		}}
		reports := run(t, mapping(nil), q, f, func() {
			q.send("a", "b", "c")
			time.Sleep(5 * time.Minute)
		})
		if got, want := fmt.Sprint(f.batches()), "[[m1 m2 m3] [m2] [m2]]"; got != want {
			t.Errorf("batches %s, want %s", got, want)
		}
		if f.at[1] < visibility {
			t.Errorf("retried after %v, before the visibility timeout", f.at[1])
		}
		if !slices.Equal(q.dead, []string{"m2"}) || len(q.left()) != 0 {
			t.Errorf("dead letters %v, left %v, want m2 and none", q.dead, q.left())
		}
		if first := reports[0]; !slices.Equal(first.Failed, []string{"m2"}) || first.Err != nil {
			t.Errorf("report %+v, want m2 failed and no error", first)
		}
	})
}

func TestWholeBatchStays(t *testing.T) {
	for name, tt := range map[string]struct {
		partial bool
		answer  string
		err     error
	}{
		"function error":                      {partial: true, answer: `{"batchItemFailures":[]}`, err: errors.New("Unhandled")},
		"function error without partial":      {err: errors.New("Unhandled")},
		"empty identifier":                    {partial: true, answer: `{"batchItemFailures":[{"itemIdentifier":""}]}`},
		"null identifier":                     {partial: true, answer: `{"batchItemFailures":[{"itemIdentifier":null}]}`},
		"wrong key":                           {partial: true, answer: `{"batchItemFailures":[{"id":"m1"}]}`},
		"message that is not in the batch":    {partial: true, answer: `{"batchItemFailures":[{"itemIdentifier":"m9"}]}`},
		"answer that is not a batch answer":   {partial: true, answer: `"done"`},
		"answer that is not even JSON":        {partial: true, answer: `done`},
		"failures that are no list":           {partial: true, answer: `{"batchItemFailures":"m1"}`},
		"failures that are a list of strings": {partial: true, answer: `{"batchItemFailures":["m1"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue()
				f := &function{answer: func(events.SQSEvent) (string, error) { return tt.answer, tt.err }}
				reports := run(t, mapping(func(m *eventsource.Mapping) { m.PartialFailures = tt.partial }), q, f, func() { q.send("a", "b") })
				if left := q.left(); len(left) != 2 {
					t.Errorf("%v left, want both messages", left)
				}
				if len(reports) != 1 || reports[0].Err == nil || len(reports[0].Failed) != 2 {
					t.Errorf("reports %+v, want one with an error and two failed messages", reports)
				}
			})
		})
	}
}

func TestWholeBatchIsDeleted(t *testing.T) {
	for name, tt := range map[string]struct {
		partial bool
		answer  string
	}{
		"empty list":     {true, `{"batchItemFailures":[]}`},
		"null list":      {true, `{"batchItemFailures":null}`},
		"empty object":   {true, `{}`},
		"null":           {true, `null`},
		"nothing":        {true, ``},
		"not enabled":    {false, `{"batchItemFailures":[{"itemIdentifier":"m1"}]}`},
		"any other text": {false, `done`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue()
				f := &function{answer: func(events.SQSEvent) (string, error) { return tt.answer, nil }}
				run(t, mapping(func(m *eventsource.Mapping) { m.PartialFailures = tt.partial }), q, f, func() { q.send("a", "b") })
				if left := q.left(); len(left) != 0 {
					t.Errorf("%v left, want none", left)
				}
			})
		})
	}
}

func TestBatchEndsAtItsSize(t *testing.T) {
	for _, tt := range []struct{ size, messages, want int }{{1, 3, 3}, {3, 7, 3}, {10, 25, 3}, {25, 60, 3}} {
		synctest.Test(t, func(t *testing.T) {
			q, f := newQueue(), &function{}
			q.send(make([]string, tt.messages)...)
			run(t, mapping(func(m *eventsource.Mapping) { m.BatchSize, m.Window = tt.size, 2*time.Second }), q, f, func() { time.Sleep(10 * time.Second) })
			total := 0
			for _, b := range f.batches() {
				total += len(b)
				if len(b) > tt.size {
					t.Errorf("size %d: a batch of %d", tt.size, len(b))
				}
			}
			if len(f.batches()) != tt.want || total != tt.messages || len(q.left()) != 0 {
				t.Errorf("size %d: %d batches with %d messages, want %d with %d", tt.size, len(f.batches()), total, tt.want, tt.messages)
			}
		})
	}
}

func TestWindowGathersAfterTheFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, f := newQueue(), &function{}
		run(t, mapping(func(m *eventsource.Mapping) { m.BatchSize, m.Window = 100, 5*time.Second }), q, f, func() {
			time.Sleep(7 * time.Second)
			q.send("a")
			time.Sleep(3 * time.Second)
			q.send("b")
			time.Sleep(4 * time.Second)
			q.send("c")
			time.Sleep(10 * time.Second)
		})
		if got, want := fmt.Sprint(f.batches()), "[[m1 m2] [m3]]"; got != want {
			t.Errorf("batches %s, want %s", got, want)
		}
		if f.at[0] != 12*time.Second {
			t.Errorf("first batch after %v, want 12s", f.at[0])
		}
	})
}

func TestHurryEndsTheWindowOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, f := newQueue(), &function{start: time.Now()}
		var hurry atomic.Bool
		ctx, cancel := context.WithCancel(t.Context())
		pollers := sources(q, f)
		pollers.Hurry = hurry.Load
		pollers.Set(ctx, []eventsource.Mapping{mapping(func(m *eventsource.Mapping) { m.BatchSize, m.Window = 100, 5*time.Minute })})
		q.send(make([]string, 12)...)
		time.Sleep(visibility / 3)
		if got := f.batches(); len(got) != 0 {
			t.Errorf("batches %v before Hurry, want none", got)
		}
		hurry.Store(true)
		time.Sleep(2 * time.Second)
		q.send("m13")
		synctest.Wait()
		hurry.Store(false)
		q.send("m14")
		time.Sleep(time.Minute)
		if got := f.batches(); len(got) != 2 || len(got[0]) != 12 || len(got[1]) != 1 {
			t.Errorf("batches %v, want twelve messages and one", got)
		}
		cancel()
		pollers.Wait()
	})
}

func TestStepOfTheClockEndsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, f := newQueue(), &function{}
		var ahead atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		f.start = time.Now()
		pollers := sources(q, f)
		pollers.At = func(at time.Time) time.Time { return at.Add(time.Duration(ahead.Load())) }
		pollers.Set(ctx, []eventsource.Mapping{mapping(func(m *eventsource.Mapping) { m.BatchSize, m.Window = 100, 5*time.Minute })})
		q.send("a")
		time.Sleep(10 * time.Second)
		ahead.Store(int64(10 * time.Minute))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		cancel()
		pollers.Wait()
		if len(f.at) != 1 || f.at[0] < 10*time.Second {
			t.Errorf("batches after %v, want one within two seconds of the step after 10 s", f.at)
		}
	})
}

func TestBatchEndsAtThePayloadLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, f := newQueue(), &function{}
		q.send(slices.Repeat([]string{strings.Repeat("x", 1<<20)}, 10)...)
		run(t, mapping(nil), q, f, func() {})
		total := 0
		for i, b := range f.batches() {
			total += len(b)
			if f.sizes[i] > 6<<20 {
				t.Errorf("batch %d has %d bytes, Lambda accepts at most 6 MiB", i, f.sizes[i])
			}
		}
		if total != 10 || len(q.left()) != 0 {
			t.Errorf("%d messages in %v, want 10", total, f.batches())
		}
	})
}

func TestPollerSurvivesAQueueThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, f := newQueue(), &function{}
		q.fail = errors.New("connection refused")
		reports := run(t, mapping(nil), q, f, func() {
			time.Sleep(3500 * time.Millisecond)
			q.mu.Lock()
			q.fail = nil
			if q.receiveCalls > 4 {
				t.Errorf("%d calls in 3.5 s, want at most 4", q.receiveCalls)
			}
			q.mu.Unlock()
			q.send("a")
			time.Sleep(2 * time.Second)
		})
		if len(q.left()) != 0 || len(f.batches()) != 1 {
			t.Errorf("left %v after %d invocations, want none after one", q.left(), len(f.batches()))
		}
		if reports[0].Err == nil || !strings.Contains(reports[0].Err.Error(), "connection refused") {
			t.Errorf("report %+v, want the error of the queue", reports[0])
		}
	})
}

func TestMessagesHaveTheCloudsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		q, f := newQueue(), &function{}
		q.send("a")
		pollers := sources(q, f)
		pollers.At = func(machine time.Time) time.Time { return machine.Add(time.Hour) }
		pollers.Set(ctx, []eventsource.Mapping{mapping(nil)})
		synctest.Wait()
		want := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
		got := f.events[0].Records[0].Attributes
		if got["SentTimestamp"] != want || got["ApproximateFirstReceiveTimestamp"] != want || got["ApproximateReceiveCount"] != "1" {
			t.Errorf("attributes %v, want the times %s", got, want)
		}
		cancel()
		pollers.Wait()
	})
}

func TestOnlyPresentMappingsAreServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		q, f := newQueue(), &function{}
		pollers := sources(q, f)
		pollers.Set(ctx, []eventsource.Mapping{mapping(nil)})
		pollers.Set(ctx, []eventsource.Mapping{mapping(nil)}) // no second poller
		synctest.Wait()
		if q.receiveCalls != 1 || len(pollers.Mappings()) != 1 {
			t.Errorf("%d polls, mappings %v, want one of each", q.receiveCalls, pollers.Mappings())
		}
		pollers.Set(ctx, nil)
		synctest.Wait()
		q.send("a")
		time.Sleep(time.Minute)
		if len(f.batches()) != 0 || len(pollers.Mappings()) != 0 {
			t.Error("a removed mapping is still served")
		}
		cancel()
		pollers.Wait()
	})
}
