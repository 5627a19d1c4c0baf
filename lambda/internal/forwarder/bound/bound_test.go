package bound_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/deviceevent"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/bound"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

func event(group, name string) signal.Signal {
	over := signal.Signal{Finding: asff.Finding{ID: group + "#more"}}
	return signal.Signal{Raised: true, Finding: asff.Finding{ID: group + "/" + name}, Bound: &signal.Bound{Group: group, Over: func() signal.Signal { return over }}}
}

// TestBoundHoldsInEveryOrder processes the events of several devices in several functions at
// once, in any order and with duplicates. Each function has its own cache, like each environment
// of a Lambda function.
func TestBoundHoldsInEveryOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := &ledgertest.Table{}
		// Each function gets all events. Rapid would draw few and equal ones, which never reach the
		// bound.
		var all []signal.Signal
		for i := range rapid.IntRange(deviceevent.MaxTypes-1, 2*deviceevent.MaxTypes).Draw(t, "types") {
			for _, device := range []string{"a", "b", "a"} {
				all = append(all, event(device, fmt.Sprint(i)))
			}
		}
		var mu sync.Mutex
		admitted, shared := map[string]bool{}, map[string]bool{}
		var wg sync.WaitGroup
		for f := range rapid.IntRange(1, 4).Draw(t, "functions") {
			events := rapid.Permutation(all).Draw(t, fmt.Sprint("events of function ", f))
			size := rapid.IntRange(1, 40).Draw(t, "batch")
			wg.Go(func() {
				b := &bound.Bounds{Table: table, Region: "r", Now: time.Now}
				for batch := range slices.Chunk(events, size) {
					for again := batch; len(again) > 0; {
						results, faults := b.Apply(context.Background(), again)
						var next []signal.Signal
						mu.Lock()
						for i, s := range again {
							if faults[i] != nil {
								next = append(next, s) // too many conflicts: it is retried
								continue
							}
							if got := results[i][0].Finding.ID; got == s.Finding.ID {
								admitted[got] = true
							} else {
								shared[s.Finding.ID] = true
							}
						}
						mu.Unlock()
						again = next
					}
				}
			})
		}
		wg.Wait()
		for _, device := range []string{"a/", "b/"} {
			n, over := 0, 0
			for id := range admitted {
				if id[:2] == device {
					n++
				}
			}
			for id := range shared {
				if id[:2] == device {
					over++
				}
			}
			if n > deviceevent.MaxTypes || over > 0 && n != deviceevent.MaxTypes {
				t.Fatalf("device %s has %d findings of its own and %d events in the shared one, want %d of its own before any is shared", device, n, over, deviceevent.MaxTypes)
			}
		}
		for id := range admitted {
			if shared[id] {
				t.Fatalf("%s is a finding of its own in one function, and part of the shared one in another", id)
			}
		}
		if table.Writes() > len(admitted) {
			t.Fatalf("%d writes for %d findings, want at most one for each", table.Writes(), len(admitted))
		}
	})
}

// A device that ends what it never raised still has all its places. An end keeps its place in the
// ledger in any order, as long as its beginning may get one.
func TestEndsUseUpNoPlaceOfARaisedFinding(t *testing.T) {
	table := &ledgertest.Table{}
	b := &bound.Bounds{Table: table, Region: "r", Now: time.Now}
	own := func(s signal.Signal, raised bool) bool {
		t.Helper()
		s.Raised = raised
		results, faults := b.Apply(t.Context(), []signal.Signal{s})
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		return results[0][0].Finding.ID == s.Finding.ID
	}
	for i := range 2 * deviceevent.MaxTypes {
		if got, want := own(event("a", fmt.Sprint("ended-", i)), false), i < deviceevent.MaxTypes; got != want {
			t.Errorf("end %d is delivered for its own finding: %v, want %v", i, got, want)
		}
	}
	writes := table.Writes()
	for i := range deviceevent.MaxTypes {
		if !own(event("a", fmt.Sprint("raised-", i)), true) {
			t.Errorf("finding %d is part of the shared one", i)
		}
		if !own(event("a", fmt.Sprint("raised-", i)), false) {
			t.Errorf("the end of finding %d is not delivered", i)
		}
	}
	if own(event("a", "ended-0"), true) {
		t.Error("an ended finding exceeds the limit of raised ones")
	}
	if own(event("a", "new"), false) {
		t.Error("an end gets a place, although its beginning gets none")
	}
	if got := table.Writes() - writes; got != deviceevent.MaxTypes {
		t.Errorf("%d writes, want one for each raised finding", got)
	}
}

func TestRepeatedEndCostsNoCall(t *testing.T) {
	table := &ledgertest.Table{}
	b := &bound.Bounds{Table: table, Region: "r", Now: time.Now}
	for range 2 {
		end := event("a", "x")
		end.Raised = false
		if results, faults := b.Apply(t.Context(), []signal.Signal{end}); len(faults) > 0 || results[0][0].Finding.ID != "a/x" {
			t.Errorf("signals %v, faults %v; want the end", results, faults)
		}
		table.Step = func(context.Context, string, bool) error { panic("an unexpected call of the table") }
	}
}

func TestSharedFindingCostsNoCall(t *testing.T) {
	table := &ledgertest.Table{Step: func(context.Context, string, bool) error { panic("an unexpected call of the table") }}
	b := &bound.Bounds{Table: table, Region: "r", Now: time.Now}
	free, listed, over := signal.Signal{Finding: asff.Finding{ID: "free"}}, event("", "x"), event("", "y")
	over.Bound.Over = nil
	results, faults := b.Apply(context.Background(), []signal.Signal{free, listed, over})
	if len(faults) > 0 || results[0][0].Finding.ID != "free" || results[1][0].Finding.ID != "#more" || len(results[2]) != 0 {
		t.Errorf("signals %v, faults %v; want the free one, the shared one and none", results, faults)
	}
}

// A sender of forged events can invent a group for each event. Those groups must expire. The
// group of a device must stay, because only its own events end its findings.
func TestOnlyGroupsWhoseFindingsEndByTimeExpire(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for ends, want := range map[bool]time.Time{true: now.Add(90 * 24 * time.Hour), false: {}} {
		table := &expiries{}
		b := &bound.Bounds{Table: table, Region: "r", Now: func() time.Time { return now }}
		s := event("a", "x")
		s.Bound.Ends = ends
		if _, faults := b.Apply(context.Background(), []signal.Signal{s}); len(faults) > 0 || len(table.at) != 1 || !table.at[0].Equal(want) {
			t.Errorf("ends %v: expires at %v, want %v; faults %v", ends, table.at, want, faults)
		}
	}
}

// expiries records when the records of a table expire.
type expiries struct {
	ledgertest.Table
	at []time.Time
}

func (e *expiries) Put(ctx context.Context, r ledger.Record) error {
	e.at = append(e.at, r.Expires)
	return e.Table.Put(ctx, r)
}
