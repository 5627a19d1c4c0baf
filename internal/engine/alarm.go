package engine

import (
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

// Change is what happens to an alarm, spelled as Device Defender Detect spells the
// violationEventType of its alerts.
type Change string

// The changes.
const (
	InAlarm          Change = "in-alarm"
	AlarmCleared     Change = "alarm-cleared"
	AlarmInvalidated Change = "alarm-invalidated"
)

// SilenceLimit is how long an alarm stays open after its last datapoint. After more than two
// days without one it is invalidated. Silence never clears an alarm.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-troubleshooting.html
const SilenceLimit = 48 * time.Hour

// lastStep is the step in ms to which the time of the last datapoint is rounded up, so that the
// state of a device in alarm is not written for each datapoint.
const lastStep = int64(time.Hour / time.Millisecond)

// alarm is the state machine of one behavior of one thing. The zero value is a conforming
// device. It observes datapoints in the order of their time. Times are ms since 1970.
type alarm struct {
	// Since is the time of the datapoint that raised the alarm, 0 without an alarm.
	Since int64 `json:"since,omitempty"`
	// Run counts the consecutive datapoints that contradict the present state.
	Run int `json:"run,omitempty"`
	// First is the time of the first violating datapoint after conforming ones.
	First int64 `json:"first,omitempty"`
	// Last is the time of the last datapoint, rounded up to the hour (see lastStep).
	Last int64 `json:"heard,omitempty"`
}

// idle reports whether no alarm is open and no violation is counted.
func (a alarm) idle() bool { return a == alarm{} }

func (a alarm) open() bool { return a.Since != 0 }

// observe takes the next datapoint. A missing one changes nothing: it neither
// continues nor breaks a run.
func (a *alarm) observe(v Verdict, at int64, toAlarm, toClear int) Change {
	if v == None || v == Conforms && a.idle() {
		return ""
	}
	a.Last = max(a.Last, (at+lastStep-1)/lastStep*lastStep)
	if a.open() {
		if v == Violates {
			a.Run = 0
			return ""
		}
		if a.Run++; a.Run < toClear {
			return ""
		}
		*a = alarm{}
		return AlarmCleared
	}
	if v == Conforms {
		*a = alarm{}
		return ""
	}
	if a.Run == 0 {
		a.First = at
	}
	if a.Run++; a.Run < toAlarm {
		return ""
	}
	a.Since, a.Run = at, 0
	return InAlarm
}

// moves reports whether the next datapoint changes the alarm.
func (a alarm) moves(v Verdict, at int64, b defender.Behavior) bool {
	next := a
	next.silence(at)
	next.observe(v, at, b.DatapointsToAlarm(), b.DatapointsToClear())
	return next != a
}

// silentSince is the time after which silence ends the alarm, or the count.
func (a alarm) silentSince() int64 { return a.Last + SilenceLimit.Milliseconds() }

// silence ends the alarm if there was no datapoint for [SilenceLimit] up to now. An open alarm is
// invalidated; counted violations are dropped.
func (a *alarm) silence(now int64) Change {
	if a.idle() || now <= a.silentSince() {
		return ""
	}
	wasOpen := a.open()
	*a = alarm{}
	if wasOpen {
		return AlarmInvalidated
	}
	return ""
}
