package engine

import (
	"cmp"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// settleWindows judges, in order, the windows that no later arrival can change.
func (r *step) settleWindows(c *Compiled, t *track, judge func(*step, *Compiled, *track, window, bool) judgment) {
	for {
		w, inferred, ok := r.next(c, t)
		if !ok {
			break
		}
		j := judge(r, c, t, w, inferred)
		before := len(r.Transitions)
		if len(j.open) > 0 && t.Alarm.moves(j.Verdict, j.at, c.Behavior) && !r.confirmed(j.open, w.Start) {
			j.Verdict = None
		} else if inferred && c.lower && j.value != nil {
			// Without a minimum only devices in alarm are judged: their zeros would not be the fleet's.
			r.sample(c, *j.value, w.Start)
		}
		if c.confirm.within > 0 {
			r.confirmTraffic(c, t, w, j)
			if c.confirm.sums {
				t.Seen = w.Start
			}
		} else {
			r.datapoint(c, t, w.At, j.Verdict, j.at, j.value)
		}
		for i := range r.Transitions[before:] {
			if tr := &r.Transitions[before+i]; tr.Time == j.at && tr.Change != AlarmInvalidated {
				tr.Sampled = w.Sampled
			}
		}
		t.Settled = w.Start
	}
	if len(t.Windows) == 0 || c.observedAt(t.Windows[0]) > t.Alarm.silentSince() {
		r.silence(c, t, r.now-r.lateness)
	}
	r.pruneTraffic(c, t)
}

// datapoint applies the verdict about a window to the alarm. first is the time of its first event.
func (r *step) datapoint(c *Compiled, t *track, first int64, v Verdict, at int64, value *iotapi.Value) {
	if v != None {
		r.silence(c, t, at)
	}
	r.observe(c, t, v, at, value)
	if t.Alarm.First == at && first != 0 {
		t.Alarm.First = first
	}
}

// next removes and returns the oldest window that can be judged. inferred reports whether the
// window has no datapoints.
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

// infersFor reports whether windows without datapoints are judged now.
func (c *Compiled) infersFor(t *track) bool {
	switch c.kind.silence(c) {
	case silenceInAlarm:
		return !t.Alarm.idle()
	case silenceAlways:
		return true
	}
	return false
}

// silenceOfEvents implements kind.silence for counts and sums. Only cloud-side events are known to
// be missing. Zero events violate a lower bound, so conforming devices are judged by it too.
func (c *Compiled) silenceOfEvents() silence {
	switch {
	case c.Behavior.Criteria.Metric().Side != iotapi.CloudSide:
		return silenceIgnored
	case c.lower:
		return silenceAlways
	}
	return silenceInAlarm
}

// needsSessionOfEvents implements kind.needsSession for counts and sums.
func (c *Compiled) needsSessionOfEvents(d Datapoint) bool {
	if c.silenceOfEvents() == silenceIgnored {
		return false
	}
	if d.Link != Alive || c.lower {
		return true
	}
	takes, _ := c.takesWhole(d)
	return takes
}

// judgeTotal judges n, the count or sum of a window. If n violates because there were too few
// events, a session must have been open throughout the window.
func (r *step) judgeTotal(c *Compiled, t *track, w window, inferred bool, n int64) judgment {
	j := judgment{at: c.observedAt(w)}
	infers := c.kind.silence(c) != silenceIgnored
	var open []string
	if infers {
		open = r.openThroughout(c, t, w)
	}
	if inferred && len(open) == 0 {
		return j
	}
	value := &iotapi.Value{Count: &n}
	judge := r.judge
	if inferred {
		judge = r.compare
	}
	v := judge(c, *value, w.Start)
	few := v == Violates && infers && r.tooFew(c, n, w.Start)
	if few && len(open) == 0 {
		return j
	}
	j.Verdict, j.value = v, value
	if few || inferred {
		j.open = open
	}
	return j
}

// tooFew reports whether a window violates because it has too few events.
func (r *step) tooFew(c *Compiled, n, start int64) bool {
	level := c.Behavior.Criteria.Confidence()
	if level == "" {
		return c.lower
	}
	key, _ := c.FleetKey()
	normal, ok := r.Fleet.Baseline(key, level, start)
	return ok && float64(n) < normal.Low
}

// openThroughout returns the clients that probably had a session open throughout the window. If
// only some sessions are recorded, it ignores those that ended before the alarm's first datapoint
// or, without an alarm, the window's first event: it is chance which of those were recorded. For a
// lower bound, no session counts in the window in which the state began.
func (r *step) openThroughout(c *Compiled, t *track, w window) []string {
	if c.lower && w.Start <= t.From {
		return nil
	}
	oldest := int64(0)
	if c.kind.silence(c) != silenceAlways {
		oldest = c.sessionsNeeded(cmp.Or(t.Alarm.First, w.At))
	}
	return r.State.presence.openThroughout(w.Start, w.end(c.length)+1, oldest)
}

// observedAt returns the time of the window's datapoint: that of the metric value, or the last
// millisecond of a count or sum.
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

// due returns when the track must be checked again, in ms.
func (e Evaluator) due(c *Compiled, t *track, p presence) int64 {
	at := t.Alarm.silentSince()
	if e.watches(c) {
		at = c.kind.due(c, t, p)
	}
	if at == never {
		return never
	}
	return at + e.Lateness.Milliseconds() + 1
}
