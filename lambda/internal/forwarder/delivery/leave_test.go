package delivery_test

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/delivery"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// leaving is a delivery.Leaver with fixed answers.
type leaving bool

func (l leaving) Leaving() bool                 { return bool(l) }
func (l leaving) Continue(context.Context) bool { return !bool(l) }

var _ delivery.Leaver = leaving(true)

// Once an invocation has left a state, its message is done. The invocation may crash after it wrote
// the state and before its message is deleted. The schedule imports the newest state in every
// interleaving, also with invocations of the previous version, and with those that import at once.
func TestEveryInterleavingWithLeftStatesEndsInTheNewestState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.older = func() bool { return rapid.IntRange(0, 3).Draw(t, "previous version") == 0 }
		w.leaver = func() delivery.Leaver {
			if rapid.Bool().Draw(t, "leave") {
				return leaving(true)
			}
			return nil
		}
		everyInterleaving(t, w)
	})
}

func TestLeftStateIsDueAtOnceAndOnlyTheNewestIsImported(t *testing.T) {
	w := newWorld(t)
	for i, state := range []asff.RecordState{asff.Active, asff.Archived, asff.Active} {
		w.now = start.Add(time.Duration(i) * time.Minute)
		for id, o := range w.deliver.DeliverOrLeave(context.Background(), w.now, []signal.Signal{event(w.now.UnixMilli(), state, "t")}, leaving(true)) {
			if o.Verdict != outcome.Left {
				t.Fatalf("%s: %+v, want Left", id, o)
			}
		}
	}
	if _, ok := w.finding(); ok {
		t.Fatal("a state that was left is imported at once")
	}
	left := 0
	if err := w.ledger.Backlog(context.Background(), w.now, w.now, func(entries []ledger.Entry) error { left += len(entries); return nil }); err != nil || left != 1 {
		t.Errorf("%d entries in the backlog, error %v; want one", left, err)
	}
	if n := w.refresh(t); n != 1 {
		t.Errorf("%d entries are due, want one", n)
	}
	if f := w.mustFind(t); f.RecordState != asff.Active || !f.UpdatedAt.Equal(f.CreatedAt.Time) {
		t.Errorf("%s, created %v, updated %v; want ACTIVE with equal times", f.RecordState, f.CreatedAt, f.UpdatedAt)
	}
	if n := w.refresh(t); n != 0 {
		t.Errorf("%d entries are due after the import, want none", n)
	}
}

// Newer states postpone the import, but not forever.
func TestLeftStateIsNotPostponedForever(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		w.now = start.Add(time.Duration(i) * time.Minute)
		state := []asff.RecordState{asff.Active, asff.Archived}[i%2]
		w.deliver.DeliverOrLeave(context.Background(), w.now, []signal.Signal{event(w.now.UnixMilli(), state, "t")}, leaving(true))
	}
	left := 0
	if err := w.ledger.Backlog(context.Background(), w.now, start.Add(10*time.Minute), func(entries []ledger.Entry) error { left += len(entries); return nil }); err != nil || left != 1 {
		t.Errorf("%d entries are due ten minutes after the first was left, error %v; want one", left, err)
	}
}
