package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

func TestNextGeneration(t *testing.T) {
	of := func(names ...string) (all []Compiled) {
		for _, name := range names {
			all = append(all, Compiled{Profile: "P", Behavior: defender.Behavior{Name: name}})
		}
		return all
	}
	var g Generations
	for i, row := range []struct {
		names   []string
		want    Generations
		changed bool
	}{
		{[]string{"a", "b"}, Generations{"P/a": 0, "P/b": 0}, true},
		{[]string{"b", "a"}, Generations{"P/a": 0, "P/b": 0}, false},
		{[]string{"a"}, Generations{"P/a": 0}, true},
		{[]string{"a", "b", "c"}, Generations{"P/a": 0, "P/b": 3, "P/c": 3}, true},
		{nil, Generations{}, true},
		{[]string{"a"}, Generations{"P/a": 5}, true},
	} {
		next, changed := g.Next(of(row.names...), int64(i))
		if !maps.Equal(next, row.want) || changed != row.changed {
			t.Errorf("generation %d: got %v, changed %v, want %v, %v", i, next, changed, row.want, row.changed)
		}
		g = next
	}
}

// A behavior is removed and added again, with or without a step in between. The old alarm ends, and
// the new behavior starts without datapoints.
func TestBehaviorThatIsAddedAgainStartsOver(t *testing.T) {
	for _, b := range []defender.Behavior{
		behavior(defender.ListeningTCPPorts.InPorts(443)),
		{Name: "b", Criteria: defender.ListeningTCPPorts.InPorts(443), ToAlarm: 2},
	} {
		first := evaluator(t, b)
		var s State
		for i := range b.DatapointsToAlarm() {
			at := start.Add(time.Duration(5*i) * time.Minute)
			s = first.Step("thing", s, portReports('x', at.UnixMilli(), fmt.Sprint(i)), at).State
		}
		s = first.Step("thing", s, nil, start.Add(10*time.Minute)).State
		if !s.Open("Profile", "b") {
			t.Fatal("no alarm")
		}
		without := Evaluator{Lateness: latenessInTests}
		between := without.Step("thing", s, nil, start.Add(15*time.Minute))
		if !between.State.Open("Profile", "b") || len(between.Transitions) > 0 {
			t.Fatalf("after a step without the behavior: %+v, want the alarm open and no transition", between)
		}
		if due := without.Due(between.State); due.Before(start.Add(SilenceLimit)) || due.After(start.Add(SilenceLimit+time.Hour+latenessInTests+time.Millisecond)) {
			t.Errorf("without the behavior the state is due at %v, want about two days after %v", due, start)
		} else if gone := without.Step("thing", between.State, nil, due); !gone.State.Empty() || !gone.Changed || len(gone.Transitions) > 0 {
			t.Errorf("after two days without the behavior: %+v, want no state and no transition", gone)
		}
		second := first
		second.Behaviors = Generations{"Profile/b": 3}.Of(first.Behaviors)
		for name, s := range map[string]State{"no step in between": s, "a step in between": between.State} {
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &s); err != nil {
				t.Fatal(err)
			}
			for letters, want := range map[string]string{"..": "I..", "xx": "IA."} {
				got := ""
				s := s
				for i, letter := range letters {
					at := start.Add(time.Duration(20+5*i) * time.Minute)
					r := second.Step("thing", s, portReports(letter, at.UnixMilli(), fmt.Sprint(letters, i)), at)
					got += changeLetters(r.Transitions)
					s = r.State
				}
				last := second.Step("thing", s, nil, start.Add(40*time.Minute))
				if got += changeLetters(last.Transitions); b.DatapointsToAlarm() == 2 && letters == "xx" {
					want = "I.A"
				}
				if got != want || last.State.Open("Profile", "b") != (letters == "xx") {
					t.Errorf("%s, reports %s: changes %s, want %s; alarm open: %v", name, letters, got, want, last.State.Open("Profile", "b"))
				}
			}
		}
	}
}

// changeLetters returns A for an alarm, C for a cleared and I for an invalidated one, . for no change.
func changeLetters(all []Transition) string {
	if len(all) == 0 {
		return "."
	}
	text := ""
	for _, t := range all {
		text += map[Change]string{InAlarm: "A", AlarmCleared: "C", AlarmInvalidated: "I"}[t.Change]
	}
	return text
}
