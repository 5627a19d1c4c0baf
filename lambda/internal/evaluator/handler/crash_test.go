//go:build !race

// The race detector would find nothing that it does not find in the other tests of this package, and
// these would take four times as long.

package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
)

// crasher ends the process at one call, before or after the call takes effect. All later calls of the
// invocation fail.
type crasher struct {
	at    int
	after bool

	mu      sync.Mutex
	calls   int
	crashed bool
}

var errCrash = errors.New("the process has ended")

func (c *crasher) step(_, _ string, done bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.crashed {
		return errCrash
	}
	if done == c.after {
		if c.calls++; c.calls == c.at {
			c.crashed = true
			return errCrash
		}
	}
	return nil
}

// invoke handles an event until a process succeeds. After a crash it starts a new process, without the
// memory of the old one.
func (c *crasher) invoke(r *rig, event any) {
	r.t.Helper()
	text, err := json.Marshal(event)
	if err != nil {
		r.t.Fatal(err)
	}
	for {
		_, err := r.handler.Handle(context.Background(), text)
		if !c.crashed {
			if err != nil {
				r.t.Fatal(err)
			}
			return
		}
		c.crashed = false
		r.deploy(r.config)
	}
}

// story raises and clears alarms by reports, counts and silence. One batch causes two transitions
// of one thing.
func story(r *rig, c *crasher) {
	r.table.step, r.queue.step = c.step, c.step
	batch := func(messages ...events.SQSMessage) { c.invoke(r, events.SQSEvent{Records: messages}) }
	closing := func(minute float64) {
		c.invoke(r, map[string]any{"defenderhub": "close", "partition": 0, "partitions": 1, "at": at(minute)})
	}
	batch(report("1", "pump", at(0), ports(1, 23)), report("2", "valve", at(0), ports(1, 23)), report("3", "good", at(0), ports(1, 443)))
	batch(message("4", "valve", at(1), 4), message("5", "valve", at(1.1), 4), lifecycle("valve", "connected", "s", at(1.2)))
	closing(4)
	closing(5)
	closing(11)
	batch(report("6", "pump", at(12), ports(2, 443)), report("7", "valve", at(12), ports(2, 443)))
	for _, minute := range []float64{13, 14, 17, 18, 19, 21, 23, 25} {
		closing(minute)
	}
}

func TestCrashLosesNoTransition(t *testing.T) {
	config := profile(
		defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443)},
		defender.Behavior{Name: "udp", Criteria: defender.NumListeningTCPPorts.LessThan(1, defender.Window5m)},
		defender.Behavior{Name: "few", Criteria: defender.MessagesSent.LessThan(2, defender.Window5m)},
	)
	config.Profiles[0].Targets = []string{"all/registered-things"}
	run := func(c *crasher) string {
		r := newRig(t, config)
		r.registry.by = map[string]registry.Thing{"pump": {Name: "pump", Registered: true}, "valve": {Name: "valve", Registered: true}}
		story(r, c)
		var all []string
		for _, m := range r.messages() {
			all = append(all, fmt.Sprintf("%s %s %s %d %s", m.ClientID, m.Transition.Behavior.Name, m.Transition.Change, m.Transition.Time, m.Transition.ViolationID))
		}
		for _, it := range r.table.items() {
			if it["outbox"] != nil {
				t.Errorf("crash at call %d: an outbox is left in %v", c.at, it)
			}
		}
		return strings.Join(all, "\n")
	}
	healthy := &crasher{}
	want := run(healthy)
	if n := strings.Count(want, "in-alarm"); n < 4 || strings.Count(want, "cleared") < 3 || healthy.calls < 30 {
		t.Fatalf("without a crash: %d calls, %d alarms, want at least 30 and 4:\n%s", healthy.calls, n, want)
	}
	for _, after := range []bool{false, true} {
		for at := 1; at <= healthy.calls; at++ {
			if got := run(&crasher{at: at, after: after}); got != want {
				t.Errorf("crash at call %d, after its effect %v:\n%s\nwant\n%s", at, after, got, want)
			}
		}
	}
}

// A behavior is removed and restored while its device is silent. The forwarder may have archived the
// finding, or may never have received the alarm. So the alarm ends, and may be raised again.
func TestRestoredBehaviorAlarmsAgain(t *testing.T) {
	other := profile(defender.Behavior{Name: "udp", Criteria: defender.ListeningUDPPorts.InPorts(443)})
	run := func(c *crasher, open int) string {
		r := newRig(t, telnet())
		r.table.step, r.queue.step = c.step, c.step
		deploy := func(config engine.Config, minute float64) {
			r.now, r.config = at(minute), config
			r.deploy(config)
			for _, m := range []float64{minute, minute + 2, minute + 4} {
				c.invoke(r, map[string]any{"defenderhub": "close", "partition": 0, "partitions": 1, "at": at(m)})
			}
		}
		batch := func(messages ...events.SQSMessage) { c.invoke(r, events.SQSEvent{Records: messages}) }
		batch(report("1", "pump", at(0), ports(1, 23)))
		deploy(telnet(), 5)
		deploy(other, 10)
		deploy(telnet(), 20)
		batch(report("2", "pump", at(30), ports(2, open)))
		deploy(telnet(), 35)
		var all []string
		for _, m := range r.messages() {
			all = append(all, fmt.Sprintf("%s %d", m.Transition.Change, m.Transition.Time-start.UnixMilli()))
		}
		return strings.Join(all, ", ")
	}
	for open, want := range map[int]string{23: "in-alarm 0, alarm-invalidated 1, in-alarm 1800000", 443: "in-alarm 0, alarm-invalidated 1"} {
		healthy := &crasher{}
		if got := run(healthy, open); got != want || healthy.calls < 20 {
			t.Fatalf("port %d, without a crash: %d calls, changes %s, want %s", open, healthy.calls, got, want)
		}
		for _, after := range []bool{false, true} {
			for at := 1; at <= healthy.calls; at++ {
				if got := run(&crasher{at: at, after: after}, open); got != want {
					t.Errorf("port %d, crash at call %d, after its effect %v: %s, want %s", open, at, after, got, want)
				}
			}
		}
	}
}
