package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// connections is AWS IoT's answer about clients, and how often it was asked.
type connections struct {
	answer func(client string, now int64) (Connection, bool)
	now    int64
	asked  []string
}

func (c *connections) of(client string) (Connection, bool) {
	c.asked = append(c.asked, client)
	return c.answer(client, c.now)
}

// connectedAt and gone are minutes after start.
func connectedAt(m int64) func(string, int64) (Connection, bool) {
	return func(string, int64) (Connection, bool) {
		return Connection{Connected: true, Since: start.UnixMilli() + m*minute}, true
	}
}

func gone(m int64) func(string, int64) (Connection, bool) {
	return func(_ string, now int64) (Connection, bool) {
		since := start.UnixMilli() + m*minute
		if now-since > 30*minute {
			since = 0
		}
		return Connection{Since: since}, true
	}
}

func unanswered(string, int64) (Connection, bool) { return Connection{}, false }

// says is a datapoint of a client at a minute: a message of so many bytes, or with none a
// lifecycle event.
func says(client, event string, at, bytes int64) []Datapoint {
	ms := start.UnixMilli() + at*minute
	if bytes == 0 {
		return Lifecycle{ClientID: client, Timestamp: ms, EventType: event, Session: event[len(event)-1:]}.Datapoints()
	}
	return MessageDatapoints(iotrule.Telemetry{Kind: iotrule.PublishedMessage, Topic: "t", ClientID: client, ID: fmt.Sprint(client, at), Time: ms, Bytes: bytes})
}

// live passes each event to the engine when it happens, steps whenever something is due for so many
// hours, and returns the changes with their minutes.
func live(e Evaluator, c *connections, events []Datapoint, hours int64) (changes []string, s State, stats Stats) {
	e.Connection = c.of
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

// A window without events counts only if AWS IoT confirms that a session is open: events may be
// missing, and a last will is published after the end.
func TestSilenceNeedsAnOpenSession(t *testing.T) {
	some := behavior(defender.MessagesSent.GreaterThan(0, defender.Window5m))
	small := behavior(defender.MessageByteSize.LessThan(100))
	small2 := small
	small2.ToAlarm = 2
	away := behavior(defender.DisconnectDuration.LessThan(30))
	away.ToClear = 2
	messagesOf := func(client string, bytes int64) []Datapoint {
		return slices.Concat(says(client, "", 1, bytes), says(client, "", 2, bytes), says(client, "", 3, bytes), says(client, "", 4, bytes))
	}
	in := says("pump-7", "connected", 0, 0)
	out := says("pump-7", "disconnected", 5, 0)
	out[0].Session = in[0].Session
	will := func(bytes int64) []Datapoint { return says("pump-7", "", 17, bytes) }
	back := says("pump-7", "connected", 60, 0)
	for _, row := range []struct {
		why      string
		behavior defender.Behavior
		events   []Datapoint
		answer   func(string, int64) (Connection, bool)
		want     []string
		asked    int // at most
	}{
		{"a silent client that is connected", some, slices.Concat(in, messagesOf("pump-7", 8)), connectedAt(0), []string{"in-alarm 9"}, 60},
		{"a client ID with + leaves", some, messagesOf("a+b", 8), connectedAt(0), nil, 0},
		{"a client ID with # leaves", some, messagesOf("pump-7#2", 8), connectedAt(0), nil, 0},
		{"a client ID with + and an event that AWS does not publish", some, slices.Concat(says("a+b", "connected", 0, 0), messagesOf("a+b", 8)), connectedAt(0), nil, 0},
		{"a client ID with + sends too much and leaves", small, messagesOf("a+b", 800), connectedAt(0), []string{"in-alarm 1", "alarm-invalidated 2940"}, 0},
		{"a client ID with # sends too much and leaves", small, messagesOf("a#b", 800), connectedAt(0), []string{"in-alarm 1", "alarm-invalidated 2940"}, 0},
		{"sends too much, then nothing, connected", small, slices.Concat(in, messagesOf("pump-7", 800)), connectedAt(0), []string{"in-alarm 1", "alarm-cleared 9"}, 1},
		{"a run is broken by a window in which it was connected", small2, slices.Concat(in, messagesOf("pump-7", 800), says("pump-7", "", 11, 800)), connectedAt(0), nil, 2},
		{"a run is not broken by a window of which that is not known", small2, slices.Concat(in, messagesOf("pump-7", 800), says("pump-7", "", 11, 800)), unanswered, []string{"in-alarm 11", "alarm-invalidated 2940"}, 1000},
		{"the disconnected event is lost, too few messages", some, slices.Concat(in, messagesOf("pump-7", 8)), gone(5), nil, 1},
		{"the disconnected event is lost, alarm of size", small, slices.Concat(in, messagesOf("pump-7", 800)), gone(5), []string{"in-alarm 1", "alarm-invalidated 2940"}, 1},
		{"it was lost long ago", small, slices.Concat(in, messagesOf("pump-7", 800)), gone(-600), []string{"in-alarm 1", "alarm-invalidated 2940"}, 1},
		{"a last will is published minutes late, too few messages", some, slices.Concat(in, messagesOf("pump-7", 8), out, will(8)), gone(5), nil, 1},
		{"a last will is published minutes late, alarm of size", small, slices.Concat(in, messagesOf("pump-7", 8), out, will(800)), gone(5), []string{"in-alarm 17", "alarm-invalidated 2940"}, 1},
		{"it came back within the window, and no event says so", small, slices.Concat(in, messagesOf("pump-7", 800)), connectedAt(6), []string{"in-alarm 1", "alarm-cleared 14"}, 3},
		{"it came back just before the window: clocks differ", small, slices.Concat(in, messagesOf("pump-7", 800)), connectedAt(4), []string{"in-alarm 1", "alarm-cleared 14"}, 3},
		{"the call fails, too few messages", some, slices.Concat(in, messagesOf("pump-7", 8)), unanswered, nil, 1000},
		{"the call fails, alarm of size", small, slices.Concat(in, messagesOf("pump-7", 800)), unanswered, []string{"in-alarm 1", "alarm-invalidated 2940"}, 1000},
		{"the answer has no time", small, slices.Concat(in, messagesOf("pump-7", 800)), func(string, int64) (Connection, bool) { return Connection{Connected: true}, true },
			[]string{"in-alarm 1", "alarm-invalidated 2940"}, 1000},
		{"too few messages, of a client that left and came back", some, slices.Concat(in, messagesOf("pump-7", 8), out, back), connectedAt(60), []string{"in-alarm 69"}, 60},
		{"back for an hour", away, slices.Concat(in, out, back), connectedAt(60), []string{"in-alarm 35", "alarm-cleared 120"}, 1},
		{"back, and left again without an event", away, slices.Concat(in, out, back), gone(70), []string{"in-alarm 35"}, 1},
		{"back, and the call fails", away, slices.Concat(in, out, back), unanswered, []string{"in-alarm 35"}, 100},
	} {
		c := &connections{answer: row.answer}
		changes, s, stats := live(evaluator(t, row.behavior), c, slices.Clone(row.events), 51)
		if !slices.Equal(changes, row.want) || len(c.asked) > row.asked || row.asked > 0 && len(c.asked) == 0 {
			t.Errorf("%s: %q, want %q; asked %d times, want at most %d; left %s", row.why, changes, row.want, len(c.asked), row.asked, mustJSON(t, s))
		}
		if failing := row.asked >= 100; failing != (stats.Unconfirmed > 0) {
			t.Errorf("%s: %d windows not confirmed", row.why, stats.Unconfirmed)
		}
	}
}

// Without Connection, silence changes nothing.
func TestSilenceChangesNothingWithoutConnection(t *testing.T) {
	e := evaluator(t, behavior(defender.MessageByteSize.LessThan(100)))
	e.Connection = nil
	r := e.Step("pump-7", State{}, slices.Concat(says("pump-7", "connected", 0, 0), says("pump-7", "", 4, 800)), start.Add(4*time.Minute))
	r = e.Step("pump-7", r.State, nil, start.Add(time.Hour))
	if len(r.Transitions) != 1 || !r.State.Open("Profile", "b") || r.Stats.Unconfirmed == 0 {
		t.Errorf("%s%+v", show(r.Transitions), r.Stats)
	}
}

// Each of several clients of one thing has its own sessions.
func TestSessionsOfOneThingAreDistinguished(t *testing.T) {
	agent := says("pump-7-agent", "connected", 0, 0)
	app := says("pump-7", "connected", 0, 0)
	appLeaves := says("pump-7", "disconnected", 4, 0)
	appLeaves[0].Session = app[0].Session
	c := &connections{answer: connectedAt(0)}
	few := behavior(defender.MessagesSent.GreaterThan(0, defender.Window5m))
	changes, _, _ := live(evaluator(t, few), c, slices.Concat(agent, app, appLeaves, says("pump-7", "", 1, 8)), 1)
	if want := []string{"in-alarm 9"}; !slices.Equal(changes, want) || !slices.Contains(c.asked, "pump-7-agent") || slices.Contains(c.asked, "pump-7") {
		t.Errorf("%q, want %q; asked of %q", changes, want, c.asked)
	}
	away := behavior(defender.DisconnectDuration.LessThan(10))
	if changes, _, _ := live(evaluator(t, away), c, slices.Concat(agent, app, appLeaves), 1); len(changes) > 0 {
		t.Errorf("with one session left: %q", changes)
	}
	agentLeaves := says("pump-7-agent", "disconnected", 20, 0)
	agentLeaves[0].Session = agent[0].Session
	changes, _, _ = live(evaluator(t, away), c, slices.Concat(agent, app, appLeaves, agentLeaves), 1)
	if want := []string{"in-alarm 30"}; !slices.Equal(changes, want) {
		t.Errorf("with none left: %q, want %q", changes, want)
	}
}
