package handler_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/internal/notification"
)

// names returns the fields of an incident that names parts and resources besides its device.
func names(entity string, parts, resources []string) map[string]any {
	related := []map[string]string{}
	for _, id := range parts {
		related = append(related, map[string]string{"ProductArn": product, "Id": "defenderhub/behavior/" + id})
	}
	all := []map[string]string{{"Type": "AwsIotRegisteredThing", "Id": entity}}
	for _, id := range resources {
		all = append(all, map[string]string{"Type": "Other", "Id": id})
	}
	return map[string]any{"RelatedFindings": related, "Resources": all}
}

// part returns the event of a finding about a resource.
func part(id, resource, state string, at time.Time) string {
	return finding{name: id, severity: "HIGH", state: state, at: at, more: map[string]any{
		"Id": "defenderhub/behavior/" + id, "Title": "part " + id, "Resources": []map[string]string{{"Type": "Other", "Id": resource}},
	}}.event()
}

// An incident begins and ends, and the write of its beginning fails until then. It covers nothing
// after its end.
func TestIncidentThatEndedBeforeItWasRecordedCoversNothing(t *testing.T) {
	r := newRig(t, notification.Config{Rules: rules, HoldSeconds: 60})
	var writes atomic.Int64
	r.fault = func(call string, done bool) error {
		// The three aliases are written, the record is not.
		if call == "PutItem" && !done && writes.Add(1) == 4 {
			return errors.New("throttled")
		}
		return nil
	}
	r.send(incident("chain", "pump-7", "", "CRITICAL", "", noon, names("pump-7", []string{"x"}, []string{"certificate"})))
	r.run(noon)
	r.send(incident("chain", "pump-7", "", "CRITICAL", "archived", noon.Add(time.Second)))
	r.run(noon.Add(time.Minute))
	r.send(part("x", "elsewhere", "", r.now))
	r.send(part("y", "certificate", "", r.now))
	r.run(r.now.Add(5 * time.Minute))
	if got := strings.Join(sorted(r.messages()), "\n"); writes.Load() < 4 || !strings.Contains(got, "new: part x") || !strings.Contains(got, "new: part y") {
		t.Errorf("people received\n%s\nwant messages about x and y", got)
	}
}

// An incident that opens again does not cover what it named before its end.
func TestIncidentThatOpensAgainCoversOnlyItsPresentParts(t *testing.T) {
	r := newRig(t, notification.Config{Rules: rules, HoldSeconds: 60})
	for i, e := range []struct{ part, state string }{{"x", ""}, {"y", ""}, {"y", "archived"}, {"z", ""}} {
		r.send(incident("chain", "pump-7", "", "CRITICAL", e.state, noon.Add(time.Duration(i)*time.Minute), names("pump-7", []string{e.part}, nil)))
		r.run(noon.Add(time.Duration(i) * time.Minute))
	}
	for _, id := range []string{"x", "y", "z"} {
		r.send(part(id, "elsewhere", "", r.now))
	}
	r.run(r.now.Add(5 * time.Minute))
	got := strings.Join(r.messages(), "\n")
	if !strings.Contains(got, "part x") || !strings.Contains(got, "part y") || strings.Contains(got, "part z") {
		t.Errorf("people received\n%s\nwant messages about x and y, and none about z", got)
	}
}

// A long campaign names ten other parts in each update. It covers all of them until its end, and
// none after it.
func TestLongCampaignCoversItsPartsUntilItsEnd(t *testing.T) {
	r := newRig(t, notification.Config{Rules: rules, HoldSeconds: 60, PerMinute: 10_000})
	r.batch = 100
	const updates = 250
	asked, long := []string{}, strings.Repeat("x", 190)
	campaign := func(state string, parts ...string) {
		r.send(incident("storm", "", "behavior loud", "CRITICAL", state, r.now, names("pump-1", parts, nil)))
		r.run(r.now.Add(10 * time.Minute))
	}
	for update := range updates {
		var parts []string
		for i := range 10 {
			parts = append(parts, fmt.Sprintf("%s-%d-%d", long, update, i))
		}
		campaign("", parts...)
		asked = append(asked, parts[update%10])
	}
	opened := func(ids []string) int {
		before := len(r.messages())
		for _, id := range ids {
			r.send(part(id, "elsewhere", "", r.now))
		}
		r.run(r.now.Add(5 * time.Minute))
		return len(r.messages()) - before
	}
	first := asked[:10]
	if n := opened(first); n != 0 {
		t.Errorf("%d messages about parts during the campaign, want none", n)
	}
	for _, id := range first {
		r.send(part(id, "elsewhere", "archived", r.now))
	}
	campaign("archived")
	if n := opened(asked); n != len(asked) || len(r.queue) > 0 {
		t.Errorf("%d messages about parts after the campaign, %d in the queue; want %d and none", n, len(r.queue), len(asked))
	}
}
