package engine

import (
	"math"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine/sketch"
)

// What the fleet's answers are made of.
const (
	// SampleMargin is how long after the lateness bound the samples of a window may still
	// come: the windows that silence closes are closed by a schedule.
	SampleMargin = 5 * time.Minute
	// StatisticWindows is how far back a percentile looks for enough datapoints.
	StatisticWindows = 12
	// DefaultMinDatapoints is how many datapoints a percentile needs before it judges.
	DefaultMinDatapoints = 100

	// DayMargin is how long it may take, after all samples of a day are in, until its sketch
	// is there.
	DayMargin = time.Hour

	// BaselineDays is how far back a baseline looks, MinBaselineDays how many of these days
	// must have datapoints, and MinBaselineDatapoints how many it needs in all: Detect's
	// models train on 14 days and 25,000 datapoints.
	// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/dd-detect-ml.html
	BaselineDays          = 14
	MinBaselineDays       = 7
	MinBaselineDatapoints = 25_000
)

// History is a [Fleet] whose answers come from stored sketches.
type History struct {
	// Lateness is the evaluator's.
	Lateness time.Duration
	// MinDatapoints is how many datapoints a percentile needs. Default: 0, which stands for
	// [DefaultMinDatapoints].
	MinDatapoints int64
	// Window is the sketch of the window that begins at start (ms), Day the sketch of the
	// day (UTC) that begins at start; nil where there is none.
	Window, Day func(k FleetKey, start int64) *sketch.Sketch
}

// Statistic takes the newest window whose samples were all in before the asked one
// began, and older ones as long as there are too few datapoints.
func (h History) Statistic(k FleetKey, name defender.Statistic, start int64) (Range, bool) {
	need := h.MinDatapoints
	if need == 0 {
		need = DefaultMinDatapoints
	}
	var all sketch.Sketch
	length := k.Window.Duration().Milliseconds()
	newest := windowStart(h.complete(start)-length, k.Window)
	for i := range int64(StatisticWindows) {
		if all.Count() >= need {
			break
		}
		all.Merge(h.Window(k, newest-i*length))
	}
	if all.Count() < need {
		return Range{}, false
	}
	r, ok := all.Statistic(name)
	return Range(r), ok
}

// complete is the time up to which all samples are in at start.
func (h History) complete(start int64) int64 {
	return start - (h.Lateness + SampleMargin).Milliseconds()
}

// band is how far from the fleet's usual values a device must be: outside the
// percentiles, and further from the quartiles than fences times their distance.
type band struct{ low, high, fences float64 }

// bands of the levels of confidence. As in Detect, a high level alarms less often.
var bands = map[defender.Confidence]band{
	defender.LowConfidence:    {1, 99, 1.5},
	defender.MediumConfidence: {0.1, 99.9, 3},
	defender.HighConfidence:   {0.01, 99.99, 6},
}

// Baseline is the range that is normal by the last [BaselineDays] whole days. It is a
// statistical baseline of the whole fleet, no model of machine learning: it knows
// neither the single device nor the time of day. Both the percentile and Tukey's fence
// must be passed: the percentile alone would always call some devices unusual, the fence
// alone would call unusual what is rare where nearly all devices measure the same.
func (h History) Baseline(k FleetKey, level defender.Confidence, start int64) (Range, bool) {
	b, known := bands[level]
	if !known {
		return Range{}, false
	}
	day := (24 * time.Hour).Milliseconds()
	newest := h.complete(start) - DayMargin.Milliseconds() - day
	newest -= newest % day
	var all sketch.Sketch
	days := 0
	for i := range int64(BaselineDays) {
		s := h.Day(k, newest-i*day)
		if s.Count() == 0 {
			continue
		}
		all.Merge(s)
		days++
	}
	if days < MinBaselineDays || all.Count() < MinBaselineDatapoints {
		return Range{}, false
	}
	low, ok1 := all.Percentile(b.low)
	q1, ok2 := all.Percentile(25)
	q3, ok3 := all.Percentile(75)
	high, ok4 := all.Percentile(b.high)
	fence := b.fences * (q3.High - q1.Low)
	return Range{math.Min(low.Low, q1.Low-fence), math.Max(high.High, q3.High+fence)}, ok1 && ok2 && ok3 && ok4
}
