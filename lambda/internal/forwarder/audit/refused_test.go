package audit_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

func TestRefusedFindingsDoNotStopTheOthers(t *testing.T) {
	r := newRig(t)
	r.iot.findings["t1"] = []types.AuditFinding{policy("a"), policy("odd"), policy("c")}
	remove := r.service.Inject(securityhubtest.Fault{FailFinding: func(id string) *securityhubtest.FindingError {
		if strings.Contains(id, "/odd/") {
			return &securityhubtest.FindingError{ID: id, Code: "InvalidInput", Message: "no such thing"}
		}
		return nil
	}})
	first := task("t1", 1, bad(policies))
	if o := r.process(first, time.Hour); o.Verdict != outcome.Refused || !strings.Contains(o.Reason, "no such thing") {
		t.Errorf("%+v, want a refusal that gives the reason", o)
	}
	r.want(map[string]string{"a": "ACTIVE", "c": "ACTIVE"})
	remove()
	r.must(first) // sent again from the dead-letter queue
	r.want(map[string]string{"a": "ACTIVE", "odd": "ACTIVE", "c": "ACTIVE"})
}

// Security Hub fails one finding for an unknown reason. That blocks neither later pages nor archiving.
// The finding counts as refused after a day.
func TestFindingThatFailsAloneBlocksNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.iot.findings["t1"] = []types.AuditFinding{policy("odd"), policy("gone")}
		r.must(task("t1", 1, bad(policies)))
		odd := policy("odd")
		odd.ReasonForNonCompliance = aws.String("another")
		r.iot.findings["t2"] = []types.AuditFinding{odd}
		for i := range 300 {
			r.iot.findings["t2"] = append(r.iot.findings["t2"], policy(fmt.Sprintf("p%03d", i)))
		}
		fail := func() (remove func()) {
			return r.service.Inject(securityhubtest.Fault{FailFinding: func(id string) *securityhubtest.FindingError {
				if strings.Contains(id, "/odd/") {
					return &securityhubtest.FindingError{ID: id, Code: "SomethingNew", Message: "no such thing"}
				}
				return nil
			}})
		}
		remove := fail()
		second := task("t2", 2, bad(policies))
		for range 3 {
			if o := r.process(second, time.Minute); o.Verdict != outcome.Failing || o.Progress || !strings.Contains(o.Reason, "1 findings of audit task t2 failed; the first: SomethingNew") {
				t.Errorf("%+v, want Failing without progress, with the first error", o)
			}
			time.Sleep(time.Hour)
		}
		if s := r.states(); s["gone"] != "ARCHIVED" || s["odd"] != "ACTIVE" || s["p299"] != "ACTIVE" {
			t.Errorf("states %v, gone is %q; want gone archived", count(s), s["gone"])
		}
		time.Sleep(22 * time.Hour)
		if o := r.process(second, time.Minute); o.Verdict != outcome.Refused || !strings.Contains(o.Reason, "no such thing") {
			t.Errorf("after a day: %+v, want a refusal", o)
		}
		third := task("t3", 3, bad(policies))
		r.iot.findings["t3"] = r.iot.findings["t2"]
		if o := r.process(third, time.Minute); o.Verdict != outcome.Refused {
			t.Errorf("the next day's audit: %+v, want a refusal", o)
		}
		remove()
		r.must(third) // sent again from the dead-letter queue
		if s := r.states(); s["odd"] != "ACTIVE" || count(s)["ACTIVE"] != 301 {
			t.Errorf("states %v, want 301 active", count(s))
		}
	})
}

// A finding is archived even if Security Hub refused an update of it before.
func TestFindingIsArchivedAfterARefusedUpdate(t *testing.T) {
	r := newRig(t)
	r.iot.findings["t1"] = []types.AuditFinding{policy("a")}
	r.must(task("t1", 1, bad(policies)))
	changed := policy("a")
	changed.ReasonForNonCompliance = aws.String("something else")
	r.iot.findings["t2"] = []types.AuditFinding{changed}
	remove := r.service.Inject(securityhubtest.Fault{FailFinding: func(id string) *securityhubtest.FindingError {
		return &securityhubtest.FindingError{ID: id, Code: "InvalidInput", Message: "no such thing"}
	}})
	second := task("t2", 2, bad(policies))
	if o := r.process(second, time.Hour); o.Verdict != outcome.Refused {
		t.Errorf("%+v, want a refusal", o)
	}
	remove()
	r.want(map[string]string{"a": "ACTIVE"})
	r.must(task("t3", 3, map[string]string{policies: "COMPLETED_COMPLIANT"}))
	r.want(map[string]string{"a": "ARCHIVED"})
}
