package audit

import (
	"context"
	"time"

	"github.com/defenderhub/defenderhub/lambda/internal/document"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
)

// checkpoint is the progress of a task.
type checkpoint struct {
	// Summaries reports whether the check summaries are delivered.
	Summaries bool `json:"summaries,omitempty"`
	// Token is the next page, "" for the first.
	Token string `json:"token,omitempty"`
	Pages int    `json:"pages,omitempty"`
	// Listed reports whether the last page is delivered. Done reports whether the findings that the
	// task did not find are archived as well.
	Listed bool `json:"listed,omitempty"`
	Done   bool `json:"done,omitempty"`
	// Refused counts findings that Security Hub will never accept, Failing those that it may
	// accept later; Reason is the first one's.
	Refused int    `json:"refused,omitempty"`
	Failing int    `json:"failing,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// keepCheckpoint is longer than a queue keeps the message that needs it.
const keepCheckpoint = 15 * 24 * time.Hour

// checkpoints returns the document of a task's checkpoint. A write is a conflict if another
// invocation works on the same task.
func (a *Auditor) checkpoints(task string, now time.Time) document.Document[checkpoint] {
	return document.Document[checkpoint]{
		Place: ledger.Place{Table: a.Table, Key: ledger.Key{Partition: "task#" + task, Sort: "checkpoint"}, Expires: now.Add(keepCheckpoint)},
		Name:  "checkpoint of audit task " + task,
	}
}

// watermark is the start (ms) of the newest task that has listed all findings of a check, or
// found it disabled. An active finding that only earlier tasks found is fixed.
type watermark struct {
	Started int64 `json:"started"`
}

func (a *Auditor) watermarks(check string) document.Document[watermark] {
	return document.Document[watermark]{
		Place: ledger.Place{Table: a.Table, Key: ledger.Key{Partition: "audit#" + a.Region + "#" + check, Sort: "watermark"}},
		Name:  "watermark of " + check,
	}
}

// marked returns a check's watermark (ms), unchanged.
func (a *Auditor) marked(ctx context.Context, check string) (int64, error) {
	mark, err := a.watermarks(check).Read(ctx)
	return mark.Value.Started, err
}

// raise raises a check's watermark to started (ms) and returns it. The result is higher if a
// later task was faster.
func (a *Auditor) raise(ctx context.Context, check string, started int64) (int64, error) {
	mark, err := a.watermarks(check).Change(ctx, func(mark *document.Version[watermark]) bool {
		if mark.Value.Started >= started {
			return false
		}
		mark.Value.Started = started
		return true
	})
	return mark.Value.Started, err
}
