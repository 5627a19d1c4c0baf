// Package sweep archives the findings of behaviors that the self-managed engine no longer judges,
// and the composite findings of correlation rules that are no longer deployed: no message will ever
// end them.
//
// A marker in the ledger's table has the live behaviors and rules of the last invocation that raised a
// finding or swept, and how often all findings were swept since. If it has the present behaviors
// and they were swept, there is nothing to do.
//
// It is written before a finding is raised, so that behaviors that existed only between two runs of
// the schedule leave no findings. Its count of sweeps rises only after a complete sweep. Everything
// is swept twice, because an invocation of the previous deployment may raise a finding after the
// first sweep. Such an invocation cannot archive newer findings: it stops if an invocation that
// began later has changed the marker.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/lambda/internal/document"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Findings lists the findings of the self-managed engine that may have to be archived.
type Findings interface {
	OpenBehaviors(ctx context.Context, each func([]ledger.Entry) error) error
}

// Deliverer delivers signals to Security Hub.
type Deliverer interface {
	Deliver(context.Context, time.Time, []signal.Signal) map[string]outcome.Outcome
}

// Sweeper is safe for concurrent use.
type Sweeper struct {
	Table    ledger.Table
	Findings Findings
	Deliver  Deliverer
	Region   string
	Live     contract.LiveBehaviors
	Rules    correlation.LiveRules
	Log      *slog.Logger

	announced atomic.Bool
}

// marker is the record in the ledger's table. Live is the text form.
type marker struct {
	Live string `json:"live"`
	// Said is when the newest invocation with Live began, in ms since 1970, SweptAt when the last
	// of the Sweeps began.
	Said    int64 `json:"said"`
	Sweeps  int   `json:"sweeps,omitempty"`
	SweptAt int64 `json:"sweptAt,omitempty"`
}

const (
	// sweeps is how many are enough, and sweepInterval the time between them: the maximum duration
	// of an invocation.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	sweeps        = 2
	sweepInterval = 15 * time.Minute
)

// markers returns the document of the marker.
func (s *Sweeper) markers() document.Document[marker] {
	return document.Document[marker]{
		Place: ledger.Place{Table: s.Table, Key: ledger.Key{Partition: "behaviors#" + s.Region, Sort: "swept"}},
		Name:  "marker of swept behaviors",
	}
}

// name puts this invocation's live behaviors into the marker, unless an invocation that began
// later has put others. It reports whether it did.
func (s *Sweeper) name(m *document.Version[marker], now time.Time) bool {
	if m.Revision > 0 && m.Value.Said >= now.UnixMilli() {
		return false
	}
	if live := s.live(); m.Revision == 0 || m.Value.Live != live {
		m.Value = marker{Live: live}
	}
	m.Value.Said = now.UnixMilli()
	return true
}

// Announce must be called before a finding is raised. It costs a read and a write per process.
// now is the invocation's time.
func (s *Sweeper) Announce(ctx context.Context, now time.Time) error {
	if s.announced.Load() {
		return nil
	}
	_, err := s.markers().Change(ctx, func(m *document.Version[marker]) bool { return s.name(m, now) })
	s.announced.Store(err == nil)
	return err
}

// Sweep archives active findings of behaviors that are not live, unless that was done since the
// live behaviors changed; then it costs one read. At the end of ctx it leaves the rest to the
// next run.
func (s *Sweeper) Sweep(ctx context.Context, now time.Time) (archived int, err error) {
	live := s.live()
	named, err := s.markers().Change(ctx, func(m *document.Version[marker]) bool {
		return (m.Revision == 0 || m.Value.Live != live) && s.name(m, now)
	})
	if err != nil {
		return 0, err
	}
	m := named.Value
	if m.Live != live || m.Sweeps >= sweeps || m.Sweeps > 0 && now.Before(time.UnixMilli(m.SweptAt).Add(sweepInterval)) {
		return 0, nil
	}
	tried := 0
	var failed error
	err = s.Findings.OpenBehaviors(ctx, func(entries []ledger.Entry) error {
		gone := s.gone(entries, now)
		if len(gone) == 0 {
			return ctx.Err()
		}
		// This run listed the findings before other invocations announced themselves, so it must
		// not archive theirs.
		latest, err := s.markers().Read(ctx)
		if err != nil {
			return err
		}
		if latest.Value.Live != live || latest.Value.Sweeps != m.Sweeps {
			return errOvertaken
		}
		tried += len(gone)
		done, err := s.deliver(ctx, now, gone)
		archived += done
		if again(err) {
			failed, err = err, nil
		}
		return err
	})
	if err == nil {
		err = failed
	}
	s.Log.Info("findings of removed behaviors archived", "tried", tried, "complete", err == nil)
	if errors.Is(err, errOvertaken) {
		return archived, nil
	}
	if err != nil {
		return archived, err
	}
	_, err = s.markers().Change(ctx, func(latest *document.Version[marker]) bool {
		if latest.Value.Live != live || latest.Value.Sweeps != m.Sweeps {
			return false
		}
		latest.Value.Sweeps, latest.Value.SweptAt = m.Sweeps+1, now.UnixMilli()
		return true
	})
	return archived, err
}

// live returns the text form of the live behaviors and rules.
func (s *Sweeper) live() string {
	text := s.Live.String()
	if len(s.Rules) > 0 {
		text += "/" + s.Rules.String()
	}
	return text
}

// keeps reports whether a message may still end the finding.
func (s *Sweeper) keeps(e ledger.Entry) bool {
	switch e.Source {
	case defender.BehaviorTransitions:
		return s.Live.Has(e.Profile, e.Behavior)
	case defender.CorrelatedFindings:
		return s.Rules[e.Behavior] // of such a finding this is the rule's digest
	}
	return true
}

var errOvertaken = errors.New("another invocation has swept, or has other live behaviors")

// Archive archives those of entries whose behaviors are not live and returns the others. Failures
// are due again.
func (s *Sweeper) Archive(ctx context.Context, now time.Time, entries []ledger.Entry) (rest []ledger.Entry, archived int, err error) {
	gone := s.gone(entries, now)
	if len(gone) == 0 {
		return entries, 0, nil
	}
	ids := map[string]bool{}
	for _, g := range gone {
		ids[g.Finding.ID] = true
	}
	for _, e := range entries {
		if !ids[e.ID] {
			rest = append(rest, e)
		}
	}
	archived, err = s.deliver(ctx, now, gone)
	if again(err) {
		err = nil
	}
	return rest, archived, err
}

// gone returns the signals that archive the findings of behaviors that are not live. Each is
// ordered just after the finding's last signal, so that newer signals override it. Unconfirmed ends
// are left to the schedule.
func (s *Sweeper) gone(entries []ledger.Entry, now time.Time) []signal.Signal {
	var all []signal.Signal
	for _, e := range entries {
		if e.State != asff.Active || s.keeps(e) {
			continue
		}
		ended := mapping.Removed
		if e.Source == defender.CorrelatedFindings {
			ended = mapping.RemovedRule
		}
		end := signal.New(e.Source, ended(*e.Finding), now.UnixMilli(), signal.Order{Time: e.Order.Time + 1})
		end.Profile, end.Behavior = e.Profile, e.Behavior
		all = append(all, end)
	}
	return all
}

// deliver returns how many findings were archived. It returns the outcome of one that must
// be retried.
func (s *Sweeper) deliver(ctx context.Context, now time.Time, signals []signal.Signal) (archived int, err error) {
	worst := outcome.Outcome{}
	for _, o := range s.Deliver.Deliver(ctx, now, signals) {
		if o.Verdict == outcome.Done {
			archived++
		}
		worst = outcome.Worst(worst, o)
	}
	switch {
	case worst.Verdict == outcome.HubOff:
		return archived, worst
	case worst.Verdict >= outcome.Failing && ctx.Err() == nil:
		return archived, fmt.Errorf("findings of removed behaviors were not archived: %w", worst)
	}
	return archived, ctx.Err()
}

// again reports whether only some findings failed: the others may be archived meanwhile.
func again(err error) bool {
	return errors.Is(err, outcome.Retry) || errors.Is(err, outcome.Failing)
}
