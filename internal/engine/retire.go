package engine

import "time"

// EndReason is why an alarm ended that no datapoint can end: time alone makes the datapoints
// of disconnect-duration and of "reports at least every", so a device that is gone would
// stay in alarm forever.
type EndReason string

// The reasons. Each is the field endReason of a transition with [AlarmInvalidated].
const (
	// ThingDeleted: the registry no longer has the thing.
	ThingDeleted EndReason = "thing-deleted"
	// ThingRenamed: the device's certificate or client ID belongs to another thing now.
	ThingRenamed EndReason = "thing-renamed"
	// LeftTargets: the thing is no longer among the targets of the security profile.
	LeftTargets EndReason = "left-targets"
	// NotRegistered: the client ID is no thing, and its last datapoint is long ago.
	NotRegistered EndReason = "not-registered"
)

// Retirement says that alarms end whose datapoints time alone makes.
type Retirement struct {
	// Reason is "" where nothing ends.
	Reason EndReason
	// RenamedTo is the thing's new name, for [ThingRenamed].
	RenamedTo string
	// After is how long an alarm outlives its last datapoint; 0 ends it at once.
	After time.Duration
}

// Lingers reports whether an alarm is open that may stay open forever, because neither a
// datapoint nor silence ends it while the device is away.
func (e Evaluator) Lingers(s State) bool {
	for i := range e.Behaviors {
		c := &e.Behaviors[i]
		if t := s.tracks[c.key]; t != nil && t.Alarm.open() && c.kind.lingers(t) {
			return true
		}
	}
	return false
}

// retire ends what the registry gives a reason to end, and reports whether it did. A device
// that was seen since is judged first: what it sent may clear the alarm.
func (r *step) retire(c *Compiled, t *track) bool {
	if r.Retired == nil || !c.kind.gone(r, c, t) {
		return false
	}
	end, over := r.Retired(c.Profile), r.now-r.lateness
	switch {
	case end.Reason == "":
		return false
	case !t.Alarm.open():
		return end.After == 0
	case end.After > 0 && over <= t.Alarm.Heard+end.After.Milliseconds():
		return false
	}
	at := max(over, t.Alarm.Since+1)
	ended := c.transition(r.thing, AlarmInvalidated, at, t.Alarm.Since, nil)
	ended.EndReason, ended.RenamedTo = end.Reason, end.RenamedTo
	r.Transitions = append(r.Transitions, ended)
	return true
}
