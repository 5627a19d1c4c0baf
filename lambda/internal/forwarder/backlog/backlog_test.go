package backlog_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/backlog"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

// world has a backlog of entries. left has the time of each entry's newest state.
type world struct {
	mu    sync.Mutex
	table ledgertest.Table
	left  map[string]time.Time
	calls []int
	// quota, if set, reports whether Security Hub accepts a call that arrives now.
	quota func() bool
}

// leave adds entries to the backlog.
func (w *world) leave(from, to int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left == nil {
		w.left = map[string]time.Time{}
	}
	for i := from; i < to; i++ {
		w.left[fmt.Sprintf("f%05d", i)] = time.Now()
	}
}

func (w *world) Backlog(_ context.Context, _, until time.Time, each func([]ledger.Entry) error) error {
	w.mu.Lock()
	var entries []ledger.Entry
	for id, at := range w.left {
		if !at.After(until) {
			entries = append(entries, ledger.Entry{ID: id})
		}
	}
	w.mu.Unlock()
	if len(entries) == 0 {
		return nil
	}
	return each(entries)
}

func (w *world) BacklogSize(context.Context, time.Time, int) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.left), nil
}

func (w *world) Refresh(_ context.Context, _ time.Time, entries []ledger.Entry) map[string]outcome.Outcome {
	time.Sleep(250 * time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.quota != nil && !w.quota() {
		w.mu.Unlock()
		time.Sleep(200 * time.Millisecond)
		w.mu.Lock()
	}
	w.calls = append(w.calls, len(entries))
	outcomes := map[string]outcome.Outcome{}
	for _, e := range entries {
		delete(w.left, e.ID)
	}
	return outcomes
}

// environment returns a new environment of the function.
func (w *world) environment() *backlog.Backlog {
	return &backlog.Backlog{
		Table: &w.table, Ledger: w, Deliver: w, Region: "r", Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
}

func TestLoneThrottledInvocationKeepsNoMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		turn := w.environment().Begin(t.Context(), false)
		if turn.Leaving() || w.table.Len() != 0 {
			t.Error("states are left, or the marker is written, before a call was throttled")
		}
		if !turn.Continue(t.Context()) {
			t.Error("the invocation does not go on, although no other drains")
		}
		if keep, _ := turn.End(t.Context(), t.Context()); keep {
			t.Error("the message is kept, although no state is left")
		}
	})
}

func TestInvocationsRelyOnTheDrainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		drainer, other := w.environment(), w.environment()
		drains := drainer.Begin(t.Context(), false)
		drains.Continue(t.Context())
		leaves := other.Begin(t.Context(), false)
		if leaves.Continue(t.Context()) || !leaves.Leaving() {
			t.Fatal("two invocations drain")
		}
		w.leave(0, 250)
		if keep, _ := leaves.End(t.Context(), t.Context()); keep {
			t.Error("a message is kept, although the drainer imports its state")
		}
		if !other.Begin(t.Context(), false).Leaving() {
			t.Error("the next invocation of the environment does not leave states")
		}
		begin := time.Now()
		if keep, _ := drains.End(t.Context(), t.Context()); keep || len(w.left) > 0 || fmt.Sprint(w.calls) != "[100 100 50]" {
			t.Errorf("kept: %v, %d left, calls of %v findings; want none left after [100 100 50]", keep, len(w.left), w.calls)
		}
		if took := time.Since(begin); took < 15*time.Second {
			t.Errorf("ended after %v, want at least 15s: the index may not show the newest states yet", took)
		}
	})
}

func TestMessageIsKeptWhenTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		first := w.environment().Begin(t.Context(), false)
		first.Continue(t.Context())
		w.leave(0, 30_000)
		work, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		keep, wait := first.End(t.Context(), work)
		if left := len(w.left); !keep || wait != 0 || left == 0 || left == 30_000 {
			t.Fatalf("kept: %v, wait %v, %d left; want a kept message, no wait and some left", keep, wait, left)
		}
		time.Sleep(time.Second)
		second := w.environment().Begin(t.Context(), true)
		if second.Leaving() {
			t.Fatal("the retried message does not drain")
		}
		if keep, _ := second.End(t.Context(), t.Context()); keep || len(w.left) > 0 {
			t.Errorf("kept: %v, %d left; want none", keep, len(w.left))
		}
		for _, n := range w.calls[:len(w.calls)-1] {
			if n != 100 {
				t.Errorf("calls of %v findings, want 100 in all but the last", w.calls)
				break
			}
		}
	})
}

func TestDrainerThatCrashedIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		crashed := w.environment().Begin(t.Context(), false)
		crashed.Continue(t.Context())
		time.Sleep(20 * time.Second)
		if next := w.environment().Begin(t.Context(), false); next.Continue(t.Context()) {
			t.Error("two invocations drain")
		}
		time.Sleep(11 * time.Second)
		if next := w.environment().Begin(t.Context(), false); !next.Continue(t.Context()) {
			t.Error("no invocation replaces the drainer")
		}
	})
}

// TestDrainerIsHardlyThrottled lets calls arrive up to 40 ms late, while Security Hub's burst is used
// up: it accepts ten calls per second.
func TestDrainerIsHardlyThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		w := &world{}
		tokens, last, first, throttled := 0.0, time.Now(), true, 0
		w.quota = func() bool {
			late := time.Duration(random.Int64N(int64(40 * time.Millisecond)))
			w.mu.Unlock()
			time.Sleep(late)
			w.mu.Lock()
			if first { // others have used the burst
				first, last = false, time.Now()
			}
			tokens, last = min(30, tokens+10*time.Since(last).Seconds()), time.Now()
			if tokens < 1 {
				throttled++
				return false
			}
			tokens--
			return true
		}
		turn := w.environment().Begin(t.Context(), false)
		turn.Continue(t.Context())
		w.leave(0, 60_000)
		if keep, _ := turn.End(t.Context(), t.Context()); keep || len(w.left) > 0 {
			t.Errorf("kept: %v, %d left; want none", keep, len(w.left))
		}
		if len(w.calls) != 600 || throttled > 30 {
			t.Errorf("%d calls and %d throttled ones, want 600 and at most 30", len(w.calls), throttled)
		}
	})
}

func TestDrainerKeepsItsLeaseWhileStatesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		turn := w.environment().Begin(t.Context(), false)
		turn.Continue(t.Context())
		w.leave(0, 60_000) // they wait for newer states for more than a minute
		work, cancel := context.WithTimeout(t.Context(), 55*time.Second)
		defer cancel()
		go turn.End(t.Context(), work)
		for range 5 {
			time.Sleep(10 * time.Second)
			if w.environment().Begin(t.Context(), false).Continue(t.Context()) {
				t.Fatal("two invocations drain")
			}
		}
	})
}

func TestDrainerThatWasOvertakenStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		slow, other := w.environment().Begin(t.Context(), false), w.environment().Begin(t.Context(), false)
		slow.Continue(t.Context())
		time.Sleep(31 * time.Second) // its own messages take longer than its lease
		if !other.Continue(t.Context()) {
			t.Fatal("no invocation drains")
		}
		time.Sleep(time.Second)
		w.leave(0, 200)
		if keep, _ := slow.End(t.Context(), t.Context()); keep || len(w.calls) > 0 {
			t.Errorf("kept: %v, calls of %v findings; want none: another invocation drains", keep, w.calls)
		}
		if keep, _ := other.End(t.Context(), t.Context()); keep || len(w.left) > 0 {
			t.Errorf("kept: %v, %d left; want none", keep, len(w.left))
		}
	})
}
