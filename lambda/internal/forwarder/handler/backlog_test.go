package handler_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
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
	if !drainer.Begin(t.Context(), false).GoOn(t.Context()) {
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
