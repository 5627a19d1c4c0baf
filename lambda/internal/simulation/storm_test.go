package simulation

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/transition"
)

var (
	stormDevices = flag.Int("storm.devices", 0, "devices of the storm; 0 skips it")
	stormEach    = flag.Int("storm.transitions", 10, "transitions of each device")
	stormSpan    = flag.Duration("storm.span", 0, "how long the storm lasts; 0 is ten minutes for 100,000 devices, less for fewer")
	stormSeed    = flag.Uint64("storm.seed", 1, "seed of the storm")
)

// TestStorm lets devices flap, without faults, and measures how soon Security Hub shows every
// last state.
func TestStorm(t *testing.T) {
	devices := *stormDevices
	if devices == 0 {
		t.Skip("make storm runs this")
	}
	span := cmp.Or(*stormSpan, 10*time.Minute*time.Duration(devices)/100_000)
	if s := runStorm(t, *stormSeed, devices, *stormEach, span); s.violations != "" {
		t.Error(s.violations)
	} else {
		fmt.Println(s)
	}
}

// TestSmallStormSettles keeps the storm working.
func TestSmallStormSettles(t *testing.T) {
	if s := runStorm(t, 1, 200, 5, time.Minute); s.violations != "" || s.findings != 200 {
		t.Errorf("%d findings: %s", s.findings, s.violations)
	}
}

// storm has the measurements of a storm.
type storm struct {
	transitions, findings, calls, ledgerCalls int
	// settled is the time from the end of the storm until every last state was imported.
	settled    time.Duration
	violations string
}

// floor returns the time that Security Hub's quota needs for one import of each finding: 100 findings
// per call, ten calls per second.
func (s storm) floor() time.Duration {
	return time.Duration(s.findings) * time.Second / (asff.MaxFindingsPerImport * 10)
}

func (s storm) String() string {
	return fmt.Sprintf("%d transitions of %d findings: %d import calls, %.4f per finding; %d ledger calls, %.2f per transition; settled %v after the end, %.2f times the quota's floor of %v",
		s.transitions, s.findings, s.calls, float64(s.calls)/float64(s.findings), s.ledgerCalls, float64(s.ledgerCalls)/float64(s.transitions),
		s.settled.Round(time.Millisecond), s.settled.Seconds()/s.floor().Seconds(), s.floor())
}

const (
	stormProfile  = "fleet"
	stormBehavior = "flapping"
)

func runStorm(t *testing.T, seed uint64, devices, each int, span time.Duration) (s storm) {
	dir := t.TempDir()
	synctest.Test(t, func(*testing.T) {
		live := contract.LiveBehaviors{}
		live.Add(stormProfile, stormBehavior, defender.SeverityDefault)
		w := newWorld(seed, swarm(seed, kinds()...), false, dir, false)
		w.forwarder.environ = append([]string{contract.EnvLiveBehaviors + "=" + live.String(), contract.EnvLogLevel + "=WARN"}, w.forwarder.environ...)
		w.dynamodb.PageItems = 0
		// Nothing asks for the history of the ledger, and a storm has no stale reads: without them,
		// it takes minutes instead of hours.
		w.dynamodb.Observe, w.dynamodb.Stale = nil, nil
		end := w.begin.Add(span)
		imported := map[string]struct {
			state string
			at    time.Time
		}{}
		w.hub.changed = func(id, state string) {
			if imported[id].state != state {
				imported[id] = struct {
					state string
					at    time.Time
				}{state, time.Now()}
			}
		}
		for d := range devices {
			w.flap(fmt.Sprintf("device-%06d", d), each, span)
		}
		if devices >= 10_000 {
			w.reportStorm()
		}
		w.run(end.Add(4*time.Hour), func() bool { return time.Now().After(end) && w.idle() })
		w.check()
		for id := range w.model.statements {
			s.settled = max(s.settled, imported[id].at.Sub(end))
		}
		s.transitions, s.findings, s.calls, s.violations = devices*each, len(imported), w.hub.calls, w.violations.String()
		s.ledgerCalls = w.tableCalls
		w.shutDown()
	})
	return s
}

// reportStorm prints every minute how far a long storm is.
func (w *world) reportStorm() {
	w.after(time.Minute, func() {
		fmt.Printf("%v: %d messages wait, %d import calls of %d findings\n", time.Since(w.begin), len(w.ingest.messages), w.hub.calls, w.hub.findings)
		w.reportStorm()
	})
}

// flap raises and clears an alarm of a device at random times.
func (w *world) flap(client string, each int, span time.Duration) {
	for i := range each {
		at := w.begin.Add(w.between(time.Duration(i)*span/time.Duration(each), time.Duration(i+1)*span/time.Duration(each)-time.Millisecond))
		change := engine.InAlarm
		if i%2 == 1 {
			change = engine.AlarmCleared
		}
		w.at(at, func() {
			ms := at.UnixMilli()
			body, err := json.Marshal(transition.Message{Thing: client, ClientID: client, Transition: engine.Transition{
				Time: ms, Thing: client, Change: change, Profile: stormProfile, ViolationID: "violation", StartTime: ms,
				Behavior: defender.Behavior{Name: stormBehavior, Criteria: defender.MessageByteSize.LessThan(8)},
			}})
			if err != nil {
				panic(err) // strings and numbers always marshal
			}
			w.model.signals++
			w.model.add(defender.BehaviorTransitions, statement{time: ms, active: change == engine.InAlarm}, stormProfile, stormBehavior, client)
			w.ingest.send(string(body), nil)
		})
	}
}
