//go:build !race

// The race detector would find nothing that it does not find in the other tests of this package, and
// these would take four times as long.

package handler_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
)

// eventful returns rules that the findings of drawEvents can match.
func eventful() []correlation.Rule {
	campaign := correlation.Campaign(correlation.Spread{Devices: 2})
	campaign.Window = 12 * time.Hour
	return []correlation.Rule{
		correlation.StolenIdentity(), correlation.CompromiseChain(), correlation.BlastRadius(), campaign, correlation.TwoProducts(),
		{Name: "severe", Severity: defender.Low, Stages: []correlation.Stage{{Name: "two", AtLeast: 2, Match: []correlation.Matcher{{Severity: defender.High}}}}},
	}
}

// drawEvents returns events with distinct times, in the order of their times.
func drawEvents(t *rapid.T) []finding {
	all := []finding{
		duplicate("pump-7"), behavior("pump-7", "aws:source-ip-address"), behavior("pump-7", "aws:num-authorization-failures"), behavior("pump-7", "aws:listening-tcp-ports"),
		behavior("pump-7", "aws:all-bytes-out"), behavior("pump-7", "aws:disconnect-duration"), broadPolicy("broad"), behavior("gateway-1", "aws:all-bytes-out"), guardDuty("i-0abc"),
	}
	var events []finding
	at := start
	for range rapid.IntRange(1, 14).Draw(t, "events") {
		f := rapid.SampledFrom(all).Draw(t, "finding").at(at, rapid.SampledFrom([]string{"o", "o", "o", "x", "s"}).Draw(t, "state"))
		f.severity = rapid.SampledFrom([]string{"LOW", "HIGH", "HIGH", "CRITICAL"}).Draw(t, "severity")
		at = at.Add(time.Duration(rapid.IntRange(1, 240).Draw(t, "minutes")) * time.Minute)
		events = append(events, f)
	}
	return events
}

// outcome delivers events in batches and returns what is active in the end. Some calls fail, before
// or after they took effect; the events of a failed batch are delivered again.
func outcome(t *rapid.T, events []finding, end time.Time, faults bool) string {
	r := newRig(t, eventful()...)
	r.now = end
	if faults {
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "faults"), 0))
		r.table.step = func(operation, _ string, _ bool) error {
			mu.Lock()
			defer mu.Unlock()
			if random.IntN(10) == 0 {
				return fmt.Errorf("%s: %w", operation, errBroken)
			}
			return nil
		}
	}
	waiting := make([]string, len(events))
	for i, e := range events {
		waiting[i] = e.event()
	}
	for round := 0; len(waiting) > 0; round++ {
		if round == 30 {
			r.table.step = nil
		}
		if round == 300 {
			t.Fatalf("events are still retried in round 300: %s", r.logs.String()[max(0, r.logs.Len()-500):])
		}
		n := min(len(waiting), rapid.IntRange(1, 5).Draw(t, "batch"))
		var again []string
		for _, i := range r.handle(waiting[:n]...) {
			again = append(again, waiting[i])
		}
		waiting = append(waiting[n:], again...)
	}
	r.table.step = nil
	r.settle()
	return r.active()
}

// In any order, with duplicates, and with failures between any two steps, the same composite
// findings are active, with the same parts and severities.
func TestOrderAndFailuresDoNotChangeTheOutcome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		end := events[len(events)-1].updated.Add(time.Duration(rapid.IntRange(1, 2000).Draw(t, "later")) * time.Minute)
		want := outcome(t, events, end, false)
		arrived := append(rapid.Permutation(events).Draw(t, "order"), rapid.SliceOfN(rapid.SampledFrom(events), 0, 5).Draw(t, "repeated")...)
		if got := outcome(t, arrived, end, true); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// The events arrive one by one in the order of their times, while time passes. The outcome is as if
// all had arrived at the end.
func TestPassingTimeDoesNotChangeTheOutcome(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := drawEvents(t)
		end := events[len(events)-1].updated.Add(time.Duration(rapid.IntRange(1, 2000).Draw(t, "later")) * time.Minute)
		want := outcome(t, events, end, false)
		r := newRig(t, eventful()...)
		for _, e := range events {
			r.now = e.updated
			r.must(e.event())
			r.now = r.now.Add(time.Minute)
			if err := r.due(); err != nil {
				t.Fatal(err)
			}
		}
		r.now = end
		r.settle()
		if got := r.active(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

func TestFloodOfOneDevice(t *testing.T) {
	r := newRig(t, correlation.StolenIdentity())
	var flood []string
	for i := range 1000 {
		at := start.Add(time.Duration(i) * time.Second)
		flood = append(flood, behavior("pump-7", "aws:source-ip-address").at(at, "o").event())
		if i == 500 {
			flood = append(flood, duplicate("pump-7").at(at, "o").event())
		}
	}
	r.now = start.Add(1000 * time.Second)
	for batch := range len(flood)/100 + 1 {
		r.must(flood[batch*100 : min(len(flood), batch*100+100)]...)
	}
	r.want("stolen-identity/pump-7 CRITICAL 2")
	if r.table.writes > 20 || r.queue.count() != 1 {
		t.Errorf("%d writes and %d messages for 1001 events in 11 batches, want at most 20 and 1", r.table.writes, r.queue.count())
	}
	for _, it := range r.table.Items("state") {
		if n := len(attribute.TextOf(it, "doc")); n > 20_000 {
			t.Errorf("item %s has %d bytes, want at most 20,000", attribute.TextOf(it, contract.StatePartitionKey), n)
		}
	}
}

func TestFindingsBeyondTheLimitAreLeftOut(t *testing.T) {
	rule := correlation.Rule{Name: "many", Stages: []correlation.Stage{{Name: "any", Match: []correlation.Matcher{{Severity: defender.Medium}}}}}
	r := newRig(t, rule)
	for batch := range 5 {
		var events []string
		for i := range 100 {
			events = append(events, deviceEvent("pump-7", fmt.Sprintf("type-%d-%d", batch, i)).at(start.Add(time.Duration(batch*100+i)*time.Second), "o").event())
		}
		r.now = start.Add(time.Hour)
		r.must(events...)
	}
	r.want("many/pump-7 HIGH 200")
	if c := r.composites()["many/pump-7"]; !c.AtLeast || len(c.Related) != 10 || len(c.Resources) > 32 || r.counted("Truncated") == 0 {
		t.Errorf("composite finding %+v, %d counted as truncated", c, r.counted("Truncated"))
	}
}

// A device cannot end its incident by reporting many events of its own: each stage keeps its newest
// parts.
func TestFloodEndsNoIncident(t *testing.T) {
	r := newRig(t, correlation.BuiltIn()...)
	r.must(stolen()...)
	for batch := range 5 {
		var events []string
		for i := range 100 {
			events = append(events, deviceEvent("pump-7", fmt.Sprintf("type-%d-%d", batch, i)).at(start.Add(time.Duration(batch*100+i+10)*time.Second), "o").event())
		}
		r.now = start.Add(time.Hour)
		r.must(events...)
	}
	r.want("stolen-identity/pump-7 CRITICAL 2")
	r.must(duplicate("pump-7").at(r.now, "x").event(), behavior("pump-7", "aws:source-ip-address").at(r.now, "x").event())
	r.want("")
}

// N devices in one campaign write at most N + 1 records, and no two devices write the same one.
func TestCampaignWritesOncePerDevice(t *testing.T) {
	const devices = 400
	r := newRig(t, correlation.Campaign(correlation.Spread{Devices: 40}))
	written := map[string]int{}
	var mu sync.Mutex
	r.table.step = func(operation, key string, done bool) error {
		mu.Lock()
		defer mu.Unlock()
		if operation == "PutItem" && done {
			written[key]++
		}
		return nil
	}
	for batch := range devices / 10 {
		var events []string
		for i := range 10 {
			events = append(events, behavior(fmt.Sprintf("sensor-%d", batch*10+i), "aws:all-bytes-out").at(start, "o").event())
		}
		r.must(events...)
	}
	if r.table.writes > devices+1 {
		t.Errorf("%d writes for %d devices, want at most %d", r.table.writes, devices, devices+1)
	}
	for key, n := range written {
		if strings.HasSuffix(key, "aws:all-bytes-out") && n > 1 || n > devices/2 {
			t.Errorf("%s was written %d times", key, n)
		}
	}
	if n := r.queue.count(); n != 1 {
		t.Errorf("%d messages, want one", n)
	}
	r.table.step = nil
	r.settle()
	r.want("campaign/campaign/behavior b-aws:all-bytes-out HIGH 400")
	if c := r.composites()["campaign/campaign/behavior b-aws:all-bytes-out"]; len(c.Related) != 10 || len(c.Resources) != 32 {
		t.Errorf("%d related findings and %d resources, want 10 and 32", len(c.Related), len(c.Resources))
	}
	// All alarms end.
	r.now = r.now.Add(time.Minute)
	for batch := range devices / 10 {
		var events []string
		for i := range 10 {
			events = append(events, behavior(fmt.Sprintf("sensor-%d", batch*10+i), "aws:all-bytes-out").at(r.now, "x").event())
		}
		r.must(events...)
	}
	r.want("")
}
