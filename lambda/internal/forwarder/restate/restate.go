// Package restate gives active findings the severity, title and remedy that the deployed
// program writes. Without it a finding would keep those of its last signal, which for a
// device that stays away, or a check that runs once a month, is long ago.
//
// A marker in the ledger's table names the version that restated last: what was deployed,
// program and settings. While it names the present version and that has been through all
// findings twice, there is nothing to do but to read the marker. The second time is for
// what an invocation from before the deployment imported after the first. Such an invocation
// does not restate: it began earlier than the one that named the present version.
package restate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/delivery"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/sweep"
)

// Findings lists the active findings.
type Findings interface {
	Active(ctx context.Context, now time.Time, each func([]ledger.Entry) error) error
}

// Deliverer brings findings into Security Hub.
type Deliverer interface {
	Restate(context.Context, time.Time, []ledger.Entry, ledger.Restate) map[string]delivery.Outcome
}

// Restater is safe for concurrent use.
type Restater struct {
	Table    ledger.Table
	Findings Findings
	Deliver  Deliverer
	Region   string
	// Version names what is deployed: all that a finding's severity, title and remedy depend on.
	Version func() (string, error)
	Log     *slog.Logger
}

const (
	// runs are how often all findings are gone through, and apart is the time between: the
	// longest that an invocation lasts.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	runs  = 2
	apart = 15 * time.Minute
	// pause is the time from one import of up to 100 findings to the next. Security Hub takes
	// 10 imports a second from an account and Region; a fifth of that leaves the rest for new
	// findings and for other products.
	// https://docs.aws.amazon.com/securityhub/1.0/APIReference/Welcome.html
	pause = 500 * time.Millisecond
)

// marker is what the ledger's table remembers. Times are ms since 1970.
type marker struct {
	Version string `json:"version"`
	// Since is when the newest invocation began that named Version, RanAt when the last of the
	// Runs began.
	Since int64 `json:"since"`
	Runs  int   `json:"runs,omitempty"`
	RanAt int64 `json:"ranAt,omitempty"`

	revision int64
}

var (
	errOvertaken = errors.New("another version was deployed, or another invocation restates")
	errLeft      = errors.New("findings were not imported as they are written now")
)

// Run restates what the deployed version writes otherwise, if that was not done since it was
// deployed. It stops at the end of ctx with its error; the next run goes on. done counts the
// findings about which Security Hub has answered.
func (r *Restater) Run(ctx context.Context, now time.Time, restate ledger.Restate) (done int, err error) {
	version, err := r.Version()
	if err != nil {
		return 0, fmt.Errorf("version of the deployed program: %w", err)
	}
	m, err := r.begin(ctx, now, version)
	if errors.Is(err, errOvertaken) {
		return 0, nil
	}
	if err != nil || m.Runs >= runs || m.Runs > 0 && now.Before(time.UnixMilli(m.RanAt).Add(apart)) {
		return 0, err
	}
	w := work{Restater: r, now: now, restate: restate, marker: m}
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
		return 0, fmt.Errorf("%w: %d of them, one because: %s", errLeft, w.left, w.failed)
	case w.left > 0:
		return w.done, nil // the next run goes on
	}
	m.Runs, m.RanAt = m.Runs+1, now.UnixMilli()
	if err := r.save(ctx, &m); !errors.Is(err, ledger.ErrConflict) {
		return w.done, err
	}
	return w.done, nil
}

// begin makes the marker name the version, unless an invocation that began later has named
// another one.
func (r *Restater) begin(ctx context.Context, now time.Time, version string) (marker, error) {
	m, err := r.load(ctx)
	switch {
	case err != nil || m.Version == version:
		return m, err
	case m.revision > 0 && m.Since >= now.UnixMilli():
		return m, errOvertaken
	}
	m = marker{Version: version, Since: now.UnixMilli(), revision: m.revision}
	err = r.save(ctx, &m)
	if errors.Is(err, ledger.ErrConflict) {
		err = errOvertaken // it restates, or the next run does
	}
	return m, err
}

func (r *Restater) key() ledger.Key {
	return ledger.Key{Partition: "findings#" + r.Region, Sort: "restated"}
}

func (r *Restater) load(ctx context.Context) (marker, error) {
	record, err := r.Table.Get(ctx, r.key())
	if err != nil {
		return marker{}, fmt.Errorf("read which version restated the findings: %w", err)
	}
	m := marker{revision: record.Revision}
	if record.Revision > 0 {
		if err := json.Unmarshal(record.Doc, &m); err != nil {
			return marker{}, fmt.Errorf("marker of restated findings is not JSON: %w", err)
		}
	}
	return m, nil
}

func (r *Restater) save(ctx context.Context, m *marker) error {
	doc, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("marker of restated findings: %w", err)
	}
	m.revision++
	if err := r.Table.Put(ctx, ledger.Record{Key: r.key(), Revision: m.revision, Doc: doc}); err != nil {
		return fmt.Errorf("write which version restated the findings: %w", err)
	}
	return nil
}

// work is one run.
type work struct {
	*Restater
	now     time.Time
	restate ledger.Restate
	marker  marker
	// batch is what the next import takes, imports counts those before.
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

// flush imports the batch, after a pause since the last.
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
	latest, err := w.load(ctx)
	if err != nil {
		return err
	}
	if latest.revision != w.marker.revision {
		return errOvertaken
	}
	outcomes := w.Deliver.Restate(ctx, w.now, w.batch, w.restate)
	w.batch, w.imports = nil, w.imports+1
	for _, o := range outcomes {
		switch o.Verdict {
		case delivery.Done, delivery.Refused: // it stays as it is until something else changes it
			w.done++
		case delivery.Failing: // the next run tries again
			w.done, w.left = w.done+1, w.left+1
		case delivery.HubOff:
			return sweep.ErrHubOff
		default:
			w.left, w.failed = w.left+1, o.Reason
		}
	}
	return ctx.Err()
}
