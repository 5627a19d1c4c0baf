//go:build !race

// The race detector would find nothing in one goroutine, and the test would take ten times as long.

package fleet_test

import (
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
)

// Samples are split into batches, in any order and with duplicates. Every environment answers as if
// all samples were one batch.
func TestSplitAndOrderOfBatchesChangeNothing(t *testing.T) {
	keys := []engine.FleetKey{
		sent,
		{Profile: "Profile", Metric: "aws:num-messages-sent", Window: defender.Window5m, Dimension: "a/#\x1fb/#"},
		{Profile: "Profile", Metric: "temperature", Window: defender.Window1h},
	}
	rapid.Check(t, func(rt *rapid.T) {
		sample := rapid.Custom(func(t *rapid.T) engine.Samples {
			k := rapid.SampledFrom(keys).Draw(t, "key")
			start := midnight.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "window")) * k.Window.Duration())
			value := float64(rapid.IntRange(0, 400).Draw(t, "value"))
			if k.Metric == "temperature" {
				value = math.Pow(10, rapid.Float64Range(-20, 20).Draw(t, "exponent"))
			}
			return engine.Samples{{Key: k, Start: start.UnixMilli()}: value}
		})
		all := rapid.SliceOfN(sample, 0, 200).Draw(rt, "samples")
		ask := func(one engine.Fleet) string {
			var answers strings.Builder
			for _, k := range keys {
				for minutes := 0; minutes <= 360; minutes += 15 {
					start := midnight.Add(time.Duration(minutes) * minute).Truncate(k.Window.Duration()).UnixMilli()
					for _, p := range []defender.Statistic{defender.P0, defender.P10, defender.P50, defender.P99_9, defender.P100} {
						r, ok := one.Statistic(k, p, start)
						fmt.Fprintln(&answers, k, start, p, r, ok)
					}
				}
			}
			return answers.String()
		}
		whole := newTable(t)
		mustAdd(t, whole.store(t, io.Discard), "all", midnight, all)
		loaded := whole.store(t, io.Discard).Load(t.Context(), midnight.Add(6*time.Hour))
		want := ask(loaded)

		parts := newTable(t)
		batches := make([][]engine.Samples, rapid.IntRange(1, 9).Draw(rt, "batches"))
		for _, s := range rapid.Permutation(all).Draw(rt, "order") {
			i := rapid.IntRange(0, len(batches)-1).Draw(rt, "batch")
			batches[i] = append(batches[i], s)
		}
		deliveries := rapid.SliceOfN(rapid.IntRange(0, len(batches)-1), 0, 5).Draw(rt, "duplicates")
		for i := range batches {
			deliveries = append(deliveries, i)
		}
		one, other := parts.store(t, io.Discard), parts.store(t, io.Discard)
		for _, i := range deliveries {
			s := one
			if rapid.Bool().Draw(rt, "other environment") {
				s = other
			}
			mustAdd(t, s, fmt.Sprint("batch-", i), midnight, batches[i])
		}
		split := one.Load(t.Context(), midnight.Add(6*time.Hour))
		if got := ask(split); got != want || loaded.Err() != nil || split.Err() != nil {
			rt.Fatalf("answers of split batches:\n%s\nof one batch:\n%s\nerrors %v and %v", got, want, split.Err(), loaded.Err())
		}
	})
}
