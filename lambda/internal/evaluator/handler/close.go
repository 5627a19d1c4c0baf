package handler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
	"github.com/defenderhub/defenderhub/lambda/internal/invocation"
)

// closeRequest is [contract.CloseRequest].
type closeRequest struct {
	Partition  int       `json:"partition"`
	Partitions int       `json:"partitions"`
	At         time.Time `json:"at"`
}

func (r closeRequest) validate() error {
	if r.Partitions < 1 || r.Partition < 0 || r.Partition >= r.Partitions || r.At.IsZero() {
		return fmt.Errorf("request to close partition %d of %d at %v, want one from 0 to the last, and a time", r.Partition, r.Partitions, r.At)
	}
	return nil
}

// close judges silent devices up to the time of the request, sends unconfirmed transitions again,
// and merges the fleet's measurements. It stops before its deadline; the rest is due in the next
// minute.
func (h *Handler) close(ctx context.Context, r closeRequest) error {
	if err := r.validate(); err != nil {
		return err
	}
	if r.Partitions > 1 {
		h.count(contract.CloserSource(r.Partition), contract.MetricRuns, 1)
	}
	if err := h.readGenerations(ctx); err != nil {
		return err
	}
	now, known, err := h.reached(ctx, r.At)
	if err != nil {
		return err
	}
	if !known {
		return nil
	}
	var judged atomic.Int64
	var mu sync.Mutex
	var faults []error
	var shards []int
	for s := r.Partition; s < contract.StateDueShards; s += r.Partitions {
		shards = append(shards, s)
	}
	forEach(shards, func(shard int) {
		n, err := h.closeShard(ctx, shard, now)
		judged.Add(int64(n))
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			faults = append(faults, fmt.Errorf("shard %d: %w", shard, err))
		}
	})
	unjudged := errors.Join(faults...)
	if keys := h.keysOf(r); len(keys) > 0 && ctx.Err() == nil {
		if err := h.Fleet.Compact(ctx, keys, now); err != nil {
			faults = append(faults, fmt.Errorf("fleet: %w", err))
		}
	}
	h.Log.Info("closed", "at", r.At, "upTo", now, "partition", r.Partition, "judged", judged.Load(), "left", ctx.Err() != nil)
	if ctx.Err() != nil {
		h.count(contract.MetricSourceClose, contract.MetricUnfinished, 1)
		if judged.Load() > 0 || unjudged == nil {
			return nil // the next run resumes
		}
		return fmt.Errorf("no device was judged before the time was over: %w", unjudged)
	}
	return errors.Join(faults...)
}

// closeShard judges the things of a shard, the longest due first.
func (h *Handler) closeShard(ctx context.Context, shard int, now time.Time) (judged int, err error) {
	var fault error
	lookups, cancel := invocation.Half(ctx)
	defer func() { cancel() }()
	for after, more := state.Page(nil), true; more; more = after != nil {
		if ctx.Err() != nil {
			return judged, ctx.Err()
		}
		var subjects []string
		if subjects, after, err = h.Store.Due(ctx, shard, now, after); err != nil {
			return judged, err
		}
		visits := make([]*visit, len(subjects))
		for i, subject := range subjects {
			visits[i] = &visit{subject: subject, closing: true, steps: []step{{at: now, kind: contract.MetricSourceClose}}}
		}
		h.visitAll(ctx, lookups, visits)
		if lookups.Err() == nil { // else AWS IoT hangs: the next pages do not wait for it again
			cancel()
			lookups, cancel = invocation.Half(ctx)
		}
		for _, v := range visits {
			if v.err == nil {
				judged++
			}
		}
		if err := h.failure(ctx, visits); err != nil {
			fault = err
		}
	}
	return judged, fault
}

// failure returns why a thing was not judged, so that a function that cannot write, or cannot
// read another version's state, fails visibly. Throttling by AWS IoT does not count: it may pass
// by the next minute.
func (h *Handler) failure(ctx context.Context, visits []*visit) error {
	for _, v := range visits {
		if v.err != nil && (ctx.Err() != nil || !errors.Is(v.err, certificate.ErrUnresolved)) {
			return v.err
		}
	}
	return nil
}

// keysOf returns the populations that the partition merges.
func (h *Handler) keysOf(r closeRequest) []engine.FleetKey {
	var keys []engine.FleetKey
	for i := r.Partition; i < len(h.settings.baselines); i += r.Partitions {
		keys = append(keys, h.settings.baselines[i])
	}
	return keys
}
