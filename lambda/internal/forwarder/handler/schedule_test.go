package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
)

// refreshAt returns the schedule's request at a time.
func refreshAt(at time.Time) json.RawMessage {
	return json.RawMessage(contract.RefreshRequest(at.Format(time.RFC3339)))
}

func TestScheduleRefreshesAndArchives(t *testing.T) {
	r := newRig(t)
	r.must(r.device("pump-1", start, tamper), r.message(ruleBody(defender.RefusedConnections, "$aws/events/presence/connect_failed/186b5", `{"clientId":"186b5","connectFailureReason":"AUTHORIZATION_FAILED"}`, nil)))
	r.now = start.Add(61 * 24 * time.Hour)
	if answer, err := r.handler.Handle(context.Background(), refreshAt(r.now)); err != nil || answer != nil {
		t.Fatalf("answer %v, error %v; want none", answer, err)
	}
	r.want(map[string]string{"device-event/us-east-1/pump-1/tamper": "ACTIVE", "refused-connection/us-east-1/186b5/AUTHORIZATION_FAILED": "ARCHIVED"})
	for _, f := range r.hub.Findings() {
		if !f.UpdatedAt.Equal(r.now) {
			t.Errorf("%s was updated at %v, want %v", f.ID, f.UpdatedAt, r.now)
		}
	}
}

func TestTimeIsTakenFromTheScheduleOrTheQueue(t *testing.T) {
	r := newRig(t)
	r.handler.Now = func() time.Time { return start } // the function's clock does not move
	denied := ruleBody(defender.RefusedConnections, "$aws/events/presence/connect_failed/186b5", `{"clientId":"186b5","connectFailureReason":"AUTHORIZATION_FAILED"}`, nil)
	const id = "refused-connection/us-east-1/186b5/AUTHORIZATION_FAILED"
	r.must(r.message(denied))

	r.now = start.Add(8 * 24 * time.Hour)
	if _, err := r.handler.Handle(context.Background(), refreshAt(r.now)); err != nil {
		t.Fatal(err)
	}
	r.want(map[string]string{id: "ARCHIVED"})
	if f := r.hub.Findings()[0]; !f.UpdatedAt.Equal(r.now) {
		t.Errorf("archived at %v, want the schedule's time %v", f.UpdatedAt, r.now)
	}

	r.now = start.Add(9 * 24 * time.Hour)
	r.must(r.message(strings.Replace(denied, strconv.FormatInt(start.UnixMilli(), 10), strconv.FormatInt(r.now.UnixMilli(), 10), 1)))
	r.want(map[string]string{id: "ACTIVE"})
	if f := r.hub.Findings()[0]; !f.UpdatedAt.Equal(r.now) {
		t.Errorf("reopened at %v, want the queue's time %v", f.UpdatedAt, r.now)
	}

	// A late event of the schedule does not set the time back. An event without a time counts as now.
	for _, late := range []json.RawMessage{refreshAt(start.Add(-time.Hour)), json.RawMessage(`{"defenderhub":"refresh"}`)} {
		if _, err := r.handler.Handle(context.Background(), late); err != nil {
			t.Fatal(err)
		}
	}
	r.want(map[string]string{id: "ACTIVE"})
	if f := r.hub.Findings()[0]; !f.UpdatedAt.Equal(r.now) {
		t.Errorf("updated at %v by a late event of the schedule, want %v", f.UpdatedAt, r.now)
	}
}

// A call that never returns ends with the invocation's time. A run without progress fails. A run with
// progress succeeds.
func TestScheduleFailsOnlyWithoutProgress(t *testing.T) {
	hangs := func(r *rig, operation string, after int) {
		calls := 0
		var mu sync.Mutex
		r.table.Step = func(ctx context.Context, name string, done bool) error {
			if done || name != operation {
				return nil
			}
			mu.Lock()
			calls++
			hang := calls > after
			mu.Unlock()
			if hang {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		broken func(*rig)
		fails  bool
	}{
		"the list of due findings never returns": {func(r *rig) { hangs(r, "Due", 0) }, true},
		"no finding can be read":                 {func(r *rig) { hangs(r, "Get", 1) }, true}, // the first is the sweep's
		"no finding can be written":              {func(r *rig) { hangs(r, "Put", 0) }, true},
		"the sweep's marker never returns":       {func(r *rig) { hangs(r, "Get", 0) }, true},
		"Security Hub never answers": {func(r *rig) {
			r.service.Inject(securityhubtest.Fault{
				Before: func(securityhubtest.Call) { time.Sleep(10 * time.Second) },
				Answer: &securityhubtest.Error{Code: "ThrottlingException", Status: 429, Message: "no"},
			})
		}, true},
		"Security Hub denies every import": {func(r *rig) {
			r.service.Inject(securityhubtest.Fault{Answer: &securityhubtest.Error{Code: "AccessDeniedException", Status: 403, Message: "no"}})
		}, true},
		"the list hangs after one shard of findings": {func(r *rig) { hangs(r, "Due", 6) }, false},
		"the findings of one shard can be read":      {func(r *rig) { hangs(r, "Get", 20) }, false},
		"no call hangs":                              {func(*rig) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				var batch []events.SQSMessage
				for i := range 40 {
					batch = append(batch, r.device(fmt.Sprint("pump-", i), start, tamper))
				}
				r.must(batch...)
				r.sweeper.Announce(context.Background(), r.now)
				r.now = start.Add(61 * 24 * time.Hour)
				c.broken(r)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if _, err := r.handler.Handle(ctx, refreshAt(r.now)); (err != nil) != c.fails {
					t.Errorf("error %v, want one: %v", err, c.fails)
				}
			})
		})
	}
}

func TestScheduleWaitsWhileSecurityHubIsOff(t *testing.T) {
	r := newRig(t)
	r.must(r.device("pump-1", start, tamper))
	r.now = start.Add(61 * 24 * time.Hour)
	if err := r.hub.Disable(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.handler.Handle(context.Background(), refreshAt(r.now)); err != nil {
		t.Error(err)
	}
	if r.counted(contract.MetricHubOff) != 1 {
		t.Error("the metric HubOff is not counted")
	}
}
