package handler_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/backlog"
)

// leave makes the function leave a state in the ledger to a drainer that crashes, and finish the
// state's message.
func (r *rig) leave(payload string) {
	r.t.Helper()
	drainer := &backlog.Backlog{Table: r.table, Region: region, Now: func() time.Time { return r.now }, Log: slog.New(slog.DiscardHandler)}
	if !drainer.Begin(context.Background(), false).Continue(context.Background()) {
		r.t.Fatal("the invocation does not drain")
	}
	throttled := r.service.Inject(securityhubtest.Fault{Operation: "BatchImportFindings", Answer: securityhubtest.Throttled()})
	defer throttled()
	r.must(r.device("pump-7", r.now, payload))
	r.now = r.now.Add(time.Minute)
}

// fails makes Security Hub fail all findings with a code.
func (r *rig) fails(code string) (repair func()) {
	return r.service.Inject(securityhubtest.Fault{FailFinding: func(id string) *securityhubtest.FindingError {
		return &securityhubtest.FindingError{ID: id, Code: code, Message: "no"}
	}})
}

// schedule runs the hourly schedule until a time.
func (r *rig) schedule(until time.Time) {
	r.t.Helper()
	for ; !r.now.After(until); r.now = r.now.Add(time.Hour) {
		_, _ = r.handler.Handle(context.Background(), refreshAt(r.now)) // a run without progress fails
	}
}

// wantDead requires one dead letter, of the state that was left.
func (r *rig) wantDead() {
	r.t.Helper()
	if len(r.sqs.dead) != 1 || r.counted(contract.MetricRefused) != 1 {
		r.t.Fatalf("%d dead letters, %d counted; want one: %s", len(r.sqs.dead), r.counted(contract.MetricRefused), &r.logs)
	}
	dead := r.sqs.dead[0]
	if reason := *dead.MessageAttributes["Reason"].StringValue; !strings.HasSuffix(reason, ": no") || !strings.Contains(*dead.MessageBody, "pump-7") {
		r.t.Errorf("dead letter with the reason %q: %s", reason, *dead.MessageBody)
	}
}

func TestStateThatTheScheduleRefusesIsADeadLetter(t *testing.T) {
	r := newRig(t)
	r.leave(`{"type":"tamper","description":"\ufffe\uffff"}`)
	r.fails("InvalidInput")
	r.schedule(start.Add(26 * time.Hour))
	r.wantDead()
	if strings.ContainsAny(*r.sqs.dead[0].MessageBody, "\ufffe\uffff") {
		t.Errorf("Amazon SQS refuses the body %s", *r.sqs.dead[0].MessageBody)
	}
}

func TestStateThatFailsForADayIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.leave(tamper)
		r.fails("Unheard")
		r.schedule(start.Add(23 * time.Hour))
		if len(r.sqs.dead) > 0 {
			t.Fatal("a dead letter within a day")
		}
		r.schedule(start.Add(27 * time.Hour))
		r.wantDead()
	})
}

func TestUnsentDeadLetterOfAStateIsRetried(t *testing.T) {
	r := newRig(t)
	r.leave(tamper)
	r.fails("InvalidInput")
	r.sqs.broken = true
	r.schedule(start.Add(2 * time.Hour))
	r.sqs.broken = false
	r.schedule(start.Add(4 * time.Hour))
	r.wantDead()
}

// The state that a newer one replaced is imported after the newer one was refused, and still has no
// message.
func TestReplacedStateIsADeadLetterToo(t *testing.T) {
	r := newRig(t)
	r.leave(`{"type":"tamper","description":"first"}`)
	r.fails("InvalidInput")
	r.must(r.device("pump-7", r.now, `{"type":"tamper","description":"second"}`))
	r.schedule(start.Add(4 * time.Hour))
	if len(r.sqs.dead) != 2 || !strings.Contains(*r.sqs.dead[1].MessageBody, "first") {
		t.Errorf("%d dead letters, want two, the second of the first state", len(r.sqs.dead))
	}
}
