package audit_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

func TestNextTaskArchivesWhatItNoLongerFinds(t *testing.T) {
	r := newRig(t)
	r.iot.findings["t1"] = []types.AuditFinding{policy("a"), policy("b"), certificate("c")}
	r.must(task("t1", 1, bad(policies, certificates)))
	r.want(map[string]string{"a": "ACTIVE", "b": "ACTIVE", "c": "ACTIVE"})

	r.iot.findings["t2"] = []types.AuditFinding{policy("b"), certificate("c")}
	r.must(task("t2", 2, bad(policies, certificates)))
	r.want(map[string]string{"a": "ARCHIVED", "b": "ACTIVE", "c": "ACTIVE"})

	r.iot.findings["t3"] = []types.AuditFinding{policy("a"), policy("b"), certificate("c")}
	r.must(task("t3", 3, bad(policies, certificates)))
	r.want(map[string]string{"a": "ACTIVE", "b": "ACTIVE", "c": "ACTIVE"})
}

func TestCompliantCheckArchivesAllWithoutListing(t *testing.T) {
	r := newRig(t)
	r.iot.findings["t1"] = []types.AuditFinding{policy("a"), policy("b")}
	r.must(task("t1", 1, bad(policies)))
	r.iot.calls = 0
	r.must(task("t2", 2, map[string]string{policies: "COMPLETED_COMPLIANT"}))
	r.want(map[string]string{"a": "ARCHIVED", "b": "ARCHIVED"})
	if r.iot.calls != 0 {
		t.Errorf("%d calls of ListAuditFindings, want none", r.iot.calls)
	}
}

func TestSuppressedFindingsAreNotSentAndEndActiveOnes(t *testing.T) {
	r := newRig(t)
	r.iot.findings["t1"] = []types.AuditFinding{policy("a"), suppressed(policy("b")), policy("c")}
	r.must(task("t1", 1, bad(policies)))
	r.want(map[string]string{"a": "ACTIVE", "c": "ACTIVE"})
	r.iot.findings["t2"] = []types.AuditFinding{suppressed(policy("a")), policy("c")}
	r.must(task("t2", 2, bad(policies)))
	r.want(map[string]string{"a": "ARCHIVED", "c": "ACTIVE"})
}

func TestTaskTouchesOnlyTheChecksThatItCompleted(t *testing.T) {
	for _, status := range []string{"FAILED", "CANCELED", "WAITING_FOR_DATA_COLLECTION", "IN_PROGRESS", "", "absent"} {
		r := newRig(t)
		r.iot.findings["t1"] = []types.AuditFinding{policy("a"), certificate("c")}
		r.must(task("t1", 1, bad(policies, certificates)))
		checks := map[string]string{policies: "COMPLETED_COMPLIANT", certificates: status}
		if status == "absent" {
			delete(checks, certificates)
		}
		r.must(task("t2", 2, checks))
		r.want(map[string]string{"a": "ARCHIVED", "c": "ACTIVE"})
	}
}

func TestFindingsOfAFailedCheckAreNotSent(t *testing.T) {
	r := newRig(t)
	r.iot.findings["t1"] = []types.AuditFinding{policy("a"), certificate("half")}
	r.must(task("t1", 1, map[string]string{policies: "COMPLETED_NON_COMPLIANT", certificates: "FAILED"}))
	r.want(map[string]string{"a": "ACTIVE"})
}

func TestCanceledTaskArchivesNoFinding(t *testing.T) {
	r := newRig(t)
	r.iot.findings["t1"] = []types.AuditFinding{policy("a"), policy("b")}
	r.must(task("t1", 1, bad(policies)))
	canceled := task("t2", 2, bad(policies))
	canceled.Status = "CANCELED"
	r.iot.findings["t2"] = []types.AuditFinding{policy("b"), policy("c")}
	r.must(canceled)
	r.want(map[string]string{"a": "ACTIVE", "b": "ACTIVE", "c": "ACTIVE"})
	said := false
	for _, f := range r.hub.Findings() {
		said = said || f.RecordState == "ARCHIVED" && strings.Contains(f.Description, "was canceled after "+policies+" completed. The check reports 1 non-compliant resources out of 9.")
	}
	if !said {
		t.Error("no archived summary says that the check had completed")
	}
}

func TestSummariesFollowTheirCheck(t *testing.T) {
	r := newRig(t)
	summary := func() string {
		t.Helper()
		for _, f := range r.hub.Findings() {
			if f.ProductFields["ReportType"] == "CheckSummary" {
				return f.RecordState + " " + f.Title
			}
		}
		return ""
	}
	for i, c := range []struct{ status, want string }{
		{"COMPLETED_COMPLIANT", ""}, // no summary for a check that never found anything
		{"COMPLETED_NON_COMPLIANT", "ACTIVE LOGGING_DISABLED_CHECK Summary: Completed with 1 non-compliant resources"},
		{"FAILED", "ACTIVE LOGGING_DISABLED_CHECK Summary: Failed"},
		{"COMPLETED_COMPLIANT", "ARCHIVED LOGGING_DISABLED_CHECK Summary: Completed with 1 non-compliant resources"},
		{"COMPLETED_NON_COMPLIANT", "ACTIVE LOGGING_DISABLED_CHECK Summary: Completed with 1 non-compliant resources"},
		{"WAITING_FOR_DATA_COLLECTION", "ACTIVE LOGGING_DISABLED_CHECK Summary: Completed with 1 non-compliant resources"},
		{"CANCELED", "ARCHIVED LOGGING_DISABLED_CHECK Summary: Canceled"},
	} {
		r.must(task(fmt.Sprint("t", i), i, map[string]string{logging: c.status}))
		if got := summary(); got != c.want {
			t.Errorf("after %s: summary %q, want %q", c.status, got, c.want)
		}
	}
}

func TestOlderTaskNeverOverridesANewerOne(t *testing.T) {
	older, newer := []types.AuditFinding{policy("a"), policy("b")}, []types.AuditFinding{policy("b"), policy("c")}
	for name, order := range map[string][]string{"in order": {"old", "new"}, "reversed": {"new", "old"}, "repeated": {"new", "old", "new", "old"}} {
		r := newRig(t)
		r.iot.findings["old"], r.iot.findings["new"] = older, newer
		tasks := map[string]mapping.AuditTask{"old": task("old", 1, bad(policies)), "new": task("new", 2, bad(policies))}
		for _, id := range order {
			r.must(tasks[id])
		}
		if want := map[string]int{"in order": 2, "reversed": 1, "repeated": 1}[name]; r.iot.calls != want {
			t.Errorf("%s: %d listings, want %d: a task that a newer one has overtaken is not listed", name, r.iot.calls, want)
		}
		got := r.states()
		if got["a"] == "ACTIVE" || got["b"] != "ACTIVE" || got["c"] != "ACTIVE" {
			t.Errorf("%s: states %v, want b and c active", name, got)
		}
	}
}

func TestNewerTaskWinsDuringAnyPageOfTheOlderOne(t *testing.T) {
	var older, newer []types.AuditFinding
	for i := range 600 {
		f := policy(fmt.Sprintf("p%03d", i))
		if older = append(older, f); i%3 == 0 {
			newer = append(newer, f)
		}
	}
	for page := range 3 {
		r := newRig(t)
		r.iot.findings["old"], r.iot.findings["new"] = older, newer
		old, recent := task("old", 1, bad(policies)), task("new", 2, bad(policies))
		r.iot.between = func(p int) {
			if p == page {
				r.iot.between = nil
				r.must(recent) // processed while the older task has a page in progress
			}
		}
		r.must(old)
		for name, state := range r.states() {
			i, err := strconv.Atoi(name[1:])
			if err != nil {
				t.Fatal(err)
			}
			want := "ARCHIVED"
			if i%3 == 0 {
				want = "ACTIVE"
			}
			if state != want {
				t.Fatalf("page %d: %s is %s, want %s", page, name, state, want)
			}
		}
	}
}

func count(states map[string]string) map[string]int {
	counts := map[string]int{}
	for _, s := range states {
		counts[s]++
	}
	return counts
}

func TestExpiredTokenStartsTheListingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 700 {
			r.iot.findings["t1"] = append(r.iot.findings["t1"], policy(fmt.Sprintf("p%03d", i)))
		}
		r.iot.fail = func(n int, in *iot.ListAuditFindingsInput) error {
			if n == 3 {
				return &types.InvalidRequestException{Message: aws.String("Invalid nextToken")}
			}
			return nil
		}
		r.must(task("t1", 1, bad(policies)))
		if states := count(r.states()); states["ACTIVE"] != 700 {
			t.Errorf("states %v, want 700 active", states)
		}
		if r.iot.listed[0] != 2 {
			t.Errorf("pages were listed %v times, want the first twice", r.iot.listed)
		}
	})
}

// A page that AWS IoT always refuses is not requested forever. Findings of earlier pages stay, and
// nothing is archived.
func TestPageThatIsAlwaysRefusedEndsTheTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.iot.findings["t1"] = []types.AuditFinding{policy("gone")}
		r.must(task("t1", 1, bad(policies)))
		for i := range 300 {
			r.iot.findings["t2"] = append(r.iot.findings["t2"], policy(fmt.Sprintf("p%03d", i)))
		}
		r.iot.fail = func(_ int, in *iot.ListAuditFindingsInput) error {
			if in.NextToken != nil {
				return &types.InvalidRequestException{Message: aws.String("Invalid nextToken")}
			}
			return nil
		}
		second := task("t2", 2, bad(policies))
		r.iot.calls = 0
		if o := r.process(second, time.Hour); o.Verdict != outcome.Refused || !strings.Contains(o.Reason, "Invalid nextToken") || r.iot.calls > 50 {
			t.Errorf("%+v after %d calls, want a refusal that gives the reason, after at most 50", o, r.iot.calls)
		}
		if states := count(r.states()); states["ACTIVE"] != 251 || states["ARCHIVED"] != 0 {
			t.Errorf("states %v, want 251 active", states)
		}
		r.iot.fail = nil
		r.must(second) // sent again from the dead-letter queue
		if states := count(r.states()); states["ACTIVE"] != 300 || states["ARCHIVED"] != 1 {
			t.Errorf("states %v, want 300 active and one archived", states)
		}
	})
}

// The message of a refused task is not retried. Nothing but the newer task ends the findings of its
// first page.
func TestNewerTaskWinsOverAPartlyRefusedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 300 {
			r.iot.findings["t1"] = append(r.iot.findings["t1"], policy(fmt.Sprintf("p%03d", i)))
		}
		r.iot.fail = func(_ int, in *iot.ListAuditFindingsInput) error {
			if in.NextToken != nil {
				return &types.InvalidRequestException{Message: aws.String("Invalid nextToken")}
			}
			return nil
		}
		newer := task("t2", 2, map[string]string{policies: "COMPLETED_COMPLIANT"})
		r.iot.between = func(int) { r.must(newer) }
		if o := r.process(task("t1", 1, bad(policies)), time.Hour); o.Verdict != outcome.Refused {
			t.Errorf("%+v, want a refusal", o)
		}
		if states := count(r.states()); states["ACTIVE"] != 0 || states["ARCHIVED"] != 250 {
			t.Errorf("states %v, want 250 archived", states)
		}
	})
}

func TestNothingIsArchivedBeforeTheLastPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.iot.findings["t1"] = []types.AuditFinding{policy("gone"), policy("zz-last")}
		r.must(task("t1", 1, bad(policies)))
		for i := range 300 {
			r.iot.findings["t2"] = append(r.iot.findings["t2"], policy(fmt.Sprintf("p%03d", i)))
		}
		r.iot.findings["t2"] = append(r.iot.findings["t2"], policy("zz-last"))
		r.iot.calls = 0
		r.iot.fail = func(n int, _ *iot.ListAuditFindingsInput) error {
			if n > 1 {
				return throttled()
			}
			return nil
		}
		second := task("t2", 2, bad(policies))
		if o := r.process(second, 30*time.Second); o.Verdict != outcome.Retry || !o.Progress {
			t.Fatalf("%+v, want a retry with progress", o)
		}
		if s := r.states(); s["gone"] != "ACTIVE" || s["zz-last"] != "ACTIVE" || s["p000"] != "ACTIVE" {
			t.Errorf("after the first page: states %v, gone is %q; want all active", count(s), s["gone"])
		}
		r.iot.fail = nil
		r.must(second)
		if s := r.states(); s["gone"] != "ARCHIVED" || s["zz-last"] != "ACTIVE" {
			t.Errorf("after the last page: gone is %q and zz-last %q, want ARCHIVED and ACTIVE", s["gone"], s["zz-last"])
		}
	})
}

func TestUnknownTaskIsRefused(t *testing.T) {
	r := newRig(t)
	r.iot.fail = func(int, *iot.ListAuditFindingsInput) error {
		return &types.InvalidRequestException{Message: aws.String("no such task")}
	}
	if o := r.process(task("t1", 1, bad(policies)), time.Hour); o.Verdict != outcome.Refused || !strings.Contains(o.Reason, "no such task") {
		t.Errorf("%+v, want a refusal that gives the reason", o)
	}
}

func TestMissingPermissionIsReportedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.iot.fail = func(int, *iot.ListAuditFindingsInput) error {
			return &smithy.GenericAPIError{Code: "UnauthorizedException", Message: "not allowed"}
		}
		start := time.Now()
		if o := r.process(task("t1", 1, bad(policies)), time.Hour); o.Verdict != outcome.Retry || time.Since(start) > 0 {
			t.Errorf("%+v after %v, want a retry at once", o, time.Since(start))
		}
	})
}

func TestSecurityHubOffKeepsTheTask(t *testing.T) {
	r := newRig(t)
	r.iot.findings["t1"] = []types.AuditFinding{policy("a")}
	if err := r.hub.Disable(); err != nil {
		t.Fatal(err)
	}
	first := task("t1", 1, bad(policies))
	if o := r.process(first, time.Hour); o.Verdict != outcome.HubOff || o.Progress {
		t.Errorf("%+v, want HubOff without progress", o)
	}
	if err := r.hub.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	r.must(first)
	r.want(map[string]string{"a": "ACTIVE"})
}

func TestTwoInvocationsOnOneTaskDoNotDisturbEachOther(t *testing.T) {
	r := newRig(t)
	for i := range 600 {
		r.iot.findings["t1"] = append(r.iot.findings["t1"], policy(fmt.Sprintf("p%03d", i)))
	}
	first := task("t1", 1, bad(policies))
	r.iot.between = func(int) {
		r.iot.between = nil
		r.must(first) // the same message, delivered twice
	}
	if o := r.process(first, time.Hour); o.Verdict != outcome.Retry || !strings.Contains(o.Reason, ledger.ErrConflict.Error()) {
		t.Errorf("%+v, want a retry because of a conflict", o)
	}
	r.must(first)
	if states := count(r.states()); states["ACTIVE"] != 600 {
		t.Errorf("states %v, want 600 active", states)
	}
}

func TestDuplicateOfADoneTaskListsNothing(t *testing.T) {
	r := newRig(t)
	r.iot.findings["t1"] = []types.AuditFinding{policy("a")}
	first := task("t1", 1, bad(policies))
	r.must(first)
	calls := r.iot.calls
	r.must(first)
	if r.iot.calls != calls {
		t.Errorf("%d more calls of ListAuditFindings, want none", r.iot.calls-calls)
	}
}

func TestUnchangedFindingsOfTheNextTaskAreNotImported(t *testing.T) {
	r := newRig(t)
	for i := range 300 {
		f := policy(fmt.Sprintf("p%03d", i))
		r.iot.findings["t1"] = append(r.iot.findings["t1"], f)
		f.FindingId = aws.String("another-finding-id")
		r.iot.findings["t2"] = append(r.iot.findings["t2"], f)
	}
	sent := func() (n int) {
		for _, c := range r.service.Calls("BatchImportFindings") {
			n += len(c.Findings)
		}
		return n
	}
	r.must(task("t1", 1, bad(policies)))
	before := sent()
	r.must(task("t2", 2, bad(policies)))
	if n := sent() - before; n != 1 { // the check's summary
		t.Errorf("%d findings sent, want one", n)
	}
	if states := count(r.states()); states[string(asff.Active)] != 300 {
		t.Errorf("states %v, want 300 active", states)
	}
}
