package ingest_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/evaluate"
	"github.com/defenderhub/defenderhub/lambda/internal/transition"
)

// live are the behaviors of a profile plant.
func live(behaviors ...string) defender.LiveBehaviors {
	l := defender.LiveBehaviors{}
	for _, b := range behaviors {
		l.Add("plant", b)
	}
	return l
}

// transition is what the evaluator says of a behavior of the profile plant.
func (r *rig) transition(client, behavior string, change evaluate.Change, at time.Time) events.SQSMessage {
	r.t.Helper()
	text, err := json.Marshal(transition.Message{
		Thing: client, ClientID: client, Registered: new(true),
		Transition: evaluate.Transition{
			Time: at.UnixMilli(), StartTime: at.UnixMilli(), Thing: client, Change: change, Profile: "plant", ViolationID: strings.Repeat("ab", 16),
			Behavior: defender.Behavior{Name: behavior, Criteria: defender.MessageByteSize.LessThan(8)},
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.message(string(text))
}

func TestTransitionsRaiseClearAndRaiseAgain(t *testing.T) {
	r := newRig(t)
	r.handler.Live = live("small")
	const id = "behavior/us-east-1/plant/small/pump-1"
	raise := r.transition("pump-1", "small", evaluate.InAlarm, start.Add(-3*time.Minute))
	clear := r.transition("pump-1", "small", evaluate.AlarmCleared, start.Add(-2*time.Minute))
	again := r.transition("pump-1", "small", evaluate.InAlarm, start.Add(-time.Minute))
	for _, step := range []struct {
		messages []events.SQSMessage
		want     string
	}{{[]events.SQSMessage{raise}, "ACTIVE"}, {[]events.SQSMessage{clear, raise}, "ARCHIVED"}, {[]events.SQSMessage{raise}, "ARCHIVED"}, {[]events.SQSMessage{again}, "ACTIVE"}, {[]events.SQSMessage{clear}, "ACTIVE"}} {
		r.must(step.messages...)
		r.want(map[string]string{id: step.want})
	}
	if f := r.hub.Findings()[0]; !f.CreatedAt.Equal(start.Add(-3 * time.Minute)) {
		t.Errorf("created %v", f.CreatedAt)
	}
}

func TestTransitionOfABehaviorThatIsNotLiveRaisesNothing(t *testing.T) {
	r := newRig(t)
	r.must(r.transition("pump-1", "old", evaluate.InAlarm, start))
	r.want(map[string]string{})
	if len(r.sqs.dead) > 0 {
		t.Errorf("%d dead letters", len(r.sqs.dead))
	}
}
