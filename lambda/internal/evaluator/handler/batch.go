package handler

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
	"github.com/defenderhub/defenderhub/lambda/internal/invocation"
)

// batch judges records and marks those that must be retried.
func (h *Handler) batch(ctx context.Context, records []*record) {
	if err := h.readGenerations(ctx); err != nil {
		h.Log.Error("telemetry was not judged and is retried", "records", len(records), "reason", err.Error())
		h.count(unknownKind, contract.MetricFailed, len(records))
		for _, r := range records {
			r.failed = true
		}
		return
	}
	h.beat(ctx, records)
	lookups, cancel := invocation.Half(ctx)
	defer cancel()
	forEach(records, func(r *record) { h.read(lookups, r) })
	h.countDiscarded(records)
	h.countFrequent(records)
	visits := bySubject(records)
	h.visitAll(ctx, lookups, visits)
	for _, v := range visits {
		if v.err == nil || v.lost() {
			continue
		}
		for _, r := range v.records {
			r.failed = true
		}
	}
	h.answerAll(ctx, records)
	for _, r := range records {
		if r.failed {
			h.count(r.kind, contract.MetricFailed, 1)
		}
	}
}

// maxNamed is how many devices one log line names.
const maxNamed = 10

// countDiscarded counts unreadable values in device reports, and logs them once for all records:
// an agent with a fault repeats it in each report.
func (h *Handler) countDiscarded(records []*record) {
	fields := map[string]int{}
	devices := map[string]bool{}
	for _, r := range records {
		for field, n := range r.discarded {
			h.Metrics.CountBy(r.kind, contract.MetricDimensionField, field, contract.MetricDiscarded, n)
			fields[field] += n
		}
		if len(r.discarded) > 0 && len(devices) < maxNamed {
			devices[r.subject] = true
		}
	}
	if len(fields) > 0 {
		h.Log.Warn("values in device reports cannot be read and were discarded", "fields", fields, "devices", slices.Sorted(maps.Keys(devices)))
	}
}

// bySubject groups the records by thing, in the order in which they were sent.
func bySubject(records []*record) []*visit {
	var visits []*visit
	by := map[string]*visit{}
	ordered := slices.Clone(records)
	slices.SortStableFunc(ordered, func(a, b *record) int { return cmp.Or(a.sent.Compare(b.sent), cmp.Compare(a.id, b.id)) })
	for _, r := range ordered {
		if r.subject == "" || len(r.points) == 0 {
			continue
		}
		v := by[r.subject]
		if v == nil {
			v = &visit{subject: r.subject}
			by[r.subject], visits = v, append(visits, v)
		}
		v.records = append(v.records, r)
		v.steps = append(v.steps, step{r.id, r.sent, r.kind, r.points})
		if r.principal != "" {
			v.principal = r.principal
		}
		if r.thing != nil {
			v.identified = r.thing
		}
	}
	return visits
}

// visitAll reads, judges and writes things, and sends their transitions and samples. Each visit
// has its own error. Calls of AWS IoT use the context lookups, which ends earlier than ctx, so that
// the results are written even if such a call hangs.
func (h *Handler) visitAll(ctx, lookups context.Context, visits []*visit) {
	forEach(slices.Collect(slices.Chunk(visits, state.LoadSize)), func(some []*visit) {
		subjects := make([]string, len(some))
		for i, v := range some {
			subjects[i] = v.subject
		}
		items, faults := h.Store.Load(ctx, subjects)
		for _, v := range some {
			v.item, v.err = items[v.subject], faults[v.subject]
		}
	})
	f := &population{fleet: h.Fleet.Load(ctx, newest(visits))}
	forEach(visits, func(v *visit) {
		if v.err == nil {
			v.err = h.settle(ctx, lookups, v, f)
		}
		h.report(v)
	})
	h.sendAll(ctx, visits)
	h.sample(ctx, visits)
}

// report counts a visit's results, and logs its errors.
func (h *Handler) report(v *visit) {
	source := v.steps[0].kind
	if v.unresolved != nil {
		h.count(source, contract.MetricUnresolved, 1)
		h.Log.Warn("thing of a device is not known", "device", v.subject, "reason", v.unresolved.Error())
	}
	switch {
	case errors.Is(v.err, state.ErrState):
		h.count(source, contract.MetricUnreadableStates, 1)
		h.Log.Error("device is not judged: its state was written by another version of the engine", "device", v.subject, "reason", v.err.Error())
	case v.lost():
		h.count(source, contract.MetricOversizedStates, 1)
		h.Log.Error("device is not judged: it violates more behaviors at once than its state can hold", "device", v.subject, "reason", v.err.Error())
	case v.err != nil:
		h.Log.Warn("device was not judged and is retried", "device", v.subject, "reason", v.err.Error())
	}
	if v.err != nil {
		return
	}
	h.count(source, contract.MetricTransitions, len(v.outcome.transitions))
	for kind, s := range v.outcome.stats {
		for metric, n := range map[string]int{
			contract.MetricLate: s.Late, contract.MetricEarly: s.Early, contract.MetricUnread: s.Unread, contract.MetricSampledLists: s.Sampled, contract.MetricUnjudged: s.Unjudged,
			contract.MetricUnconfirmed: s.Unconfirmed,
		} {
			h.count(kind, metric, n)
		}
	}
	for _, t := range v.outcome.transitions {
		h.Log.Info("alarm changed", "device", v.subject, "profile", t.Profile, "behavior", t.Behavior.Name, "change", t.Change, "violationId", t.ViolationID)
	}
}

// newest returns the newest time of the visits' steps.
func newest(visits []*visit) time.Time {
	var at time.Time
	for _, v := range visits {
		if last := v.steps[len(v.steps)-1].at; last.After(at) {
			at = last
		}
	}
	return at
}

// sample adds the things' measurements to the fleet's distributions. The ID of the addition is
// derived from the things and their records, so that a retried batch counts once. Missing values
// hardly move a percentile, so telemetry is not retried for them.
func (h *Handler) sample(ctx context.Context, visits []*visit) {
	var all []engine.Samples
	var oldest time.Time
	name := sha256.New()
	for _, v := range visits {
		if v.err != nil || len(v.outcome.samples) == 0 {
			continue
		}
		all = append(all, v.outcome.samples)
		if first := v.steps[0].at; oldest.IsZero() || first.Before(oldest) {
			oldest = first
		}
		fmt.Fprintf(name, "%q", v.subject) // never fails
		for _, s := range v.steps {
			fmt.Fprintf(name, "%q %d", s.id, s.at.UnixMilli())
		}
	}
	if len(all) == 0 {
		return
	}
	left, err := h.Fleet.Add(ctx, hex.EncodeToString(name.Sum(nil)[:16]), oldest, all)
	if err != nil {
		left = 0
		for _, s := range all {
			left += len(s)
		}
		h.Log.Error("values are missing in the fleet's percentiles", "values", left, "reason", err.Error())
	}
	h.count(visits[0].steps[0].kind, contract.MetricUnsampled, left)
}
