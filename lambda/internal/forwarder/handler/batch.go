package handler

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/backlog"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
	"github.com/defenderhub/defenderhub/lambda/internal/invocation"
)

// message is a message of the queue in progress.
type message struct {
	events.SQSMessage
	// source is the value for the metrics, "unknown" if the message has none.
	source string
	mapper mapping.Mapper
	// signals are those of the message; task is that of an audit notification, which has no signals.
	signals []signal.Signal
	task    *mapping.AuditTask
	outcome outcome.Outcome
	// done reports whether the message is finished and need not be retried.
	done bool
}

// batch handles messages and returns those that must be retried. It ends before the invocation
// does.
func (h *Handler) batch(ctx, work context.Context, records []events.SQSMessage) events.SQSEventResponse {
	messages := make([]*message, len(records))
	sent := make([]time.Time, len(records))
	for i, r := range records {
		sent[i] = sentAt(r)
	}
	now := h.at(sent...)
	var signals []signal.Signal
	lookups, cancel := invocation.Half(work)
	defer cancel()
	for i, r := range records {
		if sent[i].IsZero() {
			sent[i] = now
		}
		messages[i] = h.read(lookups, r, sent[i])
		h.Metrics.Count(messages[i].source, contract.MetricReceived, 1)
	}
	h.bound(work, messages)
	h.announce(work, now, messages)
	for _, m := range messages {
		signals = append(signals, m.signals...)
	}
	turn := h.Backlog.Begin(work, len(records) >= crowd || slices.ContainsFunc(records, retried))
	if len(signals) > 0 {
		outcomes := h.Deliver.DeliverOrLeave(work, now, signals, turn)
		for _, m := range messages {
			for _, s := range m.signals {
				m.outcome = outcome.Worst(m.outcome, outcomes[s.Finding.ID])
			}
		}
	}
	for _, m := range messages {
		if m.task != nil {
			m.outcome = h.Audit.Process(work, now, m.mapper, *m.task)
		}
	}
	invocation.Settle(ctx, messages, func(ctx context.Context, m *message) { m.done = h.settle(ctx, m) })
	h.keep(ctx, work, turn, messages)
	response := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}
	hubOff := false
	for _, m := range messages {
		hubOff = hubOff || m.outcome.Verdict == outcome.HubOff
		if !m.done {
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
		}
	}
	if hubOff {
		h.Log.Error(hubOffAdvice, "region", h.Region)
	}
	return response
}

// crowd is the number of messages from which a batch may be part of a storm. Only for such a batch
// does the handler read the ledger to know whether states are being left.
const crowd = 25

// retried reports whether a message was received before.
func retried(r events.SQSMessage) bool { return receives(r) > 1 }

func receives(r events.SQSMessage) int {
	n, err := strconv.Atoi(r.Attributes["ApproximateReceiveCount"])
	if err != nil {
		return 1
	}
	return n
}

// keep lets the invocation drain the backlog if it is its turn. If states are left, it returns one
// message to the queue, which continues the work.
func (h *Handler) keep(ctx, work context.Context, turn *backlog.Turn, messages []*message) {
	keep, wait := turn.End(ctx, work)
	if !keep {
		return
	}
	var chosen *message
	for _, m := range messages { // a queue limits how often it returns a message
		if m.done && m.outcome.Verdict <= outcome.Left && (chosen == nil || receives(m.SQSMessage) < receives(chosen.SQSMessage)) {
			chosen = m
		}
	}
	if chosen != nil {
		if turn.Failed {
			wait = max(wait, stretch(chosen.Attributes["ApproximateReceiveCount"]))
		}
		chosen.done = false
		h.returnIn(ctx, chosen, wait)
	}
}

// bound replaces the signals of senders that raise too many findings.
func (h *Handler) bound(ctx context.Context, messages []*message) {
	var signals []signal.Signal
	var owners []*message
	for _, m := range messages {
		for _, s := range m.signals {
			signals, owners = append(signals, s), append(owners, m)
		}
		m.signals = nil
	}
	results, faults := h.Bounds.Apply(ctx, signals)
	for i, m := range owners {
		if err := faults[i]; err != nil {
			m.outcome = outcome.Worst(m.outcome, outcome.Of(err))
		}
		m.signals = append(m.signals, results[i]...)
	}
}

// announce ensures that the findings of the messages' behaviors and correlation rules are archived
// if these are removed.
func (h *Handler) announce(ctx context.Context, now time.Time, messages []*message) {
	var err error
	asked := false
	raises := func(s signal.Signal) bool { return s.Removable() && s.Raised }
	for _, m := range messages {
		if !slices.ContainsFunc(m.signals, raises) {
			continue
		}
		if !asked {
			err, asked = h.Sweeper.Announce(ctx, now), true
		}
		if err != nil {
			m.signals, m.outcome = nil, outcome.Of(err)
		}
	}
}

// settle handles a message's outcome. It reports whether the message is finished.
func (h *Handler) settle(ctx context.Context, m *message) bool {
	switch m.outcome.Verdict {
	case outcome.Done, outcome.Left:
		return true
	case outcome.Refused:
		if err := h.deadLetter(ctx, m); err != nil {
			h.Log.Error("message could not be sent to the dead-letter queue", "messageId", m.MessageId, "reason", err.Error())
			return false
		}
		h.Metrics.Count(m.source, contract.MetricRefused, 1)
		h.Log.Warn("message can never be imported and was sent to the dead-letter queue", "messageId", m.MessageId, "source", m.source, "reason", legible(m.outcome.Reason))
		return true
	case outcome.HubOff:
		h.returnIn(ctx, m, stretch(m.Attributes["ApproximateReceiveCount"]))
	case outcome.Retry, outcome.Failing:
		wait := stretch(m.Attributes["ApproximateReceiveCount"])
		if m.outcome.Progress {
			wait = 0
		}
		h.returnIn(ctx, m, wait)
		h.Log.Warn("message is retried", "messageId", m.MessageId, "source", m.source, "reason", legible(m.outcome.Reason), "progress", m.outcome.Progress)
	}
	return false
}

// stretch returns how long a message waits while Security Hub is off, or another failure lasts:
// at first a minute, later up to an hour. Otherwise the queue's 14 days would allow so many
// receives that the queue treats the message as one that crashes the function.
func stretch(receiveCount string) time.Duration {
	n, err := strconv.Atoi(receiveCount)
	if err != nil || n < 1 {
		n = 1
	}
	return min(time.Hour, time.Minute<<min(n-1, 10))
}

// sentAt returns when the message was sent, by the queue's clock; the zero time if the message
// does not say.
func sentAt(r events.SQSMessage) time.Time {
	if ms, err := strconv.ParseInt(r.Attributes["SentTimestamp"], 10, 64); err == nil && ms > 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}
