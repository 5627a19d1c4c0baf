package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
)

func TestWritesPerWindow(t *testing.T) {
	f := newTable(t)
	s := f.store(t, io.Discard)
	other := sent
	other.Metric = "aws:all-bytes-out"
	for batch := range 4 {
		var all []engine.Samples
		for device := range 1000 {
			all = append(all, samples(sent, midnight, float64(device%40))...)
			all = append(all, samples(other, midnight, float64(1000+device))...)
		}
		mustAdd(t, s, fmt.Sprint(batch), midnight.Add(5*minute), all)
	}
	if puts, queries := f.took(); puts != 8 || queries != 0 {
		t.Errorf("%d writes and %d reads for 4 batches of 2 populations, want 8 and 0", puts, queries)
	}
	for _, it := range f.items() {
		size := len(it["sketch"].(*types.AttributeValueMemberB).Value)
		for name := range it {
			size += len(name)
		}
		if size += len(partition(it)) + len(sortKey(it)) + 10; size > 1024 {
			t.Errorf("item %s has %d bytes, more than one write unit", partition(it), size)
		}
	}
	mustAdd(t, s, "border", midnight.Add(5*minute), append(samples(sent, midnight, 1), samples(sent, midnight.Add(5*minute), 1)...))
	if puts, _ := f.took(); puts != 2 {
		t.Errorf("%d writes for a batch of two windows, want 2", puts)
	}
	mustAdd(t, s, "nothing", midnight, nil)
	if puts, _ := f.took(); puts != 0 {
		t.Errorf("%d writes for no samples, want none", puts)
	}
}

func TestEachEnvironmentReadsAWindowOnce(t *testing.T) {
	f := newTable(t)
	s := f.store(t, io.Discard)
	for i := range 20 {
		start := midnight.Add(time.Duration(i) * 5 * minute)
		for batch := range 4 { // two pages
			mustAdd(t, s, fmt.Sprint(batch), start, samples(sent, start, upTo(5)...))
		}
	}
	f.took()
	for i := 10; i < 15; i++ {
		at := midnight.Add(time.Duration(i) * 5 * minute)
		for range 3 { // batches
			loaded := s.Load(t.Context(), at.Add(minute))
			for range 100 { // devices
				least, ok1 := loaded.Statistic(sent, defender.P0, at.UnixMilli())
				greatest, ok2 := loaded.Statistic(sent, defender.P100, at.UnixMilli())
				if !ok1 || !ok2 || least.Low != 1 || greatest.High != 5 {
					t.Fatalf("thresholds %v and %v, want 1 and 5; error %v", least, greatest, loaded.Err())
				}
			}
		}
		if _, queries := f.took(); queries != 2 { // its pages
			t.Errorf("window %d: %d queries, want 2", i, queries)
		}
	}
	// With too few datapoints, the first read is of all windows that a percentile uses, the next of one.
	few := sent
	few.Profile = "Few"
	for i, want := range []int{engine.StatisticWindows, 1, 1} {
		at := midnight.Add(time.Duration(20+i) * 5 * minute)
		if _, ok := s.Load(t.Context(), at).Statistic(few, defender.P50, at.UnixMilli()); ok {
			t.Error("a threshold without datapoints")
		}
		if _, queries := f.took(); queries != want {
			t.Errorf("batch %d: %d queries, want %d", i, queries, want)
		}
	}
}

func TestCompleteWindowsAreCached(t *testing.T) {
	f := newTable(t)
	s := f.store(t, io.Discard)
	mustAdd(t, s, "early", midnight, samples(sent, midnight, upTo(10)...))
	// A datapoint ahead of its batch needs a window that may be incomplete at the time of the batch:
	// 5 minutes of window, 4 of lateness, 5 of margin.
	ahead := midnight.Add(15 * minute).UnixMilli()
	for _, row := range []struct {
		at   time.Time
		want float64
	}{{midnight.Add(14*minute - 1), 10}, {midnight.Add(14*minute - 1), 20}, {midnight.Add(14 * minute), 30}, {midnight.Add(14 * minute), 30}} {
		loaded := s.Load(t.Context(), row.at)
		for i := range int64(2) {
			if r, ok := loaded.Statistic(sent, defender.P100, ahead+i); !ok || r.High != row.want {
				t.Errorf("batch at %v: threshold %v (%v), want %v", row.at, r, ok, row.want)
			}
			mustAdd(t, s, fmt.Sprint("more-", row.want), midnight, samples(sent, midnight, row.want+10))
		}
	}
}

func TestRetriedBatchKeepsItsFirstWrite(t *testing.T) {
	f := newTable(t)
	s := f.store(t, io.Discard)
	mustAdd(t, s, "batch", midnight, samples(sent, midnight, upTo(10)...))
	mustAdd(t, s, "batch", midnight, samples(sent, midnight, 99)) // the retry leaves out samples that are duplicates by now
	at := midnight.Add(15 * minute)
	if r, ok := s.Load(t.Context(), at).Statistic(sent, defender.P100, at.UnixMilli()); !ok || r.High != 10 {
		t.Errorf("threshold %v (%v), want 10", r, ok)
	}
}

func TestInvalidSamplesAreLeftOutAndCounted(t *testing.T) {
	f := newTable(t)
	s := f.store(t, io.Discard)
	all := samples(sent, midnight, 1, math.NaN(), math.Inf(1))
	all = append(all, samples(sent, midnight.Add(-5*minute), 1, 2)...)
	left, err := s.Add(t.Context(), "batch", midnight.Add(9*minute), all)
	if err != nil || left != 4 || len(f.items()) != 1 {
		t.Errorf("%d of 5 samples left out, %d items, error %v; want 4 and 1", left, len(f.items()), err)
	}
	left, err = s.Add(t.Context(), "batch", midnight.Add(9*minute-1), samples(sent, midnight.Add(-5*minute), 1, 2))
	if err != nil || left != 0 {
		t.Errorf("in time: %d samples left out, error %v; want none", left, err)
	}
	left, err = s.Add(t.Context(), "no numbers", midnight, samples(sent, midnight, math.NaN()))
	if err != nil || left != 1 || len(f.items()) != 2 {
		t.Errorf("no number: %d of 1 samples left out, %d items, error %v; want 1 and 2", left, len(f.items()), err)
	}
}

// If the newest window or day cannot be read, there is no threshold from older, cached ones.
func TestIncompleteDistributionsGiveNoThreshold(t *testing.T) {
	f := newTable(t)
	s := f.store(t, io.Discard)
	at := midnight.Add(engine.BaselineDays*day + time.Hour)
	for i := range engine.BaselineDays + 1 {
		fill(t, s, midnight.Add(time.Duration(i)*day), 8000)
		compact(t, s, midnight.Add(time.Duration(i)*day+complete))
	}
	mustAdd(t, s, "batch", at, samples(sent, at, upTo(10)...))
	want := func(after time.Duration, threshold, baseline bool) {
		t.Helper()
		at := at.Add(after)
		byFleet, byDays := s.Load(t.Context(), at), s.Load(t.Context(), at)
		_, ok := byFleet.Statistic(sent, defender.P100, at.UnixMilli())
		if ok != threshold || (byFleet.Err() == nil) != threshold {
			t.Errorf("after %v: a threshold: %v, error %v; want %v", after, ok, byFleet.Err(), threshold)
		}
		_, ok = byDays.Baseline(sent, defender.HighConfidence, at.UnixMilli())
		if ok != baseline || (byDays.Err() == nil) != baseline {
			t.Errorf("after %v: a baseline: %v, error %v; want %v", after, ok, byDays.Err(), baseline)
		}
	}
	want(15*minute, true, true)
	f.fails = errors.New("throttled")
	want(15*minute, true, true) // cached
	want(20*minute, false, true)
	want(day+15*minute, false, false)
	f.fails = nil
	want(20*minute, true, true)
}

func TestErrorsGiveNoThresholds(t *testing.T) {
	f := newTable(t)
	s := f.store(t, io.Discard)
	at := midnight.Add(15 * minute)
	mustAdd(t, s, "batch", midnight, samples(sent, midnight, upTo(10)...))
	f.fails = errors.New("throttled")
	if _, err := s.Add(t.Context(), "b", midnight, samples(sent, midnight, 1)); !errors.Is(err, f.fails) {
		t.Errorf("add: error %v, want %v", err, f.fails)
	}
	if err := s.Compact(t.Context(), []engine.FleetKey{sent}, at); !errors.Is(err, f.fails) {
		t.Errorf("compact: error %v, want %v", err, f.fails)
	}
	f.took()
	loaded := s.Load(t.Context(), at)
	for range 3 {
		if r, ok := loaded.Statistic(sent, defender.P100, at.UnixMilli()); ok {
			t.Errorf("threshold %v, want none", r)
		}
		if r, ok := loaded.Baseline(sent, defender.HighConfidence, at.UnixMilli()); ok {
			t.Errorf("baseline %v, want none", r)
		}
	}
	if _, queries := f.took(); !errors.Is(loaded.Err(), f.fails) || queries != 1 {
		t.Errorf("error %v after %d queries, want %v after one", loaded.Err(), queries, f.fails)
	}
	failing := s.Load(t.Context(), at)
	failing.Baseline(sent, defender.HighConfidence, at.UnixMilli())
	if !errors.Is(failing.Err(), f.fails) {
		t.Errorf("baseline: error %v, want %v", failing.Err(), f.fails)
	}
	f.fails = nil
	if _, ok := loaded.Statistic(sent, defender.P100, at.UnixMilli()); ok || loaded.Err() == nil {
		t.Error("one batch has thresholds for some and not for others")
	}
	again := s.Load(t.Context(), at)
	if _, ok := again.Statistic(sent, defender.P100, at.UnixMilli()); !ok || again.Err() != nil {
		t.Errorf("next batch: no threshold, error %v", again.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	late := f.store(t, io.Discard).Load(ctx, at)
	late.Statistic(sent, defender.P100, at.UnixMilli())
	if !errors.Is(late.Err(), context.Canceled) {
		t.Errorf("out of time: error %v, want context.Canceled", late.Err())
	}
}

func TestDamagedPartialsAreLeftOut(t *testing.T) {
	f := newTable(t)
	var log bytes.Buffer
	s := f.store(t, &log)
	mustAdd(t, s, "b", midnight, samples(sent, midnight, upTo(10)...))
	pk := f.partitions()[0]
	f.add(dynamodbtest.Item{"pk": attribute.Text(pk), "sk": attribute.Text("a"), "sketch": &types.AttributeValueMemberB{Value: []byte{9}}})
	f.add(dynamodbtest.Item{"pk": attribute.Text(pk), "sk": attribute.Text("c")})
	at := midnight.Add(15 * minute)
	loaded := s.Load(t.Context(), at)
	if r, ok := loaded.Statistic(sent, defender.P100, at.UnixMilli()); !ok || r.High != 10 || loaded.Err() != nil {
		t.Errorf("threshold %v (%v), error %v; want 10", r, ok, loaded.Err())
	}
	if n := strings.Count(log.String(), "sketch of the fleet was left out"); n != 2 || !strings.Contains(log.String(), pk) {
		t.Errorf("log %q, want two lines about %s", log.String(), pk)
	}
}

func TestEachPopulationHasItsOwnPartition(t *testing.T) {
	f := newTable(t)
	s := f.store(t, io.Discard)
	long := strings.Repeat(strings.Repeat("漢", 250)+"\x1f", 5)
	keys := []engine.FleetKey{sent}
	for _, edit := range []func(*engine.FleetKey){
		func(k *engine.FleetKey) { k.Profile = strings.Repeat("p", 128) },
		func(k *engine.FleetKey) { k.Metric = strings.Repeat("m", 128) },
		func(k *engine.FleetKey) { k.Window = defender.Window1h },
		func(k *engine.FleetKey) { k.Dimension = long },
		func(k *engine.FleetKey) { k.Dimension = "not in " + long },
	} {
		k := sent
		edit(&k)
		keys = append(keys, k)
	}
	for _, k := range keys {
		mustAdd(t, s, "batch", midnight, samples(k, midnight, 1))
	}
	if n := len(f.partitions()); n != len(keys) {
		t.Errorf("%d partitions for %d populations", n, len(keys))
	}
}
