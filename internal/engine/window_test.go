package engine

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
)

func TestWindowsAreAligned(t *testing.T) {
	for _, row := range []struct{ at, want int64 }{
		{0, 0}, {299_999, 0}, {300_000, 300_000}, {1_573_786_800_000, 1_573_786_800_000}, {-1, -300_000}, {-300_000, -300_000},
	} {
		if got := windowStart(row.at, defender.Window5m); got != row.want {
			t.Errorf("the window of %d begins at %d, want %d", row.at, got, row.want)
		}
	}
}

func TestOneViolatingDatapointMakesTheWindowViolate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type point struct {
			v  Verdict
			at int64
			n  int64
		}
		points := rapid.SliceOf(rapid.Custom(func(t *rapid.T) point {
			return point{Verdict(rapid.IntRange(0, 2).Draw(t, "verdict")), rapid.Int64Range(1, 5).Draw(t, "at"), rapid.Int64Range(0, 2).Draw(t, "n")}
		})).Draw(t, "points")
		merge := func(points []point) window {
			var w window
			for _, p := range points {
				w.add(p.v, p.at, count(p.n), nil)
			}
			return w
		}
		want := merge(points)
		worst := None
		for _, p := range points {
			worst = max(worst, p.v)
		}
		if want.Verdict != worst {
			t.Fatalf("verdict %d, want %d", want.Verdict, worst)
		}
		shuffled := append(rapid.Permutation(points).Draw(t, "order"), points...)
		if got := merge(shuffled); !reflect.DeepEqual(got, want) {
			t.Fatalf("the points %v merge to %+v, in the order %v to %+v", points, want, shuffled, got)
		}
	})
}

func TestTallyIgnoresOrderAndDuplicates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfN(rapid.IntRange(0, 400), 0, 600).Draw(t, "ids")
		limit := rapid.SampledFrom([]int64{1, 5, 100, math.MaxInt64}).Draw(t, "limit")
		distinct := map[int]bool{}
		var in, shuffled tally
		for _, id := range ids {
			distinct[id] = true
			in.add(fmt.Sprint(id), int64(id), limit)
		}
		for _, id := range append(rapid.Permutation(ids).Draw(t, "order"), ids...) {
			shuffled.add(fmt.Sprint(id), int64(id), limit)
		}
		if in.count() != shuffled.count() {
			t.Fatalf("count %d, in another order %d", in.count(), shuffled.count())
		}
		if limit == math.MaxInt64 && in.sum() != shuffled.sum() {
			t.Fatalf("sum %d, in another order %d", in.sum(), shuffled.sum())
		}
		if want := min(int64(len(distinct)), limit); want < MaxTally && in.count() != want {
			t.Fatalf("count %d, want %d", in.count(), want)
		}
		text, err := json.Marshal(&in)
		var back tally
		if err != nil || json.Unmarshal(text, &back) != nil || back.count() != in.count() || back.sum() != in.sum() {
			t.Fatalf("%s: count or sum differ when read, or error %v", text, err)
		}
		if len(text) > MaxTally*16 {
			t.Fatalf("%d bytes, want at most %d", len(text), MaxTally*16)
		}
	})
}

// The test measures the error that the doc comment states, in 200 windows of a thousand events.
func TestLargeCountsAreEstimatedWithinTheStatedError(t *testing.T) {
	const events, windows = 1000, 200
	var squares, bias float64
	for w := range windows {
		var in tally
		for i := range events {
			in.add(fmt.Sprintf("%d/%d", w, i), 3, math.MaxInt64)
		}
		off := float64(in.count())/events - 1
		squares += off * off
		bias += off / windows
		if sum := float64(in.sum()) / (3 * float64(in.count())); math.Abs(sum-1) > 0.01 {
			t.Errorf("the sum is %.3f of the estimated one, want 0.99 to 1.01", sum)
		}
	}
	stated := 1 / math.Sqrt(MaxTally-2)
	if deviation := math.Sqrt(squares / windows); deviation > 1.1*stated {
		t.Errorf("standard error %.3f, want at most 1.1 times the stated %.3f", deviation, stated)
	}
	if math.Abs(bias) > 0.02 {
		t.Errorf("bias %.3f, want at most 0.02", bias)
	}
}

// The sum of a device's values may exceed an int64. It must not become too small.
func TestSumsDoNotOverflow(t *testing.T) {
	var n tally
	for i := range 100_000 {
		n.add(fmt.Sprint(i), 1<<53, math.MaxInt64)
	}
	if got := n.sum(); got < 1<<62 {
		t.Errorf("sum %d, want at least 1<<62", got)
	}
}
