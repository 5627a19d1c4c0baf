package engine

import (
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// MinReportInterval is the shortest interval of device reports that AWS allows, and the default.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
const MinReportInterval = 5 * time.Minute

// ReportsEvery is the behavior of a device that sends a report at least once per interval, which
// is in whole minutes and at least [MinReportInterval]. A device that never sent one is not
// judged. The time of the last report is rounded up to a quarter of the interval, so an alarm is
// up to that much late. Detect has no such behavior.
func ReportsEvery(profile, name string, interval time.Duration, severity defender.Severity) Compiled {
	minutes := int64(interval / time.Minute)
	c := Compiled{
		Behavior: defender.Behavior{
			Name: name, Severity: severity,
			Criteria: defender.CustomNumber(contract.MinutesSinceReport).LessThanEquals(float64(minutes), 0),
		},
		Profile: profile, kind: reportBehavior{after: minutes * minute},
		length: defender.Window(max(minutes*60/4, 60)),
	}
	return c.identified()
}

// reportBehavior judges how long ago the last device report was. A window only records that a
// report arrived.
type reportBehavior struct {
	// after is the time without reports in ms that violates.
	after int64
}

func (reportBehavior) digit() byte { return '5' }

func (reportBehavior) messages(*Compiled) messageNeed { return noMessages }

func (reportBehavior) takes(_ *Compiled, d Datapoint) (takes, known bool) {
	return d.Metric == ReportReceived, true
}

func (reportBehavior) take(r *step, c *Compiled, d Datapoint) {
	if w := r.window(c, d.Time); w != nil {
		w.Verdict, w.At = Conforms, w.end(c.length)
	}
}

// silence is ignored: a report proves that the device is alive, a session does not.
func (reportBehavior) silence(*Compiled) silence { return silenceIgnored }

func (reportBehavior) needsSession(*Compiled, Datapoint) bool { return false }

func (reportBehavior) sessionsFrom(*Compiled, *track, int64) int64 { return never }

func (reportBehavior) begin(c *Compiled, over int64) int64 { return windowed{}.begin(c, over) }

// carry continues from the last report, with the new interval.
func (k reportBehavior) carry(_ *step, c *Compiled, old, fresh *track) {
	if !old.sameKind(c) {
		return
	}
	fresh.Settled = old.Settled
	if n := len(old.Windows); n > 0 {
		fresh.Settled = old.Windows[n-1].At
	}
	if !old.Alarm.open() {
		fresh.Next = fresh.Settled + k.after
	}
}

// settle makes a violating datapoint one interval after a report, and each interval after that
// until the alarm is raised. It makes a conforming one for each window with a report.
func (k reportBehavior) settle(r *step, c *Compiled, t *track) {
	for {
		some := len(t.Windows) > 0
		if some && t.Alarm.idle() && (t.Next == 0 || t.Next >= t.Windows[0].At) {
			// A conforming report changes nothing: it is written with the next one that must be
			// recorded.
			over := t.Windows[0].At + k.after
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
			t.Next += k.after
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
		t.drop(at + k.after)
		r.observe(c, t, Conforms, at, nil)
	}
}

// drop removes the oldest window of reports. After next, the next report is missing.
func (t *track) drop(next int64) {
	t.Settled, t.Next = t.Windows[0].At, next
	t.Windows = append([]window(nil), t.Windows[1:]...)
}

func (k reportBehavior) due(_ *Compiled, t *track, _ presence) int64 {
	some := len(t.Windows) > 0
	switch {
	case !some && t.Next == 0:
		return never
	case !some, t.Next != 0 && t.Next < t.Windows[0].At:
		return t.Next
	case t.Alarm.open():
		return t.Windows[0].At
	}
	return t.Windows[len(t.Windows)-1].At + k.after
}

func (reportBehavior) lingers(*track) bool { return true }

// gone reports whether all reports are judged, and the next one is missing.
func (k reportBehavior) gone(r *step, _ *Compiled, t *track) bool {
	n := len(t.Windows)
	return n == 0 || !t.Alarm.open() && t.Windows[n-1].At+k.after+r.lateness < r.now
}
