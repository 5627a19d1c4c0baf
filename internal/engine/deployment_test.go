package engine

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
)

// Deployments change behaviors, remove them and add them again. The thing leaves the targets and
// returns. Only an open alarm is cleared, each transition is later than the one before, and after a
// step nothing is due.
func TestDeploymentsKeepTransitionsInOrder(t *testing.T) {
	variants := [][]defender.Criteria{
		{defender.MessageByteSize.LessThan(8), defender.MessageByteSize.LessThan(30), defender.MessagesSent.LessThan(2, defender.Window5m), defender.DisconnectDuration.LessThan(10)},
		{defender.ListeningTCPPorts.InPorts(443), defender.ListeningTCPPorts.InPorts(443, 23), defender.AllBytesOut.LessThan(50, defender.Window15m)},
		{defender.MessagesSent.GreaterThan(1, defender.Window10m), defender.MessagesSent.GreaterThan(2, defender.Window5m), defender.MessageByteSize.LessThan(8)},
		{defender.DisconnectDuration.LessThan(10), defender.DisconnectDuration.LessThan(90), defender.ConnectionAttempts.LessThan(3, defender.Window10m)},
		{defender.MessagesSent.Learned(defender.HighConfidence), defender.AllBytesIn.LessThanEqualsPercentile(defender.P90, defender.Window5m)},
	}
	rapid.Check(t, func(t *rapid.T) {
		uniform := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		lateness := time.Duration(uniform.IntN(9)) * time.Minute
		var known Generations
		deploy := func(number int) Evaluator {
			var all []defender.Behavior
			for i, v := range variants {
				if run := 1 + uniform.IntN(2); uniform.IntN(5) > 0 {
					all = append(all, defender.Behavior{Name: fmt.Sprint("b", i), Criteria: v[uniform.IntN(len(v))], ToAlarm: run, ToClear: run})
				}
			}
			compiled, err := Compile("Profile", all)
			if err != nil {
				t.Fatal(err)
			}
			if uniform.IntN(4) > 0 {
				compiled = append(compiled, ReportsEvery("Profile", "reports", time.Duration(5+uniform.IntN(30))*time.Minute, defender.High))
			}
			known, _ = known.Next(compiled, int64(number))
			watched := uniform.IntN(6) > 0
			return Evaluator{Behaviors: known.Of(compiled), Lateness: lateness, Fleet: fixedFleet{}, Connection: stillConnected, Watches: func(string) bool { return watched }}
		}
		e := deploy(0)
		var s State
		var all []Transition
		now := int64(0)
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += uniform.Int64N(1 + uniform.Int64N(20)*minute)
			var points []Datapoint
			if uniform.IntN(8) == 0 {
				e = deploy(i)
			} else {
				at := start.UnixMilli() + now - uniform.Int64N(lateness.Milliseconds()+1)
				for _, d := range randomEvent(t, uniform, i, 1) {
					d.Time = at
					points = append(points, d)
				}
			}
			r := e.Step("thing", s, points, after(now))
			if due := e.Due(r.State); !due.IsZero() && !due.After(after(now)) {
				t.Fatalf("after the step at %v, the state is due at %v", after(now), due)
			}
			text, err := json.Marshal(r.State)
			if s = (State{}); err == nil {
				err = json.Unmarshal(text, &s)
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r.Transitions...)
			checkSequence(t, all)
		}
	})
}
