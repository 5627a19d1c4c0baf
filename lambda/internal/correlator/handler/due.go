package handler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/entity"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/state"
)

// handleDue ends composite findings whose window has passed, counts the devices of campaigns, and
// sends unsent messages. It stops before its deadline; the rest is due in the next minute.
func (h *Handler) handleDue(ctx context.Context, home entity.Home, at time.Time) error {
	shards := make([]int, state.DueShards)
	for i := range shards {
		shards[i] = i
	}
	var mu sync.Mutex
	var faults []error
	forEach(shards, func(shard int) error {
		err := h.shardDue(ctx, home, shard, at)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			faults = append(faults, err)
		}
		return nil
	})
	if ctx.Err() != nil {
		h.count(contract.MetricSourceClose, contract.MetricUnfinished, 1)
	}
	return errors.Join(faults...)
}

func (h *Handler) shardDue(ctx context.Context, home entity.Home, shard int, at time.Time) error {
	var faults []error
	for after, more := state.Page(nil), true; more; more = after != nil {
		if ctx.Err() != nil {
			return errors.Join(append(faults, ctx.Err())...)
		}
		partitions, next, err := h.Store.Due(ctx, shard, at, after)
		if err != nil {
			return errors.Join(append(faults, err)...)
		}
		after = next
		for _, p := range partitions {
			if err := h.handleOne(ctx, home, p, at); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", p, err))
			}
		}
	}
	return errors.Join(faults...)
}

func (h *Handler) handleOne(ctx context.Context, home entity.Home, partition string, at time.Time) error {
	record, err := h.Store.Subject(ctx, partition)
	if err != nil || record.Revision == 0 {
		return err
	}
	d, err := read(record, incident.Entity{})
	if err != nil {
		return err
	}
	w := &work{subject: record.Partition, entity: d.Entity}
	if !strings.HasPrefix(w.subject, campaignPrefix) {
		return h.visit(ctx, home, w, nil, at, false)
	}
	for _, r := range h.rules {
		if r.Campaign() && strings.HasPrefix(w.subject, campaignPrefix+r.Digest+"#") {
			w.rule = r
		}
	}
	return h.tick(ctx, home, w, at)
}
