package audit_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

// TestNewestTaskWinsInAnyOrder processes tasks in any order, repeatedly, nested in each
// other, and with failures at any call. For each check, the newest task that completed it wins.
func TestNewestTaskWinsInAnyOrder(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(outer)
		finding := map[string]func(string) types.AuditFinding{policies: policy, certificates: certificate}
		checks := []string{policies, certificates}
		var tasks []mapping.AuditTask
		want := map[string]string{}
		for i := range rapid.IntRange(1, 4).Draw(t, "tasks") {
			id := fmt.Sprint("t", i)
			statuses := map[string]string{}
			for _, check := range checks {
				status := rapid.SampledFrom([]string{"COMPLETED_NON_COMPLIANT", "COMPLETED_NON_COMPLIANT", "COMPLETED_COMPLIANT", "FAILED", ""}).Draw(t, "status")
				if status == "" {
					continue
				}
				statuses[check] = status
				found := map[string]bool{}
				if status != "COMPLETED_COMPLIANT" {
					for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3, rapid.ID).Draw(t, "findings") {
						f := finding[check](check[:6] + name)
						if rapid.IntRange(0, 3).Draw(t, "suppressed") == 0 {
							f = suppressed(f)
						} else {
							found[check[:6]+name] = true
						}
						r.iot.findings[id] = append(r.iot.findings[id], f)
					}
				}
				if status == "FAILED" {
					continue
				}
				for _, name := range []string{"a", "b", "c"} {
					name = check[:6] + name
					switch {
					case found[name]:
						want[name] = "ACTIVE"
					case want[name] != "":
						want[name] = "ARCHIVED"
					}
				}
			}
			tasks = append(tasks, task(id, i, statuses))
		}
		queue := rapid.Permutation(slices.Concat(tasks, rapid.SliceOfN(rapid.SampledFrom(tasks), 0, 2).Draw(t, "duplicates"))).Draw(t, "arrival")
		faults := rapid.IntRange(0, 6).Draw(t, "faults")
		fails := func(where string) bool {
			if faults > 0 && rapid.IntRange(0, 2).Draw(t, where) == 0 {
				faults--
				return true
			}
			return false
		}
		r.iot.fail = func(int, *iot.ListAuditFindingsInput) error {
			if fails("AWS IoT fails") {
				return &smithy.GenericAPIError{Code: "UnauthorizedException", Message: "not now"}
			}
			return nil
		}
		r.service.Inject(securityhubtest.Fault{Match: func(securityhubtest.Call) bool { return fails("Security Hub fails") },
			Answer: &securityhubtest.Error{Code: "AccessDeniedException", Status: http.StatusForbidden, Message: "not now"}})
		process := func() {
			next := queue[0]
			queue = queue[1:]
			if o := r.process(next, time.Hour); o.Verdict != outcome.Done {
				queue = append(queue, next)
			}
		}
		r.iot.between = func(int) {
			if len(queue) > 0 && rapid.IntRange(0, 2).Draw(t, "another meanwhile") == 0 {
				process()
			}
		}
		for len(queue) > 0 {
			process()
		}
		got := r.states()
		for name, state := range want {
			// A finding that only an older task reported, after a newer one, was never imported.
			if got[name] != state && !(got[name] == "" && state == "ARCHIVED") {
				t.Fatalf("%s is %q, want %s; all states: %v", name, got[name], state, got)
			}
		}
		for name, state := range got {
			if want[name] == "" && state == "ACTIVE" {
				t.Fatalf("%s is active, but no task reported it", name)
			}
		}
	})
}
