package mapping_test

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/transition"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

const raised = 1789440000000 // ms; before sent

// liveMapper returns a mapper for which behavior b of profile p is live.
func liveMapper() mapping.Mapper {
	m := mapper("us-east-1")
	m.Live = contract.LiveBehaviors{}
	m.Live.Add("p", "b", defender.SeverityDefault)
	return m
}

// wholeEngine returns a mapper for which the behaviors about device reports are live too.
func wholeEngine() mapping.Mapper {
	m := liveMapper()
	m.Live.Add(engine.AgentProfile, engine.SilentAgent, defender.High)
	m.Live.Add(engine.AgentProfile, engine.UnreadableReports, defender.SeverityDefault)
	return m
}

// inAlarm returns the evaluator's message about a registered thing that violates b.
func inAlarm(c defender.Criteria, measured iotapi.Value) transition.Message {
	return transition.Message{
		Thing: "pump-7", ClientID: "pump-7", Registered: new(true),
		Transition: engine.Transition{
			Time: raised, Thing: "pump-7", Change: engine.InAlarm, Profile: "p", StartTime: raised, ViolationID: strings.Repeat("ab", 16),
			Behavior: defender.Behavior{Name: "b", Criteria: c}, Value: measured,
		},
	}
}

func small() transition.Message {
	return inAlarm(defender.MessageByteSize.LessThan(8), iotapi.Value{Count: new(int64(26))})
}

func transitionBody(t testing.TB, m transition.Message) []byte {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mapTransition(t testing.TB, m mapping.Mapper, message transition.Message) signal.Signal {
	t.Helper()
	s, err := m.Transition(transitionBody(t, message), mapping.Origin{Sent: sent})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// transitions has one transition per kind of value and of device.
func transitions(t testing.TB) map[string][]signal.Signal {
	t.Helper()
	with := func(m transition.Message, change func(*transition.Message)) transition.Message {
		change(&m)
		return m
	}
	agent := func(c engine.Compiled, v iotapi.Value) transition.Message {
		m := inAlarm(c.Behavior.Criteria, v)
		m.Transition.Profile, m.Transition.Behavior = c.Profile, c.Behavior
		return m
	}
	silentAgent := func() transition.Message {
		return agent(engine.ReportsEvery(engine.AgentProfile, engine.SilentAgent, 30*time.Minute, defender.High), iotapi.Value{})
	}
	end := func(m *transition.Message, reason engine.EndReason, name string) {
		tr := &m.Transition
		tr.Change, tr.Time, tr.EndReason, tr.RenamedTo = engine.AlarmInvalidated, raised+300_000, reason, name
	}
	all := map[string][]signal.Signal{}
	m := wholeEngine()
	for name, message := range map[string]transition.Message{
		"count":       inAlarm(defender.Disconnects.LessThan(1, defender.Window5m), iotapi.Value{Count: new(int64(2))}),
		"cidrs":       inAlarm(defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")), iotapi.Value{CIDRs: []string{"192.0.2.7"}}),
		"ports":       inAlarm(defender.ListeningTCPPorts.InPorts(443, 80), iotapi.Value{Ports: []uint16{23, 443}}),
		"number":      inAlarm(defender.CustomNumber("batteryLevel").GreaterThan(20.5, defender.Window5m), iotapi.Value{Number: new(3.25)}),
		"numbers":     inAlarm(defender.CustomNumberList("slots").In(1, 2.5), iotapi.Value{Numbers: []float64{1, 7}}),
		"strings":     inAlarm(defender.CustomStringList("processes").NotIn("xmrig"), iotapi.Value{Strings: []string{"sshd", "xmrig"}}),
		"statistical": inAlarm(defender.MessagesSent.LessThanEqualsPercentile(defender.P99, defender.Window15m), iotapi.Value{Count: new(int64(54))}),
		"learned": with(inAlarm(defender.MessagesSent.Learned(defender.HighConfidence), iotapi.Value{Count: new(int64(54))}), func(m *transition.Message) {
			m.Transition.Additional = &engine.Additional{ConfidenceLevel: defender.HighConfidence}
		}),
		"dimension": with(small(), func(m *transition.Message) {
			m.Transition.Behavior.Dimension = &defender.Dimension{TopicFilters: []string{"plant/+/cmd", "all/#"}, NotIn: true}
		}),
		"cleared": with(small(), func(m *transition.Message) {
			m.Transition.Change, m.Transition.Time, m.Transition.Value = engine.AlarmCleared, raised+300_000, iotapi.Value{Count: new(int64(4))}
		}),
		"invalidated": with(small(), func(m *transition.Message) {
			m.Transition.Change, m.Transition.Time, m.Transition.Value = engine.AlarmInvalidated, raised+172_800_001, iotapi.Value{}
		}),
		"other-client-id": with(small(), func(m *transition.Message) { m.ClientID, m.Transition.Thing = "gateway:7", "gateway:7" }),
		"unregistered":    with(small(), func(m *transition.Message) { m.Registered = new(false) }),
		"unknown-thing":   with(small(), func(m *transition.Message) { m.Thing, m.Registered = "", nil }),
		"removed":         with(small(), func(m *transition.Message) { m.Transition.Behavior.Name = "old" }),
		"silent-agent":    silentAgent(),
		"unreadable":      agent(engine.ReadableReports(engine.AgentProfile, engine.UnreadableReports, defender.SeverityDefault), iotapi.Value{Number: new(1.0)}),
		"deleted":         with(silentAgent(), func(m *transition.Message) { end(m, engine.ThingDeleted, "") }),
		"renamed":         with(silentAgent(), func(m *transition.Message) { end(m, engine.ThingRenamed, "pump-8") }),
		"left-targets":    with(silentAgent(), func(m *transition.Message) { end(m, engine.LeftTargets, "") }),
		"not-registered":  with(silentAgent(), func(m *transition.Message) { end(m, engine.NotRegistered, ""); m.Registered = new(false) }),
	} {
		all["behavior-"+name] = []signal.Signal{mapTransition(t, m, message)}
	}
	return all
}

func TestTransitionsLookLikeNativeFindings(t *testing.T) {
	m := mapper("us-east-1")
	m.Live = contract.LiveBehaviors{}
	m.Live.Add("MySecurityProfile", "MyBehavior", defender.SeverityDefault)
	message := inAlarm(defender.Disconnects.LessThan(1, defender.Window5m), iotapi.Value{Count: new(int64(2))})
	tr := &message.Transition
	message.Thing, message.ClientID, tr.Thing = "MyThing", "MyThing", "MyThing"
	tr.Profile, tr.Behavior.Name, tr.ViolationID = "MySecurityProfile", "MyBehavior", "e92a782593c6f5b1fc7cb6a443dc1a12"
	tr.StartTime, tr.Time = 1668033900000, 1668033900000
	f := mapTransition(t, m, message).Finding
	if f.GeneratorID != "defenderhub/behavior/MySecurityProfile" || !strings.HasSuffix(f.SourceURL, "#/thing/MyThing?tab=violations") {
		t.Errorf("generator %s, source %s: they must not name a security profile, which the account does not have", f.GeneratorID, f.SourceURL)
	}
	var native struct{ SourceUrl string }
	if err := json.Unmarshal(sample(t, "asff-native-detect"), &native); err != nil {
		t.Fatal(err)
	}
	f.SourceURL = native.SourceUrl
	compare(t, "asff-native-detect", f)
}

func TestIDOfATransitionsFindingNamesTheClientID(t *testing.T) {
	ids := map[string]string{}
	for name, signals := range transitions(t) {
		ids[name] = signals[0].Finding.ID
	}
	for name, want := range map[string]string{
		"behavior-count": "defenderhub/behavior/us-east-1/p/b/pump-7", "behavior-cleared": "defenderhub/behavior/us-east-1/p/b/pump-7",
		"behavior-unregistered": "defenderhub/behavior/us-east-1/p/b/pump-7", "behavior-unknown-thing": "defenderhub/behavior/us-east-1/p/b/pump-7",
		"behavior-other-client-id": "defenderhub/behavior/us-east-1/p/b/gateway:7",
		"behavior-silent-agent":    "defenderhub/behavior/us-east-1/device-agent/reports-regularly/pump-7",
	} {
		if ids[name] != want {
			t.Errorf("%s: ID %s, want %s", name, ids[name], want)
		}
	}
}

func TestFindingSaysThatAListIsASample(t *testing.T) {
	m := inAlarm(defender.DestinationIPAddresses.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")), iotapi.Value{CIDRs: []string{"192.0.2.1"}})
	if got, ok := mapTransition(t, liveMapper(), m).Finding.ProductFields["Sampled"]; ok {
		t.Errorf("Sampled %q for a complete list, want none", got)
	}
	m.Transition.Sampled = &iotapi.Partial{Listed: 50, Total: 126}
	sampled := mapTransition(t, liveMapper(), m)
	restated := liveMapper()
	restated.Severities.Sources = map[defender.Source]defender.Severity{defender.BehaviorTransitions: defender.Low}
	for _, f := range []asff.Finding{sampled.Finding, restated.Restate(sampled.Source, sampled.Profile, sampled.Behavior, sampled.Finding)} {
		if got := f.ProductFields["Sampled"]; got != "50 of 126" {
			t.Errorf("Sampled %q, want 50 of 126", got)
		}
	}
}

func TestSeverityOfATransition(t *testing.T) {
	behaviors := map[string]defender.Severity{"b": defender.Critical}
	sources := map[defender.Source]defender.Severity{defender.BehaviorTransitions: defender.Low}
	for _, c := range []struct {
		live, own defender.Severity
		set       contract.Severities
		want      string
	}{
		{defender.SeverityDefault, defender.SeverityDefault, contract.Severities{}, "MEDIUM"},
		{defender.High, defender.High, contract.Severities{}, "HIGH"},
		{defender.SeverityDefault, defender.SeverityDefault, contract.Severities{Sources: sources}, "LOW"},
		{defender.High, defender.High, contract.Severities{Sources: sources}, "HIGH"},
		{defender.High, defender.High, contract.Severities{Sources: sources, Behaviors: behaviors}, "CRITICAL"},
		// A transition from before the deployment.
		{defender.High, defender.Low, contract.Severities{}, "HIGH"},
		{defender.SeverityDefault, defender.Low, contract.Severities{}, "MEDIUM"},
	} {
		m, message := liveMapper(), small()
		m.Live.Add("p", "b", c.live)
		m.Severities, message.Transition.Behavior.Severity = c.set, c.own
		if got := mapTransition(t, m, message).Finding.FindingProviderFields.Severity.Label; got != c.want {
			t.Errorf("live %s, own %s, set %v: severity %s, want %s", c.live, c.own, c.set, got, c.want)
		}
	}
}

// A transition is ordered by its own time, not by that of its message: a retry is sent later,
// but must not overtake newer transitions.
func TestRetriedTransitionKeepsItsOrder(t *testing.T) {
	message := small()
	ahead := message.Transition.Time - 90_000 // the queue's clock, behind the event's
	var first signal.Signal
	for i, at := range []int64{ahead, ahead + 1000, raised + 3_600_000} {
		s, err := liveMapper().Transition(transitionBody(t, message), mapping.Origin{Sent: time.UnixMilli(at)})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = s
		}
		if s.Order != first.Order || s.Time > at || s.First > at {
			t.Errorf("sent at %d: order %+v, time %d, first %d; want order %+v and no time after sending", at, s.Order, s.Time, s.First, first.Order)
		}
	}
	far := small()
	far.Transition.Time += 86_400_000
	s, err := liveMapper().Transition(transitionBody(t, far), mapping.Origin{Sent: time.UnixMilli(raised)})
	if err != nil || s.Order.Time != raised+300_000 {
		t.Errorf("a day ahead of its message: error %v, ordered %d ms ahead, want 300,000", err, s.Order.Time-raised)
	}
}

func TestBehaviorThatIsNotLiveEndsItsFinding(t *testing.T) {
	live := mapTransition(t, liveMapper(), small())
	for name, set := range map[string]contract.LiveBehaviors{"engine off": nil, "other behavior": liveMapper().Live, "same name elsewhere": liveMapper().Live} {
		m, message := liveMapper(), small()
		m.Live = set
		switch name {
		case "other behavior":
			message.Transition.Behavior.Name = "renamed"
		case "same name elsewhere":
			message.Transition.Profile = "q"
		}
		s := mapTransition(t, m, message)
		if s.Finding.RecordState != asff.Archived || s.Raised || !strings.Contains(s.Finding.Description, "behavior was removed") || s.Order.Compare(live.Order) <= 0 {
			t.Errorf("%s: %s, order %+v, description %q; want ARCHIVED, newer than the alarm, with the reason", name, s.Finding.RecordState, s.Order, s.Finding.Description)
		}
		next := small()
		next.Transition.Time++
		if again := mapTransition(t, liveMapper(), next); s.Order.Compare(again.Order) >= 0 {
			t.Errorf("%s: the next alarm is not newer", name)
		}
	}
	if live.Finding.RecordState != asff.Active || live.Profile != "p" || live.Behavior != "b" {
		t.Errorf("live behavior: %s of %s/%s, want ACTIVE of p/b", live.Finding.RecordState, live.Profile, live.Behavior)
	}
}

func TestRemovalIsExplainedEvenInAFullDescription(t *testing.T) {
	f := mapping.Removed(asff.Finding{Description: strings.Repeat("ä", 1024), RecordState: asff.Active})
	if n := len([]rune(f.Description)); n != 1024 || !strings.HasSuffix(f.Description, "whether the device conforms.") || f.RecordState != asff.Archived {
		t.Errorf("%d characters, %s, description ends in %q", n, f.RecordState, f.Description[len(f.Description)-40:])
	}
}

func TestTransitionsThatCannotBeFindingsAreErrors(t *testing.T) {
	for name, body := range map[string]string{
		"not JSON":       `{`,
		"no client":      `{"source":"behavior","transition":{"violationId":"i","violationEventTime":1789440000000,"securityProfileName":"p","behavior":{"name":"b"},"violationEventType":"in-alarm"}}`,
		"no time":        `{"source":"behavior","clientId":"c","transition":{"violationId":"i","securityProfileName":"p","behavior":{"name":"b"},"violationEventType":"in-alarm"}}`,
		"no behavior":    `{"source":"behavior","clientId":"c","transition":{"violationId":"i","violationEventTime":1789440000000,"securityProfileName":"p","violationEventType":"in-alarm"}}`,
		"unknown change": `{"source":"behavior","clientId":"c","transition":{"violationId":"i","violationEventTime":1789440000000,"securityProfileName":"p","behavior":{"name":"b"},"violationEventType":"asleep"}}`,
	} {
		if _, err := liveMapper().Transition([]byte(body), mapping.Origin{Sent: sent}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Everything that the evaluator can send becomes a finding.
func FuzzTransition(f *testing.F) {
	f.Add(transitionBody(f, small()))
	f.Add(transitionBody(f, inAlarm(defender.CustomNumberList("slots").In(1, 2.5), iotapi.Value{Numbers: []float64{1, 7}})))
	f.Add([]byte(`{"source":"behavior","clientId":"a","transition":{"behavior":{"name":"b","criteria":{"value":null}},"violationEventTime":1e300}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := liveMapper().Transition(body, mapping.Origin{Sent: sent})
		if err == nil {
			accepted(t, "transition", s)
			if s.Profile == "" || s.Behavior == "" {
				t.Error("a signal of no behavior")
			}
		}
		var m transition.Message
		if json.Unmarshal(body, &m) != nil {
			return
		}
		canonical := transitionBody(t, m)
		s, err = liveMapper().Transition(canonical, mapping.Origin{Sent: sent})
		switch {
		case err != nil && m.Transition.Time <= 1<<53:
			t.Errorf("%s: %v", canonical, err)
		case err == nil && s.Finding.ProductFields["ViolationEventTime"] != strconv.FormatInt(m.Transition.Time, 10) && m.Transition.Time > 1e11:
			t.Errorf("%s: time %s, want its own", canonical, s.Finding.ProductFields["ViolationEventTime"])
		}
	})
}
