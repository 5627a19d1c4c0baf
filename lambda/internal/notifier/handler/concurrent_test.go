package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/notification"
)

// Amazon SQS may deliver an event twice, to two invocations at once.
func TestDuplicateAtTheSameTimeIsNotSentTwice(t *testing.T) {
	r := newRig(t, notification.Config{})
	body := finding{name: "pump-7", severity: "HIGH", at: noon}.event()
	var duplicate events.SQSEventResponse
	entered := false
	r.fault = func(call string, done bool) error {
		if call != "Publish people" || done || entered {
			return nil
		}
		entered = true
		event, err := json.Marshal(events.SQSEvent{Records: []events.SQSMessage{{MessageId: "twin", ReceiptHandle: "twin", Body: body}}})
		if err != nil {
			t.Fatal(err)
		}
		out, err := r.h.Handle(context.Background(), event)
		if err != nil {
			t.Fatal(err)
		}
		duplicate = out.(events.SQSEventResponse)
		return nil
	}
	r.send(body)
	r.run(noon.Add(time.Second))
	if len(duplicate.BatchItemFailures) != 1 {
		t.Errorf("failures %+v, want the duplicate to be retried", duplicate)
	}
	r.send(body) // the retry of the duplicate
	r.run(noon.Add(time.Hour))
	if got := r.messages(); len(got) != 1 || len(r.on(chat)) != 1 {
		t.Errorf("people received %q and chat %q, want one message each", got, r.on(chat))
	}
}

// A failed event is retried before the invocation's timeout has passed.
func TestFailureIsRetriedSoon(t *testing.T) {
	r := newRig(t, notification.Config{})
	failures := 0
	r.fault = func(call string, done bool) error {
		if call == "Publish chat" && !done && failures < 2 {
			failures++
			return errors.New("throttled")
		}
		return nil
	}
	r.send(finding{name: "pump-7", severity: "HIGH", at: noon}.event())
	r.run(noon.Add(time.Hour))
	if len(r.messages()) != 1 || len(r.on(chat)) != 1 || r.published[1].at.Sub(noon) > time.Minute {
		t.Errorf("published %+v, want one message per topic, within a minute", r.published)
	}
}

// The write of the record of a published message is retried if the table throttles it. Otherwise the
// message would be sent a second time.
func TestThrottledRecordDoesNotRepeatTheMessage(t *testing.T) {
	for _, effect := range []bool{false, true} { // whether the failed write took effect
		r := newRig(t, notification.Config{})
		sent, failures := false, 0
		r.fault = func(call string, done bool) error {
			sent = sent || call == "Publish chat" && done
			if sent && call == "PutItem" && done == effect && failures < 3 {
				failures++
				return errors.New("throttled")
			}
			return nil
		}
		r.send(finding{name: "pump-7", severity: "HIGH", at: noon}.event())
		r.run(noon.Add(time.Hour))
		if len(r.messages()) != 1 || len(r.on(chat)) != 1 || len(r.queue) > 0 || failures == 0 {
			t.Errorf("after %d failures: published %+v, %d messages in the queue; want one message per topic, and none", failures, r.published, len(r.queue))
		}
	}
}

// An event waits for an incident once, even if the function's clock is behind.
func TestHoldEndsWithAClockThatIsBehind(t *testing.T) {
	r := newRig(t, notification.Config{Rules: rules, HoldSeconds: 60})
	r.h.Now = func() time.Time { return r.now.Add(-3 * time.Hour) }
	r.send(finding{name: "pump-7", severity: "HIGH", at: noon}.event())
	r.run(noon.Add(2 * time.Minute))
	if len(r.messages()) != 1 || r.count(contract.MetricHeld) != 1 {
		t.Errorf("people received %q, held %d times; want one message, held once", r.messages(), r.count(contract.MetricHeld))
	}
}

// If two events have equal times, the finding counts as open.
func TestOpenStateWinsAtEqualTimes(t *testing.T) {
	for _, order := range [][]string{{"", "archived"}, {"archived", ""}} {
		r := newRig(t, notification.Config{})
		for _, state := range order {
			r.send(finding{name: "pump-7", severity: "HIGH", state: state, at: noon}.event())
			r.run(r.now.Add(time.Second))
		}
		if got := r.messages(); !reportedOpen(got) {
			t.Errorf("events in the order %q: people received %q, want the finding open", order, got)
		}
	}
}

// If there are too many changes, the most severe ones have their own messages.
func TestMostSevereChangesAreNotCapped(t *testing.T) {
	r := newRig(t, notification.Config{PerMinute: 2})
	r.batch = 40
	for i := range 40 {
		severity := "MEDIUM"
		if i >= 38 {
			severity = "HIGH"
		}
		r.send(finding{name: fmt.Sprintf("pump-%d", i), severity: severity, at: noon}.event())
	}
	r.run(noon.Add(10 * time.Minute))
	if got := strings.Join(r.messages(), "\n"); strings.Count(got, "HIGH finding, new") != 2 || !strings.Contains(got, "and 38 more") {
		t.Errorf("people received\n%s\nwant two messages about HIGH, and 38 more", got)
	}
}

// An invocation with the end of a finding loses against a newer event. The digest reports the state of
// the newer event: the finding is open.
func TestDigestHasNoLineOfAnEventThatLost(t *testing.T) {
	for _, reported := range []bool{false, true} { // by an earlier digest
		r := newRig(t, notification.Config{DigestBelow: correlation.Label(defender.High)})
		r.send(finding{name: "pump-7", severity: "MEDIUM", at: noon}.event())
		r.run(noon.Add(time.Minute))
		if reported {
			r.request(contract.NotifyDigest)
		}
		entered := false
		r.fault = func(call string, done bool) error {
			if call != "PutItem" || done || entered {
				return nil
			}
			entered = true
			newer := finding{name: "pump-7", severity: "MEDIUM", at: noon.Add(2 * time.Minute)}.event()
			event, err := json.Marshal(events.SQSEvent{Records: []events.SQSMessage{{MessageId: "newer", ReceiptHandle: "newer", Body: newer}}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.h.Handle(context.Background(), event)
			return err
		}
		r.send(finding{name: "pump-7", severity: "MEDIUM", state: "archived", at: noon.Add(time.Minute)}.event())
		r.run(noon.Add(time.Hour))
		r.request(contract.NotifyDigest)
		if got := r.digests(); !entered || len(got) != 1 || !strings.Contains(got[0], "new, ") {
			t.Errorf("reported before: %v: digests %q, want one with the finding as new", reported, got)
		}
	}
}

// A finding of a list changes before the list is sent, and the change has its own message. The
// later list does not contradict that message.
func TestListDoesNotContradictANewerMessage(t *testing.T) {
	r := newRig(t, notification.Config{DigestBelow: correlation.Label(defender.High)})
	for i, f := range []finding{
		{name: "pump-7", severity: "MEDIUM"}, {name: "pump-7", severity: "MEDIUM", state: "archived"}, {name: "pump-7", severity: "HIGH"},
		{name: "pump-8", severity: "MEDIUM"}, {name: "pump-8", severity: "HIGH"}, {name: "pump-8", severity: "HIGH", state: "archived"},
		{name: "pump-9", severity: "MEDIUM"}, {name: "pump-9", severity: "MEDIUM", state: "archived"},
	} {
		f.at = noon.Add(time.Duration(i) * time.Minute)
		r.send(f.event())
		r.run(f.at)
	}
	for range 2 {
		r.request(contract.NotifyDigest)
	}
	if got := r.digests(); len(got) != 1 || strings.Contains(got[0], "pump-7") || strings.Contains(got[0], "pump-8") || !strings.Contains(got[0], "over, pump-9") {
		t.Errorf("digests %q, want one, with the end of pump-9 alone", got)
	}
}

// After a crash at any call, the digest has the finding's line with its current state.
func TestCrashLosesNoLineOfADigest(t *testing.T) { synctest.Test(t, crashLosesNoLine) }

func crashLosesNoLine(t *testing.T) {
	for crash := int64(1); ; crash++ {
		r := newRig(t, notification.Config{DigestBelow: correlation.Label(defender.High)})
		var calls atomic.Int64
		r.fault = func(string, bool) error {
			if calls.Add(1) == crash {
				return errCrashed
			}
			return nil
		}
		for i, state := range []string{"", "archived", ""} {
			at := noon.Add(time.Duration(i) * time.Hour)
			r.send(finding{name: "pump-7", severity: "MEDIUM", state: state, at: at}.event())
			r.run(at.Add(30 * time.Minute))
			r.request(contract.NotifyDigest)
			r.request(contract.NotifyDigest) // as Lambda retries
		}
		got := r.digests()
		if calls.Load() < crash {
			break // there are no more calls
		}
		if len(got) < 3 || !strings.Contains(got[len(got)-1], "new, ") {
			t.Errorf("crash at call %d: digests %q, want at least 3, the last with the finding as new", crash, got)
		}
	}
}

// hanging is a registry that does not answer.
type hanging struct{}

func (hanging) Groups(ctx context.Context, _ string, _ time.Time) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A registry that does not answer costs a message only the thing groups in its text.
func TestRegistryThatHangsStopsNoMessage(t *testing.T) {
	for name, filters := range map[string][]notification.Filter{"text": nil, "filter": {{ThingGroups: []string{"pumps"}}}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, notification.Config{PerMinute: 100, Filters: filters})
				r.h.Groups = hanging{}
				var bodies []string
				for i := range 50 {
					bodies = append(bodies, finding{name: fmt.Sprintf("pump-%d", i), severity: "HIGH", at: noon}.event())
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				failed := r.handle(ctx, bodies...)
				if len(failed) > 0 || len(r.messages()) != 50 || len(r.on(chat)) != 50 || ctx.Err() != nil {
					t.Errorf("%d events are retried, %d messages to people and %d to chat; want none, 50 and 50, within the timeout", len(failed), len(r.messages()), len(r.on(chat)))
				}
			})
		})
	}
}

// handle handles messages in one invocation, and returns how many are retried.
func (r *rig) handle(ctx context.Context, bodies ...string) []events.SQSBatchItemFailure {
	r.t.Helper()
	var batch events.SQSEvent
	for i, body := range bodies {
		id := fmt.Sprint(i)
		batch.Records = append(batch.Records, events.SQSMessage{MessageId: id, ReceiptHandle: id, Body: body})
	}
	event, err := json.Marshal(batch)
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := r.h.Handle(ctx, event)
	if err != nil {
		r.t.Fatal(err)
	}
	return out.(events.SQSEventResponse).BatchItemFailures
}

// A slow queue delays neither the events of a batch nor its answer.
func TestSlowQueueDoesNotCostTheWholeBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, notification.Config{Rules: rules, HoldSeconds: 60})
		r.fault = func(call string, done bool) error {
			if !done && (call == "SendMessage" || call == "ChangeMessageVisibility") {
				time.Sleep(900 * time.Millisecond) // no call ends at the very moment at which a context does
			}
			return nil
		}
		var bodies []string
		for i := range 500 {
			bodies = append(bodies, "{}", finding{name: fmt.Sprintf("pump-%d", i), severity: "HIGH", at: noon}.event())
		}
		bodies = append(bodies, incident("chain", "pump-x", "", "CRITICAL", "", noon))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		failed := r.handle(ctx, bodies...)
		if ctx.Err() != nil {
			t.Error("the function ran into its deadline")
		}
		if n := len(r.deadLetters); n == 0 || len(failed)+n != 1000 || len(r.messages()) != 1 {
			t.Errorf("%d dead letters, %d events are retried, people received %q; want some, the others of 1000, and the incident", n, len(failed), r.messages())
		}
		if held, n := r.count(contract.MetricHeld), r.count(contract.MetricFailed); held != 500 || n != 500-len(r.deadLetters) {
			t.Errorf("%d events held, %d failed; want 500, and the unreadable ones that are no dead letters", held, n)
		}
	})
}

// Another invocation has claimed a list and does not end. A batch with a request for that list
// reports its events.
func TestEventsDoNotWaitForAList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, notification.Config{})
		minute := noon.Format(time.RFC3339)
		if _, err := r.h.Table.Claim(t.Context(), contract.NotifyMore+"#"+minute, "another", "", noon); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		failed := r.handle(ctx, contract.NotifyRequest(contract.NotifyMore, minute), finding{name: "pump-7", severity: "HIGH", at: noon}.event())
		if len(failed) != 1 || failed[0].ItemIdentifier != "0" || len(r.messages()) != 1 || ctx.Err() != nil {
			t.Errorf("messages %v are retried, people received %q; want the request, and one message", failed, r.messages())
		}
	})
}
