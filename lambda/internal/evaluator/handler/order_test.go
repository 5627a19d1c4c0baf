//go:build !race

// The race detector would find nothing that it does not find in the other tests of this package, and
// these would take four times as long.

package handler_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
)

// tick is the time between two batches of deliveries, and between two runs of the closer.
const tick = 30 * time.Second

// delivery is a message of the queue at the tick at which it arrives.
type delivery struct {
	tick    int64
	message events.SQSMessage
}

// drawMessage returns a message of a device, and its time, which is a whole second.
func drawMessage(t *rapid.T, even *rand.Rand, i int, minutes int64) (time.Time, events.SQSMessage) {
	when := start.Add(time.Duration(even.Int64N(minutes*60)) * time.Second)
	id := fmt.Sprint("m", i)
	client := rapid.SampledFrom([]string{"pump", "valve"}).Draw(t, "client")
	session := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "session")
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return when, report(id, client, when, ports(i+1, rapid.SampledFrom([]int{443, 23}).Draw(t, "port")))
	case 1:
		return when, message(id, client, when, rapid.Int64Range(0, 16).Draw(t, "bytes"))
	case 2:
		return when, lifecycle(client, "connected", session, when)
	}
	return when, lifecycle(client, "disconnected", session, when)
}

// play delivers tick by tick, in batches of the sizes that cut returns. A closer runs before, between
// and after them if closes returns true. play returns the transitions that reached the forwarder.
func play(t *rapid.T, r *rig, deliveries []delivery, cut func(int) []int, closes func() bool, asStream bool) string {
	slices.SortStableFunc(deliveries, func(a, b delivery) int { return cmp.Compare(a.tick, b.tick) })
	for len(deliveries) > 0 {
		now := deliveries[0].tick
		n := 0
		for n < len(deliveries) && deliveries[n].tick == now {
			n++
		}
		r.now = start.Add(time.Duration(now) * tick)
		if closes() {
			r.close(r.now)
		}
		for _, size := range cut(n) {
			var batch []events.SQSMessage
			for _, d := range deliveries[:size] {
				batch = append(batch, d.message)
			}
			if asStream {
				r.handle(context.Background(), stream(batch...))
			} else if again := r.deliver(batch...); again != nil {
				t.Fatalf("messages %v are retried, want none", again)
			}
			deliveries = deliveries[size:]
			if closes() {
				r.close(r.now)
			}
		}
	}
	for _, hours := range []float64{5, 6, 100, 101} {
		r.now = at(hours * 60)
		r.close(r.now)
		r.close(r.now.Add(time.Minute)) // the second run sends what the first has judged
	}
	if n := r.counted(contract.MetricLate) + r.counted(contract.MetricEarly); n > 0 {
		t.Fatalf("%d datapoints are late or early, although all are within the bound", n)
	}
	var all []string
	for _, m := range r.messages() {
		all = append(all, fmt.Sprintf("%s %s %s at %v, %s", m.ClientID, m.Transition.Behavior.Name, m.Transition.Change, time.UnixMilli(m.Transition.Time).Sub(start), m.Transition.ViolationID))
	}
	return strings.Join(all, "\n")
}

// Within the lateness bound, neither order, duplicates, batches nor closer runs change the
// transitions.
func TestOrderDuplicatesAndBatchesChangeNoTransition(t *testing.T) {
	config := profile(
		defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443)},
		defender.Behavior{Name: "ports-twice", Criteria: defender.ListeningTCPPorts.InPorts(443), ToAlarm: 2, ToClear: 2},
		defender.Behavior{Name: "small", Criteria: defender.MessageByteSize.LessThan(8)},
		defender.Behavior{Name: "few", Criteria: defender.MessagesSent.LessThan(3, defender.Window5m)},
		defender.Behavior{Name: "away", Criteria: defender.DisconnectDuration.LessThan(10)},
	)
	config.ReportsEvery = 20
	bound := int64(engine.Lateness(batching) / tick)
	alarms := 0
	rapid.Check(t, func(t *rapid.T) {
		// rapid prefers small numbers, which would put nearly everything into one window.
		even := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		minutes := rapid.SampledFrom([]int64{10, 40}).Draw(t, "minutes")
		var inOrder, shuffled []delivery
		for i := range rapid.IntRange(0, 25).Draw(t, "events") {
			when, m := drawMessage(t, even, i, minutes)
			first := int64((when.Sub(start) + tick - 1) / tick)
			inOrder = append(inOrder, delivery{first, m})
			for range rapid.IntRange(1, 2).Draw(t, "deliveries") {
				// The message is sent before the tick at which it is delivered.
				arrives := first + even.Int64N(bound)
				later := m
				later.Attributes = map[string]string{"SentTimestamp": fmt.Sprint(when.UnixMilli() + even.Int64N(max(1, start.Add(time.Duration(arrives)*tick).UnixMilli()-when.UnixMilli())))}
				shuffled = append(shuffled, delivery{arrives, later})
			}
		}
		even.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		one := func(n int) []int { return slices.Repeat([]int{1}, n) }
		some := func(n int) []int {
			var sizes []int
			for n > 0 {
				size := 1 + even.IntN(n)
				sizes, n = append(sizes, size), n-size
			}
			return sizes
		}
		want := play(t, newRig(t, config), inOrder, one, func() bool { return true }, false)
		got := play(t, newRig(t, config), shuffled, some, func() bool { return even.IntN(2) == 0 }, rapid.Bool().Draw(t, "as a stream"))
		if got != want {
			t.Fatalf("in another order:\n%s\nin order:\n%s", got, want)
		}
		alarms += strings.Count(want, "in-alarm")
	})
	if alarms < 100 {
		t.Errorf("%d alarms in all runs, want at least 100: the runs prove little", alarms)
	}
}
