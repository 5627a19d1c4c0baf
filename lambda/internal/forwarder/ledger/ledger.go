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
	"slices"
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
// stays active without a new signal.
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

// attempts is how often a write that conflicts with concurrent invocations is tried.
const attempts = 10

// atOnce is how many records are read or written before the next ones are encoded. It limits the
// memory for a large batch.
const atOnce = 500

// Request asks for a claim; see [Ledger.Claims].
type Request struct {
	key    Key
	decide func(*Entry) (Entry, decision)
	// noted, if not nil, is tried before the entry is read: a write without an import.
	noted *Entry
	// left reports whether a claim is left; see [Request.Left].
	left bool
}

// Left requests a claim that no message imports: it is due at once, so that the schedule, or the
// next invocation with quota, imports it.
func (r Request) Left() Request {
	r.left = true
	return r
}

// Signal requests the claim of a signal. now, here and in the other methods, is the invocation's
// time.
func (l *Ledger) Signal(now time.Time, s signal.Signal) Request {
	return Request{key: key(l.region, s.Source, s.Check, s.Finding.ID), decide: func(e *Entry) (Entry, decision) {
		return decide(e, s, now.UnixMilli())
	}}
}

// DueEntry requests the claim of an entry that is due: a pending one is imported, a quiet one is
// archived, an old one is imported again.
func (l *Ledger) DueEntry(now time.Time, e Entry) Request {
	return Request{key: key(l.region, e.Source, e.Check, e.ID), decide: func(e *Entry) (Entry, decision) {
		return l.decideDue(e, now)
	}}
}

// Restate returns an active finding as the deployed program writes it; see package restate.
type Restate func(Entry) asff.Finding

// RestatedEntry requests the claim of an active finding as restate writes it, if that changes its
// severity, types, title or remedy. An unconfirmed finding is left as it is.
func (l *Ledger) RestatedEntry(now time.Time, e Entry, restate Restate) Request {
	return Request{key: key(l.region, e.Source, e.Check, e.ID), decide: func(e *Entry) (Entry, decision) {
		return decideRestated(e, now, restate)
	}}
}

// Claims makes claims of different findings. Each reads, decides and writes until there is no
// conflict. The results are in the order of the requests; each has its own error.
func (l *Ledger) Claims(ctx context.Context, now time.Time, requests []Request) ([]Claim, []error) {
	claims, faults := make([]Claim, len(requests)), make([]error, len(requests))
	for from := 0; from < len(requests); from += atOnce {
		to := min(from+atOnce, len(requests))
		l.claims(ctx, now, requests[from:to], claims[from:to], faults[from:to])
	}
	return claims, faults
}

func (l *Ledger) claims(ctx context.Context, now time.Time, requests []Request, claims []Claim, faults []error) {
	w := writes{Ledger: l, now: now, claims: claims, faults: faults}
	var left []int
	for i, r := range requests {
		if r.noted == nil {
			left = append(left, i)
		} else {
			w.add(i, Claim{Entry: *r.noted})
		}
	}
	left = append(left, w.flush(ctx)...)
	for range attempts {
		if len(left) == 0 {
			return
		}
		keys := make([]Key, len(left))
		for j, i := range left {
			keys[j] = requests[i].key
		}
		records, errs := l.table.GetAll(ctx, keys)
		for j, i := range left {
			if errs[j] != nil {
				faults[i] = fmt.Errorf("read the ledger: %w", errs[j])
				continue
			}
			old, err := l.decode(records[j])
			if err != nil {
				faults[i] = err
				continue
			}
			next, decision := requests[i].decide(old)
			c := Claim{Entry: next, Import: decision == again || decision == claim}
			switch {
			case c.Import && requests[i].left:
				if decision == again && c.Entry.LeftAt == 0 {
					decision = claim // it must become due
				}
				c.Entry.LeftAt, c.Entry.Unowned = cmp.Or(c.Entry.LeftAt, now.UnixMilli()), true
			case decision == claim:
				c.Entry.LeftAt, c.Entry.Unowned = 0, false
			}
			if decision == nothing || decision == again {
				claims[i] = c
				continue
			}
			c.Entry.revision = records[j].Revision + 1
			w.add(i, c)
		}
		left = w.flush(ctx)
	}
	for _, i := range left {
		faults[i] = fmt.Errorf("write the ledger after %d attempts: %w", attempts, ErrConflict)
	}
}

// writes are the writes of claims.
type writes struct {
	*Ledger
	now     time.Time
	claims  []Claim
	faults  []error
	records []Record
	owners  []int
	pending []Claim
}

// add adds the write of a claim.
func (w *writes) add(i int, c Claim) {
	record, err := w.encode(&c.Entry, w.now)
	if err != nil {
		w.faults[i] = err
		return
	}
	w.records, w.owners, w.pending = append(w.records, record), append(w.owners, i), append(w.pending, c)
}

// flush writes, and returns the claims with a conflict.
func (w *writes) flush(ctx context.Context) (conflicts []int) {
	for j, err := range w.table.PutAll(ctx, w.records) {
		switch i := w.owners[j]; {
		case errors.Is(err, ErrConflict):
			conflicts = append(conflicts, i)
		case err != nil:
			w.faults[i] = fmt.Errorf("write the ledger: %w", err)
		default:
			w.claims[i] = w.pending[j]
		}
	}
	w.records, w.owners, w.pending = nil, nil, nil
	return conflicts
}

func (l *Ledger) put(ctx context.Context, now time.Time, e Entry) error {
	record, err := l.encode(&e, now)
	if err != nil {
		return err
	}
	if err := l.table.Put(ctx, record); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}

// Confirm records that claims were imported. It ignores those that a newer claim has replaced. The
// errors are in the order of the claims.
func (l *Ledger) Confirm(ctx context.Context, now time.Time, claims []Claim) []error {
	faults := make([]error, len(claims))
	for from := 0; from < len(claims); from += atOnce {
		to := min(from+atOnce, len(claims))
		l.confirm(ctx, now, claims[from:to], faults[from:to])
	}
	return faults
}

func (l *Ledger) confirm(ctx context.Context, now time.Time, claims []Claim, faults []error) {
	var writes []Record
	var writers []int
	for i, c := range claims {
		e := c.Entry
		e.Status, e.ImportedAt, e.DoubtedAt, e.LeftAt, e.Unowned, e.Shown = Confirmed, now.UnixMilli(), 0, 0, false, nil
		if e.State == asff.Archived {
			e.Finding = nil
		}
		e.revision++
		record, err := l.encode(&e, now)
		if err != nil {
			faults[i] = err
			continue
		}
		writes, writers = append(writes, record), append(writers, i)
	}
	for j, err := range l.table.PutAll(ctx, writes) {
		if err != nil && !errors.Is(err, ErrConflict) {
			faults[writers[j]] = fmt.Errorf("write the ledger: %w", err)
		}
	}
}

// Leave makes claims due at once whose messages do not import them after all. It ignores claims that
// a newer one has replaced, which has an owner of its own.
func (l *Ledger) Leave(ctx context.Context, now time.Time, claims []Claim) []error {
	faults := make([]error, len(claims))
	var writes []Record
	var writers []int
	for i, c := range claims {
		e := c.Entry
		e.LeftAt, e.Unowned = now.UnixMilli(), true
		e.revision++
		record, err := l.encode(&e, now)
		if err != nil {
			faults[i] = err
			continue
		}
		writes, writers = append(writes, record), append(writers, i)
	}
	for j, err := range l.table.PutAll(ctx, writes) {
		if err != nil && !errors.Is(err, ErrConflict) {
			faults[writers[j]] = fmt.Errorf("write the ledger: %w", err)
		}
	}
	return faults
}

// Backlog calls each with entries that were left and whose newest state is from until or
// earlier, page by page, the earliest of each shard first.
func (l *Ledger) Backlog(ctx context.Context, now, until time.Time, each func([]Entry) error) error {
	return l.due(ctx, now, until, func(entries []Entry) error {
		left := slices.DeleteFunc(entries, func(e Entry) bool { return !e.Left() })
		if len(left) == 0 {
			return nil
		}
		return each(left)
	})
}

// BacklogSize estimates how many entries are due, from one of the shards. It stops counting at
// about most.
func (l *Ledger) BacklogSize(ctx context.Context, now time.Time, most int) (int, error) {
	n, err := l.table.DueCount(ctx, strconv.Itoa(int(now.Unix())%shards), now, most/shards)
	return n * shards, err
}

// Doubt records that Security Hub failed a claim for a reason that may be temporary. It reports
// whether that has lasted too long. Until Security Hub accepts the finding again, later claims count
// from the first failure: otherwise a daily report would be retried for a day each time.
func (l *Ledger) Doubt(ctx context.Context, now time.Time, c Claim) (over bool, err error) {
	e := c.Entry
	over = e.DoubtedAt != 0 && now.Sub(time.UnixMilli(e.DoubtedAt)) >= doubtFor
	if over || e.DoubtedAt != 0 && e.LeftAt == 0 {
		return over, nil
	}
	e.DoubtedAt, e.LeftAt = cmp.Or(e.DoubtedAt, now.UnixMilli()), 0
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
// confirmed, except active ones whose order is at least before (ms), if before is not 0. It reads
// consistently, page by page, and stops if each returns an error.
func (l *Ledger) Open(ctx context.Context, check string, before int64, each func([]Entry) error) error {
	return l.open(ctx, auditPrefix(l.region, check), before, each)
}

// OpenBehaviors is [Ledger.Open] for the findings of the self-managed engine and of correlation
// rules.
func (l *Ledger) OpenBehaviors(ctx context.Context, each func([]Entry) error) error {
	return l.open(ctx, behaviorPrefix(l.region), 0, each)
}

func (l *Ledger) open(ctx context.Context, prefix string, before int64, each func([]Entry) error) error {
	var damaged error
	return cmp.Or(l.records(ctx, prefix, before, func(records []Record) error { return l.page(records, each, &damaged) }), damaged)
}

// records calls each with the open records of all shards, page by page.
func (l *Ledger) records(ctx context.Context, prefix string, before int64, each func([]Record) error) error {
	for i := range shards {
		for after, more := "", true; more; {
			records, next, err := l.table.Open(ctx, prefix+strconv.Itoa(i), before, after)
			if err != nil {
				return fmt.Errorf("list the findings of %s: %w", strings.TrimSuffix(prefix, "#"), err)
			}
			if err := each(records); err != nil {
				return err
			}
			after, more = next, next != ""
		}
	}
	return nil
}

// Due calls each with the entries that are due, page by page, until all are handled or each
// returns an error. Every hour it starts with another shard, so that a run that ends early does
// not always skip the same entries.
func (l *Ledger) Due(ctx context.Context, now time.Time, each func([]Entry) error) error {
	return l.due(ctx, now, now, each)
}

// Active is [Ledger.Due] for all findings that are active or unconfirmed, except those that
// were imported at now or later. It may miss a finding that was just claimed.
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
