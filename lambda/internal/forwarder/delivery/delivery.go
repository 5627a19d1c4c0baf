// Package delivery delivers signals to Security Hub through the ledger: claim, import, confirm.
package delivery

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Ledger is the part of ledger.Ledger that delivery needs.
type Ledger interface {
	KnownSignal(time.Time, signal.Signal, ledger.Known) ledger.Request
	DueEntry(time.Time, ledger.Entry) ledger.Request
	RestatedEntry(time.Time, ledger.Entry, ledger.Restate) ledger.Request
	Claims(context.Context, time.Time, []ledger.Request) ([]ledger.Claim, []error)
	Confirm(context.Context, time.Time, []ledger.Claim) []error
	Doubt(context.Context, time.Time, ledger.Claim) (over bool, err error)
	Abandon(context.Context, time.Time, ledger.Claim) error
	Leave(context.Context, time.Time, []ledger.Claim) []error
}

// Importer is the part of importer.Importer that delivery needs.
type Importer interface {
	ImportOrLeave(context.Context, []asff.Finding, func(context.Context) bool) map[string]outcome.Outcome
}

// Leaver decides about a delivery while Security Hub throttles.
type Leaver interface {
	// Leaving reports whether states are left in the ledger without an attempt to import them.
	Leaving() bool
	// Continue reports, when Security Hub throttles a call, whether to wait and continue. Otherwise the
	// states are left in the ledger.
	Continue(context.Context) bool
}

// Delivery is safe for concurrent use.
type Delivery struct {
	Ledger   Ledger
	Importer Importer
	Metrics  *emf.Metrics
	Log      *slog.Logger
	// DeadLetter is called with a claim that Security Hub will never accept and that no message
	// imports, before it is abandoned.
	DeadLetter func(ctx context.Context, e ledger.Entry, reason string) error
	// BySeverity also counts imported findings by severity.
	BySeverity bool
}

// parallel is the number of concurrent calls to the ledger.
const parallel = 16

// Deliver delivers signals. It merges signals with the same finding ID, which share the outcome.
// The result has an entry for each finding ID. now is the invocation's time.
func (d *Delivery) Deliver(ctx context.Context, now time.Time, signals []signal.Signal) map[string]outcome.Outcome {
	return d.DeliverKnown(ctx, now, signals, nil)
}

// DeliverOrLeave is [Delivery.Deliver], but the leaver may leave states in the ledger.
func (d *Delivery) DeliverOrLeave(ctx context.Context, now time.Time, signals []signal.Signal, leaver Leaver) map[string]outcome.Outcome {
	return d.deliver(ctx, now, d.signals(now, signals, nil), leaver)
}

// DeliverKnown is [Delivery.Deliver] for signals whose findings may be known.
func (d *Delivery) DeliverKnown(ctx context.Context, now time.Time, signals []signal.Signal, known ledger.Known) map[string]outcome.Outcome {
	return d.deliver(ctx, now, d.signals(now, signals, known), nil)
}

// signals returns the tasks of signals, one for each finding.
func (d *Delivery) signals(now time.Time, signals []signal.Signal, known ledger.Known) []task {
	byID := map[string][]signal.Signal{}
	var order []string
	for _, s := range signals {
		id := s.Finding.ID
		if byID[id] == nil {
			order = append(order, id)
		}
		byID[id] = append(byID[id], s)
	}
	tasks := make([]task, len(order))
	for i, id := range order {
		s := signal.Merge(byID[id])
		tasks[i] = task{id: id, source: s.Source, request: d.Ledger.KnownSignal(now, s, known)}
	}
	return tasks
}

// Refresh handles due entries of the ledger.
func (d *Delivery) Refresh(ctx context.Context, now time.Time, entries []ledger.Entry) map[string]outcome.Outcome {
	tasks := make([]task, len(entries))
	for i, e := range entries {
		tasks[i] = task{id: e.ID, source: e.Source, request: d.Ledger.DueEntry(now, e)}
	}
	return d.deliver(ctx, now, tasks, nil)
}

// Restate imports entries of the ledger as restate writes them.
func (d *Delivery) Restate(ctx context.Context, now time.Time, entries []ledger.Entry, restate ledger.Restate) map[string]outcome.Outcome {
	tasks := make([]task, len(entries))
	for i, e := range entries {
		tasks[i] = task{id: e.ID, source: e.Source, request: d.Ledger.RestatedEntry(now, e, restate)}
	}
	return d.deliver(ctx, now, tasks, nil)
}

// task is a finding in progress.
type task struct {
	id      string
	source  defender.Source
	request ledger.Request
	claimed ledger.Claim
	// severity is the label of the claimed finding.
	severity string
	outcome  outcome.Outcome
}

// claimAtOnce is how many findings are claimed before the first are imported. It limits the memory
// for a large batch.
const claimAtOnce = 5 * asff.MaxFindingsPerImport

func (d *Delivery) deliver(ctx context.Context, now time.Time, tasks []task, leaver Leaver) map[string]outcome.Outcome {
	var claimed []*task
	for from := 0; from < len(tasks); from += claimAtOnce {
		to := min(from+claimAtOnce, len(tasks))
		if leaver != nil && leaver.Leaving() {
			d.leave(ctx, now, tasks[from:to])
			continue
		}
		claimed = append(claimed, d.claim(ctx, now, tasks[from:to])...)
		n := len(claimed)
		if to < len(tasks) && (leaver == nil || !leaver.Leaving()) {
			n -= n % asff.MaxFindingsPerImport // the next ones fill the call
		}
		d.imports(ctx, now, claimed[:n], leaver)
		claimed = claimed[n:]
	}
	d.imports(ctx, now, claimed, leaver) // the rest, if the last were left
	outcomes := make(map[string]outcome.Outcome, len(tasks))
	for _, t := range tasks {
		d.count(&t)
		outcomes[t.id] = t.outcome
	}
	return outcomes
}

// leave leaves the states of tasks in the ledger.
func (d *Delivery) leave(ctx context.Context, now time.Time, tasks []task) {
	for i := range tasks {
		tasks[i].request = tasks[i].request.Left()
	}
	for _, t := range d.claim(ctx, now, tasks) {
		t.outcome = outcome.Outcome{Verdict: outcome.Left}
		t.release()
	}
}

// claim claims tasks, and returns those to import.
func (d *Delivery) claim(ctx context.Context, now time.Time, tasks []task) (claimed []*task) {
	requests := make([]ledger.Request, len(tasks))
	for i := range tasks {
		requests[i] = tasks[i].request
	}
	claims, faults := d.Ledger.Claims(ctx, now, requests)
	for i := range tasks {
		t := &tasks[i]
		if t.claimed, t.outcome = claims[i], outcome.Of(faults[i]); t.claimed.Import {
			claimed = append(claimed, t)
		}
	}
	return claimed
}

// imports imports what was claimed, and writes the results to the ledger.
func (d *Delivery) imports(ctx context.Context, now time.Time, claimed []*task, leaver Leaver) {
	if len(claimed) == 0 {
		return
	}
	findings := make([]asff.Finding, len(claimed))
	for i, t := range claimed {
		findings[i] = *t.claimed.Entry.Finding
	}
	var proceed func(context.Context) bool
	if leaver != nil {
		proceed = leaver.Continue
	}
	results := d.Importer.ImportOrLeave(ctx, findings, proceed)
	ctx, cancel := withGrace(ctx)
	defer cancel()
	var confirmed, left []ledger.Claim
	var owners, leavers, failed []*task
	for _, t := range claimed {
		result, known := results[t.id]
		if !known {
			result = outcome.Outcome{Verdict: outcome.Retry, Reason: "the importer returned no result"}
		}
		switch t.outcome = result; result.Verdict {
		case outcome.Done:
			confirmed, owners = append(confirmed, t.claimed), append(owners, t)
		case outcome.Left:
			left, leavers = append(left, t.claimed), append(leavers, t)
		default:
			failed = append(failed, t)
		}
	}
	for i, err := range d.Ledger.Leave(ctx, now, left) {
		if err != nil {
			leavers[i].outcome = outcome.Of(err)
		}
	}
	for i, err := range d.Ledger.Confirm(ctx, now, confirmed) {
		owners[i].outcome = outcome.Of(err)
	}
	each(failed, func(t *task) { t.outcome = d.fail(ctx, now, t) })
	for _, t := range claimed {
		t.release()
	}
}

// release frees what only the import and the confirmation need.
func (t *task) release() {
	t.request = ledger.Request{}
	t.severity = t.claimed.Entry.Finding.FindingProviderFields.Severity.Label
	t.claimed.Entry = ledger.Entry{State: t.claimed.Entry.State}
}

// grace is how long after the end of imports their results may still be written to the ledger.
const grace = 2 * time.Second

func withGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(context.WithoutCancel(ctx), deadline.Add(grace))
}

// fail writes the failure of an import to the ledger.
func (d *Delivery) fail(ctx context.Context, now time.Time, t *task) outcome.Outcome {
	failure := t.outcome
	switch failure.Verdict {
	case outcome.Failing:
		over, err := d.Ledger.Doubt(ctx, now, t.claimed)
		if err != nil {
			return outcome.Of(err)
		}
		if !over {
			return failure
		}
		failure.Verdict = outcome.Refused
		fallthrough
	case outcome.Refused:
		if t.claimed.Entry.Unowned {
			if err := d.DeadLetter(ctx, t.claimed.Entry, failure.Reason); err != nil {
				return outcome.Of(err)
			}
		}
		if err := d.Ledger.Abandon(ctx, now, t.claimed); err != nil {
			return outcome.Of(err)
		}
	}
	return failure
}

// count updates the metrics, and logs failures.
func (d *Delivery) count(t *task) {
	metric := contract.MetricUnchanged
	switch {
	case t.outcome.Verdict == outcome.Left:
		return // its import counts it
	case t.outcome.Verdict == outcome.HubOff:
		metric = contract.MetricHubOff
	case t.outcome.Verdict != outcome.Done:
		metric = contract.MetricFailed
		d.Log.Error("finding was not imported", "findingId", t.id, "source", t.source.String(),
			"reason", t.outcome.Reason, "again", t.outcome.Verdict != outcome.Refused)
	case t.claimed.Import && t.claimed.Entry.State == asff.Archived:
		metric = contract.MetricArchived
	case t.claimed.Import:
		metric = contract.MetricImported
		if d.BySeverity {
			d.Metrics.CountBy(t.source.String(), contract.MetricDimensionSeverity, t.severity, metric, 1)
			return
		}
	}
	d.Metrics.Count(t.source.String(), metric, 1)
}

// each runs f for every task, several at once.
func each(tasks []*task, f func(*task)) {
	var some errgroup.Group
	some.SetLimit(parallel)
	for _, t := range tasks {
		some.Go(func() error {
			f(t)
			return nil
		})
	}
	_ = some.Wait() // none fails
}
