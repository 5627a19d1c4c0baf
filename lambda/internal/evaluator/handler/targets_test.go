package handler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
)

// targeted returns a profile for each kind of target, each with the same behavior.
func targeted() engine.Config {
	config := telnet()
	behaviors := config.Profiles[0].Behaviors
	config.Profiles = nil
	for name, target := range map[string]defender.Target{"all": defender.AllThings, "known": defender.RegisteredThings, "strange": defender.UnregisteredThings, "east": defender.ThingGroup("0"), "west": defender.ThingGroup("1")} {
		b := slices.Clone(behaviors)
		b[0].Name = name
		config.Profiles = append(config.Profiles, engine.ProfileConfig{Name: name, Behaviors: b, Targets: []string{target.Resource()}})
	}
	return config
}

func TestTargetsSelectTheBehaviorsOfAThing(t *testing.T) {
	r := newRig(t, targeted(), "east-group", "west-group")
	r.registry.by = map[string]registry.Thing{
		"cert-c1": {Name: "pump", Registered: true, Groups: []string{"east-group", "plant"}},
		"c2":      {Name: "c2", Registered: true},
	}
	r.deliver(report("1", "c1", at(0), ports(1, 23)), report("2", "c2", at(0), ports(1, 23)), report("3", "c3", at(0), ports(1, 23)))
	r.close(at(5))
	want := "c1 all in-alarm, c1 east in-alarm, c1 known in-alarm, c2 all in-alarm, c2 known in-alarm, c3 all in-alarm, c3 strange in-alarm"
	if got := r.changes(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, m := range r.messages() {
		if thing := map[string]string{"c1": "pump", "c2": "c2", "c3": "c3"}[m.ClientID]; m.Thing != thing || m.Registered == nil || *m.Registered != (m.ClientID != "c3") {
			t.Errorf("message %+v, want the thing %s", m, thing)
		}
	}
}

func TestRegistryIsAskedOnlyIfNeeded(t *testing.T) {
	r := newRig(t, targeted(), "east-group", "west-group")
	asked := func() []string {
		all := r.registry.asked
		r.registry.asked = nil
		return all
	}
	r.deliver(report("1", "good", at(0), ports(1, 443)))
	if all := asked(); all != nil {
		t.Errorf("asked %v for a conforming report, want nothing", all)
	}
	r.deliver(report("2", "bad", at(0), ports(1, 23)))
	if all := asked(); !slices.Equal(all, []string{"bad/cert-bad"}) {
		t.Errorf("asked %v for a violation, want bad", all)
	}
	r.close(at(5))
	r.deliver(report("3", "bad", at(8), ports(2, 23)))
	if all := asked(); all != nil {
		t.Errorf("asked %v, although the answer is in the item", all)
	}
	r.deliver(report("4", "bad", at(20), ports(3, 443)))
	if all := asked(); !slices.Equal(all, []string{"bad/cert-bad"}) {
		t.Errorf("asked %v, want bad again after the stored answer has expired", all)
	}
}

func TestThingThatLeavesAGroup(t *testing.T) {
	r := newRig(t, targeted(), "east-group", "west-group")
	r.registry.by = map[string]registry.Thing{"cert-c1": {Name: "pump", Registered: true, Groups: []string{"east-group"}}, "pump": {Name: "pump", Registered: true}}
	r.deliver(report("1", "c1", at(0), ports(1, 23)))
	r.close(at(5))
	r.registry.by["cert-c1"] = r.registry.by["pump"]
	r.deliver(report("2", "c1", at(20), ports(2, 443)))
	r.close(at(30))
	want := "c1 all in-alarm, c1 all alarm-cleared, c1 east in-alarm, c1 known in-alarm, c1 known alarm-cleared"
	if got := r.changes(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r.close(at(50 * 60))
	if got := r.changes(); got != "c1 all in-alarm, c1 all alarm-cleared, c1 east in-alarm, c1 east alarm-invalidated, c1 known in-alarm, c1 known alarm-cleared" {
		t.Errorf("two days later: changes %q, want the alarm of the group invalidated", got)
	}
	if last := r.registry.asked[len(r.registry.asked)-1]; last != "c1/cert-c1" {
		t.Errorf("asked %v, want c1 with its principal last", r.registry.asked)
	}
}

func TestCloserWithoutAPrincipalAsksByName(t *testing.T) {
	config := profile(defender.Behavior{Name: "refused", Criteria: defender.AuthorizationFailures.LessThan(1, defender.Window5m)})
	r := newRig(t, config)
	r.registry.by = map[string]registry.Thing{"c1": {Name: "pump", Registered: true}, "pump": {Name: "pump", Registered: true}}
	r.deliver(lifecycle("c1", "connect_failed", "s", at(0)))
	r.close(at(10))
	r.close(at(60 * 50))
	if want := []string{"c1/", "pump/"}; !slices.Equal(r.registry.asked, want) {
		t.Errorf("asked %v, want %v", r.registry.asked, want)
	}
}

func TestRegistryErrorDelaysOnlyAffectedMessages(t *testing.T) {
	r := newRig(t, targeted(), "east-group", "west-group")
	r.registry.fails = throttled
	batch := []events.SQSMessage{report("1", "good", at(0), ports(1, 443)), report("2", "bad", at(0), ports(1, 23))}
	if again := r.deliver(batch...); !slices.Equal(again, []string{"2"}) || r.counted(contract.MetricUnresolved) != 1 {
		t.Errorf("throttled: messages %v are retried, %d unresolved; want 2 and 1", again, r.counted(contract.MetricUnresolved))
	}
	r.registry.fails = unavailable
	if again := r.deliver(batch[1]); !slices.Equal(again, []string{"2"}) || r.counted(contract.MetricUnresolved) != 2 {
		t.Errorf("unavailable: messages %v are retried, %d unresolved; want 2 and 2", again, r.counted(contract.MetricUnresolved))
	}
	r.registry.fails = denied
	if again := r.deliver(batch[1]); again != nil || r.counted(contract.MetricUnresolved) != 3 {
		t.Errorf("denied: messages %v are retried, %d unresolved; want none and 3", again, r.counted(contract.MetricUnresolved))
	}
	r.close(at(5))
	if got := r.changes(); got != "bad all in-alarm" {
		t.Errorf("changes %q, want only the profile that needs no lookup", got)
	}
	if m := r.messages()[0]; m.Registered != nil || m.Thing != "bad" {
		t.Errorf("message %+v, want the client ID as thing, and registration unknown", m)
	}
}

func TestAlarmDoesNotWaitForTheNameOfTheThing(t *testing.T) {
	r := newRig(t, telnet())
	r.registry.fails = throttled
	r.deliver(report("1", "pump", at(0), ports(1, 23)))
	if again := r.deliver(report("2", "pump", at(10), ports(2, 443))); again != nil {
		t.Errorf("messages %v are retried, want none", again)
	}
	if got := r.changes(); got != "pump ports in-alarm" || r.counted(contract.MetricUnresolved) != 1 {
		t.Fatalf("changes %q, %d unresolved; want the alarm and 1", got, r.counted(contract.MetricUnresolved))
	}
	if m := r.messages()[0]; m.Registered != nil || m.Thing != "pump" || !strings.Contains(r.logs.String(), "ThrottlingException") {
		t.Errorf("message %+v, want registration unknown, and the error in the log %s", m, r.logs.String())
	}
	r.registry.fails, r.registry.by = nil, map[string]registry.Thing{"pump": {Name: "Pump 7", Registered: true}}
	r.close(at(20))
	if m := r.messages(); len(m) != 2 || m[1].Thing != "Pump 7" {
		t.Errorf("messages %+v, want a second one with the thing's name", m)
	}
}

func TestRefusedConnectionDoesNotProveItsPrincipal(t *testing.T) {
	config := profile(defender.Behavior{Name: "refused", Criteria: defender.AuthorizationFailures.LessThan(1, defender.Window5m)})
	config.Profiles[0].Targets = []string{"all/unregistered-things"}
	for kind, want := range map[string]string{"connect_failed": "pump/", "connected": "pump/cert-pump"} {
		r := newRig(t, config)
		r.deliver(lifecycle("pump", kind, "s", at(0)))
		if !slices.Equal(r.registry.asked, []string{want}) {
			t.Errorf("%s: asked %v, want %s", kind, r.registry.asked, want)
		}
	}
}

func TestSenderOverHTTPSIsAskedForOnce(t *testing.T) {
	r := newRig(t, targeted(), "east-group", "west-group")
	r.registry.by = map[string]registry.Thing{"cert-a": {Name: "pump", Registered: true, Groups: []string{"east-group"}}}
	r.deliver(sent("1", at(0), iotrule.Telemetry{Kind: iotrule.DeviceReport, Topic: "t", Time: start.UnixMilli(), ID: "1", ClientID: iotrule.NotMQTT, Principal: "cert-a", Payload: ports(1, 23)}))
	r.close(at(5))
	if got := r.changes(); got != "pump all in-alarm, pump east in-alarm, pump known in-alarm" || !slices.Equal(r.registry.asked, []string{"n/a/cert-a"}) {
		t.Errorf("changes %q, asked %v; want three alarms and one lookup", got, r.registry.asked)
	}
}

func TestUnknownTargetIsAnError(t *testing.T) {
	for _, target := range []string{"thinggroup/2", "thinggroup/-1", "thinggroup/x", "thinggroup/1"} {
		config := telnet()
		config.Profiles[0].Targets = []string{target}
		if _, err := handler.New(config, []string{"east-group", ""}, handler.Clients{}); err == nil {
			t.Errorf("target %s: no error", target)
		}
	}
}

// Devices are compared with the devices that the profile applies to.
func TestPercentileOfTheFleet(t *testing.T) {
	config := profile(defender.Behavior{Name: "p90", Criteria: defender.AllBytesOut.LessThanEqualsPercentile(defender.P90, defender.Window5m)})
	config.Profiles[0].Targets = []string{"thinggroup/0"}
	r := newRig(t, config, "east-group")
	r.registry.by = map[string]registry.Thing{}
	traffic := func(minute float64, client string, n int) events.SQSMessage {
		return report(fmt.Sprint(client, minute), client, at(minute), fmt.Appendf(nil, `{"hed":{"rid":%d,"v":"1.0"},"met":{"ns":{"bo":%d}}}`, int(minute)+1, n))
	}
	var batch []events.SQSMessage
	for i := range 20 {
		client := fmt.Sprintf("c%d", i)
		if i < 10 {
			r.registry.by[client] = registry.Thing{Name: client, Registered: true, Groups: []string{"east-group"}}
		}
		n := 100
		if i >= 10 {
			n = 100_000 // of things outside the targets
		}
		batch = append(batch, traffic(0, client, n))
	}
	r.deliver(batch...)
	if n := r.counted(contract.MetricUnjudged); n != 10 {
		t.Errorf("%d devices had no threshold, want the 10 targets", n)
	}
	r.deliver(traffic(30, "c1", 5000), traffic(30, "c2", 100), traffic(30, "c12", 5000))
	r.close(at(40))
	if got := r.changes(); got != "c1 p90 in-alarm" {
		t.Errorf("changes %q, want the alarm of c1", got)
	}
	if n := r.counted(contract.MetricUnsampled); n != 0 {
		t.Errorf("%d datapoints are missing from the population, want none", n)
	}
}

// The percentile is over devices, not over reports. A device that floods the engine does not
// change it for the others.
func TestDeviceThatReportsTooOftenDoesNotOutweighTheFleet(t *testing.T) {
	r := newRig(t, profile(defender.Behavior{Name: "p90", Criteria: defender.AllBytesOut.LessThanEqualsPercentile(defender.P90, defender.Window5m)}))
	traffic := func(minute float64, client string, id, n int) events.SQSMessage {
		return report(fmt.Sprint(client, id), client, at(minute), fmt.Appendf(nil, `{"hed":{"rid":%d,"v":"1.0"},"met":{"ns":{"bo":%d}}}`, id, n))
	}
	var batch []events.SQSMessage
	for i := range 19 {
		batch = append(batch, traffic(0, fmt.Sprintf("c%d", i), 1, 100))
	}
	for i := range 200 {
		batch = append(batch, traffic(float64(i)/1000, "flood", i+1, 100_000))
	}
	r.deliver(batch...)
	r.deliver(traffic(30, "c1", 2, 5000), traffic(30, "c2", 2, 100))
	r.close(at(40))
	if got := r.changes(); got != "c1 p90 in-alarm" {
		t.Errorf("changes %q, want the alarm of c1: one device set the threshold", got)
	}
}
