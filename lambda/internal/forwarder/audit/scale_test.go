//go:build !race

// The race detector takes minutes for so many findings. It runs with the other tests, which run
// the same code.

package audit_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

func TestManyFindingsAreProcessedInManyInvocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const all, fixed = 25_000, 1_000
		findings := make([]types.AuditFinding, all)
		for i := range findings {
			findings[i] = policy(fmt.Sprintf("policy-%05d", i))
		}
		r.iot.findings["t1"], r.iot.findings["t2"] = findings, findings[fixed:]
		r.iot.takes, r.importTakes = 100*time.Millisecond, 300*time.Millisecond
		r.iot.fail = func(n int, _ *iot.ListAuditFindingsInput) error {
			if n%3 == 0 {
				return throttled()
			}
			return nil
		}
		first, second := task("t1", 1, bad(policies)), task("t2", 2, bad(policies))
		if n := r.invocations(first, 25*time.Second); n < 4 {
			t.Errorf("%d invocations, want at least 4: the timeout is too long for this test", n)
		}
		if states := count(r.states()); states["ACTIVE"] != all || states["ARCHIVED"] != 0 {
			t.Fatalf("after the first task: %v", states)
		}
		for from, times := range r.iot.listed {
			if times > 2 {
				t.Errorf("page at %d was listed %d times, want at most 2", from, times)
			}
		}
		sent := 0
		for _, c := range r.service.Calls("BatchImportFindings") {
			sent += len(c.Findings)
		}
		if sent > all+1000 {
			t.Errorf("%d findings were sent, want at most %d", sent, all+1000)
		}
		r.invocations(second, 10*time.Second)
		if states := count(r.states()); states["ACTIVE"] != all-fixed || states["ARCHIVED"] != fixed {
			t.Errorf("after the second task: %v", states)
		}
	})
}

// invocations processes a task until it is done, as the queue's retries do, and counts the
// invocations. Each must make progress.
func (r *rig) invocations(t mapping.AuditTask, timeout time.Duration) int {
	r.t.Helper()
	for n := 1; n < 200; n++ {
		o := r.process(t, timeout)
		if o.Verdict == outcome.Done {
			return n
		}
		if o.Verdict != outcome.Retry || !o.Progress {
			r.t.Fatalf("invocation %d: %+v", n, o)
		}
	}
	r.t.Fatal("the task is not done after 199 invocations")
	return 0
}
