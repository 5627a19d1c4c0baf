package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

func TestDimension(t *testing.T) {
	in := &defender.Dimension{TopicFilters: []string{"fleet/${iot:ClientId}/#", "other/+"}}
	out := &defender.Dimension{TopicFilters: in.TopicFilters, NotIn: true}
	for topic, inside := range map[string]bool{"fleet/c/x": true, "other/x": true, "fleet/d/x": false, "other/x/y": false} {
		for _, dim := range []*defender.Dimension{in, out} {
			b := behavior(defender.MessageByteSize.LessThan(8))
			b.Dimension = dim
			d := Message{Topic: topic, ClientID: "c", ID: "1", Time: start.UnixMilli(), Bytes: 26}.Datapoint(defender.MessageByteSize)
			r := evaluator(t, b).Step("thing", State{}, []Datapoint{d}, start)
			if want := inside != dim.NotIn; r.State.Empty() == want {
				t.Errorf("topic %s, not in %v: a datapoint %v, want %v", topic, dim.NotIn, !want, want)
			}
		}
	}
}

// Wildcards in a client ID have no meaning. Without a client ID, which is then empty or n/a, the engine
// cannot evaluate a filter with ${iot:ClientId}.
func TestDimensionWithTheClientID(t *testing.T) {
	for _, notIn := range []bool{false, true} {
		b := behavior(defender.MessageByteSize.LessThan(8))
		b.Dimension = &defender.Dimension{TopicFilters: []string{"fleet/x-${iot:ClientId}/#", "other"}, NotIn: notIn}
		for _, row := range []struct {
			client, topic string
			inside, known bool
		}{
			{"c", "fleet/x-c/t", true, true}, {"c", "fleet/x-d/t", false, true}, {"n/a", "other", true, true},
			{"+", "fleet/x-d/t", false, true}, {"#", "fleet/x-d/t", false, true}, {"d/#", "fleet/x-d/t", false, true},
			{"n/a", "fleet/x-d/t", false, false}, {"n/a", "fleet/x-n/a", false, false}, {"", "fleet/x-/t", false, false},
		} {
			d := Message{Topic: row.topic, ClientID: row.client, ID: "1", Time: start.UnixMilli(), Bytes: 26}.Datapoint(defender.MessageByteSize)
			r := evaluator(t, b).Step("thing", State{}, []Datapoint{d}, start)
			if want := row.known && row.inside != notIn; r.State.Empty() == want || (r.Stats.Unread == 0) != row.known {
				t.Errorf("client %q, topic %s, not in %v: stats %+v, want a datapoint %v, readable %v", row.client, row.topic, notIn, r.Stats, want, row.known)
			}
		}
		for _, rule := range Rules(evaluator(t, b).Behaviors, "") {
			if rule.Kind != iotrule.Oversize {
				continue
			}
			_, filter, _ := strings.Cut(rule.SQL, "FROM '")
			filter, _, _ = strings.Cut(filter, "'")
			if err := iotrule.ValidateFilter(filter); err != nil {
				t.Errorf("%s: %v", rule.SQL, err)
			}
		}
	}
}

func TestLateDataIsCounted(t *testing.T) {
	e := evaluator(t, behavior(defender.ListeningTCPPorts.InPorts(443)), defender.Behavior{Name: "few", Criteria: defender.MessagesSent.LessThan(1, defender.Window5m)})
	at := start.UnixMilli()
	points := append(portReports('x', at, "1"), messageCounts('1', at, "2")[0])
	if r := e.Step("thing", State{}, points, start.Add(latenessInTests)); r.Stats.Late != 0 || r.Stats.Judged != 2 {
		t.Errorf("at the lateness bound: %+v, want 2 judged and none late", r.Stats)
	}
	if r := e.Step("thing", State{}, points, start.Add(latenessInTests+time.Millisecond)); r.Stats.Late != 4 || !r.State.Empty() {
		t.Errorf("after the lateness bound: %+v, want 4 late", r.Stats)
	}
	if r := e.Step("thing", State{}, points, start.Add(-latenessInTests-time.Millisecond)); r.Stats.Early != 4 || !r.State.Empty() {
		t.Errorf("from the future: %+v, want 4 early", r.Stats)
	}
}

func TestUnreadableDatapointsAreCounted(t *testing.T) {
	e := evaluator(t, behavior(defender.ListeningTCPPorts.InPorts(443)), defender.Behavior{Name: "few", Criteria: defender.AllBytesOut.LessThan(1, defender.Window10m)})
	r := e.Step("thing", State{}, measured("1", start.UnixMilli(), map[string]iotapi.Value{
		defender.ListeningTCPPorts.Info().Name: count(1), defender.AllBytesOut.Info().Name: ports(1),
	}), start)
	if r.Stats.Unread != 2 || !r.State.Empty() {
		t.Errorf("got %+v, want 2 unread datapoints and no state", r)
	}
}

func TestChangedBehaviorsKeepTheirAlarm(t *testing.T) {
	few := func(n int64, w defender.Window) defender.Behavior {
		return behavior(defender.MessagesSent.LessThan(n, w))
	}
	before := evaluator(t, few(4, defender.Window5m))
	r := before.Step("thing", State{}, messageCounts('9', start.UnixMilli(), "1"), start)
	r = before.Step("thing", r.State, nil, start.Add(10*time.Minute))
	if !r.State.Open("Profile", "b") {
		t.Fatal("no alarm")
	}
	for _, changed := range []defender.Behavior{
		few(100, defender.Window5m), few(100, defender.Window1h), behavior(defender.ListeningTCPPorts.InPorts(443)),
		behavior(defender.MessageByteSize.LessThan(8)), behavior(defender.DisconnectDuration.LessThan(5)),
	} {
		again := evaluator(t, changed).Step("thing", r.State, append(messageCounts('1', start.UnixMilli()+11*minute, "2"), portReports('.', start.UnixMilli()+11*minute, "3")...), start.Add(11*time.Minute))
		if !again.State.Open("Profile", "b") || len(again.Transitions) > 0 {
			t.Errorf("%s: %+v, want the alarm open and no transition", changed.Criteria.Normal(), again)
		}
	}
}

func TestAlarmOfAnotherMetricEndsInSilence(t *testing.T) {
	r := evaluator(t, behavior(defender.MessagesSent.LessThan(4, defender.Window5m))).Step("thing", State{}, messageCounts('9', start.UnixMilli(), "1"), start)
	for _, changed := range []defender.Criteria{defender.DisconnectDuration.LessThan(5), defender.ListeningTCPPorts.InPorts(443), defender.AllBytesIn.LessThan(1, defender.Window1h)} {
		s := evaluator(t, behavior(defender.MessagesSent.LessThan(4, defender.Window5m))).Step("thing", r.State, nil, start.Add(10*time.Minute)).State
		e := evaluator(t, behavior(changed))
		s = e.Step("thing", s, nil, start.Add(11*time.Minute)).State
		due := e.Due(s)
		if due.Before(start.Add(SilenceLimit)) || due.After(start.Add(SilenceLimit+2*time.Hour)) {
			t.Errorf("%s: due at %v, want about two days after %v", changed.Normal(), due, start)
		}
		if last := e.Step("thing", s, nil, due); len(last.Transitions) != 1 || last.Transitions[0].Change != AlarmInvalidated || last.State.Open("Profile", "b") || !e.Due(last.State).IsZero() {
			t.Errorf("%s: %+v, want the alarm invalidated and nothing due", changed.Normal(), last)
		}
	}
}

// The engine counts events only up to the bound. That count is too low for a higher bound.
func TestChangedBoundRestartsTheCount(t *testing.T) {
	r := evaluator(t, behavior(defender.MessagesSent.LessThan(4, defender.Window5m))).Step("thing", State{}, messageCounts('9', start.UnixMilli(), "1"), start)
	r = evaluator(t, behavior(defender.MessagesSent.GreaterThan(5, defender.Window5m))).Step("thing", r.State, nil, start.Add(time.Hour))
	if len(r.Transitions) > 0 {
		t.Errorf("got the transitions %s, want none", show(r.Transitions))
	}
}

// Datapoints of another bound do not count toward an alarm.
func TestChangedBoundRestartsItsRuns(t *testing.T) {
	fewerPorts := func(n int, toAlarm, toClear int) Evaluator {
		b := behavior(defender.NumListeningTCPPorts.LessThan(int64(n), defender.Window5m))
		b.ToAlarm, b.ToClear = toAlarm, toClear
		return evaluator(t, b)
	}
	for _, row := range []struct {
		why              string
		toAlarm, toClear int
		before, after    []int64
		want             string
	}{
		{"to alarm", 2, 1, []int64{7}, []int64{20}, ""},
		{"to alarm, twice", 2, 1, []int64{7}, []int64{20, 20}, "+b"},
		{"to clear", 1, 2, []int64{7, 1}, []int64{1}, ""},
		{"to clear, twice", 1, 2, []int64{7, 1}, []int64{1, 1}, "-b"},
	} {
		var s State
		var all []Transition
		now := start
		for i, n := range append(slices.Clone(row.before), row.after...) {
			e := fewerPorts(5, row.toAlarm, row.toClear)
			if i >= len(row.before) {
				e = fewerPorts(10, row.toAlarm, row.toClear)
			}
			if i == len(row.before) {
				all = nil
			}
			values := map[string]iotapi.Value{defender.NumListeningTCPPorts.Info().Name: count(n)}
			r := e.Step("thing", s, measured(fmt.Sprint(i), now.UnixMilli(), values), now)
			all = append(all, r.Transitions...)
			r = e.Step("thing", r.State, nil, now.Add(10*time.Minute))
			all, s, now = append(all, r.Transitions...), r.State, now.Add(15*time.Minute)
		}
		got := ""
		for _, tr := range all {
			got += map[Change]string{InAlarm: "+", AlarmCleared: "-"}[tr.Change] + tr.Behavior.Name
		}
		if got != row.want {
			t.Errorf("%s: got %q, want %q", row.why, got, row.want)
		}
	}
}

// The count of a window that began before the deployment may be too low.
func TestWindowOfADeploymentIsNotJudged(t *testing.T) {
	away := defender.Behavior{Name: "away", Criteria: defender.DisconnectDuration.LessThan(60)}
	bound := func(c defender.Criteria) Evaluator {
		return evaluator(t, away, behavior(c))
	}
	var many, few = defender.MessagesSent.GreaterThan(3, defender.Window15m), defender.MessagesSent.LessThan(9, defender.Window15m)
	for _, row := range []struct {
		why           string
		before, after Evaluator
		each          int // minutes between messages
		want          string
	}{
		{"new lower bound", evaluator(t, away), bound(many), 2, ""},
		{"changed lower bound", bound(defender.MessagesSent.GreaterThan(4, defender.Window15m)), bound(many), 2, ""},
		{"changed upper bound, violated before and after", bound(defender.MessagesSent.LessThan(4, defender.Window15m)), bound(defender.MessagesSent.LessThan(5, defender.Window15m)), 2, "b in-alarm "},
		{"changed upper bound, violated before", bound(defender.MessagesSent.LessThan(4, defender.Window15m)), bound(few), 2, "b in-alarm b alarm-cleared "},
		{"new lower bound that is violated", evaluator(t, away), bound(many), 7, "b in-alarm "},
	} {
		got := ""
		var s State
		step := func(e Evaluator, at time.Time, points []Datapoint) {
			r := e.Step("thing", s, points, at)
			s = r.State
			for _, tr := range r.Transitions {
				got += fmt.Sprint(tr.Behavior.Name, " ", tr.Change, " ")
			}
		}
		step(row.before, start, Lifecycle{ClientID: "thing", Timestamp: start.UnixMilli(), EventType: "connected", Session: "s"}.Datapoints())
		for m := range 120 {
			at := start.Add(time.Duration(m) * time.Minute)
			e := row.before
			if m >= 57 {
				e = row.after
			}
			var points []Datapoint
			if m%row.each == 0 {
				points = []Datapoint{Message{Topic: "t", ClientID: "thing", ID: fmt.Sprint(m), Time: at.UnixMilli(), MQTT: true}.Datapoint(defender.MessagesSent)}
			}
			step(e, at, points)
		}
		if got != row.want {
			t.Errorf("%s: got %q, want %q", row.why, got, row.want)
		}
	}
}

// The verdict does not depend on whether a check dropped the state of the thing in time.
func TestLateCheckChangesNoTransition(t *testing.T) {
	e := evaluator(t, behavior(defender.MessagesSent.GreaterThan(1, defender.Window10m)))
	message := func(at time.Time, mqtt bool) []Datapoint {
		return []Datapoint{Message{Topic: "t", ClientID: "thing", ID: "m", Time: at.UnixMilli(), MQTT: mqtt}.Datapoint(defender.MessagesSent)}
	}
	transitions := func(checks ...time.Duration) string {
		s := e.Step("thing", State{}, message(start, false), start).State
		for _, check := range checks {
			s = e.Step("thing", s, nil, start.Add(check)).State
		}
		back := start.Add(3 * time.Hour)
		s = e.Step("thing", s, message(back, true), back).State
		return show(e.Step("thing", s, nil, back.Add(time.Hour)).Transitions)
	}
	if late, inTime := transitions(), transitions(time.Hour); late != inTime {
		t.Errorf("without a check: %swith a check: %s", late, inTime)
	}
}

func TestChangedDurationIsMeasuredFromTheSameEvent(t *testing.T) {
	away := func(n int64) Evaluator { return evaluator(t, behavior(defender.DisconnectDuration.LessThan(n))) }
	reports := func(every time.Duration) Evaluator {
		return Evaluator{Behaviors: []Compiled{ReportsEvery("Profile", "b", every, defender.Low)}, Lateness: latenessInTests}
	}
	for _, row := range []struct {
		before, now Evaluator
		event       []Datapoint
	}{
		{away(120), away(30), messages('d', start.UnixMilli(), "1")},
		{reports(2 * time.Hour), reports(20 * time.Minute), portReports('.', start.UnixMilli(), "1")},
	} {
		r := row.before.Step("thing", State{}, row.event, start)
		r = row.before.Step("thing", r.State, nil, start.Add(time.Hour))
		r = row.now.Step("thing", r.State, nil, start.Add(time.Hour))
		if r = row.now.Step("thing", r.State, nil, start.Add(2*time.Hour)); !r.State.Open("Profile", "b") {
			t.Errorf("%s: no alarm", row.now.Behaviors[0].Behavior.Criteria.Normal())
		}
	}
}

// A check may drop a recorded session, or not. The verdict about too few events must not depend on
// that.
func TestCheckChangesNoLearnedVerdict(t *testing.T) {
	e := evaluator(t, behavior(defender.MessagesSent.Learned(defender.HighConfidence)))
	e.Fleet = learnedFleet{Range{2, 50}}
	for connected, want := range map[int64]string{0: ".", 26: "A"} {
		for _, checks := range [][]int64{nil, {29}} {
			at := after(connected * minute)
			s := e.Step("thing", State{}, Lifecycle{ClientID: "thing", Timestamp: at.UnixMilli(), EventType: "connected", Session: "s"}.Datapoints(), at).State
			for _, check := range checks {
				s = e.Step("thing", s, nil, after(check*minute)).State
			}
			at = after(31 * minute)
			s = e.Step("thing", s, []Datapoint{Message{Topic: "t", ClientID: "thing", ID: "m", Time: at.UnixMilli(), MQTT: true}.Datapoint(defender.MessagesSent)}, at).State
			if got := changeLetters(e.Step("thing", s, nil, after(60*minute)).Transitions); got != want {
				t.Errorf("connected at minute %d, checks at %v: changes %s, want %s", connected, checks, got, want)
			}
		}
	}
}

// The forwarder drops a transition that is older than an earlier one of the behavior.
func TestTransitionsOfAChangedIntervalRise(t *testing.T) {
	every := func(interval time.Duration) Evaluator {
		return Evaluator{Behaviors: []Compiled{ReportsEvery("Profile", "b", interval, defender.High)}, Lateness: latenessInTests}
	}
	var s State
	var all []Transition
	step := func(e Evaluator, minute int64, points []Datapoint) {
		r := e.Step("thing", s, points, after(minute*60_000))
		s, all = r.State, append(all, r.Transitions...)
	}
	hourly, often := every(time.Hour), every(5*time.Minute)
	step(hourly, 0, measured("1", start.UnixMilli(), nil))
	step(hourly, 100, nil)
	step(hourly, 108, measured("2", after(108*60_000).UnixMilli(), nil))
	step(hourly, 130, nil)
	step(every(6*time.Minute), 131, nil)
	for minute := range int64(10) {
		step(often, 132+minute, nil)
	}
	if got := changeLetters(all); got != "ACA" || !slices.IsSortedFunc(all, func(a, b Transition) int { return int(a.Time - b.Time) }) {
		t.Errorf("changes %s, want ACA with rising times:\n%s", got, show(all))
	}
}

func TestStepDoesNotWriteToItsArguments(t *testing.T) {
	e := Evaluator{Behaviors: everyKind(t), Lateness: latenessInTests, Fleet: fixedFleet{}, Connection: stillConnected}
	at := start.UnixMilli()
	first := e.Step("thing", State{}, append(flapping('f', at, "1"), messageCounts('9', at, "2")...), start)
	text, _ := json.Marshal(first.State)
	e.Step("thing", first.State, append(flapping('f', at+minute, "3"), messageCounts('9', at+minute, "4")...), start.Add(time.Minute))
	e.Step("thing", first.State, nil, start.Add(100*time.Hour))
	if again, _ := json.Marshal(first.State); string(again) != string(text) {
		t.Errorf("Step changed the state\n%s\nto\n%s", text, again)
	}
}

func TestInvalidStateIsAnError(t *testing.T) {
	for _, text := range []string{`{"v":2}`, `{}`, `[]`, `{"v":1,"b":{"a/b":{"q":[{"n":"AA"}]}}}`, `{"v":1,"b":{"a/b":{"q":[{"n":"!"}]}}}`} {
		var s State
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s is read as %+v, want an error", text, s)
		}
	}
	var s State
	if err := json.Unmarshal([]byte(`{"v":1,"b":{"a/b":null}}`), &s); err != nil || !s.Empty() {
		t.Errorf("a behavior without state is read as %+v, error %v, want an empty state", s, err)
	}
}

func TestLongListsAreShortened(t *testing.T) {
	var list []string
	for i := range 200 {
		list = append(list, fmt.Sprintf("agent-%d-%s", i, strings.Repeat("é", 200)))
	}
	list = append(list, "xmrig")
	c := newComparison(iotapi.NotInSet, iotapi.Value{Strings: []string{"xmrig"}})
	got := c.brief(iotapi.Value{Strings: list})
	if got.Strings[0] != "xmrig" || len([]rune(got.Strings[1])) != maxElementLength || c.judge(got) != Violates {
		t.Errorf("%d elements, the first are %q, want xmrig and a shortened one", len(got.Strings), got.Strings[:2])
	}
	addresses := make([]string, 200)
	for i := range addresses {
		addresses[i] = fmt.Sprintf("10.0.0.%d", i)
	}
	if got := c.brief(iotapi.Value{CIDRs: addresses}); len(got.CIDRs) != maxElements {
		t.Errorf("%d addresses, want %d", len(got.CIDRs), maxElements)
	}
	for _, r := range "aé\x01<\u2028" { // a control character takes six bytes of JSON
		list = slices.Repeat([]string{strings.Repeat(string(r), 200)}, 200)
		got := c.brief(iotapi.Value{Strings: list}).Strings
		text, err := json.Marshal(got)
		if err != nil || len(text) > maxListBytes+maxElements || len(got) == 0 {
			t.Errorf("%d elements of %q have %d bytes, error %v, want at most %d", len(got), r, len(text), err, maxListBytes+maxElements)
		}
	}
	if short := texts("a", "b"); !reflect.DeepEqual(c.brief(short), short) {
		t.Errorf("the short list %v is changed to %v", short, c.brief(short))
	}
}

// A transition has the JSON of an alert of Device Defender Detect.
func ExampleTransition() {
	compiled, err := Compile("MySecProfile", []defender.Behavior{{Name: "ListeningTcp", Criteria: defender.ListeningTCPPorts.InPorts(443, 80), Severity: defender.High}})
	if err != nil {
		panic(err)
	}
	e := Evaluator{Behaviors: compiled, Lateness: Lateness(0)}
	r := e.Step("dev-IZWB", State{}, measured("dev-IZWB/1", 1573786800000, map[string]iotapi.Value{defender.ListeningTCPPorts.Info().Name: {Ports: []uint16{23, 443}}}), time.UnixMilli(1573786800000))
	r = e.Step("dev-IZWB", r.State, nil, e.Due(r.State))
	text, err := json.MarshalIndent(r.Transitions[0], "", " ")
	fmt.Println(string(text), err)
	// Output:
	// {
	//  "violationEventTime": 1573786800000,
	//  "thingName": "dev-IZWB",
	//  "behavior": {
	//   "name": "ListeningTcp",
	//   "metric": "aws:listening-tcp-ports",
	//   "criteria": {
	//    "comparisonOperator": "in-port-set",
	//    "value": {
	//     "ports": [
	//      443,
	//      80
	//     ]
	//    },
	//    "consecutiveDatapointsToAlarm": 1,
	//    "consecutiveDatapointsToClear": 1
	//   },
	//   "severity": "HIGH"
	//  },
	//  "violationEventType": "in-alarm",
	//  "metricValue": {
	//   "ports": [
	//    23,
	//    443
	//   ]
	//  },
	//  "violationId": "2fa2cdd1334b2e0244def04e5e7138e2",
	//  "securityProfileName": "MySecProfile",
	//  "violationStartTime": 1573786800000
	// } <nil>
}

// The engine records a connect or disconnect of a conforming device only for the lateness bound: until
// then an earlier violating message may arrive.
func TestSessionsOfConformingDevicesExpire(t *testing.T) {
	e := evaluator(t, behavior(defender.MessageByteSize.LessThan(8)))
	r := e.Step("thing", State{}, messages('d', start.UnixMilli(), "1"), start)
	if !r.Changed || !r.State.Transient() || !e.Due(r.State).IsZero() {
		t.Errorf("after a disconnect: %+v, due %v, want a transient state", r, e.Due(r.State))
	}
	if r = e.Step("thing", r.State, nil, start.Add(time.Hour)); r.Changed || !r.State.Empty() {
		t.Errorf("an hour later: %+v, want no state", r)
	}
	ports := evaluator(t, behavior(defender.ListeningTCPPorts.InPorts(443)))
	if r := ports.Step("thing", State{}, messages('d', start.UnixMilli(), "1"), start); r.Changed {
		t.Errorf("the session is recorded although no behavior needs it: %+v", r)
	}
}

func TestThingIsSampledOncePerWindow(t *testing.T) {
	e := evaluator(t,
		defender.Behavior{Name: "low", Criteria: defender.AllBytesOut.GreaterThanPercentile(defender.P10, defender.Window5m)},
		defender.Behavior{Name: "high", Criteria: defender.AllBytesOut.LessThanPercentile(defender.P90, defender.Window5m)},
		defender.Behavior{Name: "longer", Criteria: defender.EstablishedTCPConnections.LessThanPercentile(defender.P90, defender.Window10m)})
	report := func(id string, n int64) []Datapoint {
		return measured(id, start.UnixMilli(), map[string]iotapi.Value{
			defender.AllBytesOut.Info().Name: {Count: &n}, defender.EstablishedTCPConnections.Info().Name: {Count: &n},
		})
	}
	out, connections := defender.AllBytesOut.Info().Name, defender.EstablishedTCPConnections.Info().Name
	want := Samples{
		{FleetKey{"Profile", out, "", defender.Window5m}, start.UnixMilli()}:          8,
		{FleetKey{"Profile", connections, "", defender.Window10m}, start.UnixMilli()}: 8,
	}
	if r := e.Step("thing", State{}, append(report("1", 7), report("2", 8)...), start); !maps.Equal(r.Samples, want) {
		t.Errorf("two reports for two populations: samples %v, want %v", r.Samples, want)
	}
}

// A device in alarm is judged without events. It is no sample of a count, whose population has the
// devices with events. With a minimum, devices without events are samples if they were connected,
// also for other behaviors with the same population.
func TestWindowsWithoutEventsAreNoSamples(t *testing.T) {
	most := behavior(defender.MessagesSent.LessThanEqualsPercentile(defender.P90, defender.Window5m))
	least := defender.Behavior{Name: "c", Criteria: defender.MessagesSent.GreaterThanEqualsPercentile(defender.P10, defender.Window5m)}
	for _, row := range []struct {
		behaviors []defender.Behavior
		connected bool
		want      int // windows with a sample
		changes   string
	}{
		{[]defender.Behavior{most}, true, 1, "b in-alarm b alarm-cleared "},
		{[]defender.Behavior{least}, true, 2, "c in-alarm "},
		{[]defender.Behavior{least}, false, 1, ""},
		{[]defender.Behavior{most, least}, true, 2, "b in-alarm b alarm-cleared c in-alarm "},
		{[]defender.Behavior{least, most}, true, 2, "b in-alarm c in-alarm b alarm-cleared "},
	} {
		e := evaluator(t, row.behaviors...)
		e.Connection = func(string) (Connection, bool) { return Connection{Connected: row.connected, Since: 1}, true }
		points := messages('c', start.UnixMilli()-1000, "0")
		for i := range 60 {
			points = append(points, Message{Topic: "t", ClientID: "thing", ID: fmt.Sprint(i + 1), Time: start.UnixMilli() + int64(i), MQTT: true}.Datapoint(defender.MessagesSent))
		}
		samples, changes, state := 0, "", State{}
		for minute := 0; minute < 20; minute += 4 {
			r := e.Step("thing", state, points, start.Add(time.Duration(minute)*time.Minute))
			state, points = r.State, nil
			samples += len(r.Samples)
			for _, tr := range r.Transitions {
				changes += fmt.Sprint(tr.Behavior.Name, " ", tr.Change, " ")
			}
		}
		if samples != row.want || changes != row.changes {
			t.Errorf("%v, connected: %t: %d samples and %q, want %d and %q", row.behaviors, row.connected, samples, changes, row.want, row.changes)
		}
	}
}
