package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/transition"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/sweep"
)

// live returns live behaviors of the profile plant.
func live(behaviors ...string) contract.LiveBehaviors {
	l := contract.LiveBehaviors{}
	for _, b := range behaviors {
		l.Add("plant", b, defender.SeverityDefault)
	}
	return l
}

// transition returns the evaluator's message about a behavior of the profile plant.
func (r *rig) transition(client, behavior string, change engine.Change, at time.Time) events.SQSMessage {
	r.t.Helper()
	text, err := json.Marshal(transition.Message{
		Thing: client, ClientID: client, Registered: new(true),
		Transition: engine.Transition{
			Time: at.UnixMilli(), StartTime: at.UnixMilli(), Thing: client, Change: change, Profile: "plant", ViolationID: strings.Repeat("ab", 16),
			Behavior: defender.Behavior{Name: behavior, Criteria: defender.MessageByteSize.LessThan(8)},
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.message(string(text))
}

func TestFindingFollowsTheTransitions(t *testing.T) {
	r := newRig(t)
	r.deploy(live("small"))
	const id = "behavior/us-east-1/plant/small/pump-1"
	raise := r.transition("pump-1", "small", engine.InAlarm, start.Add(-3*time.Minute))
	clear := r.transition("pump-1", "small", engine.AlarmCleared, start.Add(-2*time.Minute))
	again := r.transition("pump-1", "small", engine.InAlarm, start.Add(-time.Minute))
	for _, step := range []struct {
		messages []events.SQSMessage
		want     string
	}{{[]events.SQSMessage{raise}, "ACTIVE"}, {[]events.SQSMessage{clear, raise}, "ARCHIVED"}, {[]events.SQSMessage{raise}, "ARCHIVED"}, {[]events.SQSMessage{again}, "ACTIVE"}, {[]events.SQSMessage{clear}, "ACTIVE"}} {
		r.must(step.messages...)
		r.want(map[string]string{id: step.want})
	}
	if f := r.hub.Findings()[0]; !f.CreatedAt.Equal(start.Add(-3 * time.Minute)) {
		t.Errorf("created %v, want the time of the first alarm", f.CreatedAt)
	}
}

func TestTransitionOfABehaviorThatIsNotLiveRaisesNothing(t *testing.T) {
	r := newRig(t)
	r.must(r.transition("pump-1", "old", engine.InAlarm, start))
	r.want(map[string]string{})
	if len(r.sqs.dead) > 0 {
		t.Errorf("%d dead letters, want none", len(r.sqs.dead))
	}
}

// deploy starts a new environment of the function with these live behaviors.
func (r *rig) deploy(l contract.LiveBehaviors) {
	r.sweeper = &sweep.Sweeper{Table: r.table, Findings: r.sweeper.Findings, Deliver: r.sweeper.Deliver, Region: region, Live: l, Log: r.sweeper.Log}
	r.handler.Live, r.handler.Sweeper = l, r.sweeper
}

// refresh runs the schedule some time later, and returns its calls of the table.
func (r *rig) refresh(later time.Duration) map[string]int {
	r.t.Helper()
	r.now = r.now.Add(later)
	calls := map[string]int{}
	var mu sync.Mutex
	r.table.Step = func(_ context.Context, operation string, done bool) error {
		mu.Lock()
		defer mu.Unlock()
		if done {
			calls[operation]++
		}
		return nil
	}
	defer func() { r.table.Step = nil }()
	if _, err := r.handler.Handle(context.Background(), refreshAt(r.now)); err != nil {
		r.t.Fatal(err)
	}
	return calls
}

// alarm returns the evaluator's message about a behavior of a client that goes into alarm now.
func (r *rig) alarm(client, behavior string) events.SQSMessage {
	return r.transition(client, behavior, engine.InAlarm, r.now)
}

func TestFindingsOfARemovedBehaviorAreArchived(t *testing.T) {
	for name, after := range map[string]contract.LiveBehaviors{"renamed": live("large", "tiny"), "removed": live("large"), "engine off": nil} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.deploy(live("small", "large"))
			r.must(r.alarm("pump-1", "small"), r.alarm("pump-2", "small"), r.alarm("pump-1", "large"), r.device("pump-1", start, tamper),
				r.message(notification("arn:aws:sns:us-east-1:123456789012:audits", sample(t, "sns-audit-failed-check"))),
				r.message(sample(t, "sns-detect-cidrs")))
			want := r.states()
			want["behavior/us-east-1/plant/small/pump-1"], want["behavior/us-east-1/plant/small/pump-2"] = "ARCHIVED", "ARCHIVED"
			if after == nil {
				want["behavior/us-east-1/plant/large/pump-1"] = "ARCHIVED"
			}
			r.deploy(after)
			r.refresh(time.Hour)
			r.want(want)
			for _, f := range r.hub.Findings() {
				if removed := strings.Contains(f.Description, "behavior was removed"); removed != (f.RecordState == "ARCHIVED") {
					t.Errorf("%s is %s, with the description %q", f.ID, f.RecordState, f.Description)
				}
			}
		})
	}
}

func TestNothingIsSweptWhileNothingChanges(t *testing.T) {
	r := newRig(t)
	r.deploy(live("small"))
	r.must(r.alarm("pump-1", "small"))
	for i, want := range []int{8, 8, 0, 0} { // twice after a deployment
		if calls := r.refresh(time.Hour); calls["Open"] != want || want == 0 && (calls["Get"] != 2 || calls["Put"] != 0) {
			t.Errorf("run %d: calls of the table %v, want Open %d times", i, calls, want)
		}
	}
	r.want(map[string]string{"behavior/us-east-1/plant/small/pump-1": "ACTIVE"})
	r.deploy(live("small", "large"))
	if calls := r.refresh(time.Hour); calls["Open"] != 8 {
		t.Errorf("after a deployment: calls of the table %v, want Open 8 times", calls)
	}
}

func TestRestoredBehaviorAlarmsAgain(t *testing.T) {
	r := newRig(t)
	const id = "behavior/us-east-1/plant/small/pump-1"
	r.deploy(live("small"))
	old := r.alarm("pump-1", "small")
	r.must(old)
	r.deploy(nil)
	r.refresh(time.Hour)
	r.want(map[string]string{id: "ARCHIVED"})
	for _, l := range []contract.LiveBehaviors{nil, live("small")} {
		r.deploy(l)
		r.must(old)
		r.want(map[string]string{id: "ARCHIVED"})
	}
	r.now = r.now.Add(time.Minute)
	r.must(r.alarm("pump-1", "small"))
	for range 3 {
		r.want(map[string]string{id: "ACTIVE"})
		r.refresh(time.Hour)
	}
	if f := r.hub.Findings()[0]; strings.Contains(f.Description, "removed") {
		t.Errorf("description %q of the new alarm names the removal", f.Description)
	}
}

func TestBehaviorThatIsSoonRemovedLeavesNoFinding(t *testing.T) {
	r := newRig(t)
	r.refresh(time.Hour)
	r.refresh(time.Hour)
	r.deploy(live("small"))
	r.must(r.alarm("pump-1", "small"))
	r.deploy(nil)
	r.refresh(time.Hour)
	r.want(map[string]string{"behavior/us-east-1/plant/small/pump-1": "ARCHIVED"})
}

// An invocation that began before the deployment may raise a finding after the sweep.
func TestInvocationFromBeforeTheDeploymentLeavesNoFinding(t *testing.T) {
	r := newRig(t)
	r.deploy(live("small"))
	r.must(r.alarm("pump-1", "small"))
	before := r.sweeper
	r.deploy(nil)
	r.refresh(time.Hour)
	r.handler.Live, r.handler.Sweeper = before.Live, before
	r.must(r.alarm("pump-2", "small"))
	r.handler.Live, r.handler.Sweeper = nil, r.sweeper
	r.want(map[string]string{"behavior/us-east-1/plant/small/pump-1": "ARCHIVED", "behavior/us-east-1/plant/small/pump-2": "ACTIVE"})
	if calls := r.refresh(10 * time.Minute); calls["Open"] > 0 {
		t.Error("swept again while such an invocation may still run")
	}
	r.refresh(time.Hour)
	r.want(map[string]string{"behavior/us-east-1/plant/small/pump-1": "ARCHIVED", "behavior/us-east-1/plant/small/pump-2": "ARCHIVED"})

	// A finding that was raised unexpectedly is archived when it is due.
	r.refresh(time.Hour)
	r.handler.Live, r.handler.Sweeper = before.Live, before
	r.must(r.alarm("pump-3", "small"))
	r.handler.Live, r.handler.Sweeper = nil, r.sweeper
	r.refresh(61 * 24 * time.Hour)
	if state := r.states()["behavior/us-east-1/plant/small/pump-3"]; state != "ARCHIVED" {
		t.Errorf("state %q, want ARCHIVED", state)
	}
}

func TestSweepResumesAfterItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.now = time.Now()
		r.deploy(live("small"))
		const n = 1000
		var batch []events.SQSMessage
		for i := range n {
			batch = append(batch, r.alarm(fmt.Sprintf("pump-%d", i), "small"))
		}
		r.must(batch...)
		r.deploy(nil)
		r.service.Inject(securityhubtest.Fault{Before: func(securityhubtest.Call) { time.Sleep(4 * time.Second) }})
		left, runs := n, 0
		for ; left > 0 && runs < 20; runs++ {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			r.now = r.now.Add(time.Hour)
			if _, err := r.handler.Handle(ctx, refreshAt(r.now)); err != nil || ctx.Err() != nil {
				t.Fatalf("run %d: error %v, context %v", runs, err, ctx.Err())
			}
			cancel()
			before := left
			left = 0
			for _, state := range r.states() {
				if state == "ACTIVE" {
					left++
				}
			}
			if left >= before {
				t.Fatalf("run %d: %d of %d findings left, want fewer", runs, left, before)
			}
		}
		if runs < 2 || left > 0 {
			t.Errorf("%d findings left after %d runs, want none after at least two", left, runs)
		}
	})
}

func TestSweepWaitsForSecurityHub(t *testing.T) {
	r := newRig(t)
	r.deploy(live("small"))
	r.must(r.alarm("pump-1", "small"))
	r.deploy(nil)
	if err := r.hub.Disable(); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		r.refresh(time.Hour)
	}
	if !strings.Contains(r.logs.String(), "aws securityhub enable-security-hub") {
		t.Errorf("the log does not name the command that enables Security Hub: %s", &r.logs)
	}
	if err := r.hub.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	r.refresh(time.Hour)
	r.want(map[string]string{"behavior/us-east-1/plant/small/pump-1": "ARCHIVED"})
}

func TestAlarmThatCannotBeAnnouncedIsRetried(t *testing.T) {
	r := newRig(t)
	r.deploy(live("small"))
	m := r.alarm("pump-1", "small")
	other := r.message(ruleBody(defender.SecurityDisconnects, "$aws/events/presence/disconnected/186b5", `{"clientId":"186b5","disconnectReason":"AUTH_ERROR"}`, nil))
	var once sync.Once
	r.table.Step = func(context.Context, string, bool) (err error) {
		once.Do(func() { err = errBroken })
		return err
	}
	if again := r.handle(context.Background(), m, other); len(again) != 1 || again[0] != m.MessageId {
		t.Errorf("messages %v are retried", again)
	}
	r.must(m)
	r.want(map[string]string{"behavior/us-east-1/plant/small/pump-1": "ACTIVE", "security-disconnect/us-east-1/186b5/AUTH_ERROR": "ACTIVE"})
}

// Transitions of a restored behavior arrive in any order. The sweep runs before them, between them or
// not at all.
func TestRestoredBehaviorAlarmsAgainInAnyOrder(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for swept := range 4 {
			r := newRig(t)
			r.deploy(live("small"))
			messages := []events.SQSMessage{
				r.transition("pump-1", "small", engine.InAlarm, start.Add(-time.Hour)),
				r.transition("pump-1", "small", engine.AlarmInvalidated, start.Add(-time.Hour+time.Millisecond)),
				r.transition("pump-1", "small", engine.InAlarm, start),
			}
			for i, next := range order {
				if i == swept {
					r.deploy(nil)
					r.refresh(time.Hour)
					r.deploy(live("small"))
				}
				r.must(messages[next])
			}
			want := "ACTIVE"
			if slices.Index(order, 2) < swept && swept < 3 {
				want = "ARCHIVED" // it was raised while it was live, and removed again
			}
			r.want(map[string]string{"behavior/us-east-1/plant/small/pump-1": want})
		}
	}
}
