package sketch

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/DataDog/sketches-go/ddsketch"
	"github.com/DataDog/sketches-go/ddsketch/stat"
	"github.com/DataDog/sketches-go/ddsketch/store"
)

// MaxBytes bounds a packed sketch: 2048 bins of either sign, each with a distance to
// the one before, mostly one byte, as all together are no further apart than float64 allows,
// and a count of at most eight.
const MaxBytes = 40_000

// sketchVersion changes with the layout and with [Accuracy]: sketches of different
// accuracy do not merge.
const sketchVersion = 1

// maxCount is up to where a float64 counts exactly.
const maxCount = 1 << 53

// MarshalBinary packs the sketch: version, whether it holds fractions, the count of
// zeros, the bins of negative and of positive values, the least and the greatest value.
// Equal distributions give equal bytes, at most [MaxBytes].
//
// The library's own encoding repeats the accuracy in each sketch, and its decoder goes on
// over bins that it could not read, and panics at indexes that are far apart.
func (s *Sketch) MarshalBinary() ([]byte, error) {
	if err := s.init(); err != nil {
		return nil, err
	}
	if s.values.GetCount() > maxCount {
		return nil, fmt.Errorf("sketch of %g values, want at most %d", s.values.GetCount(), maxCount)
	}
	packed := []byte{sketchVersion, 0}
	if s.fractions {
		packed[1] = 1
	}
	packed = binary.AppendUvarint(packed, uint64(s.values.GetZeroCount()))
	packed = appendBins(packed, s.values.GetNegativeValueStore())
	packed = appendBins(packed, s.values.GetPositiveValueStore())
	if s.Count() == 0 {
		return packed, nil
	}
	least, err1 := s.values.GetMinValue()
	greatest, err2 := s.values.GetMaxValue()
	packed = binary.LittleEndian.AppendUint64(packed, math.Float64bits(least))
	packed = binary.LittleEndian.AppendUint64(packed, math.Float64bits(greatest))
	return packed, errors.Join(err1, err2)
}

type bin struct {
	index int
	count float64
}

func binsOf(s store.Store) []bin {
	var all []bin
	s.ForEach(func(index int, count float64) bool {
		all = append(all, bin{index, count})
		return false
	})
	return all
}

// appendBins packs the number of bins, and of each its distance to the one before and its
// count. Of more than are kept the lowest are one with the next.
func appendBins(packed []byte, s store.Store) []byte {
	bins := binsOf(s)
	slices.SortFunc(bins, func(a, b bin) int { return cmp.Compare(a.index, b.index) })
	for ; len(bins) > sketchBins; bins = bins[1:] {
		bins[1].count += bins[0].count
	}
	packed = binary.AppendUvarint(packed, uint64(len(bins)))
	before := 0
	for _, b := range bins {
		packed = binary.AppendVarint(packed, int64(b.index-before))
		packed = binary.AppendUvarint(packed, uint64(b.count))
		before = b.index
	}
	return packed
}

var errDamaged = errors.New("sketch is damaged")

// UnmarshalBinary reads what MarshalBinary packs, and leaves the sketch as it is where it
// returns an error.
func (s *Sketch) UnmarshalBinary(packed []byte) error {
	if len(packed) < 2 || packed[0] != sketchVersion {
		return errors.New("sketch was written by another version of the engine")
	}
	in := packing{rest: packed[2:]}
	var read Sketch
	if err := read.init(); err != nil {
		return err
	}
	read.fractions = packed[1] == 1
	zeros := in.uvarint()
	negative, positive := store.NewSparseStore(), store.NewSparseStore()
	lowest, highest := read.values.Index(read.values.MinIndexableValue()), read.values.Index(read.values.MaxIndexableValue())
	in.bins(negative, lowest, highest)
	in.bins(positive, lowest, highest)
	least, greatest := math.Inf(1), math.Inf(-1)
	count := float64(zeros) + negative.TotalCount() + positive.TotalCount()
	if count > 0 {
		least, greatest = in.float(), in.float()
	}
	if in.failed || packed[1] > 1 || len(in.rest) > 0 || count > maxCount || count > 0 && !(math.Abs(least) <= math.MaxFloat64 && least <= greatest && greatest <= math.MaxFloat64) {
		return errDamaged
	}
	values := ddsketch.NewDDSketch(read.values.IndexMapping, positive, negative)
	if err := values.AddWithCount(0, float64(zeros)); err != nil {
		return err
	}
	statistics, err := stat.NewSummaryStatisticsFromData(count, 0, least, greatest)
	if err != nil {
		return err
	}
	if read.values, err = ddsketch.NewDDSketchWithExactSummaryStatisticsFromData(values, statistics); err != nil {
		return err
	}
	*s = read
	return nil
}

// packing is read from its start. After the first fault it gives zeros.
type packing struct {
	rest   []byte
	failed bool
}

func (p *packing) take(n int) {
	if n <= 0 {
		p.failed, p.rest = true, nil
		return
	}
	p.rest = p.rest[n:]
}

// uvarint reads a number up to maxCount.
func (p *packing) uvarint() uint64 {
	v, n := binary.Uvarint(p.rest)
	if v > maxCount {
		v, n = 0, 0
	}
	p.take(n)
	return v
}

func (p *packing) varint() int64 {
	v, n := binary.Varint(p.rest)
	p.take(n)
	return v
}

func (p *packing) float() float64 {
	if len(p.rest) < 8 {
		p.take(0)
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(p.rest))
	p.take(8)
	return v
}

// bins adds bins in rising order, no more than are kept.
func (p *packing) bins(to store.Store, lowest, highest int) {
	index := 0
	for i := range p.uvarint() {
		distance, count := p.varint(), p.uvarint()
		index += int(max(min(distance, math.MaxInt32), math.MinInt32)) // what is out of range stays so
		if p.failed || i >= sketchBins || i > 0 && distance <= 0 || index < lowest || index > highest || count == 0 {
			p.take(0)
			return
		}
		to.AddWithCount(index, float64(count))
	}
}
