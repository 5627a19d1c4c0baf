package engine

import (
	"fmt"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Fleet returns what is normal for all devices. An answer for a window must use only windows that
// ended before it began, and must never change. So every datapoint of the window is judged at once,
// and with the same threshold.
type Fleet interface {
	// Statistic returns the range in which a percentile of the fleet lies, for the window that
	// begins at start (ms); false while there are too few datapoints.
	Statistic(k FleetKey, s defender.Statistic, start int64) (Range, bool)
	// Baseline returns the range that was normal on the days before; false while too few of them
	// have datapoints.
	Baseline(k FleetKey, c defender.Confidence, start int64) (Range, bool)
}

// Range is the values from Low to High, both included.
type Range struct{ Low, High float64 }

// FleetKey identifies a population: the measurements of the devices of a security profile, in
// windows of one length.
type FleetKey struct {
	Profile string
	Metric  string
	// Dimension is the text form of the behavior's dimension, "" without one.
	Dimension string
	Window    defender.Window
}

// String returns a unique text of the key.
func (k FleetKey) String() string {
	return fmt.Sprintf("%s/%s/%d/%s", k.Profile, k.Metric, k.Window, k.Dimension)
}

// Population identifies the measurements of one window.
type Population struct {
	Key FleetKey
	// Start of the window in ms.
	Start int64
}

// Samples are one thing's measurements for the fleet's sketches, one value per window: the last.
// So a measurement counts once, however many behaviors compare it, and a thing that reports too
// often counts no more than the others.
type Samples map[Population]float64

// FleetKey returns the population that the behavior is compared with, false for a static
// behavior.
func (c Compiled) FleetKey() (FleetKey, bool) {
	if c.Behavior.Criteria.Type() == "STATIC" {
		return FleetKey{}, false
	}
	k := FleetKey{Profile: c.Profile, Metric: c.Behavior.Criteria.Metric().Name, Window: c.length}
	if d := c.Behavior.Dimension; d != nil {
		k.Dimension = strings.Join(d.TopicFilters, "\x1f")
		if d.NotIn {
			k.Dimension = "not in " + k.Dimension
		}
	}
	return k, true
}

// judge compares a value with the normal values. If those are the fleet's, it samples the value.
func (r *step) judge(c *Compiled, value iotapi.Value, start int64) Verdict {
	r.sample(c, value, start)
	return r.compare(c, value, start)
}

// sample records a value for its population, if the normal values are the fleet's.
func (r *step) sample(c *Compiled, value iotapi.Value, start int64) {
	key, byFleet := c.FleetKey()
	n, ok := numberOf(value)
	if !byFleet || !ok {
		return
	}
	if r.Samples == nil {
		r.Samples = Samples{}
	}
	r.Samples[Population{key, start}] = n
}

// compare is judge without a sample.
func (r *step) compare(c *Compiled, value iotapi.Value, start int64) Verdict {
	key, byFleet := c.FleetKey()
	if !byFleet {
		v := c.static.judge(value)
		if v == None {
			r.Stats.Unread++
		}
		return v
	}
	n, ok := numberOf(value)
	if !ok {
		r.Stats.Unread++
		return None
	}
	v := r.judgeByFleet(c, key, n, start)
	if v == None {
		r.Stats.Unjudged++
	}
	return v
}

func (r *step) judgeByFleet(c *Compiled, key FleetKey, n float64, start int64) Verdict {
	if r.Fleet == nil {
		return None
	}
	if level := c.Behavior.Criteria.Confidence(); level != "" {
		normal, ok := r.Fleet.Baseline(key, level, start)
		if !ok {
			return None
		}
		return verdict(normal.Low <= n && n <= normal.High)
	}
	threshold, ok := r.Fleet.Statistic(key, c.Behavior.Criteria.Statistic(), start)
	if !ok {
		return None
	}
	// A violation is beyond every value that the percentile can have.
	limit := threshold.High
	if c.lower {
		limit = threshold.Low
	}
	return newComparison(c.Behavior.Criteria.Operator(), iotapi.Value{Number: &limit}).judge(iotapi.Value{Number: &n})
}
