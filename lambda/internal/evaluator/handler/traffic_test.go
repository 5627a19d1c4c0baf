package handler_test

import (
	"testing"

	"github.com/defenderhub/defenderhub/internal/engine"
)

func restarting(confirm bool) engine.Config {
	c := fewBytes(0)
	c.ConfirmTraffic = confirm
	return c
}

// A restarted agent connects, and first reports its counters since boot.
func TestRestartedAgentRaisesNoAlarm(t *testing.T) {
	for confirm, want := range map[bool]string{true: "", false: "pump out in-alarm, pump out alarm-cleared"} {
		r := newRig(t, restarting(confirm))
		r.deliver(lifecycle("pump", "connected", "s", at(0)))
		r.deliver(traffic("1", "pump", 0.2, 565_958_319))
		r.deliver(traffic("2", "pump", 5.2, 400))
		r.close(at(30))
		if got := r.changes(); got != want {
			t.Errorf("confirm %v: changes %q, want %q", confirm, got, want)
		}
		if it := r.table.of("pump"); it["dueAt"] != nil {
			t.Errorf("confirm %v: the item is still due: %v", confirm, it)
		}
	}
}

func TestTrafficThatIsConfirmedRaisesAnAlarm(t *testing.T) {
	r := newRig(t, restarting(true))
	r.deliver(lifecycle("pump", "connected", "s", at(0)))
	r.deliver(traffic("1", "pump", 0.2, 565_958_319))
	r.deliver(traffic("2", "pump", 5.2, 6000))
	r.close(at(30))
	if got := r.messages(); len(got) != 1 || got[0].Transition.StartTime != at(0.2).UnixMilli() || *got[0].Transition.Value.Count != 565_958_319 {
		t.Errorf("messages %+v, want an alarm since the first report", got)
	}
}

func TestConfirmationCostsConformingDevicesNoWrite(t *testing.T) {
	r := newRig(t, restarting(true))
	r.deliver(lifecycle("other", "connected", "s", at(0)))
	r.table.took() // the first batch writes progress
	r.deliver(lifecycle("pump", "connected", "s", at(0)))
	r.deliver(traffic("1", "pump", 0.1, 400))
	r.deliver(lifecycle("pump", "disconnected", "s", at(0.2)))
	if calls := r.table.took(); calls["PutItem"] != 0 || r.table.of("pump") != nil {
		t.Errorf("calls %v, item %v; want no write", calls, r.table.of("pump"))
	}
}
