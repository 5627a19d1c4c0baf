package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// If devices report more often than once per window, the window of a traffic metric is a sum.
func TestIntervalDecidesWhichWindowsAreSums(t *testing.T) {
	bytes, ports := defender.AllBytesOut, defender.NumListeningTCPPorts
	for _, row := range []struct {
		normal  defender.Criteria
		seconds int
		want    kind
	}{
		{bytes.LessThan(1, defender.Window5m), 0, valueBehavior{}},
		{bytes.LessThan(1, defender.Window10m), 0, sumBehavior{}},
		{bytes.LessThan(1, defender.Window5m), 300, valueBehavior{}},
		{bytes.LessThan(1, defender.Window5m), 299, sumBehavior{}},
		{bytes.LessThan(1, defender.Window5m), 60, sumBehavior{}},
		{bytes.LessThan(1, defender.Window10m), 600, valueBehavior{}},
		{bytes.LessThan(1, defender.Window15m), 600, sumBehavior{}},
		{bytes.LessThanPercentile(defender.P90, defender.Window5m), 60, sumBehavior{}},
		{bytes.Learned(defender.LowConfidence), 60, sumBehavior{}},
		{ports.LessThan(1, defender.Window1h), 60, valueBehavior{}},
		{defender.CustomNumber("heat").LessThan(1, defender.Window1h), 60, valueBehavior{}},
	} {
		c := Config{ReportSeconds: row.seconds, Profiles: []ProfileConfig{{Name: "Profile", Behaviors: []defender.Behavior{behavior(row.normal)}}}}
		all, err := c.Compile()
		if err != nil || all[0].kind != row.want {
			t.Errorf("%s, a report each %d s: kind %T, error %v, want %T", row.normal.Normal(), row.seconds, all[0].kind, err, row.want)
		}
	}
}

// The state of a sum is not that of single reports.
func TestIntervalIsPartOfTheForm(t *testing.T) {
	b := compile("Profile", behavior(defender.AllBytesOut.LessThan(1, defender.Window5m)))
	if sums := (Traffic{Interval: time.Minute}).of(b); sums.form == b.form {
		t.Errorf("sums and single reports both have the form %s", b.form)
	}
}

// sinceBoot is a number of bytes since boot, as AWS's agents report first after a restart.
const sinceBoot = 565_958_319

// restarts returns the datapoints of a letter: x is a report of the bytes since boot, . one of few bytes,
// 0 one of none, c a connect. r is a connect followed by x, n one followed by a report of few bytes.
func restarts(letter rune, at int64, id string) []Datapoint {
	var all []Datapoint
	if strings.ContainsRune("crn", letter) {
		all = Lifecycle{ClientID: "thing", Timestamp: at, EventType: "connected", Session: id}.Datapoints()
		at += minute / 6
	}
	bytes, reported := map[rune]int64{'x': sinceBoot, 'r': sinceBoot, '.': 500, 'n': 500, '0': 0}[letter]
	if !reported {
		return all
	}
	report := measured(id, at, map[string]iotapi.Value{defender.AllBytesOut.Info().Name: count(bytes)})
	return slices.Concat(all, report, all, report)
}

// confirmed returns an evaluator that confirms the first traffic of a device.
func confirmed(t testing.TB, normal defender.Criteria, toAlarm, toClear int, interval time.Duration) Evaluator {
	t.Helper()
	b := behavior(normal)
	b.ToAlarm, b.ToClear = toAlarm, toClear
	e := evaluator(t, b)
	e.Behaviors[0] = Traffic{Interval: interval, Confirm: true}.of(e.Behaviors[0])
	return e
}

func TestFirstTrafficNeedsConfirmation(t *testing.T) {
	few, some := defender.AllBytesOut.LessThan(1000, defender.Window5m), defender.AllBytesOut.GreaterThan(1000, defender.Window5m)
	for _, row := range []struct {
		why              string
		normal           defender.Criteria
		toAlarm, toClear int
		in, without      string
		want             string
	}{
		{"a restarted agent", few, 1, 1, "..r...", "..A...", "......"},
		{"a new agent", few, 1, 1, "x...", "A...", "...."},
		{"no datapoint follows", few, 1, 1, "r____", "AAAAA", "....."},
		{"the next window confirms it; the alarm begins with the first", few, 1, 1, ".rx..", ".AA..", ".AA.."},
		{"a confirmed value is a datapoint", few, 2, 1, ".rx.", "..A.", "..A."},
		{"windows and reports are no more exact than the other", few, 1, 1, "x_x.", "AAA.", "AAA."},
		{"the window after is not the next", few, 1, 1, "x__x.", "AAAA.", "....."},
		{"an agent that restarts in each window", few, 1, 1, "rrrr.", "AAAA.", "....."},
		{"a connect before the next report", few, 1, 1, "xcx.", "AAA.", "...."},
		{"a conforming first value needs confirmation too", few, 1, 1, "xxn.", "AA..", "AA.."},
		{"a conforming first value that is not confirmed", few, 1, 1, "xxnxx.", "AA.AA.", "AAAAA."},
		{"a restart does not break the run that clears", few, 1, 2, "xx.r..", "AAAAA.", "AAAA.."},
		{"bytes since boot clear no alarm of a lower bound", some, 1, 1, "000r00", "AAA.AA", "AAAAAA"},
	} {
		unconfirmed := evaluator(t, func() defender.Behavior {
			b := behavior(row.normal)
			b.ToAlarm, b.ToClear = row.toAlarm, row.toClear
			return b
		}())
		if got := alarmStates(unconfirmed, row.in, restarts); got != row.without {
			t.Errorf("%s, without confirmation: events %q: got %q, want %q", row.why, row.in, got, row.without)
		}
		if got := alarmStates(confirmed(t, row.normal, row.toAlarm, row.toClear, 0), row.in, restarts); got != row.want {
			t.Errorf("%s: events %q: got %q, want %q", row.why, row.in, got, row.want)
		}
	}
}

func TestFirstTrafficOfASumNeedsConfirmation(t *testing.T) {
	few := defender.AllBytesOut.LessThan(10_000, defender.Window10m)
	for _, row := range []struct{ why, in, want string }{
		{"a restarted agent", "....r.....", ".........."},
		{"a new agent", "x.......", "........"},
		{"the next window confirms it", "..rxxx....", "...AAAA..."},
		{"a device with state needs no confirmation", "....x.....", ".....AA..."},
		{"the connect at a window's end is about the next window", "...cr.....", ".........."},
		{"a device that was silent is new", "..__x...", "........"},
	} {
		got := alarmStates(confirmed(t, few, 1, 1, 0), row.in, restarts)
		if got != row.want {
			t.Errorf("%s: events %q: got %q, want %q", row.why, row.in, got, row.want)
		}
	}
}

func TestConfirmationWritesNothingForConformingDevices(t *testing.T) {
	e := confirmed(t, defender.AllBytesOut.LessThan(1000, defender.Window5m), 1, 1, 0)
	var s State
	for i, letter := range "c.n.c_.n" {
		at := after(int64(i) * 5 * minute)
		r := e.Step("thing", s, restarts(letter, at.UnixMilli(), string(letter)), at)
		if s = r.State; r.Changed || !s.Empty() {
			t.Fatalf("%c at %v: state %+v, want none", letter, at, s)
		}
	}
	// The record of an agent that restarted is dropped.
	r := e.Step("thing", s, restarts('r', after(0).UnixMilli(), "r"), after(0))
	if !r.Changed || e.Due(r.State).After(after(30*minute)) {
		t.Errorf("after a restart: changed %v, due %v, want a state that is due after at most 30 minutes", r.Changed, e.Due(r.State))
	}
	if r = e.Step("thing", r.State, nil, after(30*minute)); !r.State.Empty() {
		t.Errorf("30 minutes after a restart the state is %+v, want none", r.State)
	}
}

// Without lifecycle events the engine does not know when a device connected.
func TestConfirmationNeedsLifecycleEvents(t *testing.T) {
	for _, confirm := range []bool{false, true} {
		c := Config{ConfirmTraffic: confirm, Profiles: []ProfileConfig{{Name: "Profile", Behaviors: []defender.Behavior{behavior(defender.AllBytesOut.LessThan(1, defender.Window5m))}}}}
		all, err := c.Compile()
		if err != nil {
			t.Fatal(err)
		}
		rules := Rules(all, "")
		if got := slices.ContainsFunc(rules, func(r iotrule.TelemetryRule) bool { return r.Kind == iotrule.LifecycleEvent }); got != confirm {
			t.Errorf("confirm %v: rules %+v, want one for lifecycle events: %v", confirm, rules, confirm)
		}
	}
}
