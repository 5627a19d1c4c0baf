package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Traffic says how devices report bytes and packets.
type Traffic struct {
	// Interval is how often a device reports. A window that is longer is judged by the sum of
	// its reports, any other report by report.
	// Default: 0, which stands for [MinReportInterval].
	Interval time.Duration
	// Confirm is for agents that send absolute counters as their first report. The first
	// window with traffic after the device connected, or of a device of which nothing is
	// remembered, is a datapoint only if the next window has the same verdict. It may be one
	// further away, because windows and reports are no more exact than the other.
	Confirm bool
}

// of is the behavior, if it judges bytes or packets, for devices that report like this.
func (t Traffic) of(c Compiled) Compiled {
	if delta(c.Behavior.Criteria.Metric()) {
		interval := cmp.Or(t.Interval, MinReportInterval)
		c.kind, c.confirm = valueBehavior{}, confirmation{}
		if interval < c.length.Duration() {
			c.kind, c.confirm.sums = sumBehavior{}, true
		}
		if t.Confirm {
			c.confirm.within = (max(interval, c.length.Duration()) + c.length.Duration()).Milliseconds()
		}
	}
	return c.identified()
}

// confirmation says how the first traffic after a connection is confirmed; see
// [Traffic.Confirm].
type confirmation struct {
	// within is how many ms after the start of an unconfirmed window the window that confirms
	// it may start; 0: no window must be confirmed.
	within int64
	// sums reports whether windows are sums of reports. Conforming devices then have state too.
	sums bool
}

// delta reports whether a report's value counts since the report before.
func delta(m iotapi.MetricInfo) bool {
	switch m.Name {
	case defender.AllBytesIn.Info().Name, defender.AllBytesOut.Info().Name, defender.AllPacketsIn.Info().Name, defender.AllPacketsOut.Info().Name:
		return true
	}
	return false
}

// unconfirmed is a window that waits for the next one to confirm it.
type unconfirmed struct {
	window
	// First is the time of the window's first report.
	First int64 `json:"f,omitempty"`
}

// connect remembers that the device connected. Of a device of which nothing is remembered
// that is not needed: its next window is unconfirmed anyway. But sums are kept for
// conforming devices too. Of each window the first and the last connection are enough.
func (r *step) connect(c *Compiled, at int64) {
	t := r.State.tracks[c.key]
	if t == nil {
		if !c.confirm.sums {
			return
		}
		t = r.track(c, at)
	}
	i, found := slices.BinarySearch(t.Connects, at)
	if found {
		return
	}
	t.Connects = slices.Insert(t.Connects, i, at)
	start := windowStart(at, c.length)
	from, _ := slices.BinarySearch(t.Connects, start)
	to, _ := slices.BinarySearch(t.Connects, start+c.length.Duration().Milliseconds())
	if to-from > 2 {
		t.Connects = slices.Delete(t.Connects, from+1, to-1)
	}
}

// anchor is the first violating datapoint that is remembered: from the lateness bound after
// it on, whatever the device sends is remembered in any order. 0: nothing is.
func (t *track) anchor() int64 {
	if t.Alarm.idle() && t.Pending != nil {
		return t.Pending.At
	}
	return t.Alarm.First
}

// isFirst reports whether a window has the first traffic after the device connected, or of a
// device of which nothing is remembered.
func (r *step) isFirst(c *Compiled, t *track, w window, at int64) bool {
	if c.confirm.sums {
		at = w.Last
	}
	n, _ := slices.BinarySearch(t.Connects, at+1)
	before := t.Connects[:n]
	if t.Connects = slices.Clone(t.Connects[n:]); len(t.Connects) == 0 {
		t.Connects = nil
	}
	if t.Alarm.idle() && t.Pending == nil && (!c.confirm.sums || t.Seen != w.Start-c.length.Duration().Milliseconds()) {
		return true
	}
	return slices.ContainsFunc(before, func(connected int64) bool {
		return c.confirm.sums || connected >= t.anchor()+r.lateness
	})
}

// confirmTraffic takes the verdict about a window of traffic. One that has the first traffic
// waits for the next, which confirms it by the same verdict.
func (r *step) confirmTraffic(c *Compiled, t *track, w window, j judgment) {
	v, at, value := j.Verdict, j.at, j.value
	if v == None {
		return
	}
	r.dropUnconfirmed(c, t, w.Start)
	first, pending := r.isFirst(c, t, w, at), t.Pending
	t.Pending = nil
	if !first {
		if pending != nil && pending.Verdict == v {
			r.datapoint(c, t, pending.First, v, pending.At, pending.Value)
		}
		r.datapoint(c, t, w.At, v, at, value)
		return
	}
	if v == Violates || !t.Alarm.idle() {
		t.Pending = &unconfirmed{window{Start: w.Start, Verdict: v, At: at, Value: value}, w.At}
	}
}

// dropUnconfirmed forgets a window that can no longer be confirmed, because the next one
// starts at a time.
func (r *step) dropUnconfirmed(c *Compiled, t *track, next int64) {
	if t.Pending != nil && next > t.Pending.Start+c.confirm.within {
		t.Pending = nil
	}
}

// forgetTraffic drops what no window asks for any more.
func (r *step) forgetTraffic(c *Compiled, t *track) {
	if c.confirm.within == 0 {
		return
	}
	over, length := r.now-r.lateness, c.length.Duration().Milliseconds()
	if t.Pending != nil && over > t.Pending.Start+c.confirm.within+length {
		t.Pending = nil
	}
	if t.Seen != 0 && over > t.Seen+2*length {
		t.Seen = 0
	}
	// Older connections all say the same about the next window.
	old := 0
	for old < len(t.Connects) && over > windowStart(t.Connects[old], c.length)+2*length {
		old++
	}
	switch {
	case old == 0:
	case t.Alarm.idle() && t.Pending == nil:
		t.Connects = slices.Delete(t.Connects, 0, old)
	default:
		t.Connects = slices.Delete(t.Connects, 1, old)
	}
	if len(t.Connects) == 0 {
		t.Connects = nil
	}
}

// keepsTraffic reports whether a device without an alarm has to be remembered, so that its
// next window is known not to be the first.
func (c *Compiled) keepsTraffic(t *track) bool {
	return t.Pending != nil || c.confirm.sums && (t.Seen != 0 || len(t.Connects) > 0)
}

// dueTraffic is when forgetTraffic drops something.
func (c *Compiled) dueTraffic(t *track) int64 {
	at, length := int64(never), c.length.Duration().Milliseconds()
	if t.Pending != nil {
		at = min(at, t.Pending.Start+c.confirm.within+length)
	}
	if t.Seen != 0 {
		at = min(at, t.Seen+2*length)
	}
	if len(t.Connects) > 0 && c.confirm.sums && t.Alarm.idle() && t.Pending == nil {
		at = min(at, windowStart(t.Connects[0], c.length)+2*length)
	}
	return at
}
