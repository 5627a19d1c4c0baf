package engine

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"time"
)

// Evaluator judges things against behaviors.
type Evaluator struct {
	// Behaviors that watch the thing, of all profiles.
	Behaviors []Compiled
	// Lateness is how late events may arrive; see [Lateness]. Within it their order and duplicates
	// change no transition. An alarm is raised or cleared this much later, when all earlier events
	// have arrived.
	//
	// A conforming metric value of a device without state is not recorded. So one within Lateness
	// after the first violating one never counts: the result would depend on their order. AWS
	// requires 300 s between device reports, so a lower bound ignores no report.
	Lateness time.Duration
	// Fleet returns statistical thresholds and baselines. Without it the behaviors that need
	// them are not judged.
	Fleet Fleet
	// Watches reports whether the thing is among the targets of a profile; nil: of each. The
	// state of other profiles is dropped, except open alarms: silence invalidates them, as in
	// Detect.
	Watches func(profile string) bool
	// Retired returns why the registry ends alarms of a profile; nil: it ends none. Set it only
	// if the registry answered.
	Retired func(profile string) Retirement
	// Connection returns a client's present connection from AWS IoT, ok false if AWS IoT did not
	// answer. Step calls it before a window without events changes an alarm, and judges the
	// window only if a session is confirmed. nil: none is confirmed.
	Connection func(clientID string) (c Connection, ok bool)
}

// Connection is the answer of AWS IoT to GetConnection. Lifecycle events alone do not prove
// that a session was open: a disconnected event may be lost, and a client's last will may
// be published long after its session.
// https://docs.aws.amazon.com/iot/latest/apireference/API_iotdata_GetConnection.html
type Connection struct {
	Connected bool
	// Since is when the client connected or disconnected, in ms; 0 if AWS IoT does not return it,
	// as for a client that disconnected more than 30 minutes ago.
	Since int64
}

func (e Evaluator) watches(c *Compiled) bool { return e.Watches == nil || e.Watches(c.Profile) }

// Stats counts what happened to datapoints.
type Stats struct {
	// Judged were an input of at least one behavior.
	Judged int
	// Late arrived after the lateness bound, Early are more than the bound in the future.
	// Neither was judged.
	Late, Early int
	// Unread have another type than their metric, invalid elements, or no client ID where a
	// dimension needs one.
	Unread int
	// Sampled are judged lists of which the device sent a sample.
	Sampled int
	// Unjudged had no threshold yet.
	Unjudged int
	// Unconfirmed windows without events were not judged, because AWS IoT did not return whether
	// a session was open.
	Unconfirmed int
}

// Result is the result of a step.
type Result struct {
	State State
	// Changed is true if State must be written. A transient state that has become empty need not
	// be: it expires.
	Changed     bool
	Transitions []Transition
	// Samples are for the fleet's sketches. A metric value is sampled at each delivery.
	Samples Samples
	Stats   Stats
}

// Step applies datapoints of a thing, in any order, and the time. It does not write to its
// arguments.
//
// now is the progress of the transport: every event before now minus Lateness has been passed to
// Step. It never decreases for a thing. During a backlog after an outage, now is when the newest
// message of the batch was sent, not the wall clock: otherwise the whole backlog would be late.
func (e Evaluator) Step(thing string, s State, points []Datapoint, now time.Time) Result {
	r := step{Evaluator: e, thing: thing, now: now.UnixMilli(), lateness: e.Lateness.Milliseconds()}
	r.State = s.clone()
	r.dropStale()
	for _, d := range points {
		switch {
		case d.Time+r.lateness < r.now:
			r.Stats.Late++
			continue
		case d.Time-r.lateness > r.now:
			r.Stats.Early++
			continue
		}
		needed := r.needsSession(d)
		if needed {
			r.State.presence.add(mark{d.Time, d.Link, d.Session, r.client(d)})
		}
		r.take(d, needed)
	}
	for i := range e.Behaviors {
		c := &e.Behaviors[i]
		t := r.State.tracks[c.key]
		if t == nil {
			continue
		}
		if r.retire(c, t) {
			delete(r.State.tracks, c.key)
			continue
		}
		if r.watches(c) {
			c.kind.settle(&r, c, t)
		} else {
			r.silence(c, t, r.now-r.lateness)
		}
		if r.finished(c, t) {
			delete(r.State.tracks, c.key)
		}
	}
	r.prune()
	if len(r.State.tracks) == 0 {
		r.State.tracks = nil
	}
	r.Changed = !(s.Transient() && r.State.Empty()) && !same(s, r.State)
	return r.Result
}

func same(a, b State) bool {
	return len(a.tracks) == len(b.tracks) && slices.Equal(a.presence, b.presence) &&
		(len(a.tracks) == 0 || reflect.DeepEqual(a.tracks, b.tracks))
}

// step is one call of Step.
type step struct {
	Evaluator
	Result
	thing         string
	now, lateness int64
}

// dropStale drops the state of behaviors that were removed, or that no longer watch the thing. A
// changed behavior keeps its alarm until the thing is judged again.
func (r *step) dropStale() {
	for _, key := range slices.Sorted(maps.Keys(r.State.tracks)) {
		t := r.State.tracks[key]
		i := slices.IndexFunc(r.Behaviors, func(c Compiled) bool { return c.key == key })
		if i < 0 {
			r.dropRemoved(key, t)
			continue
		}
		switch c := &r.Behaviors[i]; {
		case !r.watches(c) && !t.Alarm.open():
			delete(r.State.tracks, key)
		case !r.watches(c):
			r.State.tracks[key] = alarmOnly(t)
		case t.Form != c.form:
			r.State.tracks[key] = r.reformed(c, t)
		}
	}
}

// dropRemoved drops the state of a removed behavior. It keeps an open alarm until silence would
// invalidate it. If the behavior is added again before then, the alarm is invalidated, because its
// finding may still be active, and the thing is judged from the start.
func (r *step) dropRemoved(key string, t *track) {
	back := slices.IndexFunc(r.Behaviors, func(c Compiled) bool { return c.name() == nameOf(key) })
	if back < 0 && t.Alarm.open() && r.now-r.lateness <= t.Alarm.silentSince() {
		r.State.tracks[key] = alarmOnly(t)
		return
	}
	if back >= 0 && t.Alarm.open() {
		// Its time is just after the start of the alarm, as for every finding of a removed
		// behavior, and before all later transitions.
		r.report(&r.Behaviors[back], AlarmInvalidated, t.Alarm.Since+1, t.Alarm.Since, nil)
	}
	delete(r.State.tracks, key)
}

// alarmOnly returns the state of an open alarm that is not judged. It keeps only the kind of the
// form, so that the thing is judged from the start if it returns to the targets.
func alarmOnly(t *track) *track {
	kept := &track{Form: t.Form[:min(1, len(t.Form))], Settled: t.Settled, Offline: t.Offline, Alarm: t.Alarm}
	kept.Alarm.Run = 0
	return kept
}

// reformed returns the state of c that begins with the alarm of t, its state before c was changed.
func (r *step) reformed(c *Compiled, t *track) *track {
	fresh := r.newTrack(c)
	if t.Alarm.open() {
		fresh.Alarm = t.Alarm
		fresh.Alarm.Run = 0 // counted by the behavior before the change
	}
	c.kind.carry(r, c, t, fresh)
	return fresh
}

func (r *step) newTrack(c *Compiled) *track {
	return &track{Form: c.form, Settled: c.kind.begin(c, r.now-r.lateness)}
}

// skipCurrent excludes the present window: only a part of it was recorded for c.
func (r *step) skipCurrent(c *Compiled, t *track) { t.Settled = windowStart(r.now, c.length) }

// track returns the state of c. A new state begins with an event at a time. Recorded sessions may
// be older than the state of a lower bound. So in the window in which that state began, sessions do
// not prove that events are missing.
func (r *step) track(c *Compiled, at int64) *track {
	began := windowStart(at, c.length)
	t := r.State.tracks[c.key]
	if t == nil {
		t = r.newTrack(c)
		if c.lower && c.kind.silence(c) != silenceIgnored {
			t.From = began
		}
		r.State.tracks[c.key] = t
	}
	t.From = min(t.From, began)
	return t
}

// needsSession reports whether what d says about the session is recorded. A conforming
// message is not, unless something is written for it anyway.
func (r *step) needsSession(d Datapoint) bool {
	if d.Link == NoLink {
		return false
	}
	for i := range r.Behaviors {
		if c := &r.Behaviors[i]; r.watches(c) && c.kind.needsSession(c, d) {
			return true
		}
	}
	return false
}

// client returns the client ID of a datapoint's session, "" if it is the thing itself.
func (r *step) client(d Datapoint) string {
	if d.ClientID == r.thing {
		return ""
	}
	return d.ClientID
}

// confirmed reports whether one of the clients has a session that began before from. If a client
// is not connected it records the end of its session, of which no event arrived.
func (r *step) confirmed(clients []string, from int64) bool {
	failed := false
	for _, client := range clients {
		var c Connection
		ok := false
		if r.Connection != nil {
			c, ok = r.Connection(cmp.Or(client, r.thing))
		}
		switch {
		case !ok || c.Connected && c.Since <= 0:
			failed = true
		case !c.Connected:
			r.State.presence.end(client, cmp.Or(max(c.Since, 0), r.now))
		case c.Since <= from-ClockSkew.Milliseconds():
			return true
		}
	}
	if failed {
		r.Stats.Unconfirmed++
	}
	return false
}

// take passes a datapoint to the behaviors that need it. session reports whether its session was
// recorded.
func (r *step) take(d Datapoint, session bool) {
	taken := false
	for i := range r.Behaviors {
		c := &r.Behaviors[i]
		if !r.watches(c) {
			continue
		}
		if session && c.kind.silence(c) == silenceAlways {
			r.track(c, d.Time)
		}
		if c.confirm.within > 0 && d.Link == Connected {
			r.connect(c, d.Time)
		}
		takes, known := c.kind.takes(c, d)
		if !known {
			r.Stats.Unread++
		}
		if takes {
			taken = true
			c.kind.take(r, c, d)
		}
	}
	if taken {
		r.Stats.Judged++
		if d.sampled() != nil {
			r.Stats.Sampled++
		}
	}
}

// collect adds an event to its window's tally, and returns the window; nil if the event cannot be
// counted.
func (r *step) collect(c *Compiled, d Datapoint, limit int64) *window {
	n := d.Value.Count
	if n == nil {
		r.Stats.Unread++
		return nil
	}
	w := r.window(c, d.Time)
	if w == nil {
		return nil
	}
	if w.Tally == nil {
		w.Tally, w.At = &tally{}, d.Time
	}
	w.At = min(w.At, d.Time)
	w.Tally.add(d.ID, *n, limit)
	return w
}

// window returns the window of c that contains at, nil if it was judged already: no datapoint
// changes a verdict.
func (r *step) window(c *Compiled, at int64) *window {
	t := r.track(c, at)
	start := windowStart(at, c.length)
	if start <= t.Settled {
		return nil
	}
	i, found := slices.BinarySearchFunc(t.Windows, start, func(w window, start int64) int { return int(w.Start - start) })
	if !found {
		t.Windows = slices.Insert(t.Windows, i, window{Start: start})
	}
	return &t.Windows[i]
}

// finished reports whether the state of a behavior can be dropped.
func (r *step) finished(c *Compiled, t *track) bool {
	if !r.watches(c) {
		return t.Alarm.idle()
	}
	if !t.Alarm.idle() || len(t.Windows) > 0 || t.Next != 0 || t.Offline != 0 || c.keepsTraffic(t) {
		return false
	}
	if c.kind.silence(c) != silenceAlways {
		return true
	}
	_, unsettled := r.nextMark(t.Settled)
	return !unsettled && !r.State.presence.online()
}

// sessionsNeeded returns the time, in ms, since which sessions are needed to judge the window of an
// event at a time. The event may arrive as late as the bound allows.
func (c *Compiled) sessionsNeeded(at int64) int64 {
	return windowStart(at-ClockSkew.Milliseconds()-c.length.Duration().Milliseconds(), Period)
}

// prune drops the recorded sessions that no window needs any more.
func (r *step) prune() {
	if len(r.State.presence) == 0 {
		return
	}
	over := r.now - r.lateness
	oldest, tracked := over-ClockSkew.Milliseconds(), false
	for i := range r.Behaviors {
		c := &r.Behaviors[i]
		if !r.watches(c) || c.kind.silence(c) == silenceIgnored {
			continue
		}
		t := r.State.tracks[c.key]
		tracked = tracked || t != nil
		oldest = min(oldest, c.kind.sessionsFrom(c, t, over))
	}
	r.State.presence = r.State.presence.before(windowStart(oldest, Period), tracked)
}
