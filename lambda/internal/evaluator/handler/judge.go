package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/transition"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/fleet"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
)

// step is new information about a thing up to a time. id identifies the record, "" in the closer.
type step struct {
	id     string
	at     time.Time
	kind   string
	points []engine.Datapoint
}

// visit is an invocation's work on one thing.
type visit struct {
	subject, principal string
	// identified is the registry's answer, if known already.
	identified *registry.Thing
	records    []*record
	steps      []step
	// closing reports whether the closer makes the visit; see [Handler.close].
	closing bool

	// item is what is stored, outcome the result of judging it.
	item    state.Item
	outcome outcome
	// send reports whether the item's outbox must be sent.
	send bool
	// connections are the answers of AWS IoT by client ID.
	connections map[string]connection
	// unresolved is why the registry did not answer.
	unresolved error
	err        error
}

// outcome is the result of the steps of a thing.
type outcome struct {
	evaluator   engine.Evaluator
	state       engine.State
	clock       time.Time
	changed     bool
	transitions []engine.Transition
	samples     engine.Samples
	stats       map[string]engine.Stats // by kind
	thing       registry.Thing
	knownAt     time.Time
	// was is the thing that the device was known as before.
	was registry.Thing
	// gone is the next [state.Item.Gone].
	gone state.Gone
	// checkAt is the next [state.Item.CheckAt]; for the zero time, plannedCheck chooses it.
	checkAt time.Time
}

// population makes concurrent judgments use the fleet one at a time.
type population struct {
	mu    sync.Mutex
	fleet *fleet.Fleet
}

// Statistic implements [engine.Fleet].
func (p *population) Statistic(k engine.FleetKey, s defender.Statistic, start int64) (engine.Range, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fleet.Statistic(k, s, start)
}

// Baseline implements [engine.Fleet].
func (p *population) Baseline(k engine.FleetKey, c defender.Confidence, start int64) (engine.Range, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fleet.Baseline(k, c, start)
}

func (p *population) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fleet.Err()
}

// run makes the visit's steps. A thing's time never goes back.
func run(e engine.Evaluator, i state.Item, steps []step, f *population) (outcome, error) {
	e.Fleet = f
	out := outcome{state: i.State, clock: i.Clock, samples: engine.Samples{}, stats: map[string]engine.Stats{}}
	for _, s := range steps {
		if s.at.After(out.clock) {
			out.clock = s.at
		}
		r := e.Step(i.Subject, out.state, s.points, out.clock)
		out.state, out.changed = r.State, out.changed || r.Changed
		out.transitions = append(out.transitions, r.Transitions...)
		maps.Copy(out.samples, r.Samples)
		sum := out.stats[s.kind]
		sum.Late, sum.Early, sum.Unread, sum.Unjudged = sum.Late+r.Stats.Late, sum.Early+r.Stats.Early, sum.Unread+r.Stats.Unread, sum.Unjudged+r.Stats.Unjudged
		sum.Sampled += r.Stats.Sampled
		sum.Unconfirmed += r.Stats.Unconfirmed
		out.stats[s.kind] = sum
	}
	out.evaluator = e
	if err := f.err(); err != nil {
		return outcome{}, fmt.Errorf("fleet: %w", err)
	}
	return out, nil
}

// judge makes the steps with the profiles that apply to the thing. It asks the registry only if
// needed: if a profile with targets would store, report or sample something, and if an alarm
// needs the thing's name.
//
// Without targets an alarm does not wait for the name: when many devices violate a behavior at
// once, AWS IoT throttles for hours.
func (h *Handler) judge(lookups context.Context, v *visit, i state.Item, f *population) (outcome, error) {
	e := engine.Evaluator{Behaviors: h.behaviors.known(), Lateness: h.settings.lateness(), Connection: h.connection(lookups, v)}
	now := i.Clock
	if last := v.steps[len(v.steps)-1].at; last.After(now) {
		now = last
	}
	thing, knownAt := i.Thing, i.KnownAt
	if v.identified != nil {
		thing, knownAt = *v.identified, now
	}
	fresh := !knownAt.IsZero() && now.Sub(knownAt) <= h.settings.membership
	if fresh {
		e.Watches = h.watches(thing)
	}
	gone := v.goneBefore(i)
	if gone.Reason != "" {
		e.Retired = h.retired(thing, gone.Retirement)
	}
	out, err := run(e, i, v.steps, f)
	if err != nil {
		return outcome{}, err
	}
	checkAt, checks := i.CheckAt, v.checks(i, now)
	asks := !fresh && (len(out.transitions) > 0 || h.targeted(out))
	if asks || checks {
		found, end, err := h.askRegistry(lookups, v, i, checks, now)
		v.unresolved = err
		if checks {
			checkAt = checkAfter(err, now)
		}
		switch {
		case err == nil:
			thing, knownAt = found, now
			asked := h.Now()
			if now.After(asked) {
				asked = now
			}
			gone = stillGone(gone, end, found, asked)
			e.Watches, e.Retired = h.watches(thing), h.retired(thing, gone.Retirement)
		case certificate.CanRetry(err) && len(h.settings.targets) > 0 && !(checks && len(out.transitions) == 0):
			return outcome{}, fmt.Errorf("registry: %w", err)
		case knownAt.IsZero():
			e.Watches = func(profile string) bool { return h.settings.targets[profile] == nil }
		default:
			e.Watches = h.watches(thing)
		}
		if out, err = run(e, i, v.steps, f); err != nil {
			return outcome{}, err
		}
	}
	out.thing, out.knownAt, out.was, out.checkAt, out.gone = thing, knownAt, i.Thing, checkAt, gone
	return out, nil
}

func (h *Handler) watches(t registry.Thing) func(string) bool {
	return func(profile string) bool { return h.settings.watches(profile, t) }
}

// targeted reports whether a profile with targets may affect the outcome.
func (h *Handler) targeted(out outcome) bool {
	if len(h.settings.targets) == 0 {
		return false
	}
	for p := range out.samples {
		if h.settings.targets[p.Key.Profile] != nil {
			return true
		}
	}
	return out.changed
}

const (
	// maxConflicts is how often a thing is judged again after a write conflict.
	maxConflicts = 8
	// resendAfter is how long an outbox waits for the closer.
	resendAfter = time.Minute
	// keep is how long a thing without other state keeps its clock: longer than a message may be
	// retried.
	keep = 24 * time.Hour
)

// settle judges a thing and writes the changes of state and outbox at once.
func (h *Handler) settle(ctx, lookups context.Context, v *visit, f *population) error {
	for conflicts := 0; ; conflicts++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		out, err := h.judge(lookups, v, v.item, f)
		if err != nil {
			return err
		}
		v.outcome = out
		next := v.item
		next.Revision++
		next.State, next.Clock, next.Thing, next.KnownAt, next.CheckAt, next.Gone = out.state, out.clock, out.thing, out.knownAt, out.checkAt, out.gone
		next.Principal = cmp.Or(v.principal, next.Principal)
		next.Outbox = append(next.Outbox[:len(next.Outbox):len(next.Outbox)], messages(v.subject, out)...)
		next = sealed(out.evaluator, next)
		v.send = v.closing && len(next.Outbox) > 0
		planned := v.closing && len(next.Outbox) == 0 && !next.Due.Equal(v.item.Due) || !out.checkAt.Equal(v.item.CheckAt)
		if !out.changed && len(out.transitions) == 0 && !planned {
			return nil
		}
		err = h.Store.Put(ctx, next)
		if errors.Is(err, state.ErrTooLarge) {
			next = bare(next)
			err = h.Store.Put(ctx, next)
		}
		if errors.Is(err, state.ErrConflict) && conflicts < maxConflicts {
			if v.item, err = h.Store.Get(ctx, v.subject); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		v.item, v.send = next, len(next.Outbox) > 0
		return nil
	}
}

// bare returns the item without measured values, which only findings show. Devices choose their
// length.
func bare(i state.Item) state.Item {
	i.State, i.Outbox = i.State.Bare(), slices.Clone(i.Outbox)
	for j := range i.Outbox {
		i.Outbox[j].Transition.Value = iotapi.Value{}
	}
	return i
}

// lost reports whether retrying is useless. An item that is too large may fit after its outbox is
// sent.
func (v *visit) lost() bool {
	return errors.Is(v.err, state.ErrState) || errors.Is(v.err, state.ErrTooLarge) && len(v.item.Outbox) == 0
}

// sealed returns the item with the time at which the closer must check it, or at which it may be
// deleted. It keeps an earlier due time: rewriting it for a device that reports often costs more
// than one extra check.
func sealed(e engine.Evaluator, i state.Item) state.Item {
	earlier := i.Due
	i.Due, i.Expires = e.Due(i.State), time.Time{}
	i.CheckAt = plannedCheck(e, i)
	if !i.CheckAt.IsZero() && (i.Due.IsZero() || i.CheckAt.Before(i.Due)) {
		i.Due = i.CheckAt
	}
	if earlier.After(i.Clock) && earlier.Before(i.Due) {
		i.Due = earlier
	}
	if len(i.Outbox) > 0 {
		if resend := i.Clock.Add(resendAfter); i.Due.IsZero() || resend.Before(i.Due) {
			i.Due = resend
		}
	}
	if i.Due.IsZero() && i.State.Transient() {
		i.Expires = i.Clock.Add(keep)
	}
	return i
}

// messages returns the transitions as the forwarder reads them.
func messages(subject string, out outcome) []transition.Message {
	all := make([]transition.Message, len(out.transitions))
	for i, t := range out.transitions {
		all[i] = transition.Message{Thing: subject, ClientID: subject, Transition: t}
		if out.knownAt.IsZero() {
			continue
		}
		thing := out.thing
		if t.EndReason == engine.ThingDeleted || t.EndReason == engine.ThingRenamed {
			thing = out.was // the finding is about the former thing
		}
		all[i].Registered = aws.Bool(thing.Registered)
		if thing.Name != "" {
			all[i].Thing = thing.Name
		}
	}
	return all
}
