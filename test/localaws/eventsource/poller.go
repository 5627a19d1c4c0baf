package eventsource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

const (
	longPoll = 20 * time.Second // SQS's longest
	perCall  = 10               // SQS's most messages a call
	backoff  = time.Second      // after a queue that did not answer
)

// Queue is what is needed of SQS. *sqs.Client is one.
type Queue interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
}

// Invoke runs a function. functionError is what the function itself reported.
type Invoke func(ctx context.Context, function string, payload []byte) (answer []byte, functionError error, err error)

// May is an error where a function's role does not let Lambda read a source for it.
type May func(ctx context.Context, function, sourceARN string) error

// Hurry reports whether batches end as soon as nothing more is there, before their window
// does.
type Hurry func() bool

func (h Hurry) now() bool { return h != nil && h() }

func (m May) read(ctx context.Context, function, sourceARN string) error {
	if m == nil {
		return nil
	}
	return m(ctx, function, sourceARN)
}

// Poller serves one mapping.
type Poller struct {
	Mapping Mapping
	Queue   Queue
	Invoke  Invoke
	// Report receives every batch.
	Report func(Batch)
	May    May
	// At converts the machine's time, which SQS tells, to that of the cloud, which functions
	// see and by which a batch is gathered; nil: they are the same.
	At func(time.Time) time.Time
	// Hurry reports whether somebody waits for the queue to be empty: then a batch is not
	// gathered any longer than messages are there. Nil: nobody does.
	Hurry Hurry

	carried []message // received, and too much for the batch before
}

type message struct {
	id, handle string
	record     json.RawMessage
}

func (m message) payload() json.RawMessage { return m.record }

// Run polls until ctx ends.
func (p *Poller) Run(ctx context.Context) {
	for ctx.Err() == nil {
		batch, err := p.gather(ctx)
		if len(batch) > 0 {
			p.handle(ctx, batch)
		}
		if err != nil && ctx.Err() == nil {
			p.Report(Batch{Mapping: p.Mapping, Err: err})
			select {
			case <-time.After(backoff):
			case <-ctx.Done():
			}
		}
	}
}

// gather waits for a message and collects those that follow it in the window.
func (p *Poller) gather(ctx context.Context) ([]message, error) {
	batch, full := p.take(nil)
	var end time.Time
	if len(batch) > 0 {
		end = p.now().Add(p.Mapping.Window)
	}
	for !full {
		wait := longPoll
		if !end.IsZero() { // look at the clock often: a step of it may end the window
			wait = min(time.Second, wholeSeconds(end.Sub(p.now())))
			if p.Hurry.now() {
				wait = 0
			}
		}
		received, err := p.receive(ctx, min(perCall, p.Mapping.BatchSize-len(batch)), wait)
		if err != nil {
			return batch, err
		}
		p.carried = append(p.carried, received...)
		batch, full = p.take(batch)
		switch {
		case len(batch) == 0:
			return nil, nil
		case end.IsZero():
			end = p.now().Add(p.Mapping.Window)
		}
		if !p.now().Before(end) || len(received) == 0 && p.Hurry.now() {
			break
		}
	}
	return batch, nil
}

func (p *Poller) now() time.Time {
	if p.At == nil {
		return time.Now()
	}
	return p.At(time.Now())
}

// wholeSeconds rounds up, because SQS waits whole seconds only.
func wholeSeconds(d time.Duration) time.Duration {
	return max(0, d+time.Second-1).Truncate(time.Second)
}

func (p *Poller) take(batch []message) (_ []message, full bool) {
	batch, p.carried, full = take(batch, p.carried, p.Mapping.BatchSize)
	return batch, full
}

func (p *Poller) receive(ctx context.Context, most int, wait time.Duration) ([]message, error) {
	if err := p.May.read(ctx, p.Mapping.Function, p.Mapping.QueueARN); err != nil {
		return nil, err
	}
	out, err := p.Queue.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &p.Mapping.QueueURL, MaxNumberOfMessages: int32(most), WaitTimeSeconds: int32(wait / time.Second),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		MessageAttributeNames:       []string{"All"},
	})
	if err != nil {
		return nil, fmt.Errorf("receive from %s: %w", p.Mapping.QueueARN, err)
	}
	messages := make([]message, 0, len(out.Messages))
	for _, m := range out.Messages {
		r, err := record(m, p.Mapping.QueueARN, p.At)
		if err != nil {
			return nil, fmt.Errorf("message %s of %s: %w", aws.ToString(m.MessageId), p.Mapping.QueueARN, err)
		}
		messages = append(messages, message{id: aws.ToString(m.MessageId), handle: aws.ToString(m.ReceiptHandle), record: r})
	}
	return messages, nil
}

// handle invokes the function with the batch and deletes what it handled.
func (p *Poller) handle(ctx context.Context, batch []message) {
	result := Batch{Mapping: p.Mapping}
	for _, m := range batch {
		result.MessageIDs = append(result.MessageIDs, m.id)
	}
	answer, functionError, err := p.Invoke(ctx, p.Mapping.Function, event(batch))
	err = errors.Join(err, functionError)
	if err == nil && p.Mapping.PartialFailures {
		result.Failed, err = failures(answer, result.MessageIDs)
	}
	if err != nil {
		result.Failed, result.Err = result.MessageIDs, err
	} else if err := p.delete(ctx, batch, result.Failed); err != nil {
		result.Err = err
	}
	p.Report(result)
}

func (p *Poller) delete(ctx context.Context, batch []message, keep []string) error {
	var entries []types.DeleteMessageBatchRequestEntry
	for i, m := range batch {
		if !slices.Contains(keep, m.id) {
			entries = append(entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &m.handle})
		}
	}
	for chunk := range slices.Chunk(entries, perCall) {
		out, err := p.Queue.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &p.Mapping.QueueURL, Entries: chunk})
		if err != nil {
			return fmt.Errorf("delete handled messages from %s: %w", p.Mapping.QueueARN, err)
		}
		for _, f := range out.Failed {
			return fmt.Errorf("delete a handled message from %s: %s: %s", p.Mapping.QueueARN, aws.ToString(f.Code), aws.ToString(f.Message))
		}
	}
	return nil
}

// Pollers runs a poller for each mapping of a queue that exists.
type Pollers struct {
	Queue  Queue
	Invoke Invoke
	Report func(Batch)
	// May is asked before each request: an error where the function's role does not let
	// Lambda read the queue. Nil: all may be read.
	May May
	// At converts the times that SQS tells to those that functions see; nil: they are the same.
	At func(time.Time) time.Time
	// Hurry reports whether somebody waits for the queues to be empty; nil: nobody does.
	Hurry Hurry

	serving serving[Mapping]
}

// Set starts and stops pollers so that exactly the given mappings are served. The new
// ones poll until ctx ends.
func (p *Pollers) Set(ctx context.Context, mappings []Mapping) {
	p.serving.set(ctx, mappings, func(_ context.Context, m Mapping) func(context.Context) {
		return (&Poller{Mapping: m, Queue: p.Queue, Invoke: p.Invoke, Report: p.Report, May: p.May, At: p.At, Hurry: p.Hurry}).Run
	})
}

// Mappings are those that are served.
func (p *Pollers) Mappings() []Mapping { return p.serving.mappings() }

// Wait returns when every poller has ended.
func (p *Pollers) Wait() { p.serving.wait.Wait() }

// serving runs one poller for each mapping that exists.
type serving[M comparable] struct {
	mu      sync.Mutex
	running map[M]context.CancelFunc
	wait    sync.WaitGroup
}

// set starts and stops pollers so that exactly the given mappings are served. prepare
// is called before set returns; what it returns polls until its context ends.
func (s *serving[M]) set(ctx context.Context, mappings []M, prepare func(context.Context, M) func(context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[M]bool{}
	for _, m := range mappings {
		wanted[m] = true
	}
	for m, stop := range s.running {
		if !wanted[m] {
			stop()
			delete(s.running, m)
		}
	}
	for _, m := range mappings {
		if s.running[m] != nil {
			continue
		}
		if s.running == nil {
			s.running = map[M]context.CancelFunc{}
		}
		one, stop := context.WithCancel(ctx)
		s.running[m] = stop
		run := prepare(one, m)
		s.wait.Go(func() { run(one) })
	}
}

func (s *serving[M]) mappings() []M {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]M, 0, len(s.running))
	for m := range s.running {
		list = append(list, m)
	}
	return list
}
