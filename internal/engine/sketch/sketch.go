// Package sketch holds distributions of a fleet's values.
package sketch

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/DataDog/sketches-go/ddsketch/store"

	"github.com/defenderhub/defenderhub/defender"
)

// Range holds the values from Low to High, both included.
type Range struct{ Low, High float64 }

// Accuracy is how far a percentile may be off, relative to its value. The least
// and the greatest value are exact, and so are percentiles of whole numbers below 50.
const Accuracy = 0.01

// sketchBins is how many bins of either sign are kept: the values of more share the lowest.
// Bins that no value is in do not count, so that a value far from all others, which a single
// device may report, leaves those apart. Next to each other they would span the values from 1
// to 10^17.
const sketchBins = 2048

// Sketch is the distribution of a fleet's values: of bounded size, and mergeable, so
// that parts counted apart give the same percentiles as all counted together. The
// zero value is empty.
type Sketch struct {
	values *ddsketch.DDSketchWithExactSummaryStatistics
	// fractions tells that a value was no whole number.
	fractions bool
}

func (s *Sketch) init() error {
	if s.values != nil {
		return nil
	}
	m, err := mapping.NewLogarithmicMapping(Accuracy)
	if err != nil {
		return err
	}
	s.values = ddsketch.NewDDSketchWithExactSummaryStatistics(m, store.SparseStoreConstructor)
	return nil
}

// Add counts a value. Infinite values and those that are no number are refused.
func (s *Sketch) Add(value float64) error {
	if math.IsInf(value, 0) || math.IsNaN(value) {
		return fmt.Errorf("value %v cannot be part of a distribution", value)
	}
	if err := s.init(); err != nil {
		return err
	}
	s.fractions = s.fractions || value != math.Trunc(value)
	return s.values.Add(value)
}

// Merge counts all values of o, which it leaves alone.
func (s *Sketch) Merge(o *Sketch) error {
	if o.Count() == 0 {
		return nil
	}
	if err := s.init(); err != nil {
		return err
	}
	s.fractions = s.fractions || o.fractions
	if err := s.values.MergeWith(o.values); err != nil {
		return err
	}
	if len(binsOf(s.values.GetPositiveValueStore())) <= sketchBins && len(binsOf(s.values.GetNegativeValueStore())) <= sketchBins {
		return nil
	}
	packed, err := s.MarshalBinary() // which keeps as many
	if err != nil {
		return err
	}
	return s.UnmarshalBinary(packed)
}

// Count is the number of values.
func (s *Sketch) Count() int64 {
	if s == nil || s.values == nil {
		return 0
	}
	return int64(s.values.GetCount())
}

// Statistic is the range in which the percentile lies, false for an empty sketch and an
// unknown percentile.
func (s *Sketch) Statistic(name defender.Statistic) (Range, bool) {
	percent, err := strconv.ParseFloat(strings.TrimPrefix(string(name), "p"), 64)
	if err != nil || percent < 0 || percent > 100 {
		return Range{}, false
	}
	return s.Percentile(percent)
}

func (s *Sketch) Percentile(percent float64) (Range, bool) {
	if s.Count() == 0 {
		return Range{}, false
	}
	least, err1 := s.values.GetMinValue()
	greatest, err2 := s.values.GetMaxValue()
	value, err3 := s.values.GetValueAtQuantile(percent / 100)
	switch {
	case errors.Join(err1, err2, err3) != nil:
		return Range{}, false
	case percent == 0:
		return Range{least, least}, true
	case percent == 100:
		return Range{greatest, greatest}, true
	}
	// The true value may be as far off as its own size says, not that of the estimate.
	a, b := value/(1+Accuracy), value/(1-Accuracy)
	r := Range{math.Max(math.Min(a, b), least), math.Min(math.Max(a, b), greatest)}
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
