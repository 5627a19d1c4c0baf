package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/notification"
)

// story returns states of one finding, with distinct times.
func story(rt *rapid.T) []finding {
	n := rapid.IntRange(1, 7).Draw(rt, "events")
	var all []finding
	for i := range n {
		all = append(all, finding{
			name: "pump-7", at: noon.Add(time.Duration(i) * time.Second),
			severity: rapid.SampledFrom([]string{"MEDIUM", "HIGH", "CRITICAL"}).Draw(rt, "severity"),
			state:    rapid.SampledFrom([]string{"", "", "archived", "suppressed"}).Draw(rt, "state"),
		})
	}
	return all
}

// reportedOpen reports whether the last message says that the finding is open.
func reportedOpen(messages []string) bool {
	return len(messages) > 0 && !strings.Contains(messages[len(messages)-1], ", over")
}

// After any order of the events, with duplicates, the last message has the finding's true state. No
// message ends a finding that was not reported, and none reports it as new twice without an end.
func TestOrderAndDuplicatesDoNotChangeTheReportedState(t *testing.T) {
	for name, config := range map[string]notification.Config{"alone": {}, "with incidents": {Rules: rules, HoldSeconds: 60}} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				events := story(rt)
				wantOpen := events[len(events)-1].state == ""
				shuffled := rapid.Permutation(append(slices.Clone(events), events[:rapid.IntRange(0, len(events)).Draw(rt, "duplicates")]...)).Draw(rt, "order")
				r := newRig(t, config)
				r.batch = rapid.IntRange(1, 4).Draw(rt, "batch")
				for _, e := range shuffled {
					r.send(e.event())
					if rapid.Bool().Draw(rt, "handled") {
						r.run(r.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds")) * time.Second))
					}
				}
				r.run(r.now.Add(time.Hour))
				check(rt, r, wantOpen)
			})
		})
	}
}

// check requires that no message contradicts the one before, and that the last one has the state of
// the finding.
func check(rt *rapid.T, r *rig, wantOpen bool) {
	messages := r.messages()
	if got := reportedOpen(messages); got != wantOpen {
		rt.Errorf("people know the finding as open: %v, want %v: %q", got, wantOpen, messages)
	}
	open := false
	for i, m := range messages {
		fresh := strings.Contains(m, ", new")
		if held := strings.Contains(m, ", over") && !open && r.h.Config.HoldSeconds > 0; held {
			continue // it ended while it was held
		}
		if fresh == open && !r.repeats(i) {
			rt.Errorf("message %d of %q contradicts the one before", i, messages)
		}
		open = !strings.Contains(m, ", over")
	}
	if len(r.queue) > 0 || len(r.deadLetters) > 0 {
		rt.Errorf("%d messages in the queue, dead letters %q; want none", len(r.queue), r.deadLetters)
	}
}

// repeats reports whether message i repeats the one before, as after a crash.
func (r *rig) repeats(i int) bool {
	messages := r.messages()
	return i > 0 && messages[i] == messages[i-1]
}

// A crash before or after any call loses no message.
func TestCrashLosesNoMessage(t *testing.T) {
	events := []finding{
		{name: "pump-7", severity: "MEDIUM", at: noon}, {name: "pump-7", severity: "HIGH", at: noon.Add(time.Minute)},
		{name: "pump-7", severity: "HIGH", at: noon.Add(2 * time.Minute), state: "archived"},
	}
	for _, together := range []bool{false, true} {
		for crash := int64(1); ; crash++ {
			r := newRig(t, notification.Config{})
			var calls atomic.Int64
			where := ""
			r.fault = func(call string, done bool) error {
				if calls.Add(1) == crash {
					where = fmt.Sprintf("%s, done %v", call, done)
					return errCrashed
				}
				return nil
			}
			for _, e := range events {
				r.send(e.event())
				if !together {
					r.run(r.now.Add(time.Minute))
				}
			}
			r.run(r.now.Add(2 * time.Hour))
			if where == "" {
				break // there are no more calls
			}
			for _, topic := range []string{people, chat} {
				got := r.on(topic)
				all := strings.Join(got, "\n")
				// Newer events may be handled before the retry. Then an intermediate state has no message.
				if len(got) < 2 || len(got) > 4 || !strings.Contains(got[0], ", new") || reportedOpen(got) || !strings.Contains(all, "HIGH") {
					t.Errorf("crash at %s (together %v): %s received\n%s", where, together, topic, all)
				}
				distinct := slices.Compact(slices.Clone(got))
				if len(distinct) < len(got)-1 || strings.Count(all, ", new") > 2 || together && len(distinct) != 3 {
					t.Errorf("crash at %s (together %v): %s received\n%s", where, together, topic, all)
				}
			}
		}
	}
}

// A crash at a random call, in any order of events.
func TestCrashInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		events := story(rt)
		wantOpen := events[len(events)-1].state == ""
		r := newRig(t, notification.Config{})
		var calls atomic.Int64
		crash := rapid.Int64Range(1, 25).Draw(rt, "crash")
		r.fault = func(string, bool) error {
			if calls.Add(1) == crash {
				return errCrashed
			}
			return nil
		}
		for _, e := range rapid.Permutation(events).Draw(rt, "order") {
			r.send(e.event())
			r.run(r.now.Add(time.Duration(rapid.IntRange(0, 400).Draw(rt, "seconds")) * time.Second))
		}
		r.run(r.now.Add(3 * time.Hour))
		if got := reportedOpen(r.messages()); got != wantOpen {
			rt.Errorf("people know the finding as open: %v, want %v: %q", got, wantOpen, r.messages())
		}
		if got := reportedOpen(r.on(chat)); got != wantOpen {
			rt.Errorf("chat shows the finding as open: %v, want %v: %q", got, wantOpen, r.on(chat))
		}
	})
}

// Each dependency fails for an hour. No message is lost, and none is sent twice to a topic.
func TestEachDependencyFailsInTurn(t *testing.T) {
	config := notification.Config{
		Rules: rules, HoldSeconds: 60, DigestBelow: correlation.Label(defender.High), Remind: correlation.Label(defender.Critical), PerMinute: 2,
		Filters: []notification.Filter{{ThingGroups: []string{"pumps"}}},
	}
	for _, call := range []string{"GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Publish people", "Publish chat", "SendMessage", "ChangeMessageVisibility", "Groups"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, config)
				r.fault = func(name string, done bool) error {
					if name == call && !done && r.now.Before(noon.Add(time.Hour)) {
						return errors.New("service unavailable")
					}
					return nil
				}
				for i := range 4 {
					r.groups[fmt.Sprintf("pump-%d", i)] = []string{"pumps"}
					r.send(finding{name: fmt.Sprintf("pump-%d", i), severity: "HIGH", at: noon}.event())
				}
				r.groups["pump-9"] = []string{"pumps"}
				r.groups["pump-low"] = []string{"pumps"}
				r.send(finding{name: "pump-low", severity: "LOW", at: noon}.event())
				r.send(incident("chain", "pump-9", "", "CRITICAL", "", noon))
				for at := time.Duration(0); at <= 3*time.Hour; at += 30 * time.Minute {
					r.run(noon.Add(at))
					r.request(contract.NotifyDigest)
				}
				r.request(contract.NotifyRemind)
				for _, topic := range []string{people, chat} {
					got := strings.Join(sorted(r.on(topic)), "\n")
					// A change without its own message is in a list.
					alarms := strings.Count(got, "HIGH finding, new")
					for _, more := range regexp.MustCompile(`and (\d) more`).FindAllStringSubmatch(got, -1) {
						alarms += int(more[1][0] - '0')
					}
					if alarms != 4 {
						t.Errorf("%s received %d alarms, want 4:\n%s", topic, alarms, got)
					}
					for _, text := range []string{"CRITICAL incident, new", "Digest: 1 finding", "Reminder: 1 finding"} {
						if n := strings.Count(got, text); n != 1 && !(call == "DeleteItem" && n > 1) {
							t.Errorf("%s received %q %d times, want once:\n%s", topic, text, n, got)
						}
					}
				}
				if len(r.queue) > 0 {
					t.Errorf("%d messages are still in the queue", len(r.queue))
				}
			})
		})
	}
}

// After failures of any calls, also of calls that took effect, the last message has the finding's true
// state.
func TestFailuresInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		events := story(rt)
		wantOpen := events[len(events)-1].state == ""
		r := newRig(t, notification.Config{})
		r.batch = rapid.IntRange(1, 4).Draw(rt, "batch")
		failing := rapid.SliceOfN(rapid.IntRange(1, 60), 0, 15).Draw(rt, "failing")
		var calls atomic.Int64
		r.fault = func(string, bool) error {
			if slices.Contains(failing, int(calls.Add(1))) {
				return errors.New("service unavailable")
			}
			return nil
		}
		for _, e := range rapid.Permutation(events).Draw(rt, "order") {
			r.send(e.event())
			r.run(r.now.Add(time.Duration(rapid.IntRange(0, 30).Draw(rt, "seconds")) * time.Second))
		}
		r.run(r.now.Add(3 * time.Hour))
		for _, topic := range []string{people, chat} {
			if got := reportedOpen(r.on(topic)); got != wantOpen {
				rt.Errorf("%s shows the finding as open: %v, want %v: %q", topic, got, wantOpen, r.on(topic))
			}
		}
	})
}

// The message that a finding is over fails, and another event of the ended finding arrives before
// the retry.
func TestRefreshOfAnEndedFindingReportsTheEnd(t *testing.T) {
	for _, topic := range []string{people, chat} {
		r := newRig(t, notification.Config{})
		failing := "Publish " + topic[strings.LastIndex(topic, ":")+1:]
		r.fault = func(call string, _ bool) error {
			if call == failing && r.now.Equal(noon.Add(time.Minute)) {
				return errors.New("service unavailable")
			}
			return nil
		}
		for _, e := range []finding{
			{at: noon}, {at: noon.Add(time.Minute), state: "archived"}, {at: noon.Add(time.Minute + time.Second), state: "archived"},
		} {
			e.name, e.severity = "pump-7", "HIGH"
			r.run(e.at)
			r.send(e.event())
			r.run(e.at)
		}
		r.run(noon.Add(time.Hour))
		if got := r.on(topic); len(got) != 2 || reportedOpen(got) {
			t.Errorf("%s received %q, want the alarm and its end", topic, got)
		}
	}
}

// The answer to the record of a retried message is lost, and another event records its own message
// before the write is retried. A newer event does not replace that message.
func TestNewerEventKeepsTheMessageThatIsOwedMeanwhile(t *testing.T) {
	r := newRig(t, notification.Config{})
	opened, ended, again := finding{at: noon}, finding{at: noon.Add(time.Minute), state: "archived"}, finding{at: noon.Add(2 * time.Minute)}
	for _, e := range []*finding{&opened, &ended, &again} {
		e.name, e.severity = "pump-7", "HIGH"
	}
	fails := true
	r.fault = func(call string, _ bool) error {
		if fails && strings.HasPrefix(call, "Publish") {
			return errors.New("service unavailable")
		}
		return nil
	}
	r.send(opened.event())
	r.run(noon)
	fails = false
	writes, inner := 0, false
	r.fault = func(call string, done bool) error {
		switch {
		case inner && strings.HasPrefix(call, "Publish"):
			return errors.New("service unavailable")
		case call != "PutItem" || !done || inner:
			return nil
		}
		if writes++; writes != 2 {
			return nil
		}
		inner = true
		event, err := json.Marshal(events.SQSEvent{Records: []events.SQSMessage{{MessageId: "ended", ReceiptHandle: "ended", Body: ended.event()}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = r.h.Handle(context.Background(), event); err != nil {
			t.Fatal(err)
		}
		inner = false
		return errors.New("the answer was lost")
	}
	r.run(noon.Add(14 * time.Second))
	r.send(again.event())
	r.queue[1].visible = r.queue[0].visible // in one batch
	r.run(noon.Add(time.Hour))
	got := r.messages()
	if len(got) != 3 || !strings.Contains(got[1], ", over") || !reportedOpen(got) {
		t.Errorf("people received %q, want three messages: the alarm, its end, and the new alarm", got)
	}
}

// A refresh of a finding costs one write per batch, and sends no message.
func TestRefreshesSendNothing(t *testing.T) {
	r := newRig(t, notification.Config{})
	r.batch = 1000
	r.send(finding{name: "pump-7", severity: "HIGH", at: noon}.event())
	r.run(r.now)
	before := r.writes
	const refreshes = 10_000
	for i := range refreshes {
		r.send(finding{name: "pump-7", severity: "HIGH", at: noon.Add(time.Duration(i+1) * time.Millisecond)}.event())
	}
	r.run(r.now.Add(time.Hour))
	if got := r.messages(); len(got) != 1 {
		t.Errorf("%d messages, want one: %q", len(got), got)
	}
	if n := r.writes - before; n != refreshes/r.batch {
		t.Errorf("%d writes, want %d, one for each batch", n, refreshes/r.batch)
	}
	if n := r.count(contract.MetricUnchanged); n != refreshes {
		t.Errorf("%d events counted as unchanged, want %d", n, refreshes)
	}
}

// In a flood of changes, the most severe ones have their own messages. One message lists all others.
func TestFloodIsCapped(t *testing.T) {
	r := newRig(t, notification.Config{PerMinute: 20})
	r.batch = 500
	for i := range 1000 {
		severity := "MEDIUM"
		if i%100 == 99 {
			severity = "CRITICAL"
		}
		r.send(finding{name: fmt.Sprintf("pump-%d", i), severity: severity, at: noon}.event())
	}
	r.run(noon.Add(10 * time.Minute))
	got := strings.Join(r.messages(), "\n")
	for text, want := range map[string]int{"CRITICAL finding, new": 10, "MEDIUM finding, new": 20, "and 970 more in the minute before 12:01 UTC": 1} {
		if n := strings.Count(got, text); n != want {
			t.Errorf("%q in %d messages, want %d", text, n, want)
		}
	}
	if n := len(r.messages()); n != 31 || r.count(contract.MetricCapped) != 970 || r.count(contract.MetricSent) != 30 {
		t.Errorf("%d messages, %d capped, %d sent; want 31, 970 and 30", n, r.count(contract.MetricCapped), r.count(contract.MetricSent))
	}
	for _, it := range r.table.Items("notify") {
		if key := it[contract.NotifyPartitionKey].(*types.AttributeValueMemberS).Value; strings.HasPrefix(key, "list#") {
			t.Errorf("a line of the list is left in %s", key)
		}
	}
	// All findings end in another minute.
	r.published = nil
	for i := range 1000 {
		r.send(finding{name: fmt.Sprintf("pump-%d", i), severity: "LOW", state: "archived", at: noon.Add(10 * time.Minute)}.event())
	}
	r.run(noon.Add(20 * time.Minute))
	if got := strings.Join(r.messages(), "\n"); strings.Count(got, ", over") != 30 || !strings.Contains(got, "and 970 more") {
		t.Errorf("people received\n%s\nwant 30 ends, and 970 more", got)
	}
}

func TestFiltersByThingGroup(t *testing.T) {
	r := newRig(t, notification.Config{Filters: []notification.Filter{{ThingGroups: []string{"pumps"}}}})
	r.groups["pump-7"], r.groups["meter-2"] = []string{"hall", "pumps"}, []string{"meters"}
	elsewhere := finding{name: "meter-3", severity: "HIGH", at: noon, more: map[string]any{"AwsAccountId": "210987654321"}}
	for _, e := range []finding{{name: "pump-7", severity: "HIGH", at: noon}, {name: "meter-2", severity: "HIGH", at: noon}, elsewhere} {
		r.send(e.event())
	}
	r.run(noon.Add(time.Minute))
	if got := strings.Join(sorted(r.messages()), "\n"); got != "HIGH finding, new: meter-3 violates ports\nHIGH finding, new: pump-7 violates ports" {
		t.Errorf("people received\n%s\nwant messages about meter-3 and pump-7", got)
	}
	if r.count(contract.MetricFiltered) != 1 || r.count(contract.MetricUnevaluated) != 1 {
		t.Errorf("%d filtered, %d unevaluated; want one each", r.count(contract.MetricFiltered), r.count(contract.MetricUnevaluated))
	}
	if !strings.Contains(r.published[0].body+r.published[1].body+r.published[2].body, "pump-7, in the thing groups hall, pumps") {
		t.Error("no message names the thing groups of pump-7")
	}
}

func TestUnreadableEventIsADeadLetter(t *testing.T) {
	r := newRig(t, notification.Config{})
	r.send("{}")
	r.send(finding{name: "pump-7", severity: "HIGH", at: noon}.event())
	r.run(noon.Add(time.Minute))
	if len(r.deadLetters) != 1 || !strings.HasPrefix(r.deadLetters[0], "{} event") || len(r.messages()) != 1 || r.count(contract.MetricRefused) != 1 {
		t.Errorf("dead letters %q, messages %q; want one each", r.deadLetters, r.messages())
	}
	for _, event := range []string{"[]", "{}", `{"defenderhub":"more"}`, "x"} {
		if _, err := r.h.Handle(context.Background(), []byte(event)); err == nil {
			t.Errorf("event %s: no error", event)
		}
	}
}

// A finding that no filter matches is not written to the table.
func TestFilteredFindingsWriteNothing(t *testing.T) {
	r := newRig(t, notification.Config{Filters: []notification.Filter{{Checks: []string{"LOGGING_DISABLED_CHECK"}}}})
	for i, state := range []string{"", "archived", ""} {
		r.send(finding{name: "pump-7", severity: "HIGH", state: state, at: noon.Add(time.Duration(i) * time.Second)}.event())
	}
	r.run(noon.Add(time.Minute))
	if r.writes != 0 || len(r.messages()) != 0 || r.count(contract.MetricFiltered) != 3 {
		t.Errorf("%d writes, people received %q, %d filtered; want none, none and 3", r.writes, r.messages(), r.count(contract.MetricFiltered))
	}
}
