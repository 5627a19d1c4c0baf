package handler_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/backlog"
)

// TestScheduleDoesNotCompeteWithTheDrainer runs the hourly schedule while another invocation
// drains the backlog, and after that invocation has crashed.
func TestScheduleDoesNotCompeteWithTheDrainer(t *testing.T) {
	r := newRig(t)
	drainer := &backlog.Backlog{Table: r.table, Region: region, Now: func() time.Time { return r.now }, Log: slog.New(slog.DiscardHandler)}
	if !drainer.Begin(t.Context(), false).Continue(t.Context()) {
		t.Fatal("the invocation does not drain")
	}
	throttled := r.service.Inject(securityhubtest.Fault{Operation: "BatchImportFindings", Answer: securityhubtest.Throttled()})
	r.must(r.device("pump-7", start, `{"type":"tamper"}`))
	throttled()
	r.want(map[string]string{})

	refresh := func() {
		t.Helper()
		if _, err := r.handler.Handle(context.Background(), json.RawMessage(contract.RefreshRequest(r.now.Format(time.RFC3339)))); err != nil {
			t.Fatal(err)
		}
	}
	r.now = start.Add(20 * time.Second)
	refresh()
	if states := r.states(); len(states) > 0 {
		t.Errorf("the schedule imports %v, although an invocation drains", states)
	}
	r.now = start.Add(40 * time.Second)
	refresh()
	if states := r.states(); len(states) != 1 {
		t.Errorf("states %v after the drainer has crashed, want one", states)
	}
}

// The drainer's own message needs no import. It returns to the queue for as long as the backlog
// cannot be drained, and must not reach the maximum receive count.
func TestDrainersMessageStaysBelowTheMaximumReceiveCount(t *testing.T) {
	for name, fail := range map[string]func(*rig) error{
		"Security Hub is off": func(r *rig) error { return r.hub.Disable() },
		"Security Hub denies every import": func(r *rig) error {
			r.service.Inject(securityhubtest.Fault{Answer: &securityhubtest.Error{Code: "AccessDeniedException", Status: 403, Message: "no"}})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.leave(tamper)
				if err := fail(r); err != nil {
					t.Fatal(err)
				}
				m := r.device("pump-8", r.now, cleared)
				receives := 2
				for end := r.now.Add(4 * 24 * time.Hour); r.now.Before(end) && receives < 1000; receives++ {
					m.Attributes["ApproximateReceiveCount"] = strconv.Itoa(receives)
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					again := r.handle(ctx, m)
					cancel()
					if len(again) != 1 {
						t.Fatal("the message is finished, although the backlog is not drained")
					}
					r.now = r.now.Add(time.Minute + time.Duration(r.sqs.visible[m.ReceiptHandle])*time.Second)
				}
				if receives > 140 { // in 14 days, at most 500
					t.Errorf("received %d times in four days, want at most 140", receives)
				}
			})
		})
	}
}
