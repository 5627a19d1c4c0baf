package engine

import (
	"time"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// hourly is how often aws:disconnect-duration has a value besides those at connects
// and disconnects.
const hourly = int64(time.Hour / time.Millisecond)

// settleSessions judges disconnect-duration: a datapoint when the bound is broken and
// each hour after until the alarm is raised, one of 0 at the connect and each hour after
// until it is cleared. A device that stays away stays in alarm: AWS has a value of this
// metric each hour, so that it never falls silent.
//
// Sessions are judged by whole five minutes, when all their lifecycle events have come:
// what is kept of a device that keeps reconnecting is the same then in any order.
func (r *step) settleSessions(c *Compiled, t *track) {
	for {
		mark, ok := r.nextMark(t.Settled)
		if t.Next != 0 && (!ok || t.Next < mark) {
			if known(t.Next)+r.lateness >= r.now {
				return
			}
			at := t.Next
			if t.Offline != 0 {
				r.observe(c, t, Violates, at, minutes(at-t.Offline))
			} else if r.confirmed(r.State.presence.connected(at), at) {
				r.observe(c, t, Conforms, at, minutes(0))
			}
			t.Next = at + hourly
			if (t.Offline != 0) == t.Alarm.open() {
				t.Next = 0
			}
			continue
		}
		if !ok {
			if t.waitsForNothing() {
				r.silence(c, t, r.now-r.lateness)
			}
			return
		}
		if known(mark)+r.lateness >= r.now {
			return
		}
		switch since := r.State.presence.offlineSince(mark); {
		case since != 0 && t.Offline == 0:
			t.Offline, t.Next = since, max(since+c.after, mark)
			if t.Alarm.open() {
				t.Next = 0
			}
		case since == 0 && t.Offline != 0:
			t.Offline, t.Next = 0, 0
			r.observe(c, t, Conforms, mark, minutes(0))
			if t.Alarm.open() {
				t.Next = mark + hourly
			}
		}
		t.Settled = mark
	}
}

// waitsForNothing tells that nothing is known of the session on which an open alarm depends:
// it was raised when the behavior was another one, or before the thing left the targets.
func (t *track) waitsForNothing() bool { return t.Alarm.open() && t.Offline == 0 && t.Next == 0 }

// known is the end of the five minutes that hold at.
func known(at int64) int64 { return windowStart(at, Period) + Period.Duration().Milliseconds() }

func (r *step) nextMark(after int64) (int64, bool) {
	for _, m := range r.State.presence {
		if m.Time > after && m.Link != Alive {
			return m.Time, true
		}
	}
	return 0, false
}

func dueSessions(t *track, p presence) int64 {
	at := int64(never)
	if t.Next != 0 {
		at = known(t.Next)
	}
	for _, m := range p {
		if m.Time > t.Settled && m.Link != Alive {
			return min(at, known(m.Time))
		}
	}
	if t.waitsForNothing() {
		return t.Alarm.silentSince()
	}
	return at
}

// settleReports judges "reports at least every": a datapoint that violates when the
// interval after a report is over, and each interval after that until the alarm is raised;
// one that conforms with each window that has a report.
func (r *step) settleReports(c *Compiled, t *track) {
	for {
		some := len(t.Windows) > 0
		if some && t.Alarm.idle() && (t.Next == 0 || t.Next >= t.Windows[0].At) {
			// What conforms says nothing new: it is written no more often than with the next
			// report that is to be remembered.
			over := t.Windows[0].At + c.after
			if len(t.Windows) == 1 && over+r.lateness >= r.now {
				return
			}
			if len(t.Windows) > 1 && t.Windows[1].At <= over {
				t.drop(over)
				continue
			}
		}
		if t.Next != 0 && (!some || t.Next < t.Windows[0].At) {
			if t.Next+r.lateness >= r.now {
				return
			}
			at := t.Next
			t.Next += c.after
			r.observe(c, t, Violates, at, nil)
			if t.Alarm.open() {
				t.Next = 0
			}
			continue
		}
		if !some || t.Windows[0].At+r.lateness >= r.now {
			return
		}
		at := t.Windows[0].At
		t.drop(at + c.after)
		r.observe(c, t, Conforms, at, nil)
	}
}

// drop forgets the oldest window of reports: the next one is missing after next.
func (t *track) drop(next int64) {
	t.Settled, t.Next = t.Windows[0].At, next
	t.Windows = append([]window(nil), t.Windows[1:]...)
}

func dueReports(c *Compiled, t *track) int64 {
	some := len(t.Windows) > 0
	switch {
	case !some && t.Next == 0:
		return never
	case !some, t.Next != 0 && t.Next < t.Windows[0].At:
		return t.Next
	case t.Alarm.open():
		return t.Windows[0].At
	}
	return t.Windows[len(t.Windows)-1].At + c.after
}

func minutes(ms int64) *iotapi.Value {
	n := ms / minute
	return &iotapi.Value{Count: &n}
}
