package engine

import (
	"cmp"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// settle judges, in order, what cannot change any more.
func (r *step) settle(c *Compiled, t *track) {
	switch c.kind {
	case disconnected:
		r.settleSessions(c, t)
		return
	case reporting:
		r.settleReports(c, t)
		return
	}
	for {
		w, inferred, ok := r.next(c, t)
		if !ok {
			break
		}
		v, at, value, open := r.verdict(c, t, w, inferred)
		before := len(r.Transitions)
		if len(open) > 0 && t.Alarm.moves(v, at, c.Behavior) && !r.confirmed(open, w.Start) {
			v = None
		}
		if c.confirm > 0 {
			r.confirmTraffic(c, t, w, v, at, value)
		} else {
			r.datapoint(c, t, w.At, v, at, value)
		}
		for i := range r.Transitions[before:] {
			if tr := &r.Transitions[before+i]; tr.Time == at && tr.Change != AlarmInvalidated {
				tr.Sampled = w.Sampled
			}
		}
		if c.confirm > 0 && c.kind == summed {
			t.Seen = w.Start
		}
		t.Settled = w.Start
	}
	if len(t.Windows) == 0 || c.observedAt(t.Windows[0]) > t.Alarm.silentSince() {
		r.silence(c, t, r.now-r.lateness)
	}
	r.forgetTraffic(c, t)
}

// datapoint takes the verdict about a window; first is the time of its first event.
func (r *step) datapoint(c *Compiled, t *track, first int64, v Verdict, at int64, value *iotapi.Value) {
	if v != None {
		r.silence(c, t, at)
	}
	r.observe(c, t, v, at, value)
	if t.Alarm.First == at && first != 0 {
		t.Alarm.First = first
	}
}

// next takes the oldest window that can be judged: one with events, or where it
// matters the one without that comes before.
func (r *step) next(c *Compiled, t *track) (w window, inferred, ok bool) {
	gap := window{Start: t.Settled + c.length.Duration().Milliseconds()}
	if c.infersFor(t) && (len(t.Windows) == 0 || gap.Start < t.Windows[0].Start) {
		return gap, true, gap.settles(c.length, r.lateness) < r.now
	}
	if len(t.Windows) == 0 || t.Windows[0].settles(c.length, r.lateness) >= r.now {
		return window{}, false, false
	}
	w = t.Windows[0]
	t.Windows = t.Windows[1:]
	if len(t.Windows) == 0 {
		t.Windows = nil
	}
	return w, false, true
}

// infersFor tells that windows without events are judged now: while something is open
// or counted, and for bounds from below always.
func (c *Compiled) infersFor(t *track) bool {
	return c.infers() && (!t.Alarm.idle() || c.sessions())
}

// verdict judges a window, and returns when and with what value. The verdict holds only if
// one of the clients in open, if any, had a session throughout.
func (r *step) verdict(c *Compiled, t *track, w window, inferred bool) (v Verdict, at int64, value *iotapi.Value, open []string) {
	at = c.observedAt(w)
	if c.kind == each || c.kind == pushed && !inferred {
		if w.Verdict == Conforms && w.At < t.anchor()+r.lateness {
			return None, at, nil, nil
		}
		return w.Verdict, at, w.Value, nil
	}
	if c.infers() && !(c.lower && w.Start <= t.From) {
		open = r.openThroughout(c, t, w)
	}
	if inferred && len(open) == 0 {
		return None, at, nil, nil
	}
	if c.kind == pushed {
		return Conforms, at, nil, open
	}
	n := w.Tally.count()
	if c.kind == summed {
		n = w.Tally.sum()
	}
	n = min(n, c.limit)
	value = &iotapi.Value{Count: &n}
	v = r.judge(c, *value, w.Start)
	switch few := v == Violates && c.infers() && r.tooFew(c, n, w.Start); {
	case few && len(open) == 0:
		return None, at, nil, nil // few events, but the device was not there all the time
	case !few && !inferred:
		open = nil
	}
	return v, at, value, open
}

// tooFew tells that it is for want of events that a window violates.
func (r *step) tooFew(c *Compiled, n, start int64) bool {
	level := c.Behavior.Criteria.Confidence()
	if level == "" {
		return c.lower
	}
	key, _ := c.FleetKey()
	normal, ok := r.Fleet.Baseline(key, level, start)
	return ok && float64(n) < normal.Low
}

// openThroughout returns the clients that seem to have had a session open all the window.
// Where sessions are not remembered as a rule, only those count that showed themselves
// about when the alarm's first datapoint came, or without an alarm the window's first event:
// what was known of older ones is chance.
func (r *step) openThroughout(c *Compiled, t *track, w window) []string {
	oldest := int64(0)
	if !c.sessions() {
		oldest = c.remembered(cmp.Or(t.Alarm.First, w.At))
	}
	return r.State.presence.openThroughout(w.Start, w.end(c.length)+1, oldest)
}

// observedAt is the time of the window's datapoint: of the measurement, or the last
// millisecond of a window that is judged as a whole.
func (c *Compiled) observedAt(w window) int64 {
	if w.Verdict != None {
		return w.At
	}
	return w.end(c.length)
}

// end is the last millisecond of the window.
func (w window) end(length defender.Window) int64 {
	return w.Start + length.Duration().Milliseconds() - 1
}

func (r *step) observe(c *Compiled, t *track, v Verdict, at int64, value *iotapi.Value) {
	since := t.Alarm.Since
	change := t.Alarm.observe(v, at, c.Behavior.DatapointsToAlarm(), c.Behavior.DatapointsToClear())
	if change == InAlarm {
		since = t.Alarm.Since
	}
	r.report(c, change, at, since, value)
}

func (r *step) silence(c *Compiled, t *track, now int64) {
	since, at := t.Alarm.Since, t.Alarm.silentSince()
	r.report(c, t.Alarm.silence(now), at, since, nil)
}

func (r *step) report(c *Compiled, change Change, at, since int64, value *iotapi.Value) {
	if change != "" {
		r.Transitions = append(r.Transitions, c.transition(r.thing, change, at, since, value))
	}
}

// due is when the track must be looked at again.
func (e Evaluator) due(c *Compiled, t *track, p presence) int64 {
	lateness := e.Lateness.Milliseconds()
	at := int64(never)
	switch {
	case !e.watches(c):
		at = t.Alarm.silentSince()
	case c.kind == disconnected:
		at = dueSessions(t, p)
	case c.kind == reporting:
		at = dueReports(c, t)
	default:
		if len(t.Windows) > 0 {
			at = t.Windows[0].settles(c.length, 0)
		}
		gap := window{Start: t.Settled + c.length.Duration().Milliseconds()}
		if c.infersFor(t) && (p.online() || len(p) > 0 && p[len(p)-1].Time >= gap.Start) {
			at = min(at, gap.settles(c.length, 0))
		}
		if !t.Alarm.idle() {
			at = min(at, t.Alarm.silentSince())
		}
		at = min(at, c.dueTraffic(t))
	}
	if at == never {
		return never
	}
	return at + lateness + 1
}
