package audit_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
)

// summaries returns the record states of check summaries, by check.
func (r *rig) summaries() map[string]string {
	states := map[string]string{}
	for _, f := range r.hub.Findings() {
		if f.ProductFields["ReportType"] == "CheckSummary" {
			states[f.ProductFields["CheckName"]] = f.RecordState
		}
	}
	return states
}

// found returns a rig in which two checks of a task have found a resource each.
func found(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.iot.findings["t1"] = []types.AuditFinding{policy("a"), certificate("c")}
	r.must(task("t1", 1, bad(policies, certificates)))
	return r
}

var compliant = map[string]string{logging: "COMPLETED_COMPLIANT"}

func TestFindingsOfACheckThatIsDisabledAreArchived(t *testing.T) {
	r := found(t)
	r.must(task("t2", 2, compliant))
	r.want(map[string]string{"a": "ACTIVE", "c": "ACTIVE"})
	r.iot.disabled = []string{certificates}
	r.must(task("t3", 3, compliant))
	r.want(map[string]string{"a": "ACTIVE", "c": "ARCHIVED"})
	if s := r.summaries(); s[policies] != "ACTIVE" || s[certificates] != "ARCHIVED" {
		t.Errorf("states of the summaries: %v", s)
	}
	for _, f := range r.hub.Findings() {
		if f.RecordState == "ARCHIVED" && !strings.Contains(f.Description, "is disabled") {
			t.Errorf("the description of %s does not say that its check is disabled: %q", f.Title, f.Description)
		}
	}
	r.iot.disabled = nil
	r.iot.findings["t4"] = []types.AuditFinding{certificate("c")}
	r.must(task("t4", 4, bad(certificates)))
	r.want(map[string]string{"a": "ACTIVE", "c": "ACTIVE"})
	if s := r.summaries(); s[certificates] != "ACTIVE" {
		t.Errorf("states of the summaries: %v", s)
	}
}

func TestDisabledCheckThatTheTaskNamesKeepsItsFindings(t *testing.T) {
	for _, status := range []string{"FAILED", "CANCELED", "WAITING_FOR_DATA_COLLECTION", "IN_PROGRESS"} {
		r := found(t)
		r.iot.disabled = []string{certificates}
		r.must(task("t2", 2, map[string]string{policies: "COMPLETED_COMPLIANT", certificates: status}))
		r.want(map[string]string{"a": "ARCHIVED", "c": "ACTIVE"})
	}
}

func TestTaskThatDidNotCompleteLeavesDisabledChecksAlone(t *testing.T) {
	for _, status := range []string{"CANCELED", "FAILED"} {
		r := found(t)
		r.iot.disabled = []string{certificates}
		second := task("t2", 2, compliant)
		second.Status = status
		r.must(second)
		r.want(map[string]string{"a": "ACTIVE", "c": "ACTIVE"})
	}
}

// First, the check was enabled again and found a resource before the older task was processed.
// Second, the check was disabled while the notification of an earlier task was still in the
// queue.
func TestDisabledChecksKeepTheOrderOfTasks(t *testing.T) {
	r := newRig(t)
	r.iot.findings["new"] = []types.AuditFinding{certificate("c")}
	r.must(task("new", 2, bad(certificates)))
	r.iot.disabled = []string{certificates}
	r.must(task("old", 1, compliant))
	r.want(map[string]string{"c": "ACTIVE"})
	r.must(task("newest", 4, compliant))
	r.want(map[string]string{"c": "ARCHIVED"})
	r.iot.findings["late"] = []types.AuditFinding{certificate("c")}
	r.must(task("late", 3, bad(certificates)))
	r.want(map[string]string{"c": "ARCHIVED"})
}

func TestUnreadableConfigurationEndsNoFinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := found(t)
		r.iot.disabled = []string{certificates}
		r.iot.configuration = func() error { return &smithy.GenericAPIError{Code: "UnauthorizedException", Message: "no"} }
		r.must(task("t2", 2, map[string]string{policies: "COMPLETED_COMPLIANT"}))
		r.want(map[string]string{"a": "ARCHIVED", "c": "ACTIVE"})
		calls := 0
		r.iot.configuration = func() error {
			if calls++; calls < 4 {
				return throttled()
			}
			return nil
		}
		r.must(task("t3", 3, compliant))
		r.want(map[string]string{"a": "ARCHIVED", "c": "ARCHIVED"})
	})
}
