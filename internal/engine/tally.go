package engine

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"math"
	"slices"
)

// MaxTally is how many distinct events of a window are recorded. Below this number, counts and sums
// are exact. At this number, the recorded events are a uniform sample, those with the smallest
// hashes, from which both are estimated. The standard error of a count is 1/sqrt(MaxTally-2), 6.3 %.
const MaxTally = 256

// tally counts and adds up distinct events by ID. Adding is commutative, and duplicates change
// nothing. Its size is bounded.
type tally struct {
	entries []entry // sorted by hash
}

type entry struct {
	hash  uint64
	value int64
}

// add records an event, and reports whether the tally changed. A tally of limit events is full: a
// count needs no more than its threshold.
func (t *tally) add(id string, value, limit int64) bool {
	if int64(len(t.entries)) >= limit {
		return false
	}
	e := entry{hashOf(id), value}
	i, found := slices.BinarySearchFunc(t.entries, e, func(a, b entry) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return 0
	})
	if found || i == MaxTally {
		return false
	}
	t.entries = slices.Insert(t.entries, i, e)
	if len(t.entries) > MaxTally {
		t.entries = t.entries[:MaxTally]
	}
	return true
}

// count returns the number of distinct events.
func (t *tally) count() int64 {
	if t == nil {
		return 0
	}
	return int64(math.Round(float64(len(t.entries)) * t.scale()))
}

// sum returns the sum of the distinct events' values.
func (t *tally) sum() int64 {
	if t == nil {
		return 0
	}
	if len(t.entries) < MaxTally {
		var sum int64
		for _, e := range t.entries {
			sum += e.value
		}
		return sum
	}
	var sum float64
	for _, e := range t.entries {
		sum += float64(e.value)
	}
	return int64(min(math.Round(sum*t.scale()), 1<<62)) // within the range of int64
}

// scale returns how many events each recorded one represents.
func (t *tally) scale() float64 {
	if len(t.entries) < MaxTally {
		return 1
	}
	density := float64(t.entries[MaxTally-1].hash) / math.MaxUint64
	return math.Max(1, (MaxTally-1)/density/MaxTally)
}

// hashOf spreads FNV's hash over all 64 bits, which the estimate needs.
func hashOf(id string) uint64 {
	f := fnv.New64a()
	f.Write([]byte(id))
	h := f.Sum64()
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// MarshalText returns the tally in base64: per event 8 bytes of hash and the value as varint.
func (t *tally) MarshalText() ([]byte, error) {
	var packed []byte
	for _, e := range t.entries {
		packed = binary.BigEndian.AppendUint64(packed, e.hash)
		packed = binary.AppendVarint(packed, e.value)
	}
	return base64.RawStdEncoding.AppendEncode(nil, packed), nil
}

// UnmarshalText parses the text of MarshalText.
func (t *tally) UnmarshalText(text []byte) error {
	packed, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return err
	}
	t.entries = nil
	for len(packed) > 0 {
		if len(packed) < 9 || len(t.entries) == MaxTally {
			return errors.New("tally of a window is damaged")
		}
		value, n := binary.Varint(packed[8:])
		if n <= 0 {
			return errors.New("tally of a window is damaged")
		}
		t.entries = append(t.entries, entry{binary.BigEndian.Uint64(packed), value})
		packed = packed[8+n:]
	}
	return nil
}
