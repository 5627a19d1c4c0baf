package handler_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
)

// retiring returns a rig with the two behaviors whose alarms time raises: the end of a session and
// missing reports.
func retiring(t *testing.T, target defender.Target) *rig {
	t.Helper()
	config := profile(
		defender.Behavior{Name: "away", Criteria: defender.DisconnectDuration.LessThan(30)},
		defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443)},
	)
	config.ReportsEvery = 10
	config.Profiles[0].Targets = []string{target.Resource()}
	return newRig(t, config, "east-group")
}

var pump = registry.Thing{Name: "pump-7", Registered: true, Groups: []string{"east-group"}}

// retire lets a device report once and disconnect. The closer then runs each minute for an hour.
func (r *rig) retire(client string) {
	r.t.Helper()
	r.deliver(report("1", client, at(0), ports(1, 443)), lifecycle(client, "connected", "s", at(0)))
	r.deliver(lifecycle(client, "disconnected", "s", at(1)))
	for minute := range 60 {
		r.close(at(float64(minute)))
	}
}

// pass runs the closer each hour between two days.
func (r *rig) pass(from, to float64) {
	r.t.Helper()
	for hour := max(1, from*24); hour <= to*24; hour++ {
		r.close(at(60 * hour))
	}
}

// alarms returns the changes of both behaviors of retiring, as rig.changes formats them.
func alarms(client string, changes ...string) string {
	var all []string
	for _, behavior := range []string{"away", "reports-regularly"} {
		for _, change := range changes {
			all = append(all, fmt.Sprintf("%s %s %s", client, behavior, change))
		}
	}
	return strings.Join(all, ", ")
}

// endings returns the distinct reasons for which alarms ended.
func (r *rig) endings() []transitionEnd {
	var all []transitionEnd
	for _, m := range r.messages() {
		if m.Transition.Change == engine.AlarmInvalidated {
			all = append(all, transitionEnd{m.Transition.EndReason, m.Transition.RenamedTo, m.Thing, m.Registered != nil && *m.Registered})
		}
	}
	return slices.Compact(all)
}

type transitionEnd struct {
	reason     engine.EndReason
	renamed    string
	thing      string
	registered bool
}

func TestRegistryEndsTheAlarmsOfARetiredDevice(t *testing.T) {
	for name, c := range map[string]struct {
		client string
		target defender.Target
		// before and after are the registry before and after the device has retired.
		before, after map[string]registry.Thing
		want          []transitionEnd
	}{
		"deleted": {
			"pump-7", defender.AllThings, map[string]registry.Thing{"pump-7": pump}, nil,
			[]transitionEnd{{engine.ThingDeleted, "", "pump-7", true}},
		},
		"deleted, of another client ID": {
			"gateway:7", defender.RegisteredThings, map[string]registry.Thing{"cert-gateway:7": pump, "pump-7": pump}, nil,
			[]transitionEnd{{engine.ThingDeleted, "", "pump-7", true}},
		},
		"renamed": {
			"pump-7", defender.AllThings, map[string]registry.Thing{"pump-7": pump}, map[string]registry.Thing{"cert-pump-7": {Name: "pump-8", Registered: true}},
			[]transitionEnd{{engine.ThingRenamed, "pump-8", "pump-7", true}},
		},
		"renamed, the old thing is still there": {
			"gateway:7", defender.AllThings, map[string]registry.Thing{"cert-gateway:7": pump, "pump-7": pump},
			map[string]registry.Thing{"cert-gateway:7": {Name: "pump-8", Registered: true}, "pump-7": pump},
			[]transitionEnd{{engine.ThingRenamed, "pump-8", "pump-7", true}},
		},
		"moved out of the targets": {
			"pump-7", defender.ThingGroup("0"), map[string]registry.Thing{"pump-7": pump}, map[string]registry.Thing{"pump-7": {Name: "pump-7", Registered: true}},
			[]transitionEnd{{engine.LeftTargets, "", "pump-7", true}},
		},
		"registered, where only unregistered things are watched": {
			"pump-7", defender.UnregisteredThings, nil, map[string]registry.Thing{"pump-7": {Name: "pump-7", Registered: true}},
			[]transitionEnd{{engine.LeftTargets, "", "pump-7", true}},
		},
		"still there": {
			"pump-7", defender.ThingGroup("0"), map[string]registry.Thing{"pump-7": pump}, map[string]registry.Thing{"pump-7": pump}, nil,
		},
		"another certificate": {
			"gateway:7", defender.AllThings, map[string]registry.Thing{"cert-gateway:7": pump, "pump-7": pump}, map[string]registry.Thing{"pump-7": pump}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := retiring(t, c.target)
			r.registry.by = c.before
			r.retire(c.client)
			if got := r.changes(); got != alarms(c.client, "in-alarm") {
				t.Fatalf("changes %q, want an alarm of each behavior", got)
			}
			r.pass(0, 2)
			if got := r.changes(); got != alarms(c.client, "in-alarm") {
				t.Fatalf("changes %q, although the registry has not changed", got)
			}
			r.registry.by = c.after
			r.pass(2, 3.1)
			if got := r.endings(); !slices.Equal(got, c.want) {
				t.Errorf("ends %+v, want %+v within a day", got, c.want)
			}
			r.pass(4, 8)
			if c.want == nil && r.changes() != alarms(c.client, "in-alarm") {
				t.Errorf("changes %q, want no end", r.changes())
			}
			if sent := len(r.queue.bodies); c.want != nil && sent != 4 {
				t.Errorf("%d transitions sent, want 4: each alarm and its end once", sent)
			}
		})
	}
}

func TestAlarmOfAClientIDThatIsNotAThingEndsByTime(t *testing.T) {
	for lifetime, days := range map[time.Duration]float64{0: 14, 36 * time.Hour: 1.5} {
		r := retiring(t, defender.AllThings)
		r.config.UnregisteredMinutes = int(lifetime / time.Minute)
		r.deploy(r.config)
		r.retire("stranger")
		r.pass(0, days)
		if got := r.changes(); got != alarms("stranger", "in-alarm") {
			t.Errorf("lifetime %v: changes %q before its end", lifetime, got)
		}
		r.pass(days, days+1.2)
		if got, want := r.endings(), []transitionEnd{{engine.NotRegistered, "", "stranger", false}}; !slices.Equal(got, want) {
			t.Errorf("lifetime %v: ends %+v, want %+v", lifetime, got, want)
		}
	}
}

// An error of the registry does not prove that the thing is deleted.
func TestRegistryErrorEndsNoAlarm(t *testing.T) {
	for name, c := range map[string]struct {
		fails error
		most  int // the most lookups in 6 days
	}{"throttled": {throttled, 6 * 24}, "unavailable": {unavailable, 6 * 24}, "denied": {denied, 6}} {
		for _, target := range []defender.Target{defender.AllThings, defender.RegisteredThings, defender.ThingGroup("0")} {
			r := retiring(t, target)
			r.registry.by = map[string]registry.Thing{"pump-7": pump}
			r.retire("pump-7")
			r.registry.by, r.registry.fails, r.registry.asked = nil, c.fails, nil
			r.pass(0, 6)
			if got := r.changes(); got != alarms("pump-7", "in-alarm") {
				t.Errorf("%s, %s: changes %q, want the alarms alone", name, target.Resource(), got)
			}
			if n := len(r.registry.asked); n < 5 || n > c.most {
				t.Errorf("%s, %s: asked %d times in 6 days, want 5 to %d", name, target.Resource(), n, c.most)
			}
			r.registry.asked = nil
			for minute := range 120 {
				r.close(at(6*24*60 + float64(minute)))
			}
			if n := len(r.registry.asked); n > 2 {
				t.Errorf("%s, %s: asked %d times in two hours, want at most 2", name, target.Resource(), n)
			}
			r.registry.fails = nil
			r.pass(7, 9)
			if got, want := r.endings(), []transitionEnd{{engine.ThingDeleted, "", "pump-7", true}}; !slices.Equal(got, want) {
				t.Errorf("%s, %s: ends %+v when the registry answers again, want %+v", name, target.Resource(), got, want)
			}
		}
	}
}

// The closer asks at most once a day per device, and not for all devices at once.
func TestChecksOfTheRegistryAreSpread(t *testing.T) {
	const n = 200
	r := retiring(t, defender.AllThings)
	r.registry.by = map[string]registry.Thing{}
	for i := range n {
		client := fmt.Sprintf("pump-%d", i)
		r.registry.by[client] = registry.Thing{Name: client, Registered: true}
		r.deliver(report(client, client, at(0), ports(1, 443)))
	}
	for minute := range 60 {
		r.close(at(float64(minute)))
	}
	r.pass(0, 2)
	most, all := 0, 0
	for hour := 49.0; hour <= 72; hour++ {
		r.registry.asked = nil
		r.close(at(60 * hour))
		most, all = max(most, len(r.registry.asked)), all+len(r.registry.asked)
	}
	if all != n || most > n/4 {
		t.Errorf("%d devices: %d lookups in a day, at most %d in an hour; want one lookup each, and at most a quarter in an hour", n, all, most)
	}
}

// A thing deleted before its alarm is raised is not a silent device.
func TestNoAlarmIsRaisedForADeletedThing(t *testing.T) {
	r := retiring(t, defender.AllThings)
	r.config.ReportsEvery = 30 // longer than the registry's answer is cached
	r.deploy(r.config)
	r.registry.by = map[string]registry.Thing{"pump-7": pump}
	r.deliver(report("1", "pump-7", at(0), ports(1, 23)), lifecycle("pump-7", "connected", "s", at(0)))
	r.close(at(5)) // telnet creates a state for the device
	r.deliver(lifecycle("pump-7", "disconnected", "s", at(6)))
	r.registry.by = nil
	for minute := 7; minute < 120; minute++ {
		r.close(at(float64(minute)))
	}
	if got := r.changes(); strings.Contains(got, "away") || strings.Contains(got, "reports-regularly") {
		t.Errorf("changes %q, want no alarm for silence", got)
	}
}

// If the registry answers that the thing is gone when one alarm changes, no later alarm is raised.
func TestNoAlarmIsRaisedOnceTheRegistryHasReportedTheEnd(t *testing.T) {
	for name, after := range map[string]map[string]registry.Thing{
		"deleted": nil, "renamed": {"cert-pump-7": {Name: "pump-8", Registered: true}},
	} {
		r := retiring(t, defender.AllThings)
		r.config.ReportsEvery = 60
		r.deploy(r.config)
		r.registry.by = map[string]registry.Thing{"pump-7": pump}
		r.deliver(report("1", "pump-7", at(0), ports(1, 23)), lifecycle("pump-7", "connected", "s", at(0)))
		r.close(at(5)) // telnet raises an alarm
		r.registry.by = after
		r.deliver(report("2", "pump-7", at(20), ports(1, 443)))
		for minute := 24; minute < 180; minute++ {
			if minute == 40 { // a disconnect is not a return
				r.deliver(lifecycle("pump-7", "disconnected", "s", at(40)))
			}
			r.close(at(float64(minute)))
		}
		if got := r.changes(); strings.Contains(got, "away") || strings.Contains(got, "reports-regularly") || !strings.Contains(got, "ports alarm-cleared") {
			t.Errorf("%s: changes %q, want only the alarm of ports, cleared", name, got)
		}
		again := 300.0 // the device returns, as a client that is no thing
		r.deliver(report("3", "pump-7", at(again), ports(3, 443)), lifecycle("pump-7", "connected", "t", at(again)))
		r.deliver(lifecycle("pump-7", "disconnected", "t", at(again+1)))
		for minute := range 120 {
			r.close(at(again + float64(minute)))
		}
		if got := r.changes(); !strings.Contains(got, "away in-alarm") || !strings.Contains(got, "reports-regularly in-alarm") {
			t.Errorf("%s, and returned: changes %q, want both alarms", name, got)
		}
	}
}

// Another thing has the device's certificate, but its own thing still exists.
func TestMovedCertificateEndsNoAlarm(t *testing.T) {
	r := retiring(t, defender.AllThings)
	r.registry.by = map[string]registry.Thing{"pump-7": pump}
	r.retire("pump-7")
	r.registry.by = map[string]registry.Thing{"pump-7": pump, "cert-pump-7": {Name: "pump-8", Registered: true}, "pump-8": {Name: "pump-8", Registered: true}}
	r.deliver(lifecycle("pump-7", "connected", "t", at(90)))
	for minute := 90; minute < 110; minute++ {
		r.close(at(float64(minute)))
	}
	if got := r.changes(); strings.Contains(got, "invalidated") || !strings.Contains(got, "away alarm-cleared") {
		t.Errorf("changes %q, want the alarm cleared and none invalidated", got)
	}
}

// The certificate is detached, and the lookup of the thing fails. The alarm is raised.
func TestFailedLookupDoesNotMeanADeletedThing(t *testing.T) {
	for name, fails := range map[string]error{"throttled": throttled, "denied": denied} {
		r := retiring(t, defender.AllThings)
		r.config.ReportsEvery = 30
		r.deploy(r.config)
		r.registry.by = map[string]registry.Thing{"cert-gateway:7": pump, "pump-7": pump}
		r.deliver(report("1", "gateway:7", at(0), ports(1, 23)), lifecycle("gateway:7", "connected", "s", at(0)))
		r.close(at(5)) // telnet creates a state for the device
		r.deliver(lifecycle("gateway:7", "disconnected", "s", at(6)))
		r.registry.by, r.registry.fails, r.registry.failsFor = nil, fails, "pump-7"
		for minute := 7; minute < 120; minute++ {
			r.close(at(float64(minute)))
		}
		if got := r.changes(); !strings.Contains(got, "gateway:7 away in-alarm") || !strings.Contains(got, "gateway:7 reports-regularly in-alarm") || strings.Contains(got, "invalidated") {
			t.Errorf("%s: changes %q, want both alarms", name, got)
		}
	}
}

// A device that returns raises its alarms again.
func TestReturningDeviceAlarmsAgain(t *testing.T) {
	r := retiring(t, defender.AllThings)
	r.registry.by = map[string]registry.Thing{"pump-7": pump}
	r.retire("pump-7")
	r.registry.by = nil
	r.pass(0, 2)
	r.registry.by = map[string]registry.Thing{"pump-7": pump}
	again := 3.0 * 24 * 60
	r.deliver(report("2", "pump-7", at(again), ports(2, 443)), lifecycle("pump-7", "connected", "t", at(again)))
	r.deliver(lifecycle("pump-7", "disconnected", "t", at(again+1)))
	for minute := range 60 {
		r.close(at(again + float64(minute)))
	}
	if got := r.changes(); got != alarms("pump-7", "in-alarm", "alarm-invalidated", "in-alarm") {
		t.Errorf("changes %q, want each alarm twice", got)
	}
}
