package sketch

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
)

func packed(t interface{ Fatal(...any) }, s *Sketch) []byte {
	p, err := s.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A change of the encoding would make stored sketches unreadable.
func TestEncodingIsUnchanged(t *testing.T) {
	const stored = "01010102a001010a0105cb1501cc15014402f60301e2be030100000000000016c0c4270a36c78d0374"
	values := sketchOf(t, 1, 2, 300, -5, -5.5, 0, 1e-12, 7e250, 2)
	if got := hex.EncodeToString(packed(t, values)); got != stored {
		t.Errorf("got %s, want %s", got, stored)
	}
}

// Some runs need more bins than a sketch has, so that the lowest bins collapse.
func TestMergedPartsHaveTheBytesOfTheWhole(t *testing.T) {
	value := rapid.Custom(func(t *rapid.T) float64 {
		size := math.Pow(10, rapid.Float64Range(-30, 30).Draw(t, "exponent"))
		return size * rapid.SampledFrom([]float64{-1, 0, 1}).Draw(t, "sign")
	})
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(value, 0, 60).Draw(t, "values")
		if rapid.Bool().Draw(t, "many bins") {
			for i := range maxBins + 500 {
				values = append(values, math.Pow(1.0202, float64(i-maxBins/2)))
			}
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
		parts := make([]Sketch, 5)
		for _, i := range random.Perm(len(values)) {
			if err := parts[random.IntN(len(parts))].Add(values[i]); err != nil {
				t.Fatal(err)
			}
		}
		var merged Sketch
		for i := range parts {
			var s Sketch
			if err := s.UnmarshalBinary(packed(t, &parts[i])); err != nil {
				t.Fatal(err)
			}
			merged.Merge(&s)
		}
		if whole := packed(t, sketchOf(t, values...)); !bytes.Equal(whole, packed(t, &merged)) {
			t.Fatalf("the merged parts of %d values, %.60v, have other bytes than the whole", len(values), values)
		}
	})
}

func TestTheLargestSketchIsBounded(t *testing.T) {
	var s Sketch
	for i := range 40 { // more bins than a sketch keeps, of both signs
		for j := range 100 {
			v := math.Pow(1.0202, float64(i*100+j-2000))
			if s.Add(v) != nil || s.Add(-v) != nil {
				t.Fatal(v)
			}
		}
	}
	for s.Count() <= maxCount/2 {
		var copied Sketch
		if err := copied.UnmarshalBinary(packed(t, &s)); err != nil {
			t.Fatal(err)
		}
		s.Merge(&copied)
	}
	if n := len(packed(t, &s)); n > MaxBytes || n < MaxBytes/2 {
		t.Errorf("the largest sketch has %d bytes, want %d to %d", n, MaxBytes/2, MaxBytes)
	}
	s.Merge(&s)
	if _, err := s.MarshalBinary(); err == nil {
		t.Errorf("a sketch of %d values is marshaled, want an error", s.Count())
	}
}

// fields are those of a packed sketch with one positive bin.
type fields struct {
	version, fractions, zeros, n byte
	index                        int64
	count                        uint64
	least, greatest              float64
	rest                         []byte
}

// layout packs valid fields, changed by edit.
func layout(edit func(*fields)) []byte {
	l := fields{version: version, n: 1, index: 35, count: 3, least: 2, greatest: 2}
	edit(&l)
	b := []byte{l.version, l.fractions, l.zeros, 0, l.n}
	b = binary.AppendUvarint(binary.AppendVarint(b, l.index), l.count)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(l.least))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(l.greatest))
	return append(b, l.rest...)
}

func TestDamagedSketchesAreErrors(t *testing.T) {
	var s Sketch
	if err := s.UnmarshalBinary(layout(func(*fields) {})); err != nil || s.Count() != 3 {
		t.Fatalf("%d values, error %v, want 3", s.Count(), err)
	}
	for name, edit := range map[string]func(*fields){
		"version":              func(l *fields) { l.version = 2 },
		"flags":                func(l *fields) { l.fractions = 2 },
		"bins missing":         func(l *fields) { l.n = 2 },
		"index out of range":   func(l *fields) { l.index = math.MaxInt64 },
		"index below range":    func(l *fields) { l.index = math.MinInt64 },
		"empty bin":            func(l *fields) { l.count = 0 },
		"great count":          func(l *fields) { l.count = maxCount + 1 },
		"great sum":            func(l *fields) { l.count, l.zeros = maxCount, 2 },
		"not a number":         func(l *fields) { l.least = math.NaN() },
		"infinite":             func(l *fields) { l.greatest = math.Inf(1) },
		"least above greatest": func(l *fields) { l.least = 3 },
		"trailing byte":        func(l *fields) { l.rest = []byte{0} },
	} {
		if s.UnmarshalBinary(layout(edit)) == nil {
			t.Errorf("%s: no error", name)
		}
		if s.Count() != 3 {
			t.Errorf("%s: the error changed the sketch to %d values, want 3", name, s.Count())
		}
	}
	whole := layout(func(*fields) {})
	for n := range whole {
		if s.UnmarshalBinary(whole[:n]) == nil {
			t.Errorf("the first %d of %d bytes are read", n, len(whole))
		}
	}
}

func FuzzSketch(f *testing.F) {
	f.Add(packed(f, &Sketch{}))
	f.Add(packed(f, sketchOf(f, 1, 2, 300, -5, -5.5, 0)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s, copied Sketch
		if s.UnmarshalBinary(data) != nil {
			return
		}
		again := packed(t, &s)
		if err := copied.UnmarshalBinary(again); err != nil || !bytes.Equal(packed(t, &copied), again) {
			t.Fatalf("a packed sketch is read as another one: %v", err)
		}
		if s.Count() == 0 {
			return
		}
		least, _ := s.Statistic(defender.P0)
		greatest, _ := s.Statistic(defender.P100)
		median, ok := s.Statistic(defender.P50)
		if s.fractions && (!ok || median.Low < least.Low || median.High > greatest.High) {
			t.Fatalf("median %v outside %v to %v", median, least, greatest)
		}
		before := s.Count()
		if s.Merge(&copied); s.Count() != 2*before {
			t.Fatalf("a sketch of %d values merged with its copy has %d", before, s.Count())
		}
	})
}
