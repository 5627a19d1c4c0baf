package simulation

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
)

// result is the result of a run.
type result struct {
	seed       uint64
	digest     string
	log        string
	violations string
	counts     map[string]int
	hits       map[hit]int
	signals    int
	virtual    time.Duration
	sent       []sentMessage
}

// simulate runs a seed.
func simulate(t *testing.T, seed uint64, keep bool, without ...kind) (r result) {
	t.Helper()
	dir := t.TempDir()
	var operations []porcupine.Operation
	synctest.Test(t, func(*testing.T) {
		f := swarm(seed, without...)
		w := newWorld(seed, f, keep, dir, true)
		w.log.printf("seed %d with %s", seed, f)
		w.live(time.Duration(1+seed%4) * 30 * time.Minute)
		synctest.Wait()
		w.counts["calls"], w.counts["invocations"], w.counts["environments"], w.counts["import calls"] = w.steps, w.invocations, w.environments, w.hub.calls
		operations = w.ledger.operations
		w.counts["operations of the ledger"] = len(operations)
		r = result{
			seed: seed, digest: w.log.digest(), log: w.log.text.String(), violations: w.violations.String(), counts: w.counts, hits: f.hits,
			signals: w.model.signals, virtual: time.Since(w.begin), sent: w.sent,
		}
	})
	if fault := checkProtocol(operations); fault != "" {
		r.violations += "\nthe ledger's protocol: " + fault
	}
	return r
}

func TestSeeds(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		r := simulate(t, seed, false)
		if r.violations != "" {
			t.Errorf("seed %d:\n%s", seed, r.violations)
		}
		t.Log(seed, r.counts, r.signals, r.virtual)
	}
}

func TestEqualSeedsHaveEqualLogs(t *testing.T) {
	seeds := uint64(3)
	if os.Getenv("SIMULATE") != "" {
		seeds = 50
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		if a, b := simulate(t, seed, true), simulate(t, seed, true); a.digest != b.digest {
			t.Errorf("seed %d: %s", seed, firstDifference(a.log, b.log))
		}
	}
}
