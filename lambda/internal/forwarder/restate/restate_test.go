package restate_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/restate"
)

var start = time.Date(2026, 9, 15, 3, 0, 0, 0, time.UTC)

// world has active findings. It records how often each is imported, and when calls are made.
type world struct {
	table    ledgertest.Table
	entries  []ledger.Entry
	outcome  func(id string) outcome.Outcome
	imported map[string]int
	calls    []time.Time
}

func newWorld(findings int) *world {
	w := &world{imported: map[string]int{}, outcome: func(string) outcome.Outcome { return outcome.Outcome{} }}
	for i := range findings {
		id := fmt.Sprint("f", i)
		w.entries = append(w.entries, ledger.Entry{ID: id, State: asff.Active, Status: ledger.Confirmed, Finding: &asff.Finding{ID: id, Title: "old"}})
	}
	return w
}

func (w *world) Active(_ context.Context, _ time.Time, each func([]ledger.Entry) error) error {
	return each(w.entries)
}

func (w *world) Restate(_ context.Context, _ time.Time, entries []ledger.Entry, write ledger.Restate) map[string]outcome.Outcome {
	w.calls = append(w.calls, time.Now())
	all := map[string]outcome.Outcome{}
	for _, e := range entries {
		all[e.ID] = w.outcome(e.ID)
		if w.imported[e.ID]++; all[e.ID].Verdict == outcome.Done {
			*e.Finding = write(e)
		}
	}
	return all
}

func (w *world) run(version string, at time.Duration) (int, error) {
	return w.runIn(context.Background(), version, at)
}

func (w *world) runIn(ctx context.Context, version string, at time.Duration) (int, error) {
	r := &restate.Restater{
		Table: &w.table, Findings: w, Deliver: w, Region: "r", Log: slog.New(slog.DiscardHandler), Version: func() (string, error) { return version, nil },
	}
	return r.Run(ctx, start.Add(at), func(e ledger.Entry) asff.Finding {
		f := *e.Finding
		f.Title = "title of " + version
		return f
	})
}

// Each version restates all findings twice, at least 15 minutes apart. Later runs only read.
func TestEachVersionRestatesAllFindingsTwice(t *testing.T) {
	w := newWorld(3)
	for _, step := range []struct {
		version string
		at      time.Duration
		done    int
		titles  string // "" if an older invocation changes a title before the run
	}{
		{"1", 0, 3, "title of 1"},
		{"1", 14 * time.Minute, 0, ""}, // too early
		{"1", 15 * time.Minute, 1, "title of 1"},
		{"1", time.Hour, 0, ""},
		{"2", 2 * time.Hour, 3, "title of 2"},
		{"1", 119 * time.Minute, 0, "title of 2"}, // an invocation that began earlier
		{"1", 3 * time.Hour, 3, "title of 1"},     // a rollback
	} {
		if step.titles == "" {
			w.entries[0].Finding.Title = "raised by an older invocation"
		}
		done, err := w.run(step.version, step.at)
		if err != nil || done != step.done {
			t.Errorf("version %s at %v: %d done, error %v; want %d", step.version, step.at, done, err, step.done)
		}
		for _, e := range w.entries {
			if step.titles != "" && e.Finding.Title != step.titles {
				t.Errorf("version %s at %v: %s has %q, want %q", step.version, step.at, e.ID, e.Finding.Title, step.titles)
			}
		}
	}
}

func TestOutcomesDecideWhetherARunIsComplete(t *testing.T) {
	for name, c := range map[string]struct {
		outcome outcome.Verdict
		of      string // the finding with this outcome; "" means all
		done    int
		fails   bool
		again   bool
	}{
		"refused":                {outcome.Refused, "f1", 3, false, false},
		"failing alone":          {outcome.Failing, "f1", 3, false, true},
		"one not delivered":      {outcome.Retry, "f1", 2, false, true},
		"none delivered":         {outcome.Retry, "", 0, true, true},
		"Security Hub is off":    {outcome.HubOff, "", 0, true, true},
		"everything is imported": {outcome.Done, "", 3, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(3)
			w.outcome = func(id string) outcome.Outcome {
				if c.of == "" || id == c.of {
					return outcome.Outcome{Verdict: c.outcome, Reason: "why"}
				}
				return outcome.Outcome{}
			}
			done, err := w.run("1", 0)
			if done != c.done || (err != nil) != c.fails || errors.Is(err, outcome.HubOff) != (c.outcome == outcome.HubOff) {
				t.Errorf("%d done, error %v; want %d done, an error: %v", done, err, c.done, c.fails)
			}
			before := len(w.calls)
			_, _ = w.run("1", time.Minute) // a complete run is not repeated so soon
			if again := len(w.calls) > before; again != c.again {
				t.Errorf("imports again: %v, want %v", again, c.again)
			}
		})
	}
}

// A finding whose import is not confirmed is not restated, and the run is not complete.
func TestUnconfirmedFindingKeepsTheRunOpen(t *testing.T) {
	w := newWorld(2)
	w.entries[1].Status = ledger.Pending
	for i, want := range []int{1, 0} {
		if done, err := w.run("1", time.Duration(i)*time.Minute); err != nil || done != want || w.imported["f1"] > 0 {
			t.Errorf("run %d: %d done, error %v, imported %v; want %d done, without f1", i, done, err, w.imported, want)
		}
	}
	w.entries[1].Status = ledger.Confirmed
	if done, err := w.run("1", 2*time.Minute); err != nil || done != 1 {
		t.Errorf("after the confirmation: %d done, error %v; want 1", done, err)
	}
}

// Calls leave most of the quota to new findings, and stop when a newer deployment begins.
func TestImportsAreSpreadAndStopForANewerDeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(450)
		overtaken := false
		w.outcome = func(string) outcome.Outcome {
			if len(w.calls) == 3 && !overtaken {
				overtaken = true
				other := newWorld(0)
				r := &restate.Restater{Table: &w.table, Findings: other, Deliver: other, Region: "r", Log: slog.New(slog.DiscardHandler), Version: func() (string, error) { return "2", nil }}
				if _, err := r.Run(context.Background(), start.Add(time.Minute), nil); err != nil {
					t.Error(err)
				}
			}
			return outcome.Outcome{}
		}
		done, err := w.run("1", 0)
		if err != nil || done != 300 || len(w.calls) != 3 {
			t.Fatalf("%d done in %d calls, error %v; want 300 in 3", done, len(w.calls), err)
		}
		for i, at := range w.calls[1:] {
			if at.Sub(w.calls[i]) < 500*time.Millisecond {
				t.Errorf("a call %v after the previous one, want at least 500ms", at.Sub(w.calls[i]))
			}
		}
	})
}

// A run that ends before the last call is not complete.
func TestRunOutOfTimeIsResumed(t *testing.T) {
	for _, findings := range []int{150, 250} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(findings)
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			if done, err := w.runIn(ctx, "1", 0); done != 100 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d findings: %d done, error %v; want 100 before the deadline", findings, done, err)
			}
			if done, err := w.run("1", time.Minute); done != findings-100 || err != nil {
				t.Errorf("%d findings: then %d done, error %v; want the others", findings, done, err)
			}
		})
	}
}
