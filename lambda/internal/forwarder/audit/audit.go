// Package audit forwards the results of an audit task. It reads the task's findings page by page
// and archives findings that the task's checks no longer find.
//
// One notification may mean 25,000 findings, too many for one invocation. After each page the
// next page's token is checkpointed, and each finding has the start of the last task that found
// it. An invocation that runs out of time returns the message to the queue, and the next one
// resumes. Only after the last page are findings archived that the task did not find, with
// consistent reads.
//
// Tasks may overlap. When all findings of a check are listed, the check's watermark rises to the
// task's start. Active findings last found before the watermark are fixed. A late task finds a
// higher watermark and archives by that one.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/document"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// API is the part of the AWS IoT client that audits need. The client must not retry by itself.
type API interface {
	ListAuditFindings(context.Context, *iot.ListAuditFindingsInput, ...func(*iot.Options)) (*iot.ListAuditFindingsOutput, error)
	DescribeAccountAuditConfiguration(context.Context, *iot.DescribeAccountAuditConfigurationInput, ...func(*iot.Options)) (*iot.DescribeAccountAuditConfigurationOutput, error)
	ListRelatedResourcesForAuditFinding(context.Context, *iot.ListRelatedResourcesForAuditFindingInput, ...func(*iot.Options)) (*iot.ListRelatedResourcesForAuditFindingOutput, error)
}

// Deliverer delivers signals to Security Hub.
type Deliverer interface {
	DeliverKnown(context.Context, time.Time, []signal.Signal, ledger.Known) map[string]outcome.Outcome
}

// Findings lists the findings of a check: those that may have to be archived, and those that a task
// has not found yet.
type Findings interface {
	ReadKnown(ctx context.Context, check string, before int64, known ledger.Known) error
	Open(ctx context.Context, check string, before int64, each func([]ledger.Entry) error) error
}

// Auditor is safe for concurrent use.
type Auditor struct {
	IoT      API
	Table    ledger.Table
	Findings Findings
	Deliver  Deliverer
	Region   string
	Random   func(n int64) int64
	Log      *slog.Logger
}

const (
	// pageSize is the maximum of ListAuditFindings; its default is 25.
	pageSize = 250
	// deliverAtOnce is how many findings are delivered between two checkpoints, if there are so
	// many.
	deliverAtOnce = 5 * asff.MaxFindingsPerImport
	// worthKnowing is the number of findings of a check from which it costs less to query all
	// active ones than to read each.
	worthKnowing = 2 * asff.MaxFindingsPerImport
)

// Process works on a task until it is done or the deadline of ctx is near. now is the
// invocation's time.
func (a *Auditor) Process(ctx context.Context, now time.Time, m mapping.Mapper, t mapping.AuditTask) outcome.Outcome {
	w := &work{Auditor: a, now: now, mapper: m, task: t}
	w.point = &w.stored.Value
	err := w.run(ctx)
	switch {
	case err != nil:
		o := outcome.Of(err)
		o.Progress = w.progress
		return o
	case w.point.Failing > 0:
		return outcome.Outcome{Verdict: outcome.Failing,
			Reason: fmt.Sprintf("%d findings of audit task %s failed; the first: %s", w.point.Failing, t.ID, w.point.Reason)}
	case w.point.Refused > 0:
		return outcome.Outcome{Verdict: outcome.Refused,
			Reason: fmt.Sprintf("%d findings of audit task %s were refused; the first: %s", w.point.Refused, t.ID, w.point.Reason)}
	}
	return outcome.Outcome{}
}

// work is one invocation's work on a task.
type work struct {
	*Auditor
	now    time.Time
	mapper mapping.Mapper
	task   mapping.AuditTask
	// stored is the checkpoint with its revision, point its value.
	stored   document.Version[checkpoint]
	point    *checkpoint
	progress bool
	// known has the ledger's entries for the findings to list.
	known ledger.Known
	// fresh reports whether this invocation received the page token; refused counts fresh tokens
	// that AWS refused.
	fresh   bool
	refused int
}

func (w *work) run(ctx context.Context) error {
	var err error
	if w.stored, err = w.checkpoints(w.task.ID, w.now).Read(ctx); err != nil {
		return err
	}
	if w.point.Done {
		return w.archiveAll(ctx, w.mark)
	}
	if !w.point.Summaries {
		if err := w.deliver(ctx, w.mapper.CheckSummaries(w.task)); err != nil {
			return err
		}
		w.point.Summaries = true
		if err := w.checkpoint(ctx); err != nil {
			return err
		}
	}
	err = w.list(ctx)
	if errors.Is(err, outcome.Refused) {
		// The message is not retried, and earlier pages may be older than a newer task.
		return cmp.Or(w.archiveAll(ctx, w.marked), err)
	}
	if err != nil {
		return err
	}
	if err := w.archiveAll(ctx, w.mark); err != nil {
		return err
	}
	if w.task.Completed() {
		if err := w.archiveDisabled(ctx); err != nil {
			return err
		}
	}
	last := *w.point
	// A message that is retried, or sent again from the dead-letter queue, is processed in full.
	// Each finding that Security Hub has costs one read of the ledger.
	*w.point = checkpoint{Done: last.Refused+last.Failing == 0}
	if err := w.checkpoint(ctx); err != nil {
		return err
	}
	w.point.Refused, w.point.Failing, w.point.Reason = last.Refused, last.Failing, last.Reason
	w.Log.Info("audit task forwarded", "taskId", w.task.ID, "pages", last.Pages, "refused", last.Refused, "failing", last.Failing)
	return nil
}

// archiveAll archives the findings that the task's checks no longer find. Each copy of a
// notification does so at its end, even if another copy did everything else: its deliveries may
// be older than those of a newer task.
func (w *work) archiveAll(ctx context.Context, mark func(context.Context, string) (int64, error)) error {
	for _, c := range w.task.Checks {
		if !c.Completed() {
			continue
		}
		before, err := mark(ctx, c.Name)
		if err != nil {
			return err
		}
		if err := w.archive(ctx, c.Name, before, ""); err != nil {
			return err
		}
	}
	return nil
}

// list delivers the findings of the task page by page.
func (w *work) list(ctx context.Context) error {
	checks, err := w.listable(ctx)
	if err != nil {
		return err
	}
	if len(checks) == 0 {
		w.point.Listed = true
	}
	if err := w.readKnown(ctx, checks); err != nil {
		return err
	}
	defer func() { w.known = nil }()
	for !w.point.Listed {
		signals, failed := w.pages(ctx, checks)
		if failed == nil || len(signals) > 0 {
			if err := w.deliver(ctx, signals); err != nil {
				return err
			}
			if err := w.checkpoint(ctx); err != nil {
				return err
			}
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// readKnown reads the ledger's entries for checks with many findings.
func (w *work) readKnown(ctx context.Context, checks map[string]bool) error {
	w.known = ledger.Known{}
	for _, c := range w.task.Checks {
		if w.point.Listed || !checks[c.Name] || c.NonCompliant < worthKnowing {
			continue
		}
		if err := w.Findings.ReadKnown(ctx, c.Name, w.task.Started, w.known); err != nil {
			return err
		}
	}
	return nil
}

// pages returns the signals of as many pages as fill five imports. With an error, it returns the
// signals read before.
func (w *work) pages(ctx context.Context, checks map[string]bool) (signals []signal.Signal, err error) {
	for !w.point.Listed && len(signals) < deliverAtOnce {
		page, err := w.page(ctx)
		if err != nil {
			return signals, err
		}
		for _, f := range page.Findings {
			if aws.ToBool(f.IsSuppressed) {
				continue
			}
			if f.RelatedResources, err = w.related(ctx, f); err != nil {
				return signals, err
			}
			if s := w.mapper.AuditFinding(w.task, f); checks[s.Check] {
				signals = append(signals, s)
			}
		}
		w.point.Token, w.fresh = aws.ToString(page.NextToken), true
		w.point.Pages++
		w.point.Listed = w.point.Token == ""
	}
	return signals, nil
}

// listable returns the checks whose findings this task decides about: those that finished, found
// something, and were not listed by a later task.
func (w *work) listable(ctx context.Context) (map[string]bool, error) {
	checks := map[string]bool{}
	for _, c := range w.task.Checks {
		if c.Status != "COMPLETED_NON_COMPLIANT" {
			continue
		}
		mark, err := w.marked(ctx, c.Name)
		if err != nil {
			return nil, err
		}
		if mark <= w.task.Started {
			checks[c.Name] = true
		}
	}
	return checks, nil
}

// mostRefused is how often AWS may refuse a page token that it has just returned. Such a token
// has not expired.
const mostRefused = 3

// page returns the next page, or the first if the token has expired.
func (w *work) page(ctx context.Context) (page *iot.ListAuditFindingsOutput, err error) {
	for {
		in := &iot.ListAuditFindingsInput{TaskId: &w.task.ID, MaxResults: aws.Int32(pageSize)}
		if w.point.Token != "" {
			in.NextToken = &w.point.Token
		}
		// Without ListSuppressedFindings AWS also returns suppressed findings. Old findings are
		// not marked, and are still sent.
		err := w.call(ctx, func() (err error) { page, err = w.IoT.ListAuditFindings(ctx, in); return err })
		switch {
		case err == nil:
			return page, nil
		case !invalid(err):
			return nil, fmt.Errorf("list the findings of audit task %s: %w", w.task.ID, err)
		case w.point.Token == "":
			return nil, w.never(err)
		}
		w.Log.Warn("the page token of an audit task is no longer valid: listing starts again", "taskId", w.task.ID, "pages", w.point.Pages)
		w.point.Token, w.point.Pages = "", 0
		if err := w.checkpoint(ctx); err != nil {
			return nil, err
		}
		if w.fresh {
			w.refused++
		}
		if w.refused >= mostRefused {
			return nil, w.never(err)
		}
	}
}

// never returns the outcome of a task whose findings AWS refuses to list.
func (w *work) never(err error) error {
	return outcome.Outcome{Verdict: outcome.Refused, Reason: fmt.Sprintf("list the findings of audit task %s: %v", w.task.ID, err)}
}

// mark returns the check's watermark (ms), raised if the task finished.
func (w *work) mark(ctx context.Context, check string) (int64, error) {
	if !w.task.Completed() {
		return w.marked(ctx, check) // a later task decides
	}
	return w.raise(ctx, check, w.task.Started)
}

// archive archives a check's findings that are active or unconfirmed and were last found before a
// time (ms). note is added to their descriptions.
func (w *work) archive(ctx context.Context, check string, before int64, note string) error {
	return w.Findings.Open(ctx, check, before, func(entries []ledger.Entry) error {
		var gone []signal.Signal
		for _, e := range entries {
			if e.Order.Time > before || e.Order.Time == before && e.State == asff.Active {
				continue
			}
			f := *e.Finding
			if f.RecordState = asff.Archived; e.State == asff.Active {
				f = f.Noted(note)
			}
			s := signal.New(e.Source, f, w.task.Ended, signal.Order{Time: before})
			s.Check = check
			gone = append(gone, s)
		}
		if len(gone) == 0 {
			return nil
		}
		if err := w.deliver(ctx, gone); err != nil {
			return err
		}
		w.progress = true
		return nil
	})
}

// deliver delivers signals, and stops the work if one must be retried. Signals that are refused,
// or that fail alone, are counted and do not stop the others.
func (w *work) deliver(ctx context.Context, signals []signal.Signal) error {
	worst := outcome.Outcome{}
	for _, o := range w.Deliver.DeliverKnown(ctx, w.now, signals, w.known) {
		switch o.Verdict {
		case outcome.Refused:
			w.point.Refused++
			w.point.Reason = cmp.Or(w.point.Reason, o.Reason)
			continue
		case outcome.Failing:
			w.point.Failing++
			w.point.Reason = cmp.Or(w.point.Reason, o.Reason)
			continue
		}
		worst = outcome.Worst(worst, o)
	}
	if worst.Verdict != outcome.Done {
		return worst
	}
	return nil
}

func (w *work) checkpoint(ctx context.Context) error {
	if err := w.checkpoints(w.task.ID, w.now).Write(ctx, &w.stored); err != nil {
		return err
	}
	w.progress = true
	return nil
}
