// Package backlog imports the states that were left in the ledger while Security Hub throttled.
//
// Without it, each message of a storm would import its own state, and most states are replaced
// before Security Hub's quota allows their import. So while Security Hub throttles, invocations
// only write the newest states into the ledger, as due, and finish their messages. One invocation
// drains this backlog. When its time is over, it returns one of its messages to the queue, which
// continues.
//
// So each state that was left has two owners: that message and the hourly schedule. A marker in the
// ledger's table says until when the message is expected. If it is late, the next invocation that
// is throttled takes over.
package backlog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/document"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

// Ledger is the part of ledger.Ledger that a backlog needs.
type Ledger interface {
	Backlog(ctx context.Context, now, until time.Time, each func([]ledger.Entry) error) error
	BacklogSize(ctx context.Context, now time.Time, most int) (int, error)
}

// Deliverer imports entries of the ledger.
type Deliverer interface {
	Refresh(context.Context, time.Time, []ledger.Entry) map[string]outcome.Outcome
}

// Backlog is safe for concurrent use.
type Backlog struct {
	Table   ledger.Table
	Ledger  Ledger
	Deliver Deliverer
	Region  string
	Now     func() time.Time
	Log     *slog.Logger

	mu sync.Mutex
	// throttledUntil is until when this environment leaves states without an attempt.
	throttledUntil time.Time
}

const (
	// lease is how long other invocations assume that a drainer works although it does not renew the
	// lease. The drainer renews it after a third of it, also while it waits for newer states.
	lease = 30 * time.Second
	// lastLook is how long a drainer that found nothing waits for its last look, if another
	// invocation relied on it. The index, and an invocation that is about to rely on the drainer,
	// may lag behind.
	lastLook = 15 * time.Second
	// believed is how long an environment leaves states after a throttled call.
	believed = 10 * time.Second
	// importsEvery is the time between two calls: nine per second. Security Hub's quota is ten, per
	// account and Region. At ten, Security Hub refuses calls that arrive a little early, and their
	// retries cause further refusals.
	// https://docs.aws.amazon.com/securityhub/1.0/APIReference/Welcome.html
	importsEvery = time.Second / 9
	// workers import at once: a call may take longer than importsEvery.
	workers = 4
	// longestQuiet limits how long a state waits for a newer one.
	longestQuiet = 100 * time.Second
	// idle is the least time between two looks at the backlog.
	idle = time.Second
)

// marker is the record in the ledger's table. Times are in ms since 1970.
type marker struct {
	// Lease is until when an invocation drains.
	Lease int64 `json:"lease,omitempty"`
	// Next is when the drainer's message continues; 0 if there is none.
	Next int64 `json:"next,omitempty"`
	// Relied reports whether an invocation has left states since the last look that found none.
	Relied bool `json:"relied,omitempty"`
}

// drained reports whether an invocation drains, or is about to.
func (m marker) drained(now time.Time) bool { return max(m.Lease, m.Next) > now.UnixMilli() }

func (b *Backlog) markers() document.Document[marker] {
	return document.Document[marker]{
		Place: ledger.Place{Table: b.Table, Key: ledger.Key{Partition: "findings#" + b.Region, Sort: "backlog"}},
		Name:  "marker of the backlog",
	}
}

// Drained reports whether an invocation drains the backlog, or is about to. Then the schedule
// leaves it alone: it would use the quota for states that are soon replaced, and import others
// twice.
func (b *Backlog) Drained(ctx context.Context, now time.Time) bool {
	m, err := b.markers().Read(ctx)
	if err != nil { // the schedule is the other owner
		b.Log.Warn("it is not known whether the backlog is drained", "reason", err.Error())
	}
	return err == nil && m.Value.drained(now)
}

// Turn is one invocation's part in the work on the backlog.
type Turn struct {
	b *Backlog
	// leaves reports whether states are left, drains whether this invocation drains.
	leaves, drains bool
	// lease is what this invocation wrote into the marker.
	lease int64
	// Failed reports, after [Turn.End], whether Security Hub or the ledger made the work on the
	// backlog fail, which may last for days.
	Failed bool
}

// Begin begins an invocation. ask reports whether it reads the marker: it has many messages, or one
// that was received before and may be a drainer's.
func (b *Backlog) Begin(ctx context.Context, ask bool) *Turn {
	t := &Turn{b: b}
	b.mu.Lock()
	t.leaves = b.Now().Before(b.throttledUntil)
	b.mu.Unlock()
	if ask && !t.leaves {
		m, err := b.markers().Read(ctx)
		if err == nil && m.Value != (marker{}) {
			t.enter(ctx)
		}
	}
	return t
}

// Leaving implements delivery.Leaver.
func (t *Turn) Leaving() bool { return t.leaves }

// Continue implements delivery.Leaver: this invocation waits and continues if it drains.
func (t *Turn) Continue(ctx context.Context) bool {
	t.enter(ctx)
	return !t.leaves
}

// enter makes this invocation leave states if another one drains, else drain.
func (t *Turn) enter(ctx context.Context) {
	if t.drains {
		return
	}
	_, err := t.b.markers().Change(ctx, func(m *document.Version[marker]) bool {
		now := t.b.Now()
		t.leaves = m.Value.drained(now)
		if t.drains = !t.leaves; t.leaves {
			was := m.Value.Relied
			m.Value.Relied = true
			return !was
		}
		t.lease = now.Add(lease).UnixMilli()
		m.Value.Lease = t.lease
		return true
	})
	if err != nil { // deliver as if there were no backlog
		t.leaves, t.drains = false, false
		return
	}
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	if t.b.throttledUntil = (time.Time{}); t.leaves {
		t.b.throttledUntil = t.b.Now().Add(believed)
	}
}

// End ends an invocation after its deliveries. If this one drains, it imports the backlog until
// work ends. keep reports whether one of its messages must be retried, after wait.
func (t *Turn) End(ctx, work context.Context) (keep bool, wait time.Duration) {
	if t.leaves { // ask again, now that the states are written
		t.enter(ctx)
	}
	if !t.drains {
		return false, 0
	}
	d := drain{Backlog: t.b, lease: t.lease}
	err := d.run(work)
	overtaken := errors.Is(err, errOvertaken)
	if t.Failed = err != nil && !overtaken && (work.Err() == nil || d.stuck()); t.Failed {
		t.b.Log.Warn("backlog was not drained", "reason", err.Error(), "again", true)
		wait = time.Minute
	}
	_, changeErr := t.b.markers().Change(ctx, func(m *document.Version[marker]) bool {
		now := t.b.Now()
		switch {
		case overtaken && m.Value.drained(now):
			m.Value.Relied = true
			return true // keep is false: the other one has a message
		case err != nil: // time is over, or it failed
			m.Value.Lease, m.Value.Next = 0, now.Add(wait).UnixMilli()
		case m.Value.Relied:
			wait = lastLook
			m.Value = marker{Next: now.Add(wait).UnixMilli()}
		default:
			m.Value = marker{}
		}
		keep = m.Value.Next != 0
		return true
	})
	if changeErr != nil {
		t.b.Log.Warn("end of the drained backlog was not recorded", "reason", changeErr.Error())
		return true, max(wait, time.Second)
	}
	return keep, wait
}

// drain is one invocation's work on the backlog.
type drain struct {
	*Backlog
	// lease is what this drainer wrote into the marker last, at renewed.
	lease   int64
	renewed time.Time
	// next is when the next call may be made.
	next time.Time
	// mu guards what follows, which the workers set.
	mu     sync.Mutex
	hubOff error
	// tried reports whether a call was made, answered whether Security Hub has decided about any
	// finding.
	tried, answered bool
}

// stuck reports whether no attempt succeeded.
func (d *drain) stuck() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tried && !d.answered
}

// run imports until nothing is left. It returns an error if something is left.
func (d *drain) run(ctx context.Context) error {
	var empty time.Time // since when nothing is left
	for {
		if err := errors.Join(ctx.Err(), d.renew(ctx)); err != nil {
			return err
		}
		now := d.Now()
		size, err := d.Ledger.BacklogSize(ctx, now, int(longestQuiet/importsEvery)*asff.MaxFindingsPerImport)
		if err != nil {
			return err
		}
		// A state waits for a newer one as long as the import of all takes. So the time until
		// Security Hub shows the last state at most doubles, and a flapping device costs one import.
		quiet := min(time.Duration(size/asff.MaxFindingsPerImport)*importsEvery, longestQuiet)
		seen, err := d.pass(ctx, now, now.Add(-quiet))
		if err != nil {
			return err
		}
		if seen > 0 {
			empty = time.Time{}
		} else if over, err := d.over(ctx, now, &empty); err != nil || over {
			return err
		}
		if !d.sleep(ctx, max(idle, quiet/10)) { // until calls are full
			return ctx.Err()
		}
	}
}

// over reports whether nothing is left and nothing will be: since the last empty look no invocation
// has relied on this one, and the index has caught up.
func (d *drain) over(ctx context.Context, now time.Time, empty *time.Time) (bool, error) {
	if any, err := d.any(ctx, now); err != nil || any {
		*empty = time.Time{}
		return false, err
	}
	relied := false
	_, err := d.markers().Change(ctx, func(m *document.Version[marker]) bool {
		relied = m.Value.Relied
		m.Value.Relied = false
		return relied
	})
	switch {
	case err != nil:
		return false, err
	case relied:
		*empty = now
		return false, nil
	}
	return empty.IsZero() || now.Sub(*empty) >= lastLook, nil
}

// any reports whether anything is left. Other due entries of the ledger are left to the schedule.
func (d *drain) any(ctx context.Context, now time.Time) (bool, error) {
	found := errors.New("found")
	err := d.Ledger.Backlog(ctx, now, now, func([]ledger.Entry) error { return found })
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

func (d *drain) sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pass imports the entries whose newest state is from until or earlier, in full calls. It returns
// how many there were.
func (d *drain) pass(ctx context.Context, now, until time.Time) (seen int, err error) {
	var batch []ledger.Entry
	var some errgroup.Group
	some.SetLimit(workers)
	d.hubOff = nil
	send := func() {
		entries := batch
		batch = nil
		some.Go(func() error {
			d.imports(ctx, now, entries)
			return nil
		})
	}
	err = d.Ledger.Backlog(ctx, now, until, func(entries []ledger.Entry) error {
		for _, e := range entries {
			seen++
			if batch = append(batch, e); len(batch) == asff.MaxFindingsPerImport {
				if err := d.pace(ctx); err != nil {
					return err
				}
				send()
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		return errors.Join(ctx.Err(), d.hubOff)
	})
	if err == nil && len(batch) > 0 {
		if err = d.pace(ctx); err == nil {
			send()
		}
	}
	_ = some.Wait() // none fails
	return seen, errors.Join(err, d.hubOff)
}

// errOvertaken is the error of a drainer whose lease was over before it was renewed, as when its own
// messages took long. Another invocation drains.
var errOvertaken = errors.New("another invocation drains")

// renew renews the lease in time.
func (d *drain) renew(ctx context.Context) error {
	now := d.Now()
	if now.Sub(d.renewed) <= lease/3 {
		return nil
	}
	next, overtaken := now.Add(lease).UnixMilli(), false
	_, err := d.markers().Change(ctx, func(m *document.Version[marker]) bool {
		has := m.Value.Lease // next, if the answer to the write was lost
		if overtaken = has != d.lease && has != next && has > now.UnixMilli(); overtaken {
			return false
		}
		m.Value.Lease = next
		return true
	})
	switch {
	case err != nil:
		return err
	case overtaken:
		return errOvertaken
	}
	d.lease, d.renewed = next, now
	return nil
}

// pace waits until the next call is within the quota, and renews the lease.
func (d *drain) pace(ctx context.Context) error {
	if err := d.renew(ctx); err != nil {
		return err
	}
	if wait := d.next.Sub(d.Now()); wait > 0 && !d.sleep(ctx, wait) {
		return ctx.Err()
	}
	d.next = d.Now().Add(importsEvery)
	return nil
}

func (d *drain) imports(ctx context.Context, now time.Time, entries []ledger.Entry) {
	outcomes := d.Deliver.Refresh(ctx, now, entries)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tried = true
	for _, e := range entries {
		switch o := outcomes[e.ID]; o.Verdict {
		case outcome.HubOff:
			d.hubOff = o
		case outcome.Retry:
		default:
			d.answered = true
		}
	}
}
