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
	Claim(context.Context, time.Time, signal.Signal) (ledger.Claim, error)
	ClaimDue(context.Context, time.Time, ledger.Entry) (ledger.Claim, error)
	ClaimRestated(context.Context, time.Time, ledger.Entry, ledger.Restate) (ledger.Claim, error)
	Confirm(context.Context, time.Time, ledger.Claim) error
	Doubt(context.Context, time.Time, ledger.Claim) (over bool, err error)
	Abandon(context.Context, time.Time, ledger.Claim) error
}

// Importer is the part of importer.Importer that delivery needs.
type Importer interface {
	Import(context.Context, []asff.Finding) map[string]outcome.Outcome
}

// Delivery is safe for concurrent use.
type Delivery struct {
	Ledger   Ledger
	Importer Importer
	Metrics  *emf.Metrics
	Log      *slog.Logger
	// BySeverity also counts imported findings by severity.
	BySeverity bool
}

// parallel is the number of concurrent calls to the ledger.
const parallel = 16

// Deliver delivers signals. It merges signals with the same finding ID, which share the outcome.
// The result has an entry for each finding ID. now is the invocation's time.
func (d *Delivery) Deliver(ctx context.Context, now time.Time, signals []signal.Signal) map[string]outcome.Outcome {
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
		tasks[i] = task{id: id, source: s.Source, claim: func(ctx context.Context) (ledger.Claim, error) { return d.Ledger.Claim(ctx, now, s) }}
	}
	return d.deliver(ctx, now, tasks)
}

// Refresh handles due entries of the ledger.
func (d *Delivery) Refresh(ctx context.Context, now time.Time, entries []ledger.Entry) map[string]outcome.Outcome {
	tasks := make([]task, len(entries))
	for i, e := range entries {
		tasks[i] = task{id: e.ID, source: e.Source, claim: func(ctx context.Context) (ledger.Claim, error) { return d.Ledger.ClaimDue(ctx, now, e) }}
	}
	return d.deliver(ctx, now, tasks)
}

// Restate imports entries of the ledger as restate writes them.
func (d *Delivery) Restate(ctx context.Context, now time.Time, entries []ledger.Entry, restate ledger.Restate) map[string]outcome.Outcome {
	tasks := make([]task, len(entries))
	for i, e := range entries {
		tasks[i] = task{id: e.ID, source: e.Source, claim: func(ctx context.Context) (ledger.Claim, error) { return d.Ledger.ClaimRestated(ctx, now, e, restate) }}
	}
	return d.deliver(ctx, now, tasks)
}

// task is a finding in progress.
type task struct {
	id      string
	source  defender.Source
	claim   func(context.Context) (ledger.Claim, error)
	claimed ledger.Claim
	outcome outcome.Outcome
}

func (d *Delivery) deliver(ctx context.Context, now time.Time, tasks []task) map[string]outcome.Outcome {
	each(tasks, func(t *task) {
		var err error
		if t.claimed, err = t.claim(ctx); err != nil {
			t.outcome = outcome.Of(err)
		}
	})
	var findings []asff.Finding
	for _, t := range tasks {
		if t.claimed.Import {
			findings = append(findings, *t.claimed.Entry.Finding)
		}
	}
	results := d.Importer.Import(ctx, findings)
	ctx, cancel := withGrace(ctx)
	defer cancel()
	each(tasks, func(t *task) {
		if t.claimed.Import {
			result, known := results[t.id]
			if !known {
				result = outcome.Outcome{Verdict: outcome.Retry, Reason: "the importer returned no result"}
			}
			t.outcome = d.settle(ctx, now, t, result)
		}
	})
	outcomes := make(map[string]outcome.Outcome, len(tasks))
	for _, t := range tasks {
		d.count(&t)
		outcomes[t.id] = t.outcome
	}
	return outcomes
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

// settle writes the result of an import to the ledger.
func (d *Delivery) settle(ctx context.Context, now time.Time, t *task, imported outcome.Outcome) outcome.Outcome {
	switch imported.Verdict {
	case outcome.Done:
		return outcome.Of(d.Ledger.Confirm(ctx, now, t.claimed))
	case outcome.Failing:
		over, err := d.Ledger.Doubt(ctx, now, t.claimed)
		if err != nil {
			return outcome.Of(err)
		}
		if !over {
			return imported
		}
		imported.Verdict = outcome.Refused
		fallthrough
	case outcome.Refused:
		if err := d.Ledger.Abandon(ctx, now, t.claimed); err != nil {
			return outcome.Of(err)
		}
	}
	return imported
}

// count updates the metrics, and logs failures.
func (d *Delivery) count(t *task) {
	metric := contract.MetricUnchanged
	switch {
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
			d.Metrics.CountBy(t.source.String(), contract.MetricDimensionSeverity, t.claimed.Entry.Finding.FindingProviderFields.Severity.Label, metric, 1)
			return
		}
	}
	d.Metrics.Count(t.source.String(), metric, 1)
}

// each runs f for every task, several at once.
func each(tasks []task, f func(*task)) {
	var some errgroup.Group
	some.SetLimit(parallel)
	for i := range tasks {
		some.Go(func() error {
			f(&tasks[i])
			return nil
		})
	}
	_ = some.Wait() // none fails
}
