package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

// The engine judges datapoints before it ends an alarm because of the registry. If datapoints or
// silence can end an alarm, the registry does not.
func TestRetirementWaitsForDatapointsOfTheDevice(t *testing.T) {
	away := evaluator(t, behavior(defender.DisconnectDuration.LessThan(15)))
	silent := Evaluator{Behaviors: []Compiled{ReportsEvery("Profile", "b", 20*time.Minute, defender.High)}, Lateness: latenessInTests}
	ports := evaluator(t, behavior(defender.ListeningTCPPorts.InPorts(443)))
	session := func(kind string, at int64) []Datapoint {
		return Lifecycle{ClientID: "thing", Timestamp: at, EventType: kind, Session: kind}.Datapoints()
	}
	base := start.UnixMilli()
	deleted := Retirement{Reason: ThingDeleted}
	for name, c := range map[string]struct {
		e             Evaluator
		before, after []Datapoint
		end           Retirement
		want          []Change
	}{
		"offline":                                {away, session("disconnected", base), nil, deleted, []Change{InAlarm, AlarmInvalidated}},
		"connected again":                        {away, session("disconnected", base), session("connected", base+180*minute), deleted, []Change{InAlarm, AlarmCleared}},
		"silent":                                 {silent, portReports('.', base, "1"), nil, deleted, []Change{InAlarm, AlarmInvalidated}},
		"reports again":                          {silent, portReports('.', base, "1"), portReports('.', base+180*minute, "2"), deleted, []Change{InAlarm, AlarmCleared}},
		"not retired":                            {silent, portReports('.', base, "1"), nil, Retirement{}, []Change{InAlarm}},
		"not registered for less than the limit": {silent, portReports('.', base, "1"), nil, Retirement{NotRegistered, "", 4 * time.Hour}, []Change{InAlarm}},
		"not registered for longer than the limit": {silent, portReports('.', base, "1"), nil, Retirement{NotRegistered, "", time.Hour}, []Change{InAlarm, AlarmInvalidated}},
		"ended by silence":                         {ports, portReports('x', base, "1"), nil, deleted, []Change{InAlarm}},
	} {
		r := c.e.Step("thing", State{}, c.before, start)
		r = c.e.Step("thing", r.State, nil, start.Add(2*time.Hour))
		all := r.Transitions
		if lingers := c.e.Lingers(r.State); lingers != (name != "ended by silence") {
			t.Errorf("%s: lingers %v, want %v", name, lingers, !lingers)
		}
		now := start.Add(3 * time.Hour)
		r = c.e.Step("thing", r.State, c.after, now)
		all = append(all, r.Transitions...)
		retiring := c.e
		retiring.Retired = func(string) Retirement { return c.end }
		for range 3 {
			now = now.Add(4 * time.Minute)
			r = retiring.Step("thing", r.State, nil, now)
			all = append(all, r.Transitions...)
		}
		var got []Change
		var last int64
		for _, tr := range all {
			if got = append(got, tr.Change); tr.Time <= last || tr.Time > now.UnixMilli() {
				t.Errorf("%s: %s at %d is not after %d, or later than now", name, tr.Change, tr.Time, last)
			}
			last = tr.Time
			if (tr.EndReason == c.end.Reason) != (tr.Change == AlarmInvalidated) && c.end.Reason != "" {
				t.Errorf("%s: %s has the reason %q, want %q for an invalidated alarm alone", name, tr.Change, tr.EndReason, c.end.Reason)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: changes %v, want %v", name, got, c.want)
		}
	}
}
