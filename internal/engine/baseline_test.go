package engine

import (
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine/sketch"
)

var messagesKey = FleetKey{Profile: "Profile", Metric: "aws:num-messages-sent", Window: defender.Window5m}

func TestPercentileComesFromEarlierWindows(t *testing.T) {
	const step = 5 * minute
	windows := map[int64]*sketch.Sketch{}
	for i := range int64(40) { // the window at i measures i on 60 devices
		windows[i*step] = &sketch.Sketch{}
		for range 60 {
			if err := windows[i*step].Add(float64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	h := History{Lateness: 4 * time.Minute, MinDatapoints: 60, Window: func(_ FleetKey, start int64) *sketch.Sketch { return windows[start] }}
	// At window 20, samples older than 9 minutes have arrived: the last complete window is 17.
	if got, ok := h.Statistic(messagesKey, defender.P100, 20*step); !ok || got.High != 17 {
		t.Errorf("threshold %v, found %v, want 17", got, ok)
	}
	h.MinDatapoints = 0 // the default, 100, needs two windows
	if got, ok := h.Statistic(messagesKey, defender.P0, 20*step); !ok || got.Low != 16 {
		t.Errorf("threshold %v, found %v, want 16", got, ok)
	}
	if _, ok := h.Statistic(messagesKey, defender.P0, 4*step); !ok {
		t.Error("no threshold although two windows are complete")
	}
	if got, ok := h.Statistic(messagesKey, defender.P0, 3*step); ok {
		t.Errorf("threshold %v although only one window is complete", got)
	}
	h.MinDatapoints = 60*StatisticWindows + 1
	if got, ok := h.Statistic(messagesKey, defender.P0, 30*step); ok {
		t.Errorf("threshold %v from windows that are too old", got)
	}
}

func TestBaselineNeedsDaysAndDatapoints(t *testing.T) {
	day := (24 * time.Hour).Milliseconds()
	// 5000 datapoints per day: 90 % are 10, the others 0 to 19.
	usual := &sketch.Sketch{}
	for i := range 5000 {
		n := 10.0
		if i%10 == 0 {
			n = float64(i / 10 % 20)
		}
		if err := usual.Add(n); err != nil {
			t.Fatal(err)
		}
	}
	history := func(days int64) History {
		return History{Lateness: 4 * time.Minute, Day: func(_ FleetKey, start int64) *sketch.Sketch {
			if start < 100*day-days*day || start >= 100*day {
				return nil
			}
			return usual
		}}
	}
	now := 100*day + 70*minute // all samples have arrived after nine minutes, the day's sketch after an hour
	for _, row := range []struct {
		days, now int64
		judges    bool
	}{{14, now, true}, {7, now, true}, {6, now, false}, {7, now - 5*minute, false}, {14, now + 8*day, false}} {
		if _, ok := history(row.days).Baseline(messagesKey, defender.HighConfidence, row.now); ok != row.judges {
			t.Errorf("%d days, at %d: judges %v, want %v", row.days, row.now, ok, row.judges)
		}
	}
	few := history(14)
	few.Day = func(FleetKey, int64) *sketch.Sketch {
		one := &sketch.Sketch{}
		if err := one.Add(1); err != nil {
			t.Fatal(err)
		}
		return one
	}
	if _, ok := few.Baseline(messagesKey, defender.LowConfidence, now); ok {
		t.Error("14 datapoints are a baseline, want none")
	}
	low, _ := history(14).Baseline(messagesKey, defender.LowConfidence, now)
	high, _ := history(14).Baseline(messagesKey, defender.HighConfidence, now)
	if low != (Range{1, 17}) || high != (Range{0, 19}) {
		t.Errorf("normal values with low confidence %v, want 1 to 17; with high %v, want 0 to 19", low, high)
	}
	if _, ok := history(14).Baseline(messagesKey, "SOME", now); ok {
		t.Error("an unknown confidence has a baseline, want none")
	}
}
