package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
)

// checkpoint is how far a task has come.
type checkpoint struct {
	// Summaries tells that the check summaries are delivered.
	Summaries bool `json:"summaries,omitempty"`
	// Token is the page to list next, "" for the first.
	Token string `json:"token,omitempty"`
	Pages int    `json:"pages,omitempty"`
	// Listed tells that the last page is delivered, Done that what the task did not see
	// is archived as well.
	Listed bool `json:"listed,omitempty"`
	Done   bool `json:"done,omitempty"`
	// Refused counts findings that Security Hub will never take, Failing those that it may
	// take later; Reason is the first's.
	Refused int    `json:"refused,omitempty"`
	Failing int    `json:"failing,omitempty"`
	Reason  string `json:"reason,omitempty"`

	revision int64
}

// keepCheckpoint is longer than a queue keeps the message that would need it.
const keepCheckpoint = 15 * 24 * time.Hour

func checkpointKey(task string) ledger.Key {
	return ledger.Key{Partition: "task#" + task, Sort: "checkpoint"}
}

func (a *Auditor) load(ctx context.Context, task string) (checkpoint, error) {
	r, err := a.Table.Get(ctx, checkpointKey(task))
	if err != nil {
		return checkpoint{}, fmt.Errorf("read the checkpoint of audit task %s: %w", task, err)
	}
	var c checkpoint
	if r.Revision > 0 {
		if err := json.Unmarshal(r.Doc, &c); err != nil {
			return checkpoint{}, fmt.Errorf("checkpoint of audit task %s is not JSON: %w", task, err)
		}
	}
	c.revision = r.Revision
	return c, nil
}

// save fails with ledger.ErrConflict where another invocation works on the same task.
func (a *Auditor) save(ctx context.Context, now time.Time, task string, c *checkpoint) error {
	doc, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("checkpoint of audit task %s: %w", task, err)
	}
	r := ledger.Record{Key: checkpointKey(task), Revision: c.revision + 1, Doc: doc, Expires: now.Add(keepCheckpoint)}
	if err := a.Table.Put(ctx, r); err != nil {
		return fmt.Errorf("write the checkpoint of audit task %s: %w", task, err)
	}
	c.revision++
	return nil
}

// watermark is the start (ms) of the newest task that has listed all findings of a
// check, or found it disabled. Whatever is active and was last seen by an earlier task is gone.
type watermark struct {
	Started int64 `json:"started"`
}

func (a *Auditor) watermarkKey(check string) ledger.Key {
	return ledger.Key{Partition: "audit#" + a.Region + "#" + check, Sort: "watermark"}
}

func (a *Auditor) watermark(ctx context.Context, check string) (watermark, int64, error) {
	r, err := a.Table.Get(ctx, a.watermarkKey(check))
	if err != nil {
		return watermark{}, 0, fmt.Errorf("read the watermark of %s: %w", check, err)
	}
	var w watermark
	if r.Revision > 0 {
		if err := json.Unmarshal(r.Doc, &w); err != nil {
			return watermark{}, 0, fmt.Errorf("watermark of %s is not JSON: %w", check, err)
		}
	}
	return w, r.Revision, nil
}

// raise raises a check's watermark to started and returns it: higher where a later task
// was there before.
func (a *Auditor) raise(ctx context.Context, check string, started int64) (watermark, error) {
	for {
		w, revision, err := a.watermark(ctx, check)
		if err != nil || w.Started >= started {
			return w, err
		}
		doc, err := json.Marshal(watermark{started})
		if err != nil {
			return w, fmt.Errorf("watermark of %s: %w", check, err)
		}
		err = a.Table.Put(ctx, ledger.Record{Key: a.watermarkKey(check), Revision: revision + 1, Doc: doc})
		if err == nil {
			return watermark{started}, nil
		}
		if !errors.Is(err, ledger.ErrConflict) {
			return w, fmt.Errorf("write the watermark of %s: %w", check, err)
		}
	}
}
