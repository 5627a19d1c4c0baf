package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

// A thing leaves the targets of the profile where the film says so: the lower row has a w
// where the profile watches the thing. x is a report with telnet open.
func TestThingThatLeftTheTargets(t *testing.T) {
	const long = 48*12 + 30
	for _, row := range []struct {
		why          string
		in, watch    string
		changes      []Change
		emptyAtLeave bool
	}{
		{"takes no datapoints", ".xxx", "____", nil, true},
		{"a run is dropped", "x_xx", "ww__", nil, true},
		{"an open alarm stays", "xx_..", "www__", []Change{InAlarm}, false},
		{"and is cleared when the thing is back", "xx_.....", "www__www", []Change{InAlarm, AlarmCleared}, false},
		{"a thing that stays clears", "xx..", "wwww", []Change{InAlarm, AlarmCleared}, false},
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
			t.Errorf("%s: %v, want %v", row.why, changes, row.changes)
		}
		if s.Empty() != (row.emptyAtLeave || len(row.changes) == 2) {
			t.Errorf("%s: state %s", row.why, mustJSON(t, s))
		}
		if watched || s.Empty() {
			continue
		}
		if due := e.Due(s); due.Before(start.Add(SilenceLimit)) {
			t.Errorf("%s: due at %v", row.why, due)
		}
		if r := step(len(row.in)+3, portReports('x', start.UnixMilli()+int64(len(row.in)+3)*5*minute, "other"), false); r.Changed {
			t.Errorf("%s: what is not watched is written: %s", row.why, mustJSON(t, r.State))
		}
		step(long, nil, false)
		if last := changes[len(changes)-1]; last != AlarmInvalidated || !s.Empty() {
			t.Errorf("%s: after two days %s, state %s", row.why, last, mustJSON(t, s))
		}
	}
}

// Alarms about missing signals end by silence too, once the profile does not watch the thing.
func TestAlarmsOfTimeEndWithTheTargets(t *testing.T) {
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
			t.Fatalf("%s: %s", name, show(r.Transitions))
		}
		watched = false
		r = e.Step("thing", r.State, nil, start.Add(6*time.Hour))
		due := e.Due(r.State)
		if len(r.Transitions) != 0 || !r.State.Open("Profile", "b") || due.IsZero() {
			t.Fatalf("%s: %s, due %v, %s", name, show(r.Transitions), due, mustJSON(t, r.State))
		}
		r = e.Step("thing", r.State, nil, due)
		if len(r.Transitions) != 1 || r.Transitions[0].Change != AlarmInvalidated || !r.State.Empty() {
			t.Errorf("%s: %s, state %s", name, show(r.Transitions), mustJSON(t, r.State))
		}
	}
}

// The targets of one profile do not affect another. Sessions are recorded for those that watch.
func TestOtherProfilesAreNotTouched(t *testing.T) {
	size := behavior(defender.MessageByteSize.LessThan(8))
	all := []Compiled{compile("here", size), compile("gone", size)}
	watched := map[string]bool{"here": true, "gone": true}
	e := Evaluator{Behaviors: all, Lateness: latenessInTests, Watches: func(profile string) bool { return watched[profile] }}
	r := e.Step("thing", State{}, messages('x', start.UnixMilli(), "1"), start)
	watched["gone"] = false
	r = e.Step("thing", r.State, nil, start.Add(5*time.Minute))
	if len(r.Transitions) != 1 || r.Transitions[0].Profile != "here" || r.State.Open("gone", "b") {
		t.Errorf("%s%s", show(r.Transitions), mustJSON(t, r.State))
	}
	watched["here"] = false
	if r := e.Step("other", State{}, messages('x', start.UnixMilli(), "1"), start); r.Changed || !r.State.Empty() {
		t.Errorf("of a thing that nobody watches there is %s", mustJSON(t, r.State))
	}
	// State that was written while the profile watched is read as it was.
	text, err := json.Marshal(r.State)
	if err != nil {
		t.Fatal(err)
	}
	var s State
	if err := json.Unmarshal(text, &s); err != nil || !s.Open("here", "b") {
		t.Errorf("%s (%v)", text, err)
	}
}
