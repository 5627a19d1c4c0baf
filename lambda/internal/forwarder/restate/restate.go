// Package restate gives active findings the severity, title and remedy that the deployed program
// writes. Otherwise a finding keeps those of its last signal, which may be long ago, for example
// for an offline device or a monthly check.
//
// A marker in the ledger's table has the version that restated last: a hash of program and
// settings. While it is the present version and all findings were restated twice, a run only
// reads the marker. The second time covers findings that invocations of the previous deployment
// imported after the first. Such an invocation does not restate: it began before the marker got
// the present version.
package restate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/document"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

// Findings lists the active findings.
type Findings interface {
	Active(ctx context.Context, now time.Time, each func([]ledger.Entry) error) error
}

// Deliverer delivers findings to Security Hub.
type Deliverer interface {
	Restate(context.Context, time.Time, []ledger.Entry, ledger.Restate) map[string]outcome.Outcome
}

// Restater is safe for concurrent use.
type Restater struct {
	Table    ledger.Table
	Findings Findings
	Deliver  Deliverer
	Region   string
	// Version identifies the deployment: everything that a finding's severity, title and remedy
	// depend on.
	Version func() (string, error)
	Log     *slog.Logger
}

const (
	// runs is how often all findings are restated, and runInterval the time between: the maximum
	// duration of an invocation.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	runs        = 2
	runInterval = 15 * time.Minute
	// pause is the time between imports of up to 100 findings. Security Hub allows 10 imports per
	// second, per account and Region. Using a fifth leaves the rest for new findings and other
	// products.
	// https://docs.aws.amazon.com/securityhub/1.0/APIReference/Welcome.html
	pause = 500 * time.Millisecond
)

// marker is the record in the ledger's table. Times are in ms since 1970.
type marker struct {
	Version string `json:"version"`
	// Since is when the newest invocation with Version began, RanAt when the last of the Runs
	// began.
	Since int64 `json:"since"`
	Runs  int   `json:"runs,omitempty"`
	RanAt int64 `json:"ranAt,omitempty"`
}

var (
	errOvertaken = errors.New("another version was deployed, or another invocation restates")
	errLeft      = errors.New("findings could not be restated")
)

// Run restates findings that the deployed version writes differently, unless that was done since
// its deployment. At the end of ctx it returns ctx's error, and the next run resumes. done counts
// the findings that were imported or refused.
func (r *Restater) Run(ctx context.Context, now time.Time, restate ledger.Restate) (done int, err error) {
	version, err := r.Version()
	if err != nil {
		return 0, fmt.Errorf("version of the deployed program: %w", err)
	}
	m, err := r.begin(ctx, now, version)
	if errors.Is(err, errOvertaken) {
		return 0, nil
	}
	if err != nil || m.Value.Runs >= runs || m.Value.Runs > 0 && now.Before(time.UnixMilli(m.Value.RanAt).Add(runInterval)) {
		return 0, err
	}
	w := work{Restater: r, now: now, restate: restate, revision: m.Revision}
	err = r.Findings.Active(ctx, now, func(entries []ledger.Entry) error { return w.page(ctx, entries) })
	if err == nil {
		err = w.flush(ctx)
	}
	r.Log.Info("active findings restated", "imported", w.done, "left", w.left, "complete", err == nil && w.left == 0)
	switch {
	case errors.Is(err, errOvertaken):
		return w.done, nil
	case err != nil:
		return w.done, err
	case w.failed != "" && w.done == 0:
		return 0, fmt.Errorf("%w: %d of them; one reason: %s", errLeft, w.left, w.failed)
	case w.left > 0:
		return w.done, nil // the next run resumes
	}
	m.Value.Runs, m.Value.RanAt = m.Value.Runs+1, now.UnixMilli()
	if err := r.markers().Write(ctx, &m); !errors.Is(err, document.ErrConflict) {
		return w.done, err
	}
	return w.done, nil
}

// begin puts the version into the marker, unless an invocation that began later has put another
// one.
func (r *Restater) begin(ctx context.Context, now time.Time, version string) (document.Version[marker], error) {
	m, err := r.markers().Read(ctx)
	switch {
	case err != nil || m.Value.Version == version:
		return m, err
	case m.Revision > 0 && m.Value.Since >= now.UnixMilli():
		return m, errOvertaken
	}
	m.Value = marker{Version: version, Since: now.UnixMilli()}
	err = r.markers().Write(ctx, &m)
	if errors.Is(err, document.ErrConflict) {
		err = errOvertaken // it restates, or the next run does
	}
	return m, err
}

// markers returns the document of the marker.
func (r *Restater) markers() document.Document[marker] {
	return document.Document[marker]{
		Place: ledger.Place{Table: r.Table, Key: ledger.Key{Partition: "findings#" + r.Region, Sort: "restated"}},
		Name:  "marker of restated findings",
	}
}

// work is one run.
type work struct {
	*Restater
	now     time.Time
	restate ledger.Restate
	// revision is the marker's at the beginning.
	revision int64
	// batch is the next import, imports counts the earlier ones.
	batch      []ledger.Entry
	imports    int
	done, left int
	failed     string
}

func (w *work) page(ctx context.Context, entries []ledger.Entry) error {
	for _, e := range entries {
		switch {
		case e.Finding == nil || e.State != asff.Active || !ledger.Restated(*e.Finding, w.restate(e)):
			continue
		case e.Status != ledger.Confirmed:
			w.left++
			continue
		}
		if w.batch = append(w.batch, e); len(w.batch) == asff.MaxFindingsPerImport {
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// flush imports the batch, after a pause since the last import.
func (w *work) flush(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	if w.imports > 0 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	latest, err := w.markers().Read(ctx)
	if err != nil {
		return err
	}
	if latest.Revision != w.revision {
		return errOvertaken
	}
	outcomes := w.Deliver.Restate(ctx, w.now, w.batch, w.restate)
	w.batch, w.imports = nil, w.imports+1
	for _, o := range outcomes {
		switch o.Verdict {
		case outcome.Done, outcome.Refused: // it stays until something else changes it
			w.done++
		case outcome.Failing: // the next run tries again
			w.done, w.left = w.done+1, w.left+1
		case outcome.HubOff:
			return o
		default:
			w.left, w.failed = w.left+1, o.Reason
		}
	}
	return ctx.Err()
}
