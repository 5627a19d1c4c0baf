package fleet_test

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/fleet"
)

// complete is how long after midnight all samples of the day before have arrived.
const complete = lateness + engine.SampleMargin

// fill adds n samples, 1 to n, to a window at the start of a day and one at its end.
func fill(t testing.TB, s *fleet.Store, start time.Time, n int) {
	t.Helper()
	for _, w := range []time.Time{start, start.Add(day - 5*minute)} {
		for batch := range 2 {
			mustAdd(t, s, fmt.Sprint(batch), w, samples(sent, w, upTo(n/4)...))
		}
	}
}

func compact(t testing.TB, s *fleet.Store, at time.Time) {
	t.Helper()
	if err := s.Compact(t.Context(), []engine.FleetKey{sent}, at); err != nil {
		t.Fatal(err)
	}
}

// One invocation cannot read a day of a large fleet: the next one resumes.
func TestSlowDayIsMergedEventually(t *testing.T) {
	f := newTable(t)
	closer := f.store(t, io.Discard)
	fill(t, f.store(t, io.Discard), midnight, 4000)
	f.took()
	const queriesPerInvocation = 100
	for invocations := 1; len(days(f)) < 2; invocations++ {
		if invocations > 7 { // two days with 288 windows each
			t.Fatalf("after 7 invocations the merged days are %v, want two", days(f))
		}
		ctx, stop := context.WithCancel(t.Context())
		f.query = func(n int) {
			if n >= queriesPerInvocation {
				stop()
			}
		}
		_ = closer.Compact(ctx, []engine.FleetKey{sent}, midnight.Add(day+complete)) // an error says that it had no more time
		stop()
		f.took()
	}
}

func days(f *table) (found []string) {
	for _, it := range f.copied("day#").items() {
		found = append(found, sortKey(it))
	}
	return found
}

func TestDaysBecomeABaseline(t *testing.T) {
	f := newTable(t)
	closer, evaluator := f.store(t, io.Discard), f.store(t, io.Discard)
	for i := range engine.BaselineDays {
		start := midnight.Add(time.Duration(i) * day)
		fill(t, evaluator, start, 4000)
		compact(t, closer, start.Add(day+complete))
		asked := start.Add(day + complete + engine.DayMargin)
		r, ok := evaluator.Load(t.Context(), asked).Baseline(sent, defender.HighConfidence, asked.UnixMilli())
		if want := i+1 >= engine.MinBaselineDays; ok != want {
			t.Errorf("after %d days: baseline %v, complete %v; want complete %v", i+1, r, ok, want)
		}
	}
	if n := len(days(f)); n != engine.BaselineDays+1 { // the one before the first is empty
		t.Errorf("%d merged days, want %d", n, engine.BaselineDays+1)
	}
	f = f.copied("day#") // the baselines do not need the windows of merged days, which TTL deletes
	asked := midnight.Add(engine.BaselineDays*day + complete + engine.DayMargin)
	for range 3 {
		loaded := f.store(t, io.Discard).Load(t.Context(), asked)
		for range 10 {
			if _, ok := loaded.Baseline(sent, defender.LowConfidence, asked.UnixMilli()); !ok {
				t.Errorf("no baseline, error %v", loaded.Err())
			}
		}
	}
	if _, queries := f.took(); queries != 3*5 { // 14 days in pages of three, once per environment
		t.Errorf("%d queries, want 15", queries)
	}
	if _, ok := f.store(t, io.Discard).Load(t.Context(), asked).Baseline(sent, defender.LowConfidence, asked.Add(8*day).UnixMilli()); ok {
		t.Error("six days gave a baseline")
	}
}

func TestDaysAreMergedOnceWhenTheyAreOver(t *testing.T) {
	f := newTable(t)
	fill(t, f.store(t, io.Discard), midnight, 400)
	f.took()
	s := f.store(t, io.Discard)
	const windows, pageOfDays = 288, 1
	for _, row := range []struct {
		after         time.Duration
		puts, queries int
	}{
		{complete - 1, 2, pageOfDays + 2*windows}, // the two days before, which are empty
		{complete - 1, 0, 0},
		{complete, 1, pageOfDays + windows},
		{complete + minute, 0, 0},
		{complete + 12*time.Hour, 0, 0},
	} {
		compact(t, s, midnight.Add(day+row.after))
		if puts, queries := f.took(); puts != row.puts || queries != row.queries {
			t.Errorf("%v after the day: %d writes and %d reads, want %d and %d", row.after, puts, queries, row.puts, row.queries)
		}
	}
	// Another environment sees that it is done.
	compact(t, f.store(t, io.Discard), midnight.Add(day+complete))
	if puts, queries := f.took(); puts != 0 || queries != pageOfDays {
		t.Errorf("%d writes and %d reads for days that are merged already, want 0 and %d", puts, queries, pageOfDays)
	}
}

func TestConcurrentClosersWriteTheSame(t *testing.T) {
	f := newTable(t)
	fill(t, f.store(t, io.Discard), midnight, 400)
	alone := f.copied("")
	compact(t, alone.store(t, io.Discard), midnight.Add(day+complete))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			s := f.store(t, io.Discard)
			for range 2 {
				if err := s.Compact(t.Context(), []engine.FleetKey{sent}, midnight.Add(day+complete)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got, want := f.items(), alone.items(); !reflect.DeepEqual(got, want) {
		t.Errorf("%d items %v, want the %d of a lone closer: %v", len(got), got, len(want), want)
	}
}

func TestDayMissedByTheCloserIsMergedADayLater(t *testing.T) {
	f := newTable(t)
	fill(t, f.store(t, io.Discard), midnight, 400)
	compact(t, f.store(t, io.Discard), midnight.Add(3*day+complete-1)) // the last moment
	at := midnight.Add(3 * day)
	if found := days(f); len(found) != 2 {
		t.Fatalf("merged days %v, want two", found)
	}
	var windows, merged int
	for _, it := range f.items() {
		if f.expiry(it).After(midnight.Add(30 * day)) {
			t.Errorf("%s stays until %v", partition(it), f.expiry(it))
		}
		if strings.HasPrefix(partition(it), "window#") {
			windows++
			if !f.expiry(it).After(at.Add(complete)) {
				t.Errorf("%s expires before its day was merged", partition(it))
			}
		} else if f.expiry(it).Before(midnight.Add((engine.BaselineDays+1)*day + complete + engine.DayMargin)) {
			t.Errorf("%s expires before its last baseline", sortKey(it))
		} else {
			merged++
		}
	}
	if windows != 4 || merged != 2 {
		t.Errorf("%d windows and %d merged days, want 4 and 2", windows, merged)
	}
}

// A missing day is queried again, but not by every batch.
func TestMissingDayIsCachedForAWhile(t *testing.T) {
	f := newTable(t)
	closer, evaluator := f.store(t, io.Discard), f.store(t, io.Discard)
	for i := range engine.MinBaselineDays {
		start := midnight.Add(time.Duration(i) * day)
		fill(t, closer, start, 4000)
		if i < engine.MinBaselineDays-1 {
			compact(t, closer, start.Add(day+complete))
		}
	}
	due := midnight.Add(engine.MinBaselineDays*day + complete + engine.DayMargin)
	for _, row := range []struct {
		after time.Duration
		asks  bool
		want  bool
	}{{0, true, false}, {9 * minute, false, false}, {10 * minute, true, true}, {11 * minute, false, true}} {
		at := due.Add(row.after)
		f.took()
		if _, ok := evaluator.Load(t.Context(), at).Baseline(sent, defender.LowConfidence, at.UnixMilli()); ok != row.want {
			t.Errorf("%v later: a baseline: %v, want %v", row.after, ok, row.want)
		}
		if _, queries := f.took(); (queries > 0) != row.asks {
			t.Errorf("%v later: %d queries, want some: %v", row.after, queries, row.asks)
		}
		compact(t, closer, at)
	}
}
