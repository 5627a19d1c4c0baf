package sketch

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
)

func sketchOf(t interface{ Fatal(...any) }, values ...float64) *Sketch {
	var s Sketch
	for _, v := range values {
		if err := s.Add(v); err != nil {
			t.Fatal(err)
		}
	}
	return &s
}

var percentiles = map[defender.Statistic]float64{
	defender.P0: 0, defender.P0_01: .0001, defender.P0_1: .001, defender.P1: .01, defender.P10: .1, defender.P50: .5,
	defender.P90: .9, defender.P99: .99, defender.P99_9: .999, defender.P99_99: .9999, defender.P100: 1,
}

func TestRangeOfAPercentileIncludesItsValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.Custom(func(t *rapid.T) float64 { return float64(rapid.IntRange(0, 5000).Draw(t, "n")) })
		if rapid.Bool().Draw(t, "fractions") {
			value = rapid.Float64Range(-1e6, 1e6)
		}
		values := rapid.SliceOfN(value, 1, 300).Draw(t, "values")
		whole := sketchOf(t, values...)
		var merged Sketch
		cut := rapid.IntRange(0, len(values)).Draw(t, "cut")
		for _, part := range [][]float64{values[cut:], values[:cut]} {
			packed, err := sketchOf(t, part...).MarshalBinary()
			var s Sketch
			if err != nil || s.UnmarshalBinary(packed) != nil {
				t.Fatalf("a part cannot be marshaled and read: %v", err)
			}
			merged.Merge(&s)
		}
		if merged.Count() != int64(len(values)) {
			t.Fatalf("the merged sketch has %d values, want %d", merged.Count(), len(values))
		}
		slices.Sort(values)
		for name, q := range percentiles {
			rank := q * float64(len(values)-1) // between two values, either is right
			want, next := values[int(rank)], values[int(math.Ceil(rank))]
			got, ok := whole.Statistic(name)
			ofParts, _ := merged.Statistic(name)
			if !ok || got.Low-1e-9 > next || got.High+1e-9 < want {
				t.Fatalf("%s of %v is %v, want %v", name, values, got, want)
			}
			if ofParts != got {
				t.Fatalf("%s of the merged parts is %v, of the whole %v", name, ofParts, got)
			}
			if (q == 0 || q == 1) && (got.Low != want || got.High != want) {
				t.Fatalf("%s is %v, want exactly %v", name, got, want)
			}
		}
	})
}

// The middle of a bin differs from each value in it by at most [Accuracy], over the whole range.
func TestBinsAreAccurate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := math.Pow(10, rapid.Float64Range(-306.9, 307.9).Draw(t, "exponent"))
		if middle := valueOf(indexOf(value)); math.Abs(middle-value) > (Accuracy+1e-9)*value {
			t.Fatalf("the bin of %v has the middle %v", value, middle)
		}
	})
	for _, end := range []float64{leastValue, -leastValue, greatestValue, -greatestValue} {
		s := sketchOf(t, end)
		var copied Sketch
		if err := copied.UnmarshalBinary(packed(t, s)); err != nil {
			t.Errorf("a sketch of %v cannot be read: %v", end, err)
		}
	}
}

func TestPercentilesOfSmallCountsAreExact(t *testing.T) {
	for n := 1.0; n < 50; n++ {
		s := sketchOf(t, 0, n, n, n, n, n, 1000)
		if got, _ := s.Statistic(defender.P50); got != (Range{n, n}) {
			t.Errorf("median %v, want %v", got, n)
		}
	}
}

func TestInvalidValuesAndStatisticsAreErrors(t *testing.T) {
	var s Sketch
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, -math.MaxFloat64} {
		if s.Add(v) == nil {
			t.Errorf("%v is added, want an error", v)
		}
	}
	if _, ok := s.Statistic(defender.P90); ok {
		t.Error("an empty sketch has a percentile")
	}
	if _, ok := sketchOf(t, 1).Statistic("Average"); ok {
		t.Error("Average is a percentile")
	}
}

// A device chooses the numbers of a custom metric. One device must not change the percentiles of the
// others.
func TestOutliersDoNotChangePercentiles(t *testing.T) {
	for _, far := range [][]float64{{1e300}, {-1e300}, {1e300, -1e300, 1e-300, -1e-300, 5e17}} {
		for _, usual := range []float64{100, -100, 0.001} {
			values := slices.Repeat([]float64{usual, 2 * usual}, 500)
			s := sketchOf(t, append(values, far...)...)
			var copied, merged Sketch
			if err := copied.UnmarshalBinary(packed(t, s)); err != nil {
				t.Fatal(err)
			}
			merged.Merge(sketchOf(t, far...))
			merged.Merge(sketchOf(t, values...))
			for name, s := range map[string]*Sketch{"added": s, "packed": &copied, "merged": &merged} {
				for _, p := range []defender.Statistic{defender.P10, defender.P50, defender.P90} {
					if r, ok := s.Statistic(p); !ok || math.Abs(r.Low) < math.Abs(usual)*0.97 || math.Abs(r.High) > math.Abs(usual)*2.06 {
						t.Errorf("%s: %s of %v with the outliers %v is %v", name, p, usual, far, r)
					}
				}
			}
		}
	}
}
