package sketch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// MaxBytes is the maximum size of a packed sketch, which has at most 2048 bins of each sign. The
// count of a bin needs at most eight bytes. Its distance to the previous bin mostly needs one,
// because all bins lie within the range of float64.
const MaxBytes = 40_000

// version changes with the layout and with [Accuracy]: sketches of different accuracy do not
// merge.
const version = 1

// maxCount is the largest count that a float64 represents exactly.
const maxCount = 1 << 53

// MarshalBinary packs the sketch: version, whether it holds fractions, the count of zeros,
// the bins of negative and of positive values, the least and the greatest value. Equal
// distributions give equal bytes, at most [MaxBytes].
func (s *Sketch) MarshalBinary() ([]byte, error) {
	if s.count > maxCount {
		return nil, fmt.Errorf("sketch of %d values, want at most %d", s.count, maxCount)
	}
	packed := []byte{version, 0}
	if s.fractions {
		packed[1] = 1
	}
	packed = binary.AppendUvarint(packed, uint64(s.zeros))
	packed = s.negative.append(packed)
	packed = s.positive.append(packed)
	if s.count == 0 {
		return packed, nil
	}
	packed = binary.LittleEndian.AppendUint64(packed, math.Float64bits(s.least))
	return binary.LittleEndian.AppendUint64(packed, math.Float64bits(s.greatest)), nil
}

// append packs the number of bins, and for each bin its distance to the previous one and its count.
func (b bins) append(packed []byte) []byte {
	packed = binary.AppendUvarint(packed, uint64(len(b)))
	before := 0
	for _, index := range slices.Sorted(maps.Keys(b)) {
		packed = binary.AppendVarint(packed, int64(index-before))
		packed = binary.AppendUvarint(packed, uint64(b[index]))
		before = index
	}
	return packed
}

var errDamaged = errors.New("sketch is damaged")

// UnmarshalBinary reads what MarshalBinary packs. If it returns an error, the sketch is unchanged.
func (s *Sketch) UnmarshalBinary(packed []byte) error {
	if len(packed) < 2 || packed[0] != version {
		return errors.New("sketch was written by another version of the engine")
	}
	in := packing{rest: packed[2:]}
	read := Sketch{fractions: packed[1] == 1, zeros: int64(in.uvarint()), negative: in.bins(), positive: in.bins()}
	read.count = read.zeros + read.negative.total() + read.positive.total()
	if read.count > 0 {
		read.least, read.greatest = in.float(), in.float()
	}
	ordered := -math.MaxFloat64 <= read.least && read.least <= read.greatest && read.greatest <= math.MaxFloat64
	if in.failed || packed[1] > 1 || len(in.rest) > 0 || read.count > maxCount || !ordered {
		return errDamaged
	}
	*s = read
	return nil
}

// packing reads a packed sketch from its start. After the first fault it returns zeros.
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

// bins reads at most maxBins bins, in rising order.
func (p *packing) bins() bins {
	var read bins
	index, lowest, highest := 0, indexOf(leastValue), indexOf(greatestValue)
	for i := range p.uvarint() {
		distance, count := p.varint(), p.uvarint()
		index += int(max(min(distance, math.MaxInt32), math.MinInt32)) // a clamped index is still out of range
		if p.failed || i >= maxBins || i > 0 && distance <= 0 || index < lowest || index > highest || count == 0 {
			p.take(0)
			return nil
		}
		read.add(index, int64(count))
	}
	return read
}
