package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/entity"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/state"
)

// maxCampaignParts is how many parts of a campaign are read. A campaign of more devices says "at
// least".
const maxCampaignParts = 10_000

// keepPart is how long the parts of a period are kept after they can no longer count.
const keepPart = 24 * time.Hour

// visitCampaign writes one record for each device that was seen, in the campaign's shards, and then
// decides whether that makes or ends the campaign. Devices that join an active campaign write
// nothing else: the schedule counts them.
func (h *Handler) visitCampaign(ctx context.Context, home entity.Home, w *work, truth map[string]incident.Part, now time.Time) error {
	var ended, late atomic.Bool
	byPart := map[string][]sighting{}
	for _, s := range w.seen {
		key := s.part.DeviceKey()
		byPart[key] = append(byPart[key], s)
	}
	errs := forEach(slices.Sorted(maps.Keys(byPart)), func(key string) error {
		part, err := h.storePart(ctx, state.PartKey(w.subject, w.period(now), key), byPart[key], truth, now)
		if err != nil {
			return err
		}
		if part.Newest().State != incident.Open || len(part.Matches[w.rule.Digest]) == 0 {
			ended.Store(true)
		}
		for _, s := range byPart[key] {
			if s.part.Newest().Order.Compare(part.Newest().Order) < 0 {
				late.Store(true)
			}
		}
		return nil
	})
	if err := errors.Join(errs...); err != nil {
		var tied tiedError
		for _, err := range errs {
			var one tiedError
			if errors.As(err, &one) {
				tied = append(tied, one...)
			}
		}
		if len(tied) > 0 {
			return tied
		}
		return err
	}
	return h.decideCampaign(ctx, home, w, ended.Load(), late.Load(), now)
}

// storePart adds states to the part of one device, and returns it.
func (h *Handler) storePart(ctx context.Context, key state.Key, seen []sighting, truth map[string]incident.Part, now time.Time) (incident.Part, error) {
	for range attempts {
		record, err := h.Store.Get(ctx, key)
		if err != nil {
			return incident.Part{}, err
		}
		var parts []incident.Part
		if record.Revision > 0 {
			parts = make([]incident.Part, 1)
			if err := json.Unmarshal(record.Doc, &parts[0]); err != nil {
				return incident.Part{}, fmt.Errorf("part of %s: %w", key.Partition, err)
			}
		}
		after, tied := apply(parts, seen, truth)
		if len(tied) > 0 {
			return incident.Part{}, tiedError(tied)
		}
		part := after[0]
		text, err := json.Marshal(part)
		if err != nil {
			return incident.Part{}, fmt.Errorf("part of %s: %w", key.Partition, err)
		}
		if string(text) == string(record.Doc) {
			return part, nil
		}
		record.Doc, record.Expires = text, now.Add(keepPart+2*h.longest)
		record.Revision++
		if err = h.Store.Put(ctx, record); !errors.Is(err, state.ErrConflict) {
			return part, err
		}
	}
	return incident.Part{}, fmt.Errorf("part of %s after %d attempts: %w", key.Partition, attempts, state.ErrConflict)
}

// decideCampaign opens a campaign, or ends it with its last part. An active campaign reads its parts
// only if one has ended, and all of them only if none is left or an event was late.
func (h *Handler) decideCampaign(ctx context.Context, home entity.Home, w *work, ended, late bool, now time.Time) error {
	for range attempts {
		record, d, err := h.open(ctx, w.subject, w.entity)
		if err != nil {
			return err
		}
		now := d.after(now)
		active := d.Shown[w.rule.Digest].State == asff.Active
		switch {
		case active && !ended && !late:
			return nil
		case active && !late:
			if still, err := h.stillOpen(ctx, w, now); err != nil || still {
				return err
			}
		}
		at, _, err := h.countCampaign(ctx, home, w, &d, now)
		if err != nil || len(d.Outbox) == 0 {
			return err
		}
		record.Due = at.Add(retryOutbox)
		if err := h.put(ctx, &record, &d, at); errors.Is(err, state.ErrConflict) {
			continue
		} else if err != nil {
			return err
		}
		// The outbox stays, so that opening a campaign is one write. The schedule sends it a second
		// time, counts the devices, and empties it.
		if err := h.sendAll(ctx, d.Outbox); err != nil {
			h.Log.Warn("campaign was not sent and is retried", "subject", w.subject, "reason", err.Error())
		}
		return nil
	}
	return fmt.Errorf("%s after %d attempts: %w", w.subject, attempts, state.ErrConflict)
}

// stillOpen reports whether a part counts, without reading more than it needs. A part that began in
// one period may have ended in a later one, which is therefore read first.
func (h *Handler) stillOpen(ctx context.Context, w *work, now time.Time) (bool, error) {
	found := false
	var damaged error
	known := map[string]incident.Part{}
	for period := h.lastPeriod(w, now); period >= w.period(now.Add(-w.rule.Window())) && !found; period-- {
		err := h.Store.Parts(ctx, w.subject, period, func(docs [][]byte) bool {
			parts, err := readParts(docs)
			damaged = errors.Join(damaged, err)
			for _, p := range parts {
				key := p.DeviceKey()
				if later, ok := known[key]; ok {
					p = incident.Merge([]incident.Part{p, later})[0]
				}
				known[key] = p
				found = found || len(incident.Replay(w.rule, []incident.Part{p}, now).Counted) > 0
			}
			return !found && err == nil
		})
		if err = errors.Join(err, damaged); err != nil {
			return false, err
		}
	}
	return found, nil
}

// period returns the number of the period that contains a time. Periods are as long as the window,
// so every part that counts is in the present one or in the one before.
func (w *work) period(at time.Time) int64 { return at.Unix() / max(w.rule.WindowSeconds, 1) }

// clockError is by how much the machine's clock may differ from that of Amazon SQS.
const clockError = 5 * time.Minute

// lastPeriod returns the last period that can have parts. A message that was delayed or retried is
// older than parts that arrived meanwhile, so its own time is not enough.
func (h *Handler) lastPeriod(w *work, now time.Time) int64 {
	return max(w.period(now), w.period(h.Now().Add(clockError)))
}

// maxPeriods limits the periods that are read after a failure of the schedule.
const maxPeriods = 20

// partsOf reads the parts that count, or have counted since the last decision. It also returns
// since when it knows all parts.
func (h *Handler) partsOf(ctx context.Context, w *work, d *document, now time.Time) (parts []incident.Part, since time.Time, err error) {
	from := now
	if clock := time.UnixMilli(d.Clock); d.Shown[w.rule.Digest].State == asff.Active && clock.Before(from) {
		from = clock
	}
	last := h.lastPeriod(w, now)
	first := max(w.period(from.Add(-w.rule.Window())), last-maxPeriods)
	var damaged error
	for period := first; period <= last; period++ {
		err := h.Store.Parts(ctx, w.subject, period, func(docs [][]byte) bool {
			some, err := readParts(docs)
			damaged = errors.Join(damaged, err)
			parts = append(parts, some...)
			return len(parts) < maxCampaignParts && err == nil
		})
		if err = errors.Join(err, damaged); err != nil {
			return nil, time.Time{}, err
		}
	}
	return incident.Merge(parts), time.Unix(first*w.rule.WindowSeconds, 0), nil
}

func readParts(docs [][]byte) ([]incident.Part, error) {
	parts := make([]incident.Part, len(docs))
	for i, doc := range docs {
		if err := json.Unmarshal(doc, &parts[i]); err != nil {
			return nil, fmt.Errorf("part of a campaign: %w", err)
		}
	}
	return parts, nil
}

// countCampaign reads all parts and adds what changed to the outbox. It returns the time of the
// decision, and when the schedule must count again. The time is not before the newest event of a
// part: devices that join write only their own parts, so the campaign's clock may be behind them.
func (h *Handler) countCampaign(ctx context.Context, home entity.Home, w *work, d *document, now time.Time) (at, next time.Time, err error) {
	parts, since, err := h.partsOf(ctx, w, d, now)
	if err != nil {
		return now, time.Time{}, err
	}
	now = incident.Latest(parts, now)
	if d.Truncated = len(parts) >= maxCampaignParts; d.Truncated {
		h.count(unknownProduct, contract.MetricTruncated, 1)
	}
	o := incident.Resume(w.rule, parts, now, d.Shown[w.rule.Digest].before(incident.Known(parts, since), w.rule))
	was := d.Shown[w.rule.Digest].State
	if _, err := h.show(ctx, home, w.rule, d, o, nil, now); err != nil { // it is the only one
		return now, time.Time{}, err
	}
	switch {
	case !o.Active && was == asff.Active:
		// A device that joined meanwhile saw an active campaign, and left the counting to the schedule.
		return now, now.Add(retryOutbox), nil
	case !o.Active:
		return now, time.Time{}, nil
	}
	s := d.Shown[w.rule.Digest]
	age := now.Sub(time.UnixMilli(s.Since))
	return now, earliest(earliest(o.Next, s.repeatAt()), now.Add(min(max(age/10, retryOutbox), 15*time.Minute))), nil
}

// tick counts the devices of a campaign that is due.
func (h *Handler) tick(ctx context.Context, home entity.Home, w *work, now time.Time) error {
	for range attempts {
		record, d, err := h.open(ctx, w.subject, w.entity)
		if err != nil {
			return err
		}
		now := d.after(now)
		var next time.Time
		if w.rule.Digest == "" { // the rule is not deployed any more: the forwarder archives the finding
			next = d.drop(nil, now)
		} else if now, next, err = h.countCampaign(ctx, home, w, &d, now); err != nil {
			return err
		}
		if len(d.Outbox) == 0 {
			record.Due = next
			if err = h.put(ctx, &record, &d, now); errors.Is(err, state.ErrConflict) {
				continue
			}
			return err
		}
		record.Due = now.Add(retryOutbox)
		if err := h.put(ctx, &record, &d, now); errors.Is(err, state.ErrConflict) {
			continue
		} else if err != nil {
			return err
		}
		return h.send(ctx, record, d, next, now)
	}
	return fmt.Errorf("%s after %d attempts: %w", w.subject, attempts, state.ErrConflict)
}
