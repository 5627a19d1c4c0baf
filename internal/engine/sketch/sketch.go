// Package sketch holds distributions of a fleet's values. A distribution has a bounded size, can be
// merged with others, and returns percentiles with a bounded relative error.
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

// maxBins is the maximum number of bins of each sign. If there are more, the lowest are merged.
// Only bins with values count, so that one outlier, which a single device may report, does not
// merge all others. That many adjacent bins span the values from 1 to 10^17.
const maxBins = 2048

// A value closer to 0 than leastValue counts as 0, and one beyond greatestValue is refused: both
// ends of a bin must be in the range of float64.
const leastValue, greatestValue = 1e-307, 1e308

// perLog is the number of bins for a factor of e.
var perLog = 1 / math.Log((1+Accuracy)/(1-Accuracy))

// indexOf returns the bin of a positive value.
func indexOf(value float64) int {
	// Without the conversion some processors would round once less, and give another bin.
	return int(math.Floor(float64(math.Log(value) * perLog)))
}

// valueOf returns the value whose relative distances from the lowest and the highest value of a bin
// are equal.
func valueOf(index int) float64 { return math.Exp(float64(index)/perLog) * (1 + Accuracy) }

// Range holds the values from Low to High, both included.
type Range struct{ Low, High float64 }

// Sketch is a distribution. Parts counted separately and merged give the same percentiles as all
// counted together. The zero value is empty.
type Sketch struct {
	// positive and negative are the bins of values and of their absolute values.
	positive, negative bins
	zeros, count       int64
	// least and greatest value, if there is any.
	least, greatest float64
	// fractions is true if a value was not an integer.
	fractions bool
}

// bins counts values by the index of their bin.
type bins map[int]int64

func (b *bins) add(index int, n int64) {
	if *b == nil {
		*b = bins{}
	}
	(*b)[index] += n
}

// trim merges the lowest bins into the next one until there are at most maxBins.
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

// at returns the bin of the value with a rank: the number of values below it.
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

// Add counts a value. It returns an error for NaN, for infinities, and for values beyond 10^308.
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

// widen extends the range of the values. Call it before their count is added.
func (s *Sketch) widen(least, greatest float64) {
	if s.count == 0 {
		s.least, s.greatest = least, greatest
	}
	s.least, s.greatest = math.Min(s.least, least), math.Max(s.greatest, greatest)
}

// Merge adds all values of o, and does not change o.
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

// Count returns the number of values; 0 for nil.
func (s *Sketch) Count() int64 {
	if s == nil {
		return 0
	}
	return s.count
}

// Statistic returns the range in which a percentile lies; false for an empty sketch and for an
// unknown percentile.
func (s *Sketch) Statistic(name defender.Statistic) (Range, bool) {
	percent, err := strconv.ParseFloat(strings.TrimPrefix(string(name), "p"), 64)
	if err != nil {
		return Range{}, false
	}
	return s.Percentile(percent)
}

// Percentile returns the range in which a percentile from 0 to 100 lies; false for an empty sketch
// and for other numbers.
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
	// The error is relative to the true value, not to the estimate.
	a, b := value/(1+Accuracy), value/(1-Accuracy)
	r := Range{math.Max(math.Min(a, b), s.least), math.Min(math.Max(a, b), s.greatest)}
	if s.fractions {
		return r, true
	}
	// A percentile of whole numbers is a whole number: below 50, only one lies in the range.
	low, high := math.Ceil(r.Low), math.Floor(r.High)
	if low > high {
		low, high = math.Round(value), math.Round(value)
	}
	return Range{low, high}, true
}

// estimate returns the middle of the bin of a quantile from 0 to 1, limited to the range of the
// counted values.
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
