package engine

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

const latenessInTests = 4 * time.Minute

func evaluator(t testing.TB, behaviors ...defender.Behavior) Evaluator {
	t.Helper()
	compiled, err := Compile("Profile", behaviors)
	if err != nil {
		t.Fatal(err)
	}
	return Evaluator{Behaviors: compiled, Lateness: latenessInTests, Fleet: fixedFleet{}, Connection: stillConnected}
}

// stillConnected is the answer of AWS IoT about a client that connected long ago.
func stillConnected(string) (Connection, bool) { return Connection{Connected: true, Since: 1}, true }

func behavior(c defender.Criteria) defender.Behavior {
	return defender.Behavior{Name: "b", Criteria: c}
}

// alarmStates steps e over in, one letter per window of five minutes. It returns the state of the alarm
// in each window: A in alarm, I invalidated, . otherwise. A change counts in the window of its time, not
// in that of the step. events returns the datapoints of a letter, at a time in ms.
func alarmStates(e Evaluator, in string, events func(letter rune, at int64, id string) []Datapoint) string {
	var s State
	var all []Transition
	base := start.UnixMilli()
	for i, letter := range in {
		at := base + int64(i)*5*minute + minute
		r := e.Step("thing", s, events(letter, at, fmt.Sprint(i)), time.UnixMilli(at))
		all, s = append(all, r.Transitions...), r.State
	}
	r := e.Step("thing", s, nil, time.UnixMilli(base+int64(len(in))*5*minute+2*latenessInTests.Milliseconds()+5*minute))
	all = append(all, r.Transitions...)
	out := []rune(strings.Repeat(".", len(in)))
	for _, tr := range all {
		for i := int((tr.Time - base) / (5 * minute)); i < len(out); i++ {
			out[i] = map[Change]rune{InAlarm: 'A', AlarmCleared: '.', AlarmInvalidated: 'I'}[tr.Change]
		}
	}
	return string(out)
}

// messages returns the datapoints of a letter: x is a violating message, s one over HTTPS, c a connect,
// d a disconnect, _ nothing.
func messages(letter rune, at int64, id string) []Datapoint {
	session := func(kind string) []Datapoint {
		return Lifecycle{ClientID: "thing", Timestamp: at, EventType: kind, Session: "s"}.Datapoints()
	}
	switch letter {
	case 'x', 's':
		return []Datapoint{Message{Topic: "t", ClientID: "thing", ID: id, Time: at, Bytes: 26, MQTT: letter == 'x'}.Datapoint(defender.MessageByteSize)}
	case 'c':
		return session("connected")
	case 'd':
		return session("disconnected")
	}
	return nil
}

// A rule sends violating messages only, so a window without one is a conforming datapoint, if the
// session is open.
func TestMessageSize(t *testing.T) {
	for _, row := range []struct {
		why              string
		toAlarm, toClear int
		in, want         string
	}{
		{"a window of an open session without a message clears", 1, 1, "x__", "A.."},
		{"the window is the datapoint", 2, 1, "x_x", "..."},
		{"two windows in a row", 2, 1, "xx_", ".A."},
		{"two windows without a message to clear", 1, 2, "x_x__", "AAAA."},
		{"a disconnected device never clears", 1, 1, "xd______", "AAAAAAAA"},
		{"reconnected, without a message", 1, 1, "xd__c__", "AAAAA.."},
		{"no event shows a session", 1, 1, "s______", "AAAAAAA"},
		{"a disconnection inside the window", 1, 1, "x_dc__", "A....."},
		{"the session must be open for the whole window", 1, 2, "x_dc_", "AAAA."},
		{"windows without a session neither continue nor break a run", 1, 2, "x_d__c_", "AAAAAA."},
		{"conforming devices never alarm", 1, 1, "c_d_c_", "......"},
	} {
		b := behavior(defender.MessageByteSize.LessThan(8))
		b.ToAlarm, b.ToClear = row.toAlarm, row.toClear
		if got := alarmStates(evaluator(t, b), row.in, messages); got != row.want {
			t.Errorf("%s: toAlarm %d, toClear %d, events %q: got %q, want %q", row.why, row.toAlarm, row.toClear, row.in, got, row.want)
		}
	}
}

func TestSilenceInvalidatesAfterTwoDays(t *testing.T) {
	e := evaluator(t, behavior(defender.MessageByteSize.LessThan(8)))
	got := alarmStates(e, "xd"+strings.Repeat("_", 48*12+20), messages)
	if i := strings.Index(got, "I"); i < 48*12 || i > 49*12 || strings.Contains(got[:i], ".") {
		t.Errorf("invalidated after %d windows, want %d to %d, without a cleared alarm: %s", i, 48*12, 49*12, got)
	}
}

// portReports returns the datapoints of a letter: x is a report with telnet open, . one without, _ none.
func portReports(letter rune, at int64, id string) []Datapoint {
	open := map[rune]iotapi.Value{'x': ports(443, 23), '.': ports(443)}
	if _, reported := open[letter]; !reported {
		return nil
	}
	return measured(id, at, map[string]iotapi.Value{defender.ListeningTCPPorts.Info().Name: open[letter]})
}

func TestReportsAreDatapoints(t *testing.T) {
	for _, row := range []struct {
		toAlarm, toClear int
		in, want         string
	}{
		{1, 1, ".x.x.", ".A.A."},
		{2, 1, ".xx_.", "..AA."},
		{2, 2, "x.xx.x..", "...AAAA."},
		{1, 1, "x_____.", "AAAAAA."},
	} {
		b := behavior(defender.ListeningTCPPorts.InPorts(443))
		b.ToAlarm, b.ToClear = row.toAlarm, row.toClear
		if got := alarmStates(evaluator(t, b), row.in, portReports); got != row.want {
			t.Errorf("toAlarm %d, toClear %d, reports %q: got %q, want %q", row.toAlarm, row.toClear, row.in, got, row.want)
		}
	}
}

func TestConformingReportWritesNothing(t *testing.T) {
	e := evaluator(t, behavior(defender.ListeningTCPPorts.InPorts(443)), defender.Behavior{Name: "out", Criteria: defender.AllBytesOut.LessThan(100, defender.Window5m)},
		defender.Behavior{Name: "p90", Criteria: defender.AllBytesIn.LessThanPercentile(defender.P90, defender.Window5m)})
	at := start.UnixMilli()
	conforming := measured("1", at, map[string]iotapi.Value{
		defender.ListeningTCPPorts.Info().Name: ports(443), defender.AllBytesOut.Info().Name: count(99), defender.AllBytesIn.Info().Name: count(1),
	})
	if r := e.Step("thing", State{}, conforming, start); r.Changed || !r.State.Empty() || r.Stats.Judged != 3 || len(r.Samples) != 1 {
		t.Errorf("a conforming report: %+v, want 3 judged datapoints, one sample and no state", r)
	}
	r := e.Step("thing", State{}, portReports('x', at, "1"), start)
	if !r.Changed || r.State.Empty() {
		t.Error("a violating report writes no state")
	}
	// After the alarm is over, the thing has no state again.
	r = e.Step("thing", r.State, portReports('.', at+5*minute, "2"), start.Add(5*time.Minute))
	r = e.Step("thing", r.State, nil, start.Add(time.Hour))
	if !r.Changed || !r.State.Empty() {
		t.Errorf("after the alarm is cleared the state is %+v, want none", r.State)
	}
}

// AWS requires 300 s between reports. With the tests' lateness each conforming report is a datapoint.
// With a longer lateness the first may not be one.
func TestConformingReportWithinTheBoundOfTheFirstViolationIsIgnored(t *testing.T) {
	e := evaluator(t, behavior(defender.ListeningTCPPorts.InPorts(443)))
	for _, row := range []struct {
		lateness time.Duration
		want     string
	}{{latenessInTests, "A..."}, {Lateness(MaxBatching), "AA.."}} {
		e.Lateness = row.lateness
		if got := alarmStates(e, "x...", portReports); got != row.want {
			t.Errorf("lateness %v: got %q, want %q", row.lateness, got, row.want)
		}
	}
}

// messageCounts returns the datapoints of a letter: a digit is that number of messages over MQTT, each
// delivered twice. Other letters are those of messages.
func messageCounts(letter rune, at int64, id string) []Datapoint {
	if letter < '0' || letter > '9' {
		return messages(letter, at, id)
	}
	var all []Datapoint
	for i := range int(letter - '0') {
		d := Message{Topic: "t", ClientID: "thing", ID: fmt.Sprintf("%s/%d", id, i), Time: at + int64(i), MQTT: true}.Datapoint(defender.MessagesSent)
		all = append(all, d, d)
	}
	return all
}

func TestCountsPerWindow(t *testing.T) {
	w5, w10 := defender.Window5m, defender.Window10m
	for _, row := range []struct {
		why      string
		normal   defender.Criteria
		in, want string
	}{
		{"fewer than the bound", defender.MessagesSent.LessThan(4, w5), "3434", ".A.A"},
		{"the bound itself", defender.MessagesSent.LessThanEquals(4, w5), "4545", ".A.A"},
		{"a window of an open session without messages has the count 0", defender.MessagesSent.LessThan(4, w5), "4__", "A.."},
		{"without a session it is no datapoint", defender.MessagesSent.LessThan(4, w5), "4d__", "AAAA"},
		{"a longer window is a sum", defender.MessagesSent.LessThan(6, w10), "33223333", ".AA..AAA"},
		{"too few", defender.MessagesSent.GreaterThan(2, w5), "c3_3", "..A."},
		{"too few, but not connected for the whole window", defender.MessagesSent.GreaterThan(2, w5), "1dcd", "...."},
		{"no messages of a connected device", defender.MessagesSent.GreaterThanEquals(1, w5), "c__1_d__", ".AA.AAAA"},
	} {
		if got := alarmStates(evaluator(t, behavior(row.normal)), row.in, messageCounts); got != row.want {
			t.Errorf("%s: events %q: got %q, want %q", row.why, row.in, got, row.want)
		}
	}
}

// flapping returns the datapoints of a letter: f is three refused and two successful connects, and a
// disconnect. Other letters are those of messages.
func flapping(letter rune, at int64, id string) []Datapoint {
	if letter != 'f' {
		return messages(letter, at, id)
	}
	var all []Datapoint
	for i, kind := range []string{"connect_failed", "connect_failed", "connect_failed", "connected", "disconnected", "connected"} {
		l := Lifecycle{ClientID: "thing", Timestamp: at + int64(i)*1000, EventType: kind, Session: fmt.Sprint(id, i/2), Version: int64(i / 2), DisconnectReason: "AUTH_ERROR"}
		all = append(append(all, l.Datapoints()...), l.Datapoints()...)
	}
	return all
}

func TestLifecycleEventsAreCounted(t *testing.T) {
	w := defender.Window5m
	for _, row := range []struct {
		metric             defender.RateMetric
		conforms, violates int64 // bounds
	}{{defender.ConnectionAttempts, 6, 5}, {defender.Disconnects, 2, 1}, {defender.AuthorizationFailures, 5, 4}} {
		if got := alarmStates(evaluator(t, behavior(row.metric.LessThan(row.conforms, w))), "_f__", flapping); got != "...." {
			t.Errorf("%s less-than %d: got %q, want no alarm", row.metric.Info().Name, row.conforms, got)
		}
		if got := alarmStates(evaluator(t, behavior(row.metric.LessThan(row.violates, w))), "_f__", flapping); got != ".A.." {
			t.Errorf("%s less-than %d: got %q, want .A..", row.metric.Info().Name, row.violates, got)
		}
	}
}

func TestSourceAddressOfConnects(t *testing.T) {
	e := evaluator(t, behavior(defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"))))
	got := alarmStates(e, "gbrg", func(letter rune, at int64, id string) []Datapoint {
		l := Lifecycle{ClientID: "thing", Timestamp: at, EventType: "connected", Session: id, IPAddress: "10.1.2.3"}
		if letter != 'g' {
			l.IPAddress = "192.0.2.1"
		}
		if letter == 'r' { // the refused client may not be the device
			l.EventType = "connect_failed"
		}
		return l.Datapoints()
	})
	if got != ".AA." {
		t.Errorf("got %q, want .AA.", got)
	}
}

func TestDeltasAddUpInLongerWindows(t *testing.T) {
	e := evaluator(t, behavior(defender.AllBytesOut.LessThan(10, defender.Window15m)))
	got := alarmStates(e, "333433___333", func(letter rune, at int64, id string) []Datapoint {
		if letter == '_' {
			return nil
		}
		points := measured(id, at, map[string]iotapi.Value{defender.AllBytesOut.Info().Name: count(int64(letter - '0'))})
		return append(points, points...)
	})
	if want := ".....AAAAAA."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDisconnectDuration(t *testing.T) {
	for _, row := range []struct {
		toAlarm, toClear int
		in, want         string
	}{
		{1, 1, "cd_c____", "........"},
		{1, 1, "cd___c__", "....A..."},
		{1, 1, "d____c__", "...AA..."},
		{1, 1, "d___dd_c", "...AAAA."},
		{2, 1, "d" + strings.Repeat("_", 15) + "c", strings.Repeat(".", 15) + "A."},
		{1, 2, "d___c" + strings.Repeat("_", 13), "...A" + strings.Repeat("A", 12) + ".."},
		{1, 1, "d" + strings.Repeat("_", 50*12), "..." + strings.Repeat("A", 50*12-2)},
	} {
		b := behavior(defender.DisconnectDuration.LessThan(15))
		b.ToAlarm, b.ToClear = row.toAlarm, row.toClear
		if got := alarmStates(evaluator(t, b), row.in, messages); got != row.want {
			t.Errorf("toAlarm %d, toClear %d, in %q:\ngot  %q\nwant %q", row.toAlarm, row.toClear, row.in, got, row.want)
		}
	}
}

// If a new session replaces an old one, the disconnection of the old one does not count.
func TestTakeoverIsNoDisconnection(t *testing.T) {
	at := start.UnixMilli()
	for _, d := range []int64{-1000, 0, 1000} {
		points := append(Lifecycle{Timestamp: at, EventType: "connected", Session: "new"}.Datapoints(),
			Lifecycle{Timestamp: at + d, EventType: "disconnected", Session: "old"}.Datapoints()...)
		e := evaluator(t, behavior(defender.DisconnectDuration.LessThan(15)))
		r := e.Step("thing", State{}, points, start)
		if r = e.Step("thing", r.State, nil, start.Add(10*time.Hour)); len(r.Transitions) > 0 {
			t.Errorf("disconnected %d ms after the connection: transitions %s, want none", d, show(r.Transitions))
		}
	}
}

// Within the error of the clocks, only the version distinguishes a new connection from the old one.
func TestVersionDistinguishesAReconnection(t *testing.T) {
	for _, row := range []struct {
		version int64
		offline bool
	}{{1, true}, {2, false}} {
		e := evaluator(t, behavior(defender.DisconnectDuration.LessThan(15)))
		var points []Datapoint
		for i, l := range []Lifecycle{{EventType: "connected", Version: 1}, {EventType: "disconnected", Version: 1}, {EventType: "connected", Version: row.version}} {
			l.Timestamp, l.Session = start.UnixMilli()+int64(i)*minute/2, "s"
			points = append(points, l.Datapoints()...)
		}
		r := e.Step("thing", State{}, points, start.Add(2*time.Minute))
		if r = e.Step("thing", r.State, nil, start.Add(10*time.Hour)); (len(r.Transitions) > 0) != row.offline {
			t.Errorf("version %d: transitions %s, want an alarm: %v", row.version, show(r.Transitions), row.offline)
		}
	}
}

func TestReportsEvery(t *testing.T) {
	e := Evaluator{Behaviors: []Compiled{ReportsEvery("Profile", "alive", 20*time.Minute, defender.High)}, Lateness: latenessInTests}
	for _, row := range []struct{ in, want string }{
		{"...........", "..........."},
		{".___.___.", "........."},
		{".____________.", "....AAAAAAAAA."},
		{"_____________", "............."},
		{"." + strings.Repeat("_", 60*12), "...." + strings.Repeat("A", 60*12-3)},
	} {
		if got := alarmStates(e, row.in, portReports); got != row.want {
			t.Errorf("reports %q: got %q, want %q", row.in, got, row.want)
		}
	}
}

// Some behaviors need every message, such as one about addresses on some topics. The other behaviors
// must not record each of these messages.
func TestConformingMessageWritesNothing(t *testing.T) {
	address := defender.Behavior{Name: "network", Criteria: defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")), Dimension: &defender.Dimension{TopicFilters: []string{"t"}}}
	all := []defender.Behavior{address}
	for name, c := range map[string]defender.Criteria{
		"size": defender.MessageByteSize.LessThan(8), "disconnects": defender.Disconnects.LessThan(5, defender.Window5m),
		"refusals": defender.AuthorizationFailures.LessThan(5, defender.Window5m), "away": defender.DisconnectDuration.LessThan(60),
	} {
		all = append(all, defender.Behavior{Name: name, Criteria: c})
	}
	e := evaluator(t, all...)
	sent := func(bytes int64, ip string) []Datapoint {
		return MessageDatapoints(iotrule.Telemetry{Kind: iotrule.PublishedMessage, Topic: "t", ClientID: "thing", SourceIP: ip, ID: "1", Time: start.UnixMilli(), Bytes: bytes})
	}
	if r := e.Step("thing", State{}, sent(4, "10.0.0.1"), start); r.Changed || !r.State.Empty() || r.Stats.Judged == 0 {
		t.Errorf("a conforming message: %+v, want judged datapoints and no state", r)
	}
	for _, violating := range [][]Datapoint{sent(26, "10.0.0.1"), sent(4, "192.0.2.1")} {
		if r := e.Step("thing", State{}, violating, start); !r.Changed || r.State.Transient() {
			t.Errorf("violating datapoints %+v: %+v, want a state that is not transient", violating, r)
		}
	}
}

// The engine writes the time of the last report at most once per quarter of the interval.
func TestTimeOfReportsIsWrittenAtIntervals(t *testing.T) {
	e := Evaluator{Behaviors: []Compiled{ReportsEvery("Profile", "alive", time.Hour, defender.High)}, Lateness: latenessInTests}
	var s State
	writes := 0
	for i := range 24 {
		at := start.Add(time.Duration(i) * 5 * time.Minute)
		r := e.Step("thing", s, portReports('.', at.UnixMilli(), fmt.Sprint(i)), at)
		if s = r.State; r.Changed {
			writes++
		}
	}
	if writes != 8 {
		t.Errorf("%d writes in two hours, want 8", writes)
	}
}

func TestStatisticalAndLearnedBehaviors(t *testing.T) {
	for _, c := range []defender.Criteria{
		defender.AllBytesIn.LessThanEqualsPercentile(defender.P90, defender.Window5m),
		defender.AllBytesIn.Learned(defender.LowConfidence),
	} {
		e := evaluator(t, behavior(c))
		report := func(letter rune, at int64, id string) []Datapoint {
			n := map[rune]int64{'x': 51, '.': 50}[letter]
			return measured(id, at, map[string]iotapi.Value{defender.AllBytesIn.Info().Name: count(n)})
		}
		if got := alarmStates(e, ".xx.", report); got != ".AA." {
			t.Errorf("%s: got %q, want .AA.", c.Normal(), got)
		}
		e.Fleet = nil
		if got := alarmStates(e, ".xx.", report); got != "...." {
			t.Errorf("%s without a fleet: got %q, want no alarm", c.Normal(), got)
		}
		key, _ := e.Behaviors[0].FleetKey()
		r := e.Step("thing", State{}, report('x', start.UnixMilli(), "1"), start)
		if r.Stats.Unjudged != 1 || !maps.Equal(r.Samples, Samples{{key, start.UnixMilli()}: 51}) {
			t.Errorf("%s without a fleet: %+v, want one unjudged datapoint and the sample 51", c.Normal(), r)
		}
	}
}

// fuzzyFleet is a fleet whose percentile is between 49 and 51.
type fuzzyFleet struct{ fixedFleet }

func (fuzzyFleet) Statistic(FleetKey, defender.Statistic, int64) (Range, bool) {
	return Range{49, 51}, true
}

// A device that connected in the window sends less than one that was connected for the whole window.
func TestLearnedCountIsTooLowOnlyForConnectedDevices(t *testing.T) {
	e := evaluator(t, behavior(defender.MessagesSent.Learned(defender.LowConfidence)))
	e.Fleet = learnedFleet{Range{3, 10}}
	for _, row := range []struct{ in, want string }{
		{"1", "."}, {"9", "."}, {"51", ".A"}, {"515", ".A."}, {"_1", ".."}, {"5d1", "..."}, {"5_5", "..."},
	} {
		if got := alarmStates(e, row.in, messageCounts); got != row.want {
			t.Errorf("messages %q: got %q, want %q", row.in, got, row.want)
		}
	}
	e.Fleet = learnedFleet{Range{0, 4}}
	if got := alarmStates(e, "9", messageCounts); got != "A" {
		t.Errorf("too many messages: got %q, want A", got)
	}
}

// learnedFleet is a fleet with a learned range and no percentiles.
type learnedFleet struct{ normal Range }

func (learnedFleet) Statistic(FleetKey, defender.Statistic, int64) (Range, bool) {
	return Range{}, false
}
func (f learnedFleet) Baseline(FleetKey, defender.Confidence, int64) (Range, bool) {
	return f.normal, true
}

func TestInexactPercentileFavorsTheDevice(t *testing.T) {
	percentile := func(of func(defender.Statistic, defender.Window) defender.Criteria) defender.Criteria {
		return of(defender.P90, defender.Window5m)
	}
	bytes := defender.AllBytesIn
	for violates, criteria := range map[int64]defender.Criteria{
		51: percentile(bytes.LessThanPercentile), 52: percentile(bytes.LessThanEqualsPercentile),
		49: percentile(bytes.GreaterThanPercentile), 48: percentile(bytes.GreaterThanEqualsPercentile),
	} {
		op := criteria.Operator()
		e := evaluator(t, behavior(criteria))
		e.Fleet = fuzzyFleet{}
		for n := int64(45); n < 55; n++ {
			r := e.Step("thing", State{}, measured("1", start.UnixMilli(), map[string]iotapi.Value{defender.AllBytesIn.Info().Name: count(n)}), start)
			up := op == iotapi.LessThan || op == iotapi.LessThanEquals
			if want := up && n >= violates || !up && n <= violates; r.Changed != want {
				t.Errorf("%d, %s 49 to 51: violates %v, want %v", n, op, r.Changed, want)
			}
		}
	}
}

func TestPopulationsAreSeparate(t *testing.T) {
	seen := map[string]bool{}
	in := &defender.Dimension{TopicFilters: []string{"a", "b"}}
	for _, profile := range []string{"P", "Q"} {
		for _, w := range []defender.Window{defender.Window5m, defender.Window1h} {
			for _, m := range []defender.RateMetric{defender.MessagesSent, defender.Disconnects} {
				for _, dim := range []*defender.Dimension{nil, in, {TopicFilters: in.TopicFilters, NotIn: true}, {TopicFilters: []string{"ab"}}} {
					b := behavior(m.LessThanPercentile(defender.P90, w))
					b.Dimension = dim
					k, ok := compile(profile, b).FleetKey()
					if !ok || seen[k.String()] {
						t.Errorf("population %s: ok %v, or the key is repeated", k, ok)
					}
					seen[k.String()] = true
				}
			}
		}
	}
	if k, ok := compile("P", behavior(defender.Disconnects.LessThan(1, defender.Window5m))).FleetKey(); ok {
		t.Errorf("a static behavior has the population %s, want none", k)
	}
}

func TestMessageSizesAreSummedForTheFleet(t *testing.T) {
	e := evaluator(t, behavior(defender.MessageByteSize.LessThanEqualsPercentile(defender.P90, defender.Window5m)))
	if got := alarmStates(e, "x2x", func(letter rune, at int64, id string) []Datapoint {
		points := messages('x', at, id) // 26 bytes
		if letter == '2' {
			points = append(points, messages('x', at, id+"'")...)
		}
		return points
	}); got != ".A." {
		t.Errorf("got %q, want .A.", got)
	}
}
