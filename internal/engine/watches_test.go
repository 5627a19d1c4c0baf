package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

// In watch, w is a window in which the profile watches the thing. The letters of in are those of
// portReports.
func TestThingThatLeavesTheTargets(t *testing.T) {
	const long = 48*12 + 30
	for _, row := range []struct {
		why       string
		in, watch string
		changes   []Change
		empty     bool // no state after the last letter
	}{
		{"no datapoint of an unwatched thing", ".xxx", "____", nil, true},
		{"a run is dropped", "x_xx", "ww__", nil, true},
		{"an open alarm stays", "xx_..", "www__", []Change{InAlarm}, false},
		{"the alarm is cleared when the thing returns", "xx_.....", "www__www", []Change{InAlarm, AlarmCleared}, true},
		{"the alarm of a thing that stays is cleared", "xx..", "wwww", []Change{InAlarm, AlarmCleared}, true},
	} {
		b := behavior(defender.ListeningTCPPorts.InPorts(443))
		b.ToAlarm, b.ToClear = 2, 1
		e := evaluator(t, b)
		var s State
		var changes []Change
		step := func(i int, points []Datapoint, watched bool) Result {
			e.Watches = func(profile string) bool { return watched && profile == "Profile" }
			r := e.Step("thing", s, points, start.Add(time.Duration(i)*5*time.Minute))
			for _, tr := range r.Transitions {
				changes = append(changes, tr.Change)
			}
			s = r.State
			return r
		}
		watched := false
		for i, letter := range row.in {
			watched = row.watch[i] == 'w'
			step(i, portReports(letter, start.UnixMilli()+int64(i)*5*minute, fmt.Sprint(i)), watched)
		}
		step(len(row.in)+2, nil, watched)
		if !slices.Equal(changes, row.changes) {
			t.Errorf("%s: changes %v, want %v", row.why, changes, row.changes)
		}
		if s.Empty() != row.empty {
			t.Errorf("%s: state %s, want none: %v", row.why, mustJSON(t, s), row.empty)
		}
		if watched || s.Empty() {
			continue
		}
		if due := e.Due(s); due.Before(start.Add(SilenceLimit)) {
			t.Errorf("%s: due at %v, want at least two days after %v", row.why, due, start)
		}
		if r := step(len(row.in)+3, portReports('x', start.UnixMilli()+int64(len(row.in)+3)*5*minute, "other"), false); r.Changed {
			t.Errorf("%s: a report of an unwatched thing is written: %s", row.why, mustJSON(t, r.State))
		}
		step(long, nil, false)
		if last := changes[len(changes)-1]; last != AlarmInvalidated || !s.Empty() {
			t.Errorf("%s: after two days the last change is %s, the state %s, want %s and none", row.why, last, mustJSON(t, s), AlarmInvalidated)
		}
	}
}

// Once the profile does not watch the thing, silence also ends alarms about missing events.
func TestAlarmsOfDurationsEndAfterTheThingLeavesTheTargets(t *testing.T) {
	away := Lifecycle{ClientID: "thing", Timestamp: start.UnixMilli(), EventType: "disconnected", Session: "s"}.Datapoints()
	for name, c := range map[string]struct {
		behavior Compiled
		points   []Datapoint
	}{
		"disconnect duration": {compile("Profile", behavior(defender.DisconnectDuration.LessThan(10))), away},
		"silent agent":        {ReportsEvery("Profile", "b", 10*time.Minute, 0), measured("1", start.UnixMilli(), nil)},
	} {
		watched := true
		e := Evaluator{Behaviors: []Compiled{c.behavior}, Lateness: latenessInTests, Watches: func(string) bool { return watched }}
		s := e.Step("thing", State{}, c.points, start).State
		r := e.Step("thing", s, nil, start.Add(5*time.Hour))
		if len(r.Transitions) != 1 || r.Transitions[0].Change != InAlarm {
			t.Fatalf("%s: transitions %s, want one alarm", name, show(r.Transitions))
		}
		watched = false
		r = e.Step("thing", r.State, nil, start.Add(6*time.Hour))
		due := e.Due(r.State)
		if len(r.Transitions) != 0 || !r.State.Open("Profile", "b") || due.IsZero() {
			t.Fatalf("%s: the thing left: transitions %s, due %v, state %s, want the alarm open and due", name, show(r.Transitions), due, mustJSON(t, r.State))
		}
		r = e.Step("thing", r.State, nil, due)
		if len(r.Transitions) != 1 || r.Transitions[0].Change != AlarmInvalidated || !r.State.Empty() {
			t.Errorf("%s: when due: transitions %s, state %s, want %s and no state", name, show(r.Transitions), mustJSON(t, r.State), AlarmInvalidated)
		}
	}
}

// The targets of one profile do not affect another. The engine records no session that no profile
// watches.
func TestTargetsOfOneProfileDoNotAffectAnother(t *testing.T) {
	size := behavior(defender.MessageByteSize.LessThan(8))
	all := []Compiled{compile("here", size), compile("gone", size)}
	watched := map[string]bool{"here": true, "gone": true}
	e := Evaluator{Behaviors: all, Lateness: latenessInTests, Watches: func(profile string) bool { return watched[profile] }}
	r := e.Step("thing", State{}, messages('x', start.UnixMilli(), "1"), start)
	watched["gone"] = false
	r = e.Step("thing", r.State, nil, start.Add(5*time.Minute))
	if len(r.Transitions) != 1 || r.Transitions[0].Profile != "here" || r.State.Open("gone", "b") {
		t.Errorf("transitions %s, state %s, want the alarm of the profile here alone", show(r.Transitions), mustJSON(t, r.State))
	}
	watched["here"] = false
	if r := e.Step("other", State{}, messages('x', start.UnixMilli(), "1"), start); r.Changed || !r.State.Empty() {
		t.Errorf("a thing that no profile watches has the state %s, want none", mustJSON(t, r.State))
	}
	// State that was written while the profile watched is still readable.
	text, err := json.Marshal(r.State)
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(text, &s); err != nil || !s.Open("here", "b") {
		t.Errorf("%s: error %v, want the open alarm of the profile here", text, err)
	}
}
