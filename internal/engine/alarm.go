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

// SilenceLimit is how long a violation outlives its last datapoint: after more than
// two days without one it is invalidated. Silence never clears an alarm.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-troubleshooting.html
const SilenceLimit = 48 * time.Hour

// heardStep is how exactly the time of the last datapoint is kept, rounded up: a
// device that stays in alarm is not written again for each datapoint.
const heardStep = int64(time.Hour / time.Millisecond)

// alarm is the state machine of one behavior of one thing. The zero value is a
// conforming device. Datapoints go in by their order in time. Times are ms since 1970.
type alarm struct {
	// Since is the time of the datapoint that raised the alarm, 0 while there is none.
	Since int64 `json:"since,omitempty"`
	// Run counts consecutive datapoints that speak against the present state.
	Run int `json:"run,omitempty"`
	// First is the first violating datapoint after a time of conforming.
	First int64 `json:"first,omitempty"`
	// Heard is the time of the last datapoint, rounded up to the hour.
	Heard int64 `json:"heard,omitempty"`
}

// idle reports that nothing is open and nothing counted.
func (a alarm) idle() bool { return a == alarm{} }

func (a alarm) open() bool { return a.Since != 0 }

// observe takes the next datapoint. A missing one changes nothing: it neither
// continues nor breaks a run.
func (a *alarm) observe(v Verdict, at int64, toAlarm, toClear int) Change {
	if v == None || v == Conforms && a.idle() {
		return ""
	}
	a.Heard = max(a.Heard, (at+heardStep-1)/heardStep*heardStep)
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

// silentSince is the time after which silence ends what is open or counted.
func (a alarm) silentSince() int64 { return a.Heard + SilenceLimit.Milliseconds() }

// silence tells the alarm that there is no datapoint up to now. An open alarm is
// invalidated; a run that never became one is forgotten.
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
