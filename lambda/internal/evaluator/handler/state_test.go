package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/attribute"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
)

func TestStateOfAnotherVersion(t *testing.T) {
	r := newRig(t, telnet())
	r.deliver(report("1", "pump", at(0), ports(1, 23)), report("2", "valve", at(0), ports(1, 23)))
	r.table.change("pump", "state", attribute.Text(strings.Replace(str(r.table.of("pump"), "state"), `"v":1`, `"v":99`, 1)))
	if again := r.deliver(report("3", "pump", at(1), ports(2, 23)), report("4", "valve", at(1), ports(2, 23))); again != nil {
		t.Errorf("messages %v are retried, want none: a retry does not help", again)
	}
	if err := r.tryClose(context.Background(), at(10)); err == nil {
		t.Error("the closer does not report the unreadable state")
	}
	if n := r.counted(contract.MetricUnreadableStates); n != 2 {
		t.Errorf("%d unreadable states counted, want one of the evaluator and one of the closer", n)
	}
	if log := r.logs.String(); !strings.Contains(log, `"device":"pump"`) || !strings.Contains(log, "version 99") {
		t.Errorf("the log does not name the device and the version: %s", log)
	}
	if got := r.changes(); got != "valve ports in-alarm" {
		t.Errorf("changes %q, want the alarm of valve", got)
	}
}

// lists returns n behaviors of custom metrics, and a report that violates all of them with the
// largest values that are stored.
func lists(n int) ([]defender.Behavior, []byte) {
	var all []defender.Behavior
	metrics := map[string]any{}
	for i := range n {
		name := fmt.Sprintf("processes-%d", i%100)
		all = append(all, defender.Behavior{Name: fmt.Sprintf("b%d", i), Criteria: defender.CustomStringList(name).In("init")})
		metrics[name] = []any{map[string]any{"string_list": slices.Repeat([]string{strings.Repeat("x", 100)}, 12)}}
	}
	payload, err := json.Marshal(map[string]any{"header": map[string]any{"report_id": 1, "version": "1.0"}, "custom_metrics": metrics})
	if err != nil {
		panic(err)
	}
	return all, payload
}

// A device chooses what it sends. That must not prevent its own alarms from being stored.
func TestStateThatDoesNotFitLosesItsValuesButNoAlarm(t *testing.T) {
	behaviors, payload := lists(280)
	r := newRig(t, profile(behaviors...))
	if again := r.deliver(report("1", "pump", at(0), payload)); again != nil {
		t.Errorf("messages %v are retried, want none", again)
	}
	r.close(at(5))
	if got := strings.Count(r.changes(), "in-alarm"); got != len(behaviors) {
		t.Errorf("%d alarms, want %d", got, len(behaviors))
	}
	if n := r.counted(contract.MetricOversizedStates); n != 0 {
		t.Errorf("%d oversized states counted, want none", n)
	}
}

func TestOversizedStateIsReportedAndNotRetried(t *testing.T) {
	var networks []netip.Prefix
	for i := range 40_000 {
		networks = append(networks, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
	}
	r := newRig(t, profile(defender.Behavior{Criteria: defender.ListeningTCPPorts.InPorts(443)}, defender.Behavior{Criteria: defender.SourceIPAddress.InCIDRs(networks...)}))
	event := fmt.Sprintf(`{"clientId":"pump","timestamp":%d,"eventType":"connected","sessionIdentifier":"s","ipAddress":"192.0.2.1"}`, at(0).UnixMilli())
	r.deliver(sent("1", at(0), iotrule.Telemetry{Kind: iotrule.LifecycleEvent, Payload: []byte(event)}))
	if again := r.deliver(report("2", "pump", at(10), ports(2, 443))); again != nil {
		t.Errorf("messages %v are retried, want none", again)
	}
	if n := r.counted(contract.MetricOversizedStates); n != 1 || !strings.Contains(r.logs.String(), "more behaviors at once than its state can hold") {
		t.Errorf("%d oversized states counted, want one; log %s", n, r.logs.String())
	}
}

func TestTimeOfAThingNeverGoesBack(t *testing.T) {
	r := newRig(t, telnet())
	r.deliver(report("1", "pump", at(0), ports(1, 23)))
	r.close(at(5))
	r.deliver(report("2", "pump", at(10), ports(2, 443)))
	r.close(at(20))
	// The first message is delivered again, as after a crash of the function.
	r.deliver(report("1", "pump", at(0), ports(1, 23)))
	r.close(at(30))
	if got := r.changes(); got != "pump ports in-alarm, pump ports alarm-cleared" || r.counted(contract.MetricLate) == 0 {
		t.Errorf("changes %q, %d late datapoints; want one alarm that is cleared, and some", got, r.counted(contract.MetricLate))
	}
}

func TestStateInUseDoesNotExpire(t *testing.T) {
	r := newRig(t, profile(defender.Behavior{Name: "away", Criteria: defender.DisconnectDuration.LessThan(30)}, defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443)}))
	r.deliver(lifecycle("online", "connected", "s", at(0)), report("1", "pump", at(0), ports(1, 23)))
	r.close(at(20))
	if it := r.table.of("online"); it[contract.StateDueAt] != nil || it[contract.StateExpiry] != nil || !strings.Contains(str(it, "state"), "away") {
		t.Errorf("the item of an online device is due or expires: %v", it)
	}
	r.deliver(report("2", "pump", at(21), ports(2, 443)))
	r.queue.refuse = "alarm-cleared"
	r.close(at(30))
	if it := r.table.of("pump"); it["outbox"] == nil || it[contract.StateExpiry] != nil {
		t.Errorf("the item of a device with an outbox expires: %v", it)
	}
}

func TestDueTimeFollowsTheBehaviors(t *testing.T) {
	r := newRig(t, telnet())
	r.deliver(report("1", "pump", at(0), ports(1, 23)))
	r.close(at(5))
	due := r.table.of("pump")[contract.StateDueAt]
	r.table.change("pump", contract.StateDueAt, attribute.Number(at(1).UnixMilli())) // as if set by behaviors of an older deployment
	r.close(at(6))
	if again := r.table.of("pump")[contract.StateDueAt]; !reflect.DeepEqual(again, due) {
		t.Errorf("due at %v, want %v", again, due)
	}
}

// Moving the due time costs two writes of the index.
func TestDueTimeOfReportingDeviceMovesOnlyWhenReached(t *testing.T) {
	config := telnet()
	config.ReportsEvery = 15
	r := newRig(t, config)
	times := map[int64]bool{}
	for minute := range 60 {
		when := at(float64(minute))
		if r.now = when; minute%5 == 0 {
			r.deliver(report(fmt.Sprint(minute), "pump", when, ports(minute+1, 443)))
		}
		r.close(when)
		times[num(r.table.of("pump"), contract.StateDueAt)] = true
	}
	if len(times) > 4 || r.changes() != "" {
		t.Errorf("%d due times in an hour, want at most 4; changes %q, want none", len(times), r.changes())
	}
	for minute := 60; r.changes() == ""; minute++ {
		if minute > 56+15+15/4+5 {
			t.Fatal("no alarm, although the device is silent since minute 55")
		}
		r.close(at(float64(minute)))
	}
	if got := r.changes(); got != "pump reports-regularly in-alarm" {
		t.Errorf("changes %q, want the alarm for silence", got)
	}
}

func TestRecordedSessionsExpire(t *testing.T) {
	r := newRig(t, profile(defender.Behavior{Criteria: defender.MessageByteSize.LessThan(8)}))
	r.deliver(lifecycle("pump", "connected", "s", at(0)))
	it := r.table.of("pump")
	if num(it, contract.StateExpiry) < at(engine.Lateness(batching).Minutes()).Unix() || it[contract.StateDueAt] != nil {
		t.Errorf("stored %v, want a session that expires after the lateness bound", it)
	}
	r.deliver(message("1", "pump", at(2), 26))
	if it := r.table.of("pump"); it[contract.StateExpiry] != nil || it[contract.StateDueAt] == nil {
		t.Errorf("the item with a counted message expires: %v", it)
	}
}

func TestStateOfARemovedBehaviorIsKeptTwoDays(t *testing.T) {
	two := profile(defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443)}, defender.Behavior{Name: "gone", Criteria: defender.ListeningTCPPorts.InPorts(443)})
	r := newRig(t, two)
	r.deliver(report("1", "pump", at(0), ports(1, 23)))
	r.close(at(5))
	r.deploy(telnet())
	r.deliver(report("2", "pump", at(10), ports(2, 443)))
	r.close(at(20))
	if state := str(r.table.of("pump"), "state"); !strings.Contains(state, "Profile/gone") || strings.Contains(state, "Profile/ports") {
		t.Errorf("state %s, want that of the removed behavior alone", state)
	}
	r.close(at(50 * 60))
	if got := r.changes(); got != "pump gone in-alarm, pump ports in-alarm, pump ports alarm-cleared" {
		t.Errorf("changes %q", got)
	}
	if it := r.table.of("pump"); it[contract.StateExpiry] == nil {
		t.Errorf("the item %v does not expire", it)
	}
}

// During a deployment, an old environment starts and stores its behaviors, as if the new ones were
// removed. The new environments must not use that.
func TestEnvironmentsOfADeploymentAgree(t *testing.T) {
	udp := profile(defender.Behavior{Name: "udp", Criteria: defender.ListeningUDPPorts.InPorts(443)})
	r := newRig(t, telnet())
	r.close(at(0))
	closer := r.handler
	for i, config := range []engine.Config{udp, telnet()} {
		r.now = at(float64(i+1) / 10)
		r.deploy(config)
		r.deliver(report(fmt.Sprint(i), "other", r.now, ports(1, 443)))
	}
	r.now = at(1)
	r.deliver(report("2", "pump", r.now, ports(1, 23)))
	r.handler = closer
	for minute := 1.0; minute < 8; minute++ {
		r.now = at(minute)
		r.close(r.now)
	}
	if got := r.changes(); got != "pump ports in-alarm" {
		t.Errorf("changes %q, want the alarm of pump", got)
	}
}

func TestGenerationsAreWrittenOnce(t *testing.T) {
	table := newTable(t)
	store := state.New(table, "state", nil)
	compile := func(c engine.Config) []engine.Compiled {
		all, err := c.Compile()
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	conflicts := 1
	table.step = func(operation, key string, done bool) error {
		if operation == "PutItem" && !done && conflicts > 0 {
			conflicts--
			_, err := store.Name(context.Background(), compile(telnet()))
			return errors.Join(err, conflict())
		}
		return nil
	}
	for range 3 {
		g, err := store.Name(context.Background(), compile(telnet()))
		if err != nil || !maps.Equal(g, engine.Generations{"Profile/ports": 0, "device-agent/reports-readable": 0}) {
			t.Fatalf("generations %v, error %v; want generation 0 of both", g, err)
		}
	}
	if calls := table.took(); calls["PutItem behaviors"] != 1 {
		t.Errorf("calls %v, want one write", calls)
	}
}
