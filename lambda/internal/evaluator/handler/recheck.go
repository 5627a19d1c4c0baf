package handler

import (
	"cmp"
	"context"
	"hash/fnv"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
)

const (
	// checkEvery is how often the registry is asked about a device whose alarm nothing else ends.
	// Each device has its own time of day. So a million of them make 12 calls a second, of the
	// 350 DescribeThing calls that a Region allows (unverified, adjustable).
	checkEvery = 24 * time.Hour
	// checkRetry is when a check is retried after AWS IoT throttled or failed.
	checkRetry = time.Hour
)

// checks reports whether the registry must be asked again about an open alarm.
func (v *visit) checks(i state.Item, now time.Time) bool {
	return v.closing && !i.CheckAt.IsZero() && !now.Before(i.CheckAt)
}

// checkAfter returns the time of the check after one that ended with err; the zero time schedules
// it anew.
func checkAfter(err error, now time.Time) time.Time {
	if err != nil && certificate.CanRetry(err) {
		return now.Add(checkRetry)
	}
	return time.Time{}
}

// plannedCheck returns the item's next check: the scheduled one, or the next at the device's own
// time of day.
func plannedCheck(e engine.Evaluator, i state.Item) time.Time {
	if !e.Lingers(i.State) {
		return time.Time{}
	}
	if !i.CheckAt.IsZero() {
		return i.CheckAt
	}
	f := fnv.New32a()
	f.Write([]byte(i.Subject)) // never fails
	own := time.Duration(f.Sum32()) * time.Second % checkEvery
	at := i.Clock.Truncate(checkEvery).Add(own)
	if !at.After(i.Clock) {
		at = at.Add(checkEvery)
	}
	return at
}

// askRegistry looks up the device's thing, and why the stored answer no longer holds. A check
// looks up the stored thing first, because DescribeThing has the higher quota. While that thing
// exists, the device has another thing only if the certificate that connected it is attached to
// another thing alone.
func (h *Handler) askRegistry(ctx context.Context, v *visit, i state.Item, checks bool, now time.Time) (registry.Thing, engine.Retirement, error) {
	none := engine.Retirement{}
	client, principal, was := v.subject, cmp.Or(v.principal, i.Principal), i.Thing
	if was.Registered && (checks || v.closing && principal == "") {
		still, err := h.Registry.Resolve(ctx, was.Name, "", now)
		if err != nil || still.Registered && (client == was.Name || principal == "") {
			return still, none, err
		}
	}
	found, err := h.Registry.Resolve(ctx, client, principal, now)
	renamed := engine.Retirement{Reason: engine.ThingRenamed, RenamedTo: found.Name}
	switch {
	case err != nil, !was.Registered, found.Registered && found.Name == was.Name:
		return found, none, err
	case found.Registered && client != was.Name:
		return found, renamed, nil
	}
	still, err := h.Registry.Resolve(ctx, was.Name, "", now)
	switch {
	case err != nil:
		return registry.Thing{}, none, err
	case found.Registered && !still.Registered:
		return found, renamed, nil
	case found.Registered:
		return found, none, nil // another thing has its certificate, and its own still exists
	case !still.Registered:
		return found, engine.Retirement{Reason: engine.ThingDeleted}, nil
	case checks:
		return still, none, nil
	}
	return found, none, nil
}

// goneBefore returns why the registry ends the device's alarms, as an earlier visit found out. It
// holds for alarms that become due later too, until the device sends again or connects. The end of
// a session proves nothing: the session may be older.
func (v *visit) goneBefore(i state.Item) state.Gone {
	for _, s := range v.steps {
		returns := func(d engine.Datapoint) bool { return d.Link != engine.Disconnected }
		if !v.closing && s.at.After(i.Gone.At) && slices.ContainsFunc(s.points, returns) {
			return state.Gone{}
		}
	}
	return i.Gone
}

// stillGone returns why alarms end, after the registry was asked again at a time.
func stillGone(before state.Gone, end engine.Retirement, found registry.Thing, at time.Time) state.Gone {
	switch {
	case end.Reason != "":
		return state.Gone{Retirement: end, At: at}
	case before.Reason == engine.ThingDeleted && found.Registered, before.Reason == engine.ThingRenamed && found.Name != before.RenamedTo:
		return state.Gone{}
	}
	return before
}

// retired returns, for a profile, why the registry ends the alarms that have datapoints without
// events.
func (h *Handler) retired(found registry.Thing, end engine.Retirement) func(profile string) engine.Retirement {
	return func(profile string) engine.Retirement {
		switch {
		case end.Reason != "":
			return end
		case !h.settings.watches(profile, found):
			return engine.Retirement{Reason: engine.LeftTargets}
		case !found.Registered:
			return engine.Retirement{Reason: engine.NotRegistered, After: h.settings.unregistered}
		}
		return end
	}
}
