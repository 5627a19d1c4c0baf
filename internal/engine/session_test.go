package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// connections returns connections as AWS IoT does, and records the client IDs of the calls.
type connections struct {
	answer func(client string, now int64) (Connection, bool)
	now    int64
	calls  []string
}

func (c *connections) get(client string) (Connection, bool) {
	c.calls = append(c.calls, client)
	return c.answer(client, c.now)
}

// connectedAt returns the answer for a client that connected at minute m after start.
func connectedAt(m int64) func(string, int64) (Connection, bool) {
	return func(string, int64) (Connection, bool) {
		return Connection{Connected: true, Since: start.UnixMilli() + m*minute}, true
	}
}

// disconnectedAt returns the answer for a client that disconnected at minute m after start. AWS IoT has
// the time for half an hour only.
func disconnectedAt(m int64) func(string, int64) (Connection, bool) {
	return func(_ string, now int64) (Connection, bool) {
		since := start.UnixMilli() + m*minute
		if now-since > 30*minute {
			since = 0
		}
		return Connection{Since: since}, true
	}
}

func noAnswer(string, int64) (Connection, bool) { return Connection{}, false }

// datapointsAt returns the datapoints of a client at a minute: of a message, or of a lifecycle event if
// bytes is 0.
func datapointsAt(client, event string, at, bytes int64) []Datapoint {
	ms := start.UnixMilli() + at*minute
	if bytes == 0 {
		return Lifecycle{ClientID: client, Timestamp: ms, EventType: event, Session: event[len(event)-1:]}.Datapoints()
	}
	return MessageDatapoints(iotrule.Telemetry{Kind: iotrule.PublishedMessage, Topic: "t", ClientID: client, ID: fmt.Sprint(client, at), Time: ms, Bytes: bytes})
}

// runFor steps e for a number of hours, at each event and whenever the state is due. It returns the
// changes with their minutes.
func runFor(e Evaluator, c *connections, events []Datapoint, hours int64) (changes []string, s State, stats Stats) {
	e.Connection = c.get
	slices.SortStableFunc(events, func(a, b Datapoint) int { return int(a.Time - b.Time) })
	end := start.UnixMilli() + hours*60*minute
	for {
		at := end
		if due := e.Due(s); !due.IsZero() {
			at = min(at, due.UnixMilli())
		}
		var points []Datapoint
		if len(events) > 0 && events[0].Time <= at {
			at, points, events = events[0].Time, events[:1], events[1:]
		}
		c.now = at
		r := e.Step("pump-7", s, points, time.UnixMilli(at))
		s, stats.Unconfirmed = r.State, stats.Unconfirmed+r.Stats.Unconfirmed
		for _, tr := range r.Transitions {
			changes = append(changes, fmt.Sprintf("%s %d", tr.Change, (tr.Time-start.UnixMilli())/minute))
		}
		if at == end && points == nil {
			return changes, s, stats
		}
	}
}

// A window without events is a datapoint only if AWS IoT confirms an open session. Events may be
// missing, and a last will is published after the session ends.
func TestSilenceNeedsAnOpenSession(t *testing.T) {
	some := behavior(defender.MessagesSent.GreaterThan(0, defender.Window5m))
	small := behavior(defender.MessageByteSize.LessThan(100))
	small2 := small
	small2.ToAlarm = 2
	away := behavior(defender.DisconnectDuration.LessThan(30))
	away.ToClear = 2
	messagesOf := func(client string, bytes int64) []Datapoint {
		return slices.Concat(datapointsAt(client, "", 1, bytes), datapointsAt(client, "", 2, bytes), datapointsAt(client, "", 3, bytes), datapointsAt(client, "", 4, bytes))
	}
	in := datapointsAt("pump-7", "connected", 0, 0)
	out := datapointsAt("pump-7", "disconnected", 5, 0)
	out[0].Session = in[0].Session
	will := func(bytes int64) []Datapoint { return datapointsAt("pump-7", "", 17, bytes) }
	back := datapointsAt("pump-7", "connected", 60, 0)
	for _, row := range []struct {
		why      string
		behavior defender.Behavior
		events   []Datapoint
		answer   func(string, int64) (Connection, bool)
		want     []string
		calls    int // at most
	}{
		{"a silent client that is connected", some, slices.Concat(in, messagesOf("pump-7", 8)), connectedAt(0), []string{"in-alarm 9"}, 60},
		{"a client ID with + disconnects", some, messagesOf("a+b", 8), connectedAt(0), nil, 0},
		{"a client ID with # disconnects", some, messagesOf("pump-7#2", 8), connectedAt(0), nil, 0},
		{"a client ID with + and an event that AWS does not publish", some, slices.Concat(datapointsAt("a+b", "connected", 0, 0), messagesOf("a+b", 8)), connectedAt(0), nil, 0},
		{"a client ID with + sends too much and disconnects", small, messagesOf("a+b", 800), connectedAt(0), []string{"in-alarm 1", "alarm-invalidated 2940"}, 0},
		{"a client ID with # sends too much and disconnects", small, messagesOf("a#b", 800), connectedAt(0), []string{"in-alarm 1", "alarm-invalidated 2940"}, 0},
		{"a connected client sends too much, then nothing", small, slices.Concat(in, messagesOf("pump-7", 800)), connectedAt(0), []string{"in-alarm 1", "alarm-cleared 9"}, 1},
		{"a window with a session breaks a run", small2, slices.Concat(in, messagesOf("pump-7", 800), datapointsAt("pump-7", "", 11, 800)), connectedAt(0), nil, 2},
		{"a window without a confirmed session does not break a run", small2, slices.Concat(in, messagesOf("pump-7", 800), datapointsAt("pump-7", "", 11, 800)), noAnswer, []string{"in-alarm 11", "alarm-invalidated 2940"}, 1000},
		{"the disconnected event is lost, too few messages", some, slices.Concat(in, messagesOf("pump-7", 8)), disconnectedAt(5), nil, 1},
		{"the disconnected event is lost, alarm of size", small, slices.Concat(in, messagesOf("pump-7", 800)), disconnectedAt(5), []string{"in-alarm 1", "alarm-invalidated 2940"}, 1},
		{"the disconnected event was lost long ago", small, slices.Concat(in, messagesOf("pump-7", 800)), disconnectedAt(-600), []string{"in-alarm 1", "alarm-invalidated 2940"}, 1},
		{"a last will is published minutes late, too few messages", some, slices.Concat(in, messagesOf("pump-7", 8), out, will(8)), disconnectedAt(5), nil, 1},
		{"a last will is published minutes late, alarm of size", small, slices.Concat(in, messagesOf("pump-7", 8), out, will(800)), disconnectedAt(5), []string{"in-alarm 17", "alarm-invalidated 2940"}, 1},
		{"the client reconnected within the window, the event is lost", small, slices.Concat(in, messagesOf("pump-7", 800)), connectedAt(6), []string{"in-alarm 1", "alarm-cleared 14"}, 3},
		{"the client reconnected just before the window, within the error of the clocks", small, slices.Concat(in, messagesOf("pump-7", 800)), connectedAt(4), []string{"in-alarm 1", "alarm-cleared 14"}, 3},
		{"the call fails, too few messages", some, slices.Concat(in, messagesOf("pump-7", 8)), noAnswer, nil, 1000},
		{"the call fails, alarm of size", small, slices.Concat(in, messagesOf("pump-7", 800)), noAnswer, []string{"in-alarm 1", "alarm-invalidated 2940"}, 1000},
		{"the answer has no time", small, slices.Concat(in, messagesOf("pump-7", 800)), func(string, int64) (Connection, bool) { return Connection{Connected: true}, true },
			[]string{"in-alarm 1", "alarm-invalidated 2940"}, 1000},
		{"too few messages of a client that disconnected and reconnected", some, slices.Concat(in, messagesOf("pump-7", 8), out, back), connectedAt(60), []string{"in-alarm 69"}, 60},
		{"reconnected for an hour", away, slices.Concat(in, out, back), connectedAt(60), []string{"in-alarm 35", "alarm-cleared 120"}, 1},
		{"reconnected, and disconnected again without an event", away, slices.Concat(in, out, back), disconnectedAt(70), []string{"in-alarm 35"}, 1},
		{"reconnected, and the call fails", away, slices.Concat(in, out, back), noAnswer, []string{"in-alarm 35"}, 100},
	} {
		c := &connections{answer: row.answer}
		changes, s, stats := runFor(evaluator(t, row.behavior), c, slices.Clone(row.events), 51)
		if !slices.Equal(changes, row.want) || len(c.calls) > row.calls || row.calls > 0 && len(c.calls) == 0 {
			t.Errorf("%s: changes %q, want %q; %d calls, want at most %d; state %s", row.why, changes, row.want, len(c.calls), row.calls, mustJSON(t, s))
		}
		if failing := row.calls >= 100; failing != (stats.Unconfirmed > 0) {
			t.Errorf("%s: %d unconfirmed windows, want some: %v", row.why, stats.Unconfirmed, failing)
		}
	}
}

// Without Connection, no window without events is a datapoint.
func TestSilenceChangesNothingWithoutConnection(t *testing.T) {
	e := evaluator(t, behavior(defender.MessageByteSize.LessThan(100)))
	e.Connection = nil
	r := e.Step("pump-7", State{}, slices.Concat(datapointsAt("pump-7", "connected", 0, 0), datapointsAt("pump-7", "", 4, 800)), start.Add(4*time.Minute))
	r = e.Step("pump-7", r.State, nil, start.Add(time.Hour))
	if len(r.Transitions) != 1 || !r.State.Open("Profile", "b") || r.Stats.Unconfirmed == 0 {
		t.Errorf("transitions %s, stats %+v, want the alarm alone, still open, and unconfirmed windows", show(r.Transitions), r.Stats)
	}
}

func TestEachClientOfAThingHasItsOwnSessions(t *testing.T) {
	agent := datapointsAt("pump-7-agent", "connected", 0, 0)
	app := datapointsAt("pump-7", "connected", 0, 0)
	appDisconnects := datapointsAt("pump-7", "disconnected", 4, 0)
	appDisconnects[0].Session = app[0].Session
	c := &connections{answer: connectedAt(0)}
	few := behavior(defender.MessagesSent.GreaterThan(0, defender.Window5m))
	changes, _, _ := runFor(evaluator(t, few), c, slices.Concat(agent, app, appDisconnects, datapointsAt("pump-7", "", 1, 8)), 1)
	if want := []string{"in-alarm 9"}; !slices.Equal(changes, want) || !slices.Contains(c.calls, "pump-7-agent") || slices.Contains(c.calls, "pump-7") {
		t.Errorf("changes %q, want %q; calls for %q, want pump-7-agent alone", changes, want, c.calls)
	}
	away := behavior(defender.DisconnectDuration.LessThan(10))
	if changes, _, _ := runFor(evaluator(t, away), c, slices.Concat(agent, app, appDisconnects), 1); len(changes) > 0 {
		t.Errorf("one session is open: changes %q, want none", changes)
	}
	agentDisconnects := datapointsAt("pump-7-agent", "disconnected", 20, 0)
	agentDisconnects[0].Session = agent[0].Session
	changes, _, _ = runFor(evaluator(t, away), c, slices.Concat(agent, app, appDisconnects, agentDisconnects), 1)
	if want := []string{"in-alarm 30"}; !slices.Equal(changes, want) {
		t.Errorf("no session is open: changes %q, want %q", changes, want)
	}
}
