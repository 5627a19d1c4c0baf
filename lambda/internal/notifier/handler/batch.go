package handler

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/invocation"
)

// callsAtOnce is the number of findings that one invocation handles at once.
const callsAtOnce = 16

// received is a message of the queue.
type received struct {
	events.SQSMessage
	event findingevent.Event
	// receives is how often the message was received, sent when it was sent.
	receives int
	sent     time.Time
	// request is a request of the notifier to itself, refused why the message can never be read.
	request *request
	refused string
	// again is the delay after which the message must be received again; 0 if it is done.
	again time.Duration
}

// batch is one invocation.
type batch struct {
	*Handler
	// now is the latest of the machine's clock and the times at which messages were sent, which
	// are AWS's.
	now time.Time
	// deadline is when the invocation ends, timeout how long it may last.
	deadline time.Time
	timeout  time.Duration
	// ctx lasts as long as the invocation, to record what was published.
	ctx context.Context
	// lookups is for calls to AWS IoT, which may hang while everything else works.
	lookups context.Context
	// full are the classes of messages whose cap for this minute is reached.
	full caps
}

func (h *Handler) batch(ctx, work context.Context, records []events.SQSMessage) events.SQSEventResponse {
	b := h.invocation(ctx)
	lookups, cancel := invocation.Half(work)
	defer cancel()
	b.lookups = lookups
	messages := make([]*received, len(records))
	findings := map[string][]*received{}
	for i, r := range records {
		m := &received{SQSMessage: r, receives: attribute(r, "ApproximateReceiveCount", 1)}
		m.sent = time.UnixMilli(int64(attribute(r, "SentTimestamp", int(b.now.UnixMilli()))))
		if m.sent.After(b.now) {
			b.now = m.sent
		}
		messages[i] = m
	}
	for _, m := range messages {
		if b.read(m) {
			findings[m.event.Key()] = append(findings[m.event.Key()], m)
		}
	}
	// The most severe first, so that they get a message of their own if there are too many.
	bySeverity := map[defender.Severity][]string{}
	for _, key := range slices.Sorted(maps.Keys(findings)) {
		worst := defender.SeverityDefault
		for _, m := range findings[key] {
			worst = max(worst, m.event.Severity)
		}
		bySeverity[worst] = append(bySeverity[worst], key)
	}
	for s := defender.Critical; s >= defender.SeverityDefault; s-- {
		var group errgroup.Group
		group.SetLimit(callsAtOnce)
		for _, key := range bySeverity[s] {
			group.Go(func() error {
				b.finding(work, findings[key])
				return nil
			})
		}
		_ = group.Wait() // each message has its own result
	}
	for _, m := range messages { // last, because another invocation may send the list
		if m.request != nil {
			if err := b.more(work, m.request.At); err != nil {
				b.retry(m, err)
			}
		}
	}
	invocation.Settle(ctx, messages, b.settleMessage)
	var response events.SQSEventResponse
	for _, m := range messages {
		if m.again > 0 {
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
		}
	}
	return response
}

func (h *Handler) invocation(ctx context.Context) *batch {
	b := &batch{Handler: h, now: h.Now(), ctx: ctx, timeout: time.Minute}
	b.deadline = b.now.Add(b.timeout)
	if deadline, ok := ctx.Deadline(); ok {
		b.timeout = time.Until(deadline)
		b.deadline = b.now.Add(b.timeout)
	}
	return b
}

func attribute(m events.SQSMessage, name string, missing int) int {
	if n, err := strconv.Atoi(m.Attributes[name]); err == nil {
		return n
	}
	return missing
}

// read parses a message, and reports whether it is an event of a finding.
func (b *batch) read(m *received) bool {
	var r request
	if json.Unmarshal([]byte(m.Body), &r) == nil && r.Kind == contract.NotifyMore {
		m.request = &r
		return false
	}
	b.Metrics.Count(source, contract.MetricReceived, 1)
	var err error
	if m.event, err = findingevent.Parse([]byte(m.Body)); err != nil {
		m.refused = err.Error()
	}
	return err == nil
}

// source is the metrics' dimension: the notifier has one source.
const source = "security-hub"

// retry lets a message be received again, after a time that grows to 15 minutes.
func (b *batch) retry(m *received, reason error) {
	m.again = min(15*time.Second<<min(m.receives-1, 8), 15*time.Minute)
	b.Metrics.Count(source, contract.MetricFailed, 1)
	b.Log.Warn("event is retried", "message", m.MessageId, "finding", m.event.Key(), "reason", reason.Error())
}

// settleMessage sends an unreadable message to the dead-letter queue, and sets the time after
// which a message that must be retried is received again.
func (b *batch) settleMessage(ctx context.Context, m *received) {
	if m.refused != "" {
		if err := b.deadLetter(ctx, m); err != nil {
			b.retry(m, err)
		} else {
			b.Metrics.Count(source, contract.MetricRefused, 1)
			b.Log.Error("event cannot be read and was sent to the dead-letter queue", "message", m.MessageId, "reason", m.refused)
		}
	}
	if m.again == 0 {
		return
	}
	_, err := b.SQS.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: &b.QueueURL, ReceiptHandle: &m.ReceiptHandle, VisibilityTimeout: int32(max(1, (m.again+time.Second-1)/time.Second)),
	})
	if err != nil {
		b.Log.Info("visibility timeout of a message was not changed: it is received again after the queue's own", "message", m.MessageId, "reason", err.Error())
	}
}

func (b *batch) deadLetter(ctx context.Context, m *received) error {
	text := func(s string) types.MessageAttributeValue {
		return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String(cmp.Or(s, "unknown"))}
	}
	_, err := b.SQS.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: &b.DeadLetterQueueURL, MessageBody: &m.Body,
		MessageAttributes: map[string]types.MessageAttributeValue{"Reason": text(m.refused), "MessageId": text(m.MessageId), "Queue": text(m.EventSourceARN)},
	})
	return err
}

// run has consecutive events of one finding with the same state and severity. The newest one is
// handled for all.
type run struct {
	messages []*received
}

func (r run) newest() findingevent.Event { return r.messages[len(r.messages)-1].event }

// of returns the event with order o, if the run has it.
func (r run) of(o findingevent.Order) (findingevent.Event, bool) {
	for _, m := range r.messages {
		if m.event.Order.Compare(o) == 0 {
			return m.event, true
		}
	}
	return findingevent.Event{}, false
}

// runs returns the events of a finding in their order: of refreshes only the newest is handled.
func runs(messages []*received) []run {
	slices.SortStableFunc(messages, func(x, y *received) int { return x.event.Order.Compare(y.event.Order) })
	var all []run
	for _, m := range messages {
		if n := len(all); n > 0 {
			last := all[n-1].newest()
			if last.Open() == m.event.Open() && last.Severity == m.event.Severity {
				all[n-1].messages = append(all[n-1].messages, m)
				continue
			}
		}
		all = append(all, run{[]*received{m}})
	}
	return all
}

// finding handles the events of one finding.
func (b *batch) finding(ctx context.Context, messages []*received) {
	var failed error
	for _, r := range runs(messages) {
		var hold time.Duration
		if failed == nil {
			hold, failed = b.handle(ctx, r)
		}
		for _, m := range r.messages {
			if failed != nil {
				b.retry(m, failed)
			} else {
				m.again = hold
			}
		}
	}
}
