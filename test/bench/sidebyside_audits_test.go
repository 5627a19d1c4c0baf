package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/test/bench/awsstub"
)

// auditsOf are the audits of a test. Check reports many certificates, KeyCheck a few.
type auditsOf struct {
	*shared
	certificates map[string]int
	tasks        int
	// imported has the findings that Security Hub certainly has.
	imported map[string]bool
}

// audits returns the audits of a number of certificates. An invocation has one message.
func audits(t *testing.T, b *bench, o order, certificates, pageSize int) *auditsOf {
	a := &auditsOf{shared: share(t, b, o), certificates: map[string]int{awsstub.Check: certificates, awsstub.KeyCheck: 5}, imported: map[string]bool{}}
	a.batch, a.timeout, a.throttled, a.killed, a.calls = 1, time.Minute, 0.3, 0.5, 200
	a.shared.audits.PageSize = pageSize
	return a
}

// add adds an audit after all others. A canceled one has completed only its first check.
func (a *auditsOf) add(canceled bool, finds func(check string, certificate int) bool) *queued {
	a.tasks++
	a.last = a.last.Add(time.Minute)
	task, status := fmt.Sprintf("%032x", a.tasks), "COMPLETED"
	if canceled {
		status = "CANCELED"
	}
	var runs []checkRun
	var found []awsstub.AuditFinding
	for _, check := range []string{awsstub.Check, awsstub.KeyCheck} {
		run := checkRun{check, "COMPLETED_NON_COMPLIANT", 0}
		if canceled && check == awsstub.KeyCheck {
			run.status = "CANCELED"
		} else if run.nonCompliant = a.find(canceled, check, finds, &found); run.nonCompliant == 0 {
			run.status = "COMPLETED_COMPLIANT"
		}
		summary := asff.FindingID(defender.AuditNotifications, "us-east-1", "SCHEDULED_AUDIT_TASK", "Daily", check)
		if run.nonCompliant > 0 && !canceled {
			a.want[summary] = expected{state: "ACTIVE", title: fmt.Sprintf("%s Summary: Completed with %d non-compliant resources", check, run.nonCompliant)}
		} else {
			a.want[summary] = expected{state: "ARCHIVED", mayLack: !a.imported[summary]}
		}
		runs = append(runs, run)
	}
	a.shared.audits.Add(task, found)
	return a.enqueue("AuditQueue", topicMessage("Audit", auditMessage(task, status, a.last, runs...)), a.last.Add(3*time.Minute))
}

// find adds what a check of an audit finds. Only an audit that completed ends what it does not find.
func (a *auditsOf) find(canceled bool, check string, finds func(string, int) bool, found *[]awsstub.AuditFinding) (n int) {
	for i := range a.certificates[check] {
		certificate := awsstub.Certificate(i)
		id := asff.FindingID(defender.AuditNotifications, "us-east-1", "DEVICE_CERTIFICATE", certificate, check, awsstub.Reason)
		_, known := a.want[id]
		switch {
		case finds(check, i):
			n++
			*found = append(*found, awsstub.AuditFinding{Check: check, Certificate: certificate})
			a.want[id] = expected{state: "ACTIVE"}
		case known && !canceled:
			a.want[id] = expected{state: "ARCHIVED", mayLack: !a.imported[id]}
		}
	}
	return n
}

// completed requires, after all audits are finished, that everything is confirmed and that Security
// Hub has the findings of the newest.
func (a *auditsOf) completed() {
	a.t.Helper()
	if pending := a.table.Pending(); len(pending) > 0 {
		a.t.Errorf("%d findings are not confirmed: %q", len(pending), pending)
	}
	a.compare()
	for id := range a.hub.Findings() {
		a.imported[id] = true
	}
}

// auditsShareATable lets both versions forward audits at once, which overlap and arrive in any
// order.
func auditsShareATable(t *testing.T, b *bench, o order) {
	a := audits(t, b, o, 400, 100)
	some := func(check string, i int) bool {
		return i == 0 && check == awsstub.Check || a.random.IntN(4) > 0
	}
	a.add(false, func(string, int) bool { return a.random.IntN(4) > 0 })
	a.serve(o.first)
	a.completed()
	late := a.add(false, some)
	a.queue = nil
	a.add(false, some)
	a.finish(o.first)
	a.queue = append(a.queue, late) // it restores nothing that the newer audit has ended
	a.finish(o.last)
	a.finished()
	a.completed()
	for range 2 {
		for i := range 3 {
			a.add(i == 1, some)
		}
		a.serve(o.first, o.last, o.now)
		a.completed()
	}
	// In the previous version, a second copy of a notification can be too early to end what the first
	// one raises late. The next audit ends it.
	for range 2 {
		a.queue = append(a.queue, a.add(false, some).again())
	}
	a.serve(o.first, o.last, o.now)
	a.add(false, func(check string, i int) bool { return check == awsstub.Check && some(check, i) })
	a.serve(o.last)
	a.completed()
	a.settle(o.last)
}

const (
	// interruptedFindings are more than today's version delivers between two checkpoints, on three
	// pages.
	interruptedFindings = 600
	interruptions       = 5
)

// interruptedAudits lets one version begin an audit and kills it, and the other one resumes the
// audit. The next audit, in which a third of the findings is new and a third has ended, is
// interrupted in the same way. That is repeated at several points of the calls of an audit.
func interruptedAudits(t *testing.T, b *bench, o order) {
	whole := interruptAudits(t, b, o, nil)
	for i := range interruptions {
		var after []int
		for _, calls := range whole {
			after = append(after, calls*(2*i+1)/(2*interruptions))
		}
		interruptAudits(t, b, o, after)
	}
}

// interruptAudits interrupts two audits after a number of calls, nil for never. It returns the
// numbers of calls until then.
func interruptAudits(t *testing.T, b *bench, o order, after []int) (calls []int) {
	a := audits(t, b, o, interruptedFindings*4/3, 0)
	for task, gone := range []int{3, 0} { // a quarter of the certificates
		a.add(false, func(check string, i int) bool { return check == awsstub.KeyCheck || i/(interruptedFindings/3) != gone })
		f := a.start(o.first)
		if after != nil {
			f.crashAfter(after[task])
		}
		f.handle(a.receive(), 0)
		if interrupted := after != nil; interrupted != (a.crashes == task+1) {
			t.Errorf("%d crashes after audit %d, want an interruption of each audit: %v", a.crashes, task, interrupted)
		}
		all, _, _ := f.server.Reset()
		n := 0
		for _, times := range all {
			n += times
		}
		calls = append(calls, n)
		f.stop()
		a.finish(o.last)
		a.finished()
		a.completed()
	}
	a.settle(o.last)
	return calls
}
