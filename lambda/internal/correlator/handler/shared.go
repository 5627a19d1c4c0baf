package handler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/entity"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/state"
)

// maxUsers is how many devices are updated at once with a finding about a resource that they share,
// of those with parts of their own. The others are updated with their next finding.
const maxUsers = 100

// used returns the shared resources of a device and the findings about them. Before it reads them
// it links the device to them, so that an invocation that writes such a finding later finds the
// device.
func (h *Handler) used(ctx context.Context, home entity.Home, subject string, d *document, now time.Time) (uses []string, parts []incident.Part, err error) {
	uses, err = h.Entities.Uses(ctx, home, d.Entity, now)
	if err != nil && !certificate.CanRetry(err) {
		h.Log.Warn("shared resources of a device cannot be looked up", "device", d.Entity.Name, "reason", err.Error())
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if until := now.Add(2*h.longest + keep); !slices.Equal(uses, d.Uses) || d.LinkedTo < now.Add(h.longest+keep/2).UnixMilli() {
		for _, u := range uses {
			if err := h.Store.Link(ctx, sharedSubject(home, u), subject, until); err != nil {
				return nil, nil, err
			}
		}
		d.Uses, d.LinkedTo = uses, until.UnixMilli()
	}
	for _, u := range uses {
		_, shared, err := h.open(ctx, sharedSubject(home, u), incident.Entity{})
		if err != nil {
			return nil, nil, err
		}
		for _, p := range shared.Parts {
			p.Shared = true
			if i := slices.IndexFunc(parts, func(o incident.Part) bool { return o.Finding == p.Finding }); i < 0 {
				parts = append(parts, p)
			}
		}
	}
	return uses, parts, nil
}

// visitShared stores the findings about a shared resource, then visits the devices that use it and
// have parts of their own. It visits them even if nothing changed: an earlier attempt may have
// failed in between.
func (h *Handler) visitShared(ctx context.Context, home entity.Home, w *work, truth map[string]incident.Part, now time.Time) error {
	if err := h.storeShared(ctx, w, truth, now); err != nil {
		return err
	}
	devices, more, err := h.Store.Users(ctx, w.subject, maxUsers)
	if err != nil {
		return err
	}
	if more {
		h.count(unknownProduct, contract.MetricTruncated, 1)
	}
	return errors.Join(forEach(devices, func(device string) error {
		return h.visit(ctx, home, &work{subject: device, entity: entityOf(device)}, nil, now, true)
	})...)
}

func (h *Handler) storeShared(ctx context.Context, w *work, truth map[string]incident.Part, now time.Time) error {
	for range attempts {
		record, d, err := h.open(ctx, w.subject, incident.Entity{})
		if err != nil {
			return err
		}
		before := record.Doc
		parts, tied := apply(d.Parts, w.seen, truth)
		if len(tied) > 0 {
			return tiedError(tied)
		}
		now := d.after(now)
		d.Parts = forget(parts, now.Add(-keepShared))
		h.truncate(&d)
		if changed, err := d.changes(before); err != nil || !changed {
			return err
		}
		err = h.putUntil(ctx, &record, &d, now, now.Add(keepShared))
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("%s after %d attempts: %w", w.subject, attempts, state.ErrConflict)
}

// entityOf returns the device of a subject.
func entityOf(subject string) incident.Entity {
	parts := strings.SplitN(subject, "#", 4)
	if len(parts) < 4 {
		return incident.Entity{}
	}
	return incident.Entity{Account: parts[1], Region: parts[2], Kind: correlation.Client, Name: parts[3]}
}
