package engine

import (
	"math"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine/sketch"
)

// Limits of the fleet's statistics.
const (
	// SampleMargin is how long after the lateness bound the samples of a window may arrive:
	// a schedule closes the windows without datapoints.
	SampleMargin = 5 * time.Minute
	// StatisticWindows is how far back a percentile looks for enough datapoints.
	StatisticWindows = 12
	// DefaultMinDatapoints is how many datapoints a percentile needs before it judges.
	DefaultMinDatapoints = 100

	// DayMargin is how long after the last sample of a day its sketch may be stored.
	DayMargin = time.Hour

	// BaselineDays is how many days a baseline uses. At least MinBaselineDays of them must have
	// datapoints, MinBaselineDatapoints in all. Detect's models train on 14 days and 25,000
	// datapoints.
	// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/dd-detect-ml.html
	BaselineDays          = 14
	MinBaselineDays       = 7
	MinBaselineDatapoints = 25_000
)

// History is a [Fleet] whose answers come from stored sketches.
type History struct {
	// Lateness is [Evaluator.Lateness].
	Lateness time.Duration
	// MinDatapoints is how many datapoints a percentile needs. Default: [DefaultMinDatapoints],
	// for 0.
	MinDatapoints int64
	// Window returns the sketch of the window that begins at start (ms), Day that of the day
	// (UTC) that begins at start; nil if there is none.
	Window, Day func(k FleetKey, start int64) *sketch.Sketch
}

// Statistic uses the newest window whose samples had all arrived at start, and older ones until
// there are enough datapoints.
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

// complete returns the time, in ms, before which all samples have arrived by start.
func (h History) complete(start int64) int64 {
	return start - (h.Lateness + SampleMargin).Milliseconds()
}

// band is the normal range of the fleet's values. A value outside it is outside the percentiles low
// and high, and further from the quartiles than fences times the interquartile range.
type band struct{ low, high, fences float64 }

// bands by level of confidence. As in Detect, a high level raises fewer alarms.
var bands = map[defender.Confidence]band{
	defender.LowConfidence:    {1, 99, 1.5},
	defender.MediumConfidence: {0.1, 99.9, 3},
	defender.HighConfidence:   {0.01, 99.99, 6},
}

// Baseline returns the normal range, from the last [BaselineDays] whole days. It is a statistical
// baseline of the whole fleet, not a machine learning model: it ignores the single device and the
// time of day. A value must be outside both the percentile and Tukey's fence. The percentile
// alone always finds some devices unusual. The fence alone finds rare values unusual where
// nearly all devices measure the same.
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
