// Package ledger remembers for each finding its first time, its last time and its
// state, so that Security Hub need not be asked, and so that several invocations at
// once, a crash between any two steps, and messages in any order and number lead to
// the same last state.
//
// A signal is first claimed: a conditional write fixes CreatedAt, UpdatedAt, state and
// content as pending. Exactly that is imported, and then confirmed if the claim still
// stands. Only what is confirmed suppresses repeats. What is pending is imported again
// with its own UpdatedAt, which Security Hub ignores if it had it.
package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Ledger is safe for concurrent use.
type Ledger struct {
	table  Table
	region string
	quiet  time.Duration
}

// New returns the ledger of a Region in a table. quiet is how long a finding that no
// event ends stays active without news.
func New(table Table, region string, quiet time.Duration) *Ledger {
	return &Ledger{table: table, region: region, quiet: quiet}
}

// Claim is the outcome of a claim.
type Claim struct {
	// Entry as it now stands in the ledger.
	Entry Entry
	// Import tells that Entry.Finding is to be imported and then confirmed; otherwise
	// there is nothing to do.
	Import bool
}

// attempts to write bound how often invocations may get in each other's way.
const attempts = 10

// Claim claims a signal. now, here and in the other methods, is the invocation's time.
func (l *Ledger) Claim(ctx context.Context, now time.Time, s signal.Signal) (Claim, error) {
	return l.change(ctx, now, key(l.region, s.Source, s.Check, s.Finding.ID), func(e *Entry) (Entry, verdict) {
		return decide(e, s, now.UnixMilli())
	})
}

// ClaimDue claims what is to be done about an entry that is due: a pending one is
// imported, one that was quiet too long is archived, an old one is imported again.
func (l *Ledger) ClaimDue(ctx context.Context, now time.Time, e Entry) (Claim, error) {
	return l.change(ctx, now, key(l.region, e.Source, e.Check, e.ID), func(e *Entry) (Entry, verdict) {
		return l.decideDue(e, now)
	})
}

// Restate is what the deployed program makes of an active finding; see package restate.
type Restate func(Entry) asff.Finding

// ClaimRestated claims an active finding as restate writes it, where that changes its
// severity, types, title or remedy. One whose import is not confirmed is left alone.
func (l *Ledger) ClaimRestated(ctx context.Context, now time.Time, e Entry, restate Restate) (Claim, error) {
	return l.change(ctx, now, key(l.region, e.Source, e.Check, e.ID), func(e *Entry) (Entry, verdict) {
		return decideRestated(e, now, restate)
	})
}

// change reads, decides and writes until nobody else wrote in between.
func (l *Ledger) change(ctx context.Context, now time.Time, k Key, decide func(*Entry) (Entry, verdict)) (Claim, error) {
	for range attempts {
		record, err := l.table.Get(ctx, k)
		if err != nil {
			return Claim{}, fmt.Errorf("read the ledger: %w", err)
		}
		old, err := l.decode(record)
		if err != nil {
			return Claim{}, err
		}
		next, verdict := decide(old)
		if verdict == nothing {
			return Claim{Entry: next}, nil
		}
		if verdict == again {
			return Claim{Entry: next, Import: true}, nil
		}
		next.revision = record.Revision + 1
		err = l.put(ctx, now, next)
		if errors.Is(err, ErrConflict) {
			continue
		}
		if err != nil {
			return Claim{}, err
		}
		return Claim{Entry: next, Import: verdict == claim}, nil
	}
	return Claim{}, fmt.Errorf("write the ledger after %d attempts: %w", attempts, ErrConflict)
}

func (l *Ledger) put(ctx context.Context, now time.Time, e Entry) error {
	record, err := l.encode(e, now)
	if err != nil {
		return err
	}
	if err := l.table.Put(ctx, record); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}

// Confirm records that what was claimed has been imported. Where somebody has claimed
// anew since, the new claim stands and nothing happens.
func (l *Ledger) Confirm(ctx context.Context, now time.Time, c Claim) error {
	e := c.Entry
	e.Status, e.ImportedAt, e.DoubtedAt, e.Shown = Confirmed, now.UnixMilli(), 0, nil
	if e.State == asff.Archived {
		e.Finding = nil
	}
	e.revision++
	if err := l.put(ctx, now, e); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}

// Doubt records that Security Hub failed what was claimed for a reason that may pass, and
// tells whether that has lasted too long to be waited for. Until Security Hub takes the
// finding again, whatever is claimed of it is doubted since then: a report that comes every
// day is not waited for a day each time.
func (l *Ledger) Doubt(ctx context.Context, now time.Time, c Claim) (over bool, err error) {
	e := c.Entry
	if e.DoubtedAt != 0 {
		return now.Sub(time.UnixMilli(e.DoubtedAt)) >= doubtFor, nil
	}
	e.DoubtedAt = now.UnixMilli()
	e.revision++
	if err := l.put(ctx, now, e); err != nil && !errors.Is(err, ErrConflict) {
		return false, err
	}
	return false, nil
}

// Abandon records that what was claimed can never be imported. Where Security Hub has
// something older, that stands again, so that it ends when its time comes.
func (l *Ledger) Abandon(ctx context.Context, now time.Time, c Claim) error {
	e := c.Entry.refused()
	e.revision++
	if err := l.put(ctx, now, e); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}

// Open calls each with every finding of an audit check that is active or whose end is
// not confirmed, by consistent reads, a page at a time, until each returns an error.
func (l *Ledger) Open(ctx context.Context, check string, each func([]Entry) error) error {
	return l.open(ctx, auditPrefix(l.region, check), each)
}

// OpenBehaviors is [Ledger.Open] for the findings of the self-managed engine.
func (l *Ledger) OpenBehaviors(ctx context.Context, each func([]Entry) error) error {
	return l.open(ctx, behaviorPrefix(l.region), each)
}

func (l *Ledger) open(ctx context.Context, prefix string, each func([]Entry) error) error {
	var damaged error
	for i := range shards {
		for after, more := "", true; more; {
			records, next, err := l.table.Open(ctx, prefix+strconv.Itoa(i), after)
			if err != nil {
				return fmt.Errorf("list the findings of %s: %w", strings.TrimSuffix(prefix, "#"), err)
			}
			if err := l.page(records, each, &damaged); err != nil {
				return err
			}
			after, more = next, next != ""
		}
	}
	return damaged
}

// Due calls each with the entries that are due now, a page at a time, until nothing is due
// or each returns an error. Each hour it begins with another shard: what a run has no time
// for must not wait behind the same others again.
func (l *Ledger) Due(ctx context.Context, now time.Time, each func([]Entry) error) error {
	return l.due(ctx, now, now, each)
}

// Active is [Ledger.Due] for all findings that are active or whose import is not confirmed,
// but for those that are imported at now or later. It may miss one that was claimed just
// before.
func (l *Ledger) Active(ctx context.Context, now time.Time, each func([]Entry) error) error {
	return l.due(ctx, now, now.Add(refreshAfter-time.Second), each)
}

func (l *Ledger) due(ctx context.Context, now, until time.Time, each func([]Entry) error) error {
	var damaged error
	for i := range shards {
		shard := (int(now.Unix()/3600) + i) % shards
		var last Record
		for more := true; more; {
			records, follow, err := l.table.Due(ctx, strconv.Itoa(shard), until, last)
			if err != nil {
				return fmt.Errorf("list what is due: %w", err)
			}
			if err := l.page(records, each, &damaged); err != nil {
				return err
			}
			if more = follow && len(records) > 0; more {
				last = records[len(records)-1]
			}
		}
	}
	return damaged
}

// page leaves out records that cannot be read, such as those of another version of the
// program: one of them must not keep all others from being looked after. The first is the
// error at the end.
func (l *Ledger) page(records []Record, each func([]Entry) error, damaged *error) error {
	entries := make([]Entry, 0, len(records))
	for _, r := range records {
		e, err := l.decode(r)
		if err != nil {
			*damaged = cmp.Or(*damaged, err)
			continue
		}
		entries = append(entries, *e)
	}
	if len(entries) == 0 {
		return nil
	}
	return each(entries)
}

func auditPrefix(region, check string) string { return "audit#" + region + "#" + check + "#" }

func behaviorPrefix(region string) string { return "behavior#" + region + "#" }

// keyText is an id that fits into a sort key of 1,024 bytes.
func keyText(id string) string {
	if len(id) <= 512 {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func shard(id string) string {
	sum := sha256.Sum256([]byte(id))
	return strconv.Itoa(int(sum[0]) % shards)
}
