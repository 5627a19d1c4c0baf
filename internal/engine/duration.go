package engine

import (
	"time"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// hourly is the interval, in ms, at which aws:disconnect-duration has a value between connects and
// disconnects.
const hourly = int64(time.Hour / time.Millisecond)

// durationBehavior judges how many minutes a device has been disconnected.
type durationBehavior struct {
	// after is the duration in ms that violates.
	after int64
}

func (durationBehavior) digit() byte { return '4' }

func (durationBehavior) messages(*Compiled) messageNeed { return noMessages }

// takes is always false: the datapoints come from time and sessions.
func (durationBehavior) takes(*Compiled, Datapoint) (takes, known bool) { return false, true }

func (durationBehavior) take(*step, *Compiled, Datapoint) {}

func (durationBehavior) silence(*Compiled) silence { return silenceAlways }

func (durationBehavior) needsSession(_ *Compiled, d Datapoint) bool { return d.Link != Alive }

func (durationBehavior) sessionsFrom(*Compiled, *track, int64) int64 { return never }

func (durationBehavior) begin(_ *Compiled, over int64) int64 { return windowStart(over, Period) - 1 }

// carry continues a disconnection, with the new bound.
func (k durationBehavior) carry(_ *step, c *Compiled, old, fresh *track) {
	if !old.sameKind(c) {
		return
	}
	fresh.Settled, fresh.Offline = old.Settled, old.Offline
	if old.Offline != 0 && !old.Alarm.open() {
		fresh.Next = old.Offline + k.after
	}
}

// settle makes a violating datapoint when the bound is reached, and each hour after that until the
// alarm is raised. It makes a datapoint of 0 when the device connects, and each hour after that
// until the alarm is cleared. A disconnected device stays in alarm, because AWS reports a value of
// this metric each hour.
//
// Sessions are judged in steps of five minutes, when all lifecycle events have arrived. So the
// state of a device that keeps reconnecting does not depend on their order.
func (k durationBehavior) settle(r *step, c *Compiled, t *track) {
	for {
		mark, ok := r.nextMark(t.Settled)
		if t.Next != 0 && (!ok || t.Next < mark) {
			if endOfPeriod(t.Next)+r.lateness >= r.now {
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
			if t.waitsForSilence() {
				r.silence(c, t, r.now-r.lateness)
			}
			return
		}
		if endOfPeriod(mark)+r.lateness >= r.now {
			return
		}
		switch since := r.State.presence.offlineSince(mark); {
		case since != 0 && t.Offline == 0:
			t.Offline, t.Next = since, max(since+k.after, mark)
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

// waitsForSilence reports whether an alarm is open without a known disconnection, so that only
// silence ends it. It was raised before the behavior changed, or before the thing left the targets.
func (t *track) waitsForSilence() bool { return t.Alarm.open() && t.Offline == 0 && t.Next == 0 }

// endOfPeriod returns the end of the [Period] that contains at, in ms.
func endOfPeriod(at int64) int64 { return windowStart(at, Period) + Period.Duration().Milliseconds() }

// nextMark returns the time of the first lifecycle event after a time.
func (r *step) nextMark(after int64) (int64, bool) {
	for _, m := range r.State.presence {
		if m.Time > after && m.Link != Alive {
			return m.Time, true
		}
	}
	return 0, false
}

func (durationBehavior) due(_ *Compiled, t *track, p presence) int64 {
	at := int64(never)
	if t.Next != 0 {
		at = endOfPeriod(t.Next)
	}
	for _, m := range p {
		if m.Time > t.Settled && m.Link != Alive {
			return min(at, endOfPeriod(m.Time))
		}
	}
	if t.waitsForSilence() {
		return t.Alarm.silentSince()
	}
	return at
}

// lingers reports whether the device is disconnected: its hourly datapoints keep the alarm open.
func (durationBehavior) lingers(t *track) bool { return t.Offline != 0 }

func (durationBehavior) gone(r *step, _ *Compiled, t *track) bool {
	_, unsettled := r.nextMark(t.Settled)
	return !unsettled && t.Offline != 0
}

func minutes(ms int64) *iotapi.Value {
	n := ms / minute
	return &iotapi.Value{Count: &n}
}
