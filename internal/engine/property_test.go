package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// maxStateBytes limits the state of more than twenty behaviors. A DynamoDB item can have 400 KB.
const maxStateBytes = 80 << 10

// start is a multiple of every window.
var start = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)

// measured returns the datapoints of a report that is readable and complete.
func measured(id string, at int64, values map[string]iotapi.Value) []Datapoint {
	return Report(id, at, values, nil, false)
}

func after(ms int64) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// everyKind has a behavior of each kind, with runs of one and two.
func everyKind(t interface{ Fatal(...any) }) []Compiled {
	var all []defender.Behavior
	for _, run := range []int{1, 2} {
		for name, normal := range map[string]defender.Criteria{
			"size":     defender.MessageByteSize.LessThan(8),
			"ports":    defender.ListeningTCPPorts.InPorts(443),
			"network":  defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")),
			"few":      defender.MessagesSent.LessThanEquals(3, defender.Window5m),
			"some":     defender.MessagesSent.GreaterThan(1, defender.Window10m),
			"attempts": defender.ConnectionAttempts.LessThan(3, defender.Window10m),
			"traffic":  defender.AllBytesOut.LessThan(100, defender.Window15m),
			"away":     defender.DisconnectDuration.LessThan(10),
			"p90":      defender.AllBytesIn.LessThanEqualsPercentile(defender.P90, defender.Window5m),
			"sizes":    defender.MessageByteSize.LessThanEqualsPercentile(defender.P90, defender.Window5m),
			"usual":    defender.MessagesSent.Learned(defender.HighConfidence),
			"least":    defender.MessageByteSize.GreaterThanEqualsPercentile(defender.P10, defender.Window5m),
		} {
			all = append(all, defender.Behavior{Name: fmt.Sprintf("%s-%d", name, run), Criteria: normal, ToAlarm: run, ToClear: run})
		}
	}
	slices.SortFunc(all, func(a, b defender.Behavior) int { return cmp.Compare(a.Name, b.Name) })
	compiled, err := Compile("Profile", all)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		if b.Criteria.Metric().Name == defender.AllBytesIn.Info().Name || b.Criteria.Metric().Name == defender.AllBytesOut.Info().Name {
			for _, interval := range []time.Duration{time.Minute, time.Hour} {
				confirmed := b
				confirmed.Name = fmt.Sprintf("confirmed-%s-%s", b.Name, interval)
				compiled = append(compiled, Traffic{Interval: interval, Confirm: true}.of(compile("Profile", confirmed)))
			}
		}
		if b.Criteria.Metric().Name == defender.AllBytesIn.Info().Name {
			b.Name = "summed-" + b.Name
			compiled = append(compiled, Traffic{Interval: time.Minute}.of(compile("Profile", b)))
		}
		if b.Criteria.Metric().Name == defender.AllBytesOut.Info().Name {
			b.Name = "five-" + b.Name
			b.Criteria = defender.AllBytesOut.LessThan(70, defender.Window5m)
			compiled = append(compiled, Traffic{Interval: time.Minute}.of(compile("Profile", b)))
		}
	}
	return append(compiled, ReportsEvery("Profile", "reports", 20*time.Minute, defender.High))
}

// fixedFleet is a fleet with the percentile 50 and the learned range 2 to 50.
type fixedFleet struct{}

func (fixedFleet) Statistic(FleetKey, defender.Statistic, int64) (Range, bool) {
	return Range{50, 50}, true
}
func (fixedFleet) Baseline(FleetKey, defender.Confidence, int64) (Range, bool) {
	return Range{2, 50}, true
}

// arrival is a batch of datapoints, and the time of its step in ms after start.
type arrival struct {
	now    int64
	points []Datapoint
}

// play steps e over the arrivals. Each step passes its state on as JSON. It returns the transitions by
// behavior and time, the last state, and the number of late or early datapoints.
func play(t interface{ Fatalf(string, ...any) }, e Evaluator, arrivals []arrival) ([]Transition, State, int) {
	var s State
	var all []Transition
	late := 0
	for _, a := range arrivals {
		if due := e.Due(s); due.IsZero() || due.After(after(a.now)) {
			if r := e.Step("thing", s, nil, after(a.now)); len(r.Transitions) > 0 {
				t.Fatalf("the state is due at %v, but a step at %v has transitions: %s", due, after(a.now), show(r.Transitions))
			}
		}
		r := e.Step("thing", s, a.points, after(a.now))
		if due := e.Due(r.State); !due.IsZero() && !due.After(after(a.now)) {
			t.Fatalf("after the step at %v, the state is due at %v", after(a.now), due)
		}
		text, err := json.Marshal(r.State)
		if err != nil {
			panic(err)
		}
		s = State{}
		if err := json.Unmarshal(text, &s); err != nil {
			panic(err)
		}
		all = append(all, r.Transitions...)
		late += r.Stats.Late + r.Stats.Early
	}
	slices.SortStableFunc(all, func(a, b Transition) int {
		return cmp.Or(cmp.Compare(a.Behavior.Name, b.Behavior.Name), cmp.Compare(a.Time, b.Time))
	})
	return all, s, late
}

// randomEvent returns the datapoints of one event of a device. Its time is a whole second in the given
// number of minutes, often the start of a window.
func randomEvent(t *rapid.T, uniform *rand.Rand, i int, minutes int64) []Datapoint {
	second := uniform.Int64N(minutes * 60)
	if uniform.IntN(4) == 0 {
		second -= second % 300
	}
	ms := start.UnixMilli() + second*1000
	session := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "session")
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		return Lifecycle{ClientID: "c", Timestamp: ms, EventType: "connected", Session: session, IPAddress: rapid.SampledFrom([]string{"10.0.0.1", "192.0.2.1"}).Draw(t, "ip")}.Datapoints()
	case 1:
		return Lifecycle{ClientID: "c", Timestamp: ms, EventType: "disconnected", Session: session}.Datapoints()
	case 2:
		return Lifecycle{ClientID: "c", Timestamp: ms, EventType: "connect_failed", Session: session}.Datapoints()
	case 3:
		m := Message{Topic: "t", ClientID: "c", ID: fmt.Sprint(i), Time: ms, Bytes: rapid.Int64Range(0, 60).Draw(t, "bytes"), MQTT: rapid.Bool().Draw(t, "mqtt")}
		return []Datapoint{m.Datapoint(defender.MessageByteSize), m.Datapoint(defender.MessagesSent)}
	}
	return measured(fmt.Sprint(i), ms, map[string]iotapi.Value{
		defender.ListeningTCPPorts.Info().Name: ports(rapid.SampledFrom([]uint16{443, 23}).Draw(t, "port")),
		defender.AllBytesOut.Info().Name:       count(rapid.Int64Range(0, 60).Draw(t, "out")),
		defender.AllBytesIn.Info().Name:        count(rapid.Int64Range(40, 60).Draw(t, "in")),
	})
}

// Within the lateness bound, order, duplicates, batches and additional checks change no transition.
func TestOrderAndDuplicatesChangeNoTransition(t *testing.T) {
	all := everyKind(t)
	rapid.Check(t, func(t *rapid.T) {
		// rapid prefers small numbers: nearly all events would be in one window.
		uniform := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		lateness := time.Duration(uniform.IntN(9)) * time.Minute
		some := rapid.SliceOfNDistinct(rapid.IntRange(0, len(all)-1), 1, -1, rapid.ID).Draw(t, "behaviors")
		slices.Sort(some)
		var behaviors []Compiled
		for _, i := range some {
			behaviors = append(behaviors, all[i])
		}
		e := Evaluator{Behaviors: behaviors, Lateness: lateness, Fleet: fixedFleet{}, Connection: rapid.SampledFrom([]func(string) (Connection, bool){stillConnected, func(string) (Connection, bool) { return Connection{}, false }}).Draw(t, "connection")}
		bound := lateness.Milliseconds()
		span := rapid.SampledFrom([]int64{10, 30, 90}).Draw(t, "span")
		var inOrder, shuffled []arrival
		for i := range rapid.IntRange(0, 40).Draw(t, "events") {
			for _, d := range randomEvent(t, uniform, i, span) {
				at := d.Time - start.UnixMilli()
				inOrder = append(inOrder, arrival{at, []Datapoint{d}})
				for range rapid.IntRange(1, 2).Draw(t, "deliveries") {
					shuffled = append(shuffled, arrival{at + uniform.Int64N(bound+1), []Datapoint{d}})
				}
			}
		}
		for range rapid.IntRange(0, 10).Draw(t, "checks") {
			shuffled = append(shuffled, arrival{now: rapid.Int64Range(0, 120*minute).Draw(t, "check")})
		}
		byTime := func(a, b arrival) int { return cmp.Compare(a.now, b.now) }
		slices.SortStableFunc(inOrder, byTime)
		slices.SortStableFunc(shuffled, byTime)
		// Both states then get the same later events in order, and silence.
		var tail []arrival
		for i := range rapid.IntRange(0, 5).Draw(t, "later events") {
			for _, d := range randomEvent(t, uniform, 100+i, span) {
				d.Time += 180 * minute
				tail = append(tail, arrival{d.Time - start.UnixMilli(), []Datapoint{d}})
			}
		}
		slices.SortStableFunc(tail, byTime)
		for _, hours := range []int64{5, 100} {
			tail = append(tail, arrival{now: hours * 60 * minute})
		}
		inOrder, shuffled = append(inOrder, tail...), append(shuffled, tail...)
		want, _, late := play(t, e, inOrder)
		if late > 0 {
			t.Fatalf("%d events are late in order", late)
		}
		got, last, late := play(t, e, shuffled)
		if late > 0 {
			t.Fatalf("%d events are late although within the bound", late)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("in another order:\n%s\nin order:\n%s", show(got), show(want))
		}
		if text, _ := json.Marshal(last); len(text) > maxStateBytes {
			t.Fatalf("%d bytes of state, want at most %d: %s", len(text), maxStateBytes, text)
		}
		checkSequence(t, want)
	})
}

// checkSequence fails unless times rise, and each change fits the one before, with the same violation
// ID.
func checkSequence(t *rapid.T, all []Transition) {
	open, last := map[string]string{}, map[string]int64{}
	for _, tr := range all {
		name := tr.Behavior.Name
		if tr.Time <= last[name] {
			t.Fatalf("%s of %s at %d, after one at %d", tr.Change, name, tr.Time, last[name])
		}
		last[name] = tr.Time
		if (tr.Change == InAlarm) != (open[name] == "") || tr.Change != InAlarm && open[name] != tr.ViolationID {
			t.Fatalf("%s of %s, violation %s, while %q is open", tr.Change, name, tr.ViolationID, open[name])
		}
		open[name] = ""
		if tr.Change == InAlarm {
			open[name] = tr.ViolationID
		}
	}
}

func show(all []Transition) string {
	var text string
	for _, t := range all {
		text += fmt.Sprintf("%s %s at %s value %s since %s\n", t.Behavior.Name, t.Change, clock(t.Time), t.Value, clock(t.StartTime))
	}
	return text
}

func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format("2T15:04:05.000") }

// The test plays all histories of five reports, each on time or as late as possible. A conforming
// report may arrive before an earlier violating one.
func TestReportsInEveryOrder(t *testing.T) {
	const reports = 5
	late := Lateness(MaxBatching).Milliseconds()
	for run := 1; run <= 2; run++ {
		b := behavior(defender.ListeningTCPPorts.InPorts(443))
		b.ToAlarm, b.ToClear = run, run
		e := evaluator(t, b)
		e.Lateness = Lateness(MaxBatching)
		for history := range 1 << reports {
			var want []Transition
			for delayed := range 1 << reports {
				var arrivals []arrival
				for i := range reports {
					at := int64(i) * 5 * minute
					letter := rune(".x"[history>>i&1])
					arrivals = append(arrivals, arrival{at + int64(delayed>>i&1)*late, portReports(letter, start.UnixMilli()+at, fmt.Sprint(i))})
				}
				slices.SortStableFunc(arrivals, func(a, b arrival) int { return cmp.Compare(a.now, b.now) })
				arrivals = append(arrivals, arrival{now: 10 * 60 * minute})
				got, _, _ := play(t, e, arrivals)
				if delayed == 0 {
					want = got
				} else if !reflect.DeepEqual(got, want) {
					t.Fatalf("datapoints to alarm %d, history %05b, delayed %05b:\n%s\non time:\n%s", run, history, delayed, show(got), show(want))
				}
			}
		}
	}
}
