// Package sketch holds distributions of a fleet's values: of bounded size, mergeable, and
// with percentiles that are off by a known part of their value at most.
//
// It is the sketch of Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile
// sketch with relative-error guarantees" (https://arxiv.org/abs/1908.10693), with logarithmic
// bins. Values that share a bin differ by at most twice [Accuracy].
package sketch

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
)

// Accuracy is how far a percentile may be off, relative to its value. The least and the
// greatest value are exact, and so are percentiles of whole numbers below 50.
const Accuracy = 0.01

// maxBins is how many bins of either sign are kept: the values of more share the lowest.
// Bins that no value is in do not count, so that a value far from all others, which a single
// device may report, leaves those apart. Next to each other they would span the values from 1
// to 10^17.
const maxBins = 2048

// A value between the least value and 0 counts as 0, and one greater than the greatest
// is refused: neither end of a bin may be out of the range of float64.
const leastValue, greatestValue = 1e-307, 1e308

// perLog is the number of bins for a factor of e.
var perLog = 1 / math.Log((1+Accuracy)/(1-Accuracy))

// indexOf is the bin of a positive value.
func indexOf(value float64) int {
	// Without the conversion some processors would round once less, and give another bin.
	return int(math.Floor(float64(math.Log(value) * perLog)))
}

// valueOf is as far from the lowest value of a bin as from the highest, relative to each.
func valueOf(index int) float64 { return math.Exp(float64(index)/perLog) * (1 + Accuracy) }

// Range holds the values from Low to High, both included.
type Range struct{ Low, High float64 }

// Sketch is a distribution. Parts counted separately and merged give the same percentiles as all
// counted together. The zero value is empty.
type Sketch struct {
	// positive and negative are the bins of values and of their absolute values.
	positive, negative bins
	zeros, count       int64
	// least and greatest value, where there is any.
	least, greatest float64
	// fractions is true if a value was not an integer.
	fractions bool
}

// bins are the numbers of values by bin.
type bins map[int]int64

func (b *bins) add(index int, n int64) {
	if *b == nil {
		*b = bins{}
	}
	(*b)[index] += n
}

// trim makes the lowest bins one with the next, as long as there are more than are kept.
func (b bins) trim() {
	if len(b) <= maxBins {
		return
	}
	indexes := slices.Sorted(maps.Keys(b))
	for i := range len(indexes) - maxBins {
		b[indexes[i+1]] += b[indexes[i]]
		delete(b, indexes[i])
	}
}

func (b bins) total() (n int64) {
	for _, count := range b {
		n += count
	}
	return n
}

// at is the bin of the value with so many below it.
func (b bins) at(rank float64) int {
	indexes := slices.Sorted(maps.Keys(b))
	var below int64
	for _, index := range indexes {
		if below += b[index]; float64(below) > rank {
			return index
		}
	}
	return indexes[len(indexes)-1]
}

// Add counts a value. Infinite values, those that are no number, and those beyond 10^308 are
// refused.
func (s *Sketch) Add(value float64) error {
	if !(math.Abs(value) <= greatestValue) {
		return fmt.Errorf("value %v cannot be part of a distribution", value)
	}
	switch {
	case value >= leastValue:
		s.positive.add(indexOf(value), 1)
		s.positive.trim()
	case value <= -leastValue:
		s.negative.add(indexOf(-value), 1)
		s.negative.trim()
	default:
		s.zeros++
	}
	s.widen(value, value)
	s.count++
	s.fractions = s.fractions || value != math.Trunc(value)
	return nil
}

// widen makes room between least and greatest. It comes before the values are counted.
func (s *Sketch) widen(least, greatest float64) {
	if s.count == 0 {
		s.least, s.greatest = least, greatest
	}
	s.least, s.greatest = math.Min(s.least, least), math.Max(s.greatest, greatest)
}

// Merge counts all values of o, which it leaves alone.
func (s *Sketch) Merge(o *Sketch) {
	if o.Count() == 0 {
		return
	}
	for index, n := range o.positive {
		s.positive.add(index, n)
	}
	for index, n := range o.negative {
		s.negative.add(index, n)
	}
	s.positive.trim()
	s.negative.trim()
	s.widen(o.least, o.greatest)
	s.zeros += o.zeros
	s.count += o.count
	s.fractions = s.fractions || o.fractions
}

// Count is the number of values; 0 for nil.
func (s *Sketch) Count() int64 {
	if s == nil {
		return 0
	}
	return s.count
}

// Statistic is the range in which the percentile lies, false for an empty sketch and an
// unknown percentile.
func (s *Sketch) Statistic(name defender.Statistic) (Range, bool) {
	percent, err := strconv.ParseFloat(strings.TrimPrefix(string(name), "p"), 64)
	if err != nil {
		return Range{}, false
	}
	return s.Percentile(percent)
}

// Percentile is the range in which the percentile from 0 to 100 lies, false for an empty
// sketch and for other numbers.
func (s *Sketch) Percentile(percent float64) (Range, bool) {
	switch {
	case s.Count() == 0 || !(percent >= 0 && percent <= 100):
		return Range{}, false
	case percent == 0:
		return Range{s.least, s.least}, true
	case percent == 100:
		return Range{s.greatest, s.greatest}, true
	}
	value := s.estimate(percent / 100)
	// The true value may be as far off as its own size says, not that of the estimate.
	a, b := value/(1+Accuracy), value/(1-Accuracy)
	r := Range{math.Max(math.Min(a, b), s.least), math.Min(math.Max(a, b), s.greatest)}
	if s.fractions {
		return r, true
	}
	// Of whole numbers the percentile is one itself: below 50 only one lies in the range.
	low, high := math.Ceil(r.Low), math.Floor(r.High)
	if low > high {
		low, high = math.Round(value), math.Round(value)
	}
	return Range{low, high}, true
}

// estimate is the middle of the bin that a quantile from 0 to 1 is in, within the values that
// were counted.
func (s *Sketch) estimate(quantile float64) float64 {
	rank := float64(quantile * float64(s.count-1))
	negatives := float64(s.negative.total())
	value := 0.0
	switch {
	case rank < negatives:
		value = -valueOf(s.negative.at(negatives - 1 - rank))
	case rank >= negatives+float64(s.zeros):
		value = valueOf(s.positive.at(rank - negatives - float64(s.zeros)))
	}
	return min(max(value, s.least), s.greatest)
}
