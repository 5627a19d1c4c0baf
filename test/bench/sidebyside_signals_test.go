package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/deviceevent"
	"github.com/defenderhub/defenderhub/test/bench/awsstub"
)

const sharedThings = 60

// alertsShareATable forwards alerts of Detect.
func alertsShareATable(t *testing.T, b *bench, o order) {
	s := share(t, b, o)
	s.serveSignals(o, s.addAlert)
}

// addAlert adds an alert that changes the state of a thing.
func (s *shared) addAlert(thing int) *queued {
	id := asff.FindingID(defender.DetectNotifications, "us-east-1", "Fleet", "small-messages", fmt.Sprintf("pump-%d", thing))
	change, state := raised, "ACTIVE"
	if s.want[id].state == state {
		change, state = cleared, "ARCHIVED"
	}
	s.want[id] = expected{state: state}
	s.last = s.last.Add(time.Second)
	return s.enqueue("Queue", alert(thing, change, s.last), s.last)
}

// eventsShareATable forwards events of devices. They begin and end in any order, and a quarter of
// them is older than those before.
func eventsShareATable(t *testing.T, b *bench, o order) {
	e := &events{shared: share(t, b, o), raised: map[string]bool{}, newest: map[string]newest{}}
	e.serveSignals(o, e.add)
}

// events are the device events of a test.
type events struct {
	*shared
	// raised has the findings that began, newest the newest event by finding.
	raised map[string]bool
	newest map[string]newest
}

type newest struct {
	at time.Time
	expected
}

func (e *events) add(thing int) *queued {
	device, kind := fmt.Sprintf("pump-%d", thing/3), fmt.Sprintf("kind-%d", thing%3)
	e.last = e.last.Add(time.Second)
	at := e.last
	if e.random.IntN(4) == 0 {
		at = at.Add(-time.Duration(1+e.random.IntN(1_000_000)) * time.Millisecond)
	}
	begins := thing == sharedThings || e.random.IntN(2) == 0
	description := fmt.Sprintf("event %d", e.sent)
	id := eventID(device, kind)
	switch was := e.newest[id]; {
	case at.Equal(was.at):
		e.t.Fatal("two events of one time: their order is not determined")
	case at.After(was.at):
		e.newest[id] = newest{at, expected{state: "ARCHIVED"}} // which keeps its text
		if begins {
			e.newest[id] = newest{at, expected{state: "ACTIVE", description: description}}
		}
	}
	if e.raised[id] = e.raised[id] || begins; e.raised[id] {
		e.want[id] = e.newest[id].expected
	}
	return e.enqueue("Queue", deviceEvent(device, kind, begins, description, at), e.last)
}

func eventID(device, kind string) string {
	return asff.FindingID(defender.DeviceEvents, "us-east-1", device, kind)
}

// deviceEvent is what the rule of device events writes.
func deviceEvent(device, kind string, begins bool, description string, at time.Time) string {
	state := deviceevent.Cleared
	if begins {
		state = deviceevent.Active
	}
	return text(map[string]any{
		"source": defender.DeviceEvents.String(), "topic": "defenderhub/events/" + device, "time": at.UnixMilli(), "clientId": device, "principal": awsstub.Certificate(1),
		"sourceIp": "198.51.100.7", "payload": []byte(text(deviceevent.Event{Type: kind, State: state, Description: description})),
	})
}

// serveSignals serves messages that change the states of things, a fifth of them twice.
func (s *shared) serveSignals(o order, add func(thing int) *queued) {
	s.t.Helper()
	send := func(n int) {
		for range n {
			m := add(s.random.IntN(sharedThings))
			if s.random.IntN(5) == 0 {
				s.queue = append(s.queue, m.again())
			}
		}
	}
	send(40)
	s.serve(o.first, o.first)
	send(120)
	s.serve(o.first, o.last, o.now) // two of today's leave states to each other
	add(sharedThings)               // a thing that no other message is about, so that its state needs an import
	first := s.queue
	s.queue = nil
	send(30)
	rest := s.queue
	s.queue = nil
	s.leave(o.now, first, rest)
	send(40)
	s.serve(o.last, o.last)
	s.settle(o.last)
}

// leave runs two of today's functions while Security Hub throttles all calls. One drains the
// backlog, so the other leaves the states of the rest to it. Then the one that drains is killed, as
// when its version is replaced.
func (s *shared) leave(path string, first, rest []*queued) {
	s.t.Helper()
	s.hub.Throttle(func() bool { return true })
	defer s.hub.Throttle(nil)
	drains, leaves := s.start(path), s.start(path)
	defer leaves.stop()
	drains.server.Timeout = 10 * time.Minute
	var ended chan struct{}
	for imports := 0; imports < 2; { // its second call shows that it drains
		ended = make(chan struct{})
		go func() {
			defer close(ended)
			drains.handle(first, 0)
		}()
		imports = 0
		for over := false; imports < 2 && !over; {
			calls, _, _ := drains.server.Reset()
			imports += calls["POST /findings/import"]
			select {
			case <-ended:
				over = true // it left its states to a killed function, which counts as draining for a while
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	leaves.handle(rest, 1)
	if len(s.queue) > 0 {
		s.t.Errorf("%d messages are back in the queue, want their states left in the table", len(s.queue))
	}
	s.left = len(s.table.Pending())
	if s.left == 0 {
		s.t.Error("no state is left in the table")
	}
	_ = drains.process.command.Process.Kill() // it may have ended
	<-ended
	drains.stop()
}

// sharedFindingAfterARollback lets today's function raise more findings of one device than the
// limit, and kills it before it confirms them. The previous version has no limit, and does not end
// the finding that the other types share. The next deployment ends that finding, and those that the
// previous version raised over the limit.
func sharedFindingAfterARollback(t *testing.T, b *bench, before, now string) {
	s := share(t, b, order{name: "shared"})
	kind := func(i int) string { return fmt.Sprintf("kind-%d", i) }
	send := func(begins bool) {
		for i := range deviceevent.MaxTypes + 1 {
			s.last = s.last.Add(time.Second)
			s.enqueue("Queue", deviceEvent("pump-1", kind(i), begins, "", s.last), s.last)
		}
	}
	want := func(when, own, over, shared string) {
		t.Helper()
		for i := range deviceevent.MaxTypes {
			s.want[eventID("pump-1", kind(i))] = expected{state: own}
		}
		s.want[eventID("pump-1", kind(deviceevent.MaxTypes))] = expected{state: over}
		s.want[asff.FindingID(defender.DeviceEvents, "us-east-1", "pump-1")+"#more"] = expected{state: shared}
		if s.compare(); t.Failed() {
			t.Fatal(when)
		}
	}
	send(true)
	s.hub.Throttle(func() bool { return true })
	f := s.start(now)
	f.killAtImport()
	batch := s.queue
	s.queue = nil
	f.handle(batch, 0) // returns them to the queue
	f.stop()
	s.hub.Throttle(nil)
	if n := len(s.table.Pending()); n != deviceevent.MaxTypes+1 {
		t.Fatalf("%d findings are claimed, want %d", n, deviceevent.MaxTypes+1)
	}
	s.finish(before)
	s.schedule(before, time.Now().Add(2*time.Hour))
	want("the previous version has imported all", "ACTIVE", "ACTIVE", "ACTIVE")
	s.schedule(before, time.Now().Add(contract.DefaultQuietTime+2*time.Hour))
	want("the previous version does not end the shared finding", "ACTIVE", "ACTIVE", "ACTIVE")
	send(false)
	s.finish(now)
	want("today's version has ended what the device clears", "ARCHIVED", "ARCHIVED", "ACTIVE")
	s.schedule(now, time.Now().Add(70*24*time.Hour))
	want("today's version has ended the shared finding", "ARCHIVED", "ARCHIVED", "ARCHIVED")
	s.finished()
}
