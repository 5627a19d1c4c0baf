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
	// heartbeatEvery is how often one environment writes its progress.
	heartbeatEvery = time.Minute
	// lagMargin is the lag beyond the batching window that does not matter. The lateness bound
	// allows for it.
	lagMargin = time.Minute
	// beatMargin is for heartbeats that overtake each other.
	beatMargin = 30 * time.Second
)

// silentFor returns how long the evaluator may have continued without writing progress: until the
// next heartbeat is due, or a greater lag expires.
func silentFor(p state.Progress) time.Duration {
	if p.Lag > 0 {
		return state.LagAge + heartbeatEvery + beatMargin
	}
	return heartbeatEvery + beatMargin
}

// lastBeat is what this environment wrote last.
type lastBeat struct {
	mu   sync.Mutex
	last state.Progress
}

// beat writes the lag of the batch before it is judged: the closer must not run ahead of it.
// Retried telemetry does not count, because one thing's failure is not the transport's lag.
func (h *Handler) beat(ctx context.Context, records []*record) {
	now := h.Now()
	var oldest time.Time
	for _, r := range records {
		if r.sent.After(now) { // AWS's clock is ahead of the machine's
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
		p.Lag = 0 // it must not block the next heartbeat
	}
	h.lastBeat.mu.Lock()
	defer h.lastBeat.mu.Unlock()
	last := h.lastBeat.last
	if p.At.Sub(last.At) < heartbeatEvery && p.Lag <= last.Lag {
		return
	}
	if err := h.Store.Beat(ctx, p); err != nil {
		h.Log.Warn("progress was not stored", "reason", err.Error())
		return
	}
	h.lastBeat.last = p
}

// tolerated returns the lag that batching explains.
func (h *Handler) tolerated() time.Duration { return h.settings.batching + lagMargin }

// reached returns the time up to which all telemetry is judged; false if unknown.
func (h *Handler) reached(ctx context.Context, at time.Time) (time.Time, bool, error) {
	p, err := h.Store.Progress(ctx)
	if err != nil {
		return time.Time{}, false, err
	}
	silent := state.LagAge
	if h.TelemetryStream != "" {
		// Before that, judged and waiting records look the same.
		silent = silentFor(p) + h.tolerated()
	}
	switch {
	case !p.At.IsZero() && at.Sub(p.At) <= silent:
		return at.Add(-p.Lag), true, nil
	case h.TelemetryStream != "":
		from := at.Add(-contract.TelemetryRetry) // older telemetry is not judged any more
		if until := p.At.Add(silentFor(p)); until.After(from) {
			from = until
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
	waiting, received := some(available), some(inFlight)
	switch {
	case waiting && at.Sub(p.At) > h.tolerated():
		h.blind(at)
	case waiting || received:
		// A batch is filling, which is normal, or the evaluator failed on it, which its errors
		// report.
		h.Log.Info("silence is not judged in this minute: telemetry is in flight", "at", at)
	}
	return at, !waiting && !received, nil
}

// blind logs and counts that nothing was closed.
func (h *Handler) blind(at time.Time) {
	h.count(contract.MetricSourceClose, contract.MetricBlind, 1)
	h.Log.Warn("silence is not judged: telemetry waits, and no evaluator reports its progress", "at", at)
}
