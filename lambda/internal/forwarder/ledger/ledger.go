// Package ledger stores the first time, last time and state of each finding. So Security Hub need
// not be asked. Concurrent invocations, crashes between any two steps, and duplicated or
// reordered messages all lead to the same final state.
//
// A signal is first claimed: a conditional write fixes CreatedAt, UpdatedAt, state and content as
// pending. Exactly that is imported, and then confirmed unless a newer claim replaced it. Only
// confirmed entries suppress repeats. A pending entry is imported again with its own UpdatedAt,
// which Security Hub ignores if it has it.
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

// New returns the ledger of a Region in a table. quiet is how long a finding that no event ends
// stays active without news.
func New(table Table, region string, quiet time.Duration) *Ledger {
	return &Ledger{table: table, region: region, quiet: quiet}
}

// Claim is the result of a claim.
type Claim struct {
	// Entry is the ledger's entry after the claim.
	Entry Entry
	// Import reports whether Entry.Finding must be imported and then confirmed. Otherwise there
	// is nothing to do.
	Import bool
}

// attempts limits how often concurrent invocations may make a write conflict.
const attempts = 10

// Claim claims a signal. now, here and in the other methods, is the invocation's time.
func (l *Ledger) Claim(ctx context.Context, now time.Time, s signal.Signal) (Claim, error) {
	return l.change(ctx, now, key(l.region, s.Source, s.Check, s.Finding.ID), func(e *Entry) (Entry, decision) {
		return decide(e, s, now.UnixMilli())
	})
}

// ClaimDue claims an entry that is due: a pending one is imported, a quiet one is archived, an
// old one is imported again.
func (l *Ledger) ClaimDue(ctx context.Context, now time.Time, e Entry) (Claim, error) {
	return l.change(ctx, now, key(l.region, e.Source, e.Check, e.ID), func(e *Entry) (Entry, decision) {
		return l.decideDue(e, now)
	})
}

// Restate returns an active finding as the deployed program writes it; see package restate.
type Restate func(Entry) asff.Finding

// ClaimRestated claims an active finding as restate writes it, if that changes its severity,
// types, title or remedy. It ignores an unconfirmed finding.
func (l *Ledger) ClaimRestated(ctx context.Context, now time.Time, e Entry, restate Restate) (Claim, error) {
	return l.change(ctx, now, key(l.region, e.Source, e.Check, e.ID), func(e *Entry) (Entry, decision) {
		return decideRestated(e, now, restate)
	})
}

// change reads, decides and writes until there is no conflict.
func (l *Ledger) change(ctx context.Context, now time.Time, k Key, decide func(*Entry) (Entry, decision)) (Claim, error) {
	for range attempts {
		record, err := l.table.Get(ctx, k)
		if err != nil {
			return Claim{}, fmt.Errorf("read the ledger: %w", err)
		}
		old, err := l.decode(record)
		if err != nil {
			return Claim{}, err
		}
		next, decision := decide(old)
		if decision == nothing {
			return Claim{Entry: next}, nil
		}
		if decision == again {
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
		return Claim{Entry: next, Import: decision == claim}, nil
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

// Confirm records that a claim was imported. It does nothing if there is a newer claim.
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

// Doubt records that Security Hub failed a claim for a reason that may pass. It reports whether
// that has lasted too long. Until Security Hub accepts the finding again, later claims count from
// the first failure: otherwise a daily report would be retried for a day each time.
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

// Abandon records that a claim can never be imported. It restores the older version that Security
// Hub has, if any, so that it ends at its time.
func (l *Ledger) Abandon(ctx context.Context, now time.Time, c Claim) error {
	e := c.Entry.refused()
	e.revision++
	if err := l.put(ctx, now, e); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}

// Open calls each with every finding of an audit check that is active or whose end is not
// confirmed. It reads consistently, page by page, and stops if each returns an error.
func (l *Ledger) Open(ctx context.Context, check string, each func([]Entry) error) error {
	return l.open(ctx, auditPrefix(l.region, check), each)
}

// OpenBehaviors is [Ledger.Open] for the findings of the self-managed engine and of correlation
// rules.
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

// Due calls each with the entries that are due, page by page, until all are handled or each
// returns an error. Every hour it starts with another shard, so that a run that ends early does
// not always skip the same entries.
func (l *Ledger) Due(ctx context.Context, now time.Time, each func([]Entry) error) error {
	return l.due(ctx, now, now, each)
}

// Active is [Ledger.Due] for all findings that are active or unconfirmed, except those whose
// import is due now or later. It may miss a finding that was just claimed.
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

// page skips records that cannot be read, such as those of another version of the program, so
// that they do not block the others. It returns the first error at the end.
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

// keyText returns an ID that fits into a sort key of 1,024 bytes.
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
