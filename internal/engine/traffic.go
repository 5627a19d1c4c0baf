package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Traffic is how devices report bytes and packets.
type Traffic struct {
	// Interval is how often a device reports. A longer window is judged by the sum of its
	// reports, any other by each report. Default: [MinReportInterval], for 0.
	Interval time.Duration
	// Confirm is for agents that send absolute counters in their first report. The first window
	// with traffic after a connection, or of a device without state, is a datapoint only if the
	// next window has the same verdict. The window after that may confirm it too, because reports
	// and windows are not aligned.
	Confirm bool
}

// of returns the behavior for devices that report like this. Only behaviors of bytes and packets
// change.
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
	// sums is true if windows are sums of reports. Conforming devices then have state too.
	sums bool
}

// delta reports whether a metric counts from one report to the next.
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

// connect records that the device connected. A device without state needs no record: its next
// window is unconfirmed anyway. But sums have state for conforming devices too. The first and
// the last connection of each window are enough.
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

// anchor returns the time of the first recorded violating datapoint, 0 if there is none. All
// datapoints later than it plus the lateness bound are recorded, whatever their order.
func (t *track) anchor() int64 {
	if t.Alarm.idle() && t.Pending != nil {
		return t.Pending.At
	}
	return t.Alarm.First
}

// isFirst reports whether a window has the first traffic after the device connected, or of a
// device without state.
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

// confirmTraffic applies the verdict about a window of traffic. A window with the first traffic
// waits until the next window has the same verdict.
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

// dropUnconfirmed drops a window that the next one, which starts at next, is too late to confirm.
func (r *step) dropUnconfirmed(c *Compiled, t *track, next int64) {
	if t.Pending != nil && next > t.Pending.Start+c.confirm.within {
		t.Pending = nil
	}
}

// pruneTraffic drops what no window needs any more.
func (r *step) pruneTraffic(c *Compiled, t *track) {
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
	// All older connections mean the same for the next window.
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

// keepsTraffic reports whether a device without an alarm needs state, which shows that its next
// window is not the first.
func (c *Compiled) keepsTraffic(t *track) bool {
	return t.Pending != nil || c.confirm.sums && (t.Seen != 0 || len(t.Connects) > 0)
}

// dueTraffic returns when pruneTraffic drops something, in ms.
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
