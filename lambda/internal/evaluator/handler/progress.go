package handler

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
)

const (
	// heartbeatEvery is how often one environment tells how far it is.
	heartbeatEvery = time.Minute
	// lagMargin is what a lag may be beyond the batching window before it matters. The
	// lateness bound leaves that time as well.
	lagMargin = time.Minute
	// beatMargin is for heartbeats that overtake each other on their way.
	beatMargin = 30 * time.Second
)

// untold is the longest for which the evaluator may have gone on after it told, and told
// nothing: as long as a heartbeat is not due, or a greater lag stands.
func untold(p state.Progress) time.Duration {
	if p.Lag > 0 {
		return state.LagStands + heartbeatEvery + beatMargin
	}
	return heartbeatEvery + beatMargin
}

// heart remembers what this environment told last.
type heart struct {
	mu   sync.Mutex
	last state.Progress
}

// beat tells how far the batch is behind, before it is judged: the closer must not run
// ahead of it. Telemetry that comes again says nothing, because one thing's trouble is not
// the transport's.
func (h *Handler) beat(ctx context.Context, records []*record) {
	now := h.Now()
	var oldest time.Time
	for _, r := range records {
		if r.sent.After(now) { // what AWS says has passed is not the future
			now = r.sent
		}
		if !r.again && (oldest.IsZero() || r.sent.Before(oldest)) {
			oldest = r.sent
		}
	}
	if oldest.IsZero() {
		return
	}
	p := state.Progress{At: now, Lag: now.Sub(oldest)}
	if p.Lag <= h.tolerated() {
		p.Lag = 0 // it must not stand in the way of the next heartbeat
	}
	h.heart.mu.Lock()
	defer h.heart.mu.Unlock()
	last := h.heart.last
	if p.At.Sub(last.At) < heartbeatEvery && p.Lag <= last.Lag {
		return
	}
	if err := h.Store.Beat(ctx, p); err != nil {
		h.Log.Warn("progress was not stored", "reason", err.Error())
		return
	}
	h.heart.last = p
}

// tolerated is the lag that batching explains.
func (h *Handler) tolerated() time.Duration { return h.settings.batching + lagMargin }

// reached is how far all telemetry is judged at a time; false where nobody knows.
func (h *Handler) reached(ctx context.Context, at time.Time) (time.Time, bool, error) {
	p, err := h.Store.Progress(ctx)
	if err != nil {
		return time.Time{}, false, err
	}
	standing := state.LagStands
	if h.TelemetryStream != "" {
		// Before, a record that was judged cannot be told from one that waits.
		standing = untold(p) + h.tolerated()
	}
	switch {
	case !p.At.IsZero() && at.Sub(p.At) <= standing:
		return at.Add(-p.Lag), true, nil
	case h.TelemetryStream != "":
		from := at.Add(-contract.TelemetryRetry) // what is older is judged no more
		if told := p.At.Add(untold(p)); told.After(from) {
			from = told
		}
		waits, err := h.waits(ctx, p, from, at.Add(-h.tolerated()), at)
		if waits {
			h.blind(at)
		}
		return at, !waits, err
	case h.TelemetryQueueURL == "":
		return at, true, nil
	}
	const available, inFlight = sqstypes.QueueAttributeNameApproximateNumberOfMessages, sqstypes.QueueAttributeNameApproximateNumberOfMessagesNotVisible
	out, err := h.SQS.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &h.TelemetryQueueURL, AttributeNames: []sqstypes.QueueAttributeName{available, inFlight},
	})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("GetQueueAttributes of the telemetry queue: %w", err)
	}
	some := func(name sqstypes.QueueAttributeName) bool { return cmp.Or(out.Attributes[string(name)], "0") != "0" }
	waits, flies := some(available), some(inFlight)
	switch {
	case waits && at.Sub(p.At) > h.tolerated():
		h.blind(at)
	case waits || flies:
		// A batch fills, which is no fault, or the evaluator failed on it: its errors tell.
		h.Log.Info("silence is not judged in this minute: telemetry is in flight", "at", at)
	}
	return at, !waits && !flies, nil
}

// blind tells that nothing is closed.
func (h *Handler) blind(at time.Time) {
	h.count(contract.MetricSourceClose, contract.MetricBlind, 1)
	h.Log.Warn("silence is not judged: telemetry waits, and no evaluator reports its progress", "at", at)
}
