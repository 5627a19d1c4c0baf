package engine

import "time"

// EndReason is why the registry ended an alarm. Disconnect-duration and [ReportsEvery] have
// datapoints without any event, so a removed device would stay in alarm forever.
type EndReason string

// The reasons. Each is the field endReason of a transition with [AlarmInvalidated].
const (
	// ThingDeleted: the registry no longer has the thing.
	ThingDeleted EndReason = "thing-deleted"
	// ThingRenamed: the device's certificate or client ID belongs to another thing now.
	ThingRenamed EndReason = "thing-renamed"
	// LeftTargets: the thing is no longer among the targets of the security profile.
	LeftTargets EndReason = "left-targets"
	// NotRegistered: the client ID is not a thing, and its last datapoint is old.
	NotRegistered EndReason = "not-registered"
)

// Retirement ends alarms that may otherwise stay open forever.
type Retirement struct {
	// Reason is "" if no alarm ends.
	Reason EndReason
	// RenamedTo is the thing's new name, for [ThingRenamed].
	RenamedTo string
	// After is how long an alarm stays open after its last datapoint; 0 ends it at once.
	After time.Duration
}

// Lingers reports whether an alarm is open that may stay open forever: while the device is away
// neither a datapoint nor silence ends it.
func (e Evaluator) Lingers(s State) bool {
	for i := range e.Behaviors {
		c := &e.Behaviors[i]
		if t := s.tracks[c.key]; t != nil && t.Alarm.open() && c.kind.lingers(t) {
			return true
		}
	}
	return false
}

// retire ends an alarm if the registry has a reason to, and reports whether the state can be
// dropped. Datapoints that arrived since are judged first: they may clear the alarm.
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
	case end.After > 0 && over <= t.Alarm.Last+end.After.Milliseconds():
		return false
	}
	at := max(over, t.Alarm.Since+1)
	ended := c.transition(r.thing, AlarmInvalidated, at, t.Alarm.Since, nil)
	ended.EndReason, ended.RenamedTo = end.Reason, end.RenamedTo
	r.Transitions = append(r.Transitions, ended)
	return true
}
