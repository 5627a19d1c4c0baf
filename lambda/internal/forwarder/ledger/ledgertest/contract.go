package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
)

// Check returns an error if an empty table does not behave as the ledger requires. It proves that
// the table in memory and the one in DynamoDB are alike.
func Check(ctx context.Context, table ledger.Table) error {
	c := &checker{ctx: ctx, table: table}
	c.revisions()
	c.batches()
	c.open()
	c.due()
	return errors.Join(c.faults...)
}

type checker struct {
	ctx    context.Context
	table  ledger.Table
	faults []error
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

func (c *checker) put(r ledger.Record) {
	if err := c.table.Put(c.ctx, r); err != nil {
		c.fault("put %s / %s: %w", r.Partition, r.Sort, err)
	}
}

// revisions: only the reader of a record's last state may write it.
func (c *checker) revisions() {
	k := ledger.Key{Partition: "finding#a", Sort: "finding"}
	if r, err := c.table.Get(c.ctx, k); err != nil || r.Revision != 0 || r.Key != k {
		c.fault("absent record: %+v, %w", r, err)
	}
	first := ledger.Record{Key: k, Revision: 1, Doc: []byte(`{"a":1}`), Expires: time.Unix(2000, 0)}
	c.put(first)
	if err := c.table.Put(c.ctx, first); !errors.Is(err, ledger.ErrConflict) {
		c.fault("second first write: %w", err)
	}
	if err := c.table.Put(c.ctx, ledger.Record{Key: k, Revision: 3, Doc: []byte(`{}`)}); !errors.Is(err, ledger.ErrConflict) {
		c.fault("write over an unread revision: %w", err)
	}
	other := ledger.Record{Key: ledger.Key{Partition: "finding#b", Sort: "finding"}, Revision: 2, Doc: []byte(`{}`)}
	if err := c.table.Put(c.ctx, other); !errors.Is(err, ledger.ErrConflict) {
		c.fault("second write of what is not there: %w", err)
	}
	second := ledger.Record{Key: k, Revision: 2, Doc: []byte(`{"a":2}`), Open: true, RefreshShard: "7", RefreshAt: time.Unix(3000, 0)}
	c.put(second)
	r, err := c.table.Get(c.ctx, k)
	if err != nil || r.Revision != 2 || string(r.Doc) != `{"a":2}` || !r.Open || r.RefreshShard != "7" || !r.RefreshAt.Equal(second.RefreshAt) || !r.Expires.IsZero() {
		c.fault("read back %+v, %w, want %+v", r, err, second)
	}
}

// batches: each record of a batch has its own condition and its own result, and a later revision
// replaces the whole record.
func (c *checker) batches() {
	const n = 260
	var keys []ledger.Key
	var writes []ledger.Record
	for i := range n {
		k := ledger.Key{Partition: fmt.Sprintf("finding#batch%d", i), Sort: "finding"}
		keys = append(keys, k)
		writes = append(writes, ledger.Record{Key: k, Revision: 1, Doc: []byte(`{"a":1}`), Open: true, RefreshShard: "9", RefreshAt: time.Unix(int64(i+1), 0)})
	}
	check := func(what string, stale func(i int) bool) {
		for i, err := range c.table.PutAll(c.ctx, writes) {
			if want := stale(i); errors.Is(err, ledger.ErrConflict) != want || err != nil && !want {
				c.fault("%s, record %d: %w, want a conflict: %v", what, i, err, want)
			}
		}
	}
	check("first writes", func(int) bool { return false })
	check("first writes again", func(int) bool { return true })
	for i := range writes {
		writes[i] = ledger.Record{Key: keys[i], Revision: 2 + int64(i%2), Doc: []byte(`{"a":2}`), Expires: time.Unix(int64(5000+i), 0)}
	}
	check("second writes", func(i int) bool { return i%2 == 1 })
	absent := ledger.Key{Partition: "finding#absent", Sort: "finding"}
	records, faults := c.table.GetAll(c.ctx, append(keys, absent))
	for i, r := range records {
		want := ledger.Record{Key: absent}
		switch {
		case i < n && i%2 == 0:
			want = writes[i]
		case i < n:
			want = ledger.Record{Key: keys[i], Revision: 1, Doc: []byte(`{"a":1}`), Open: true, RefreshShard: "9", RefreshAt: time.Unix(int64(i+1), 0)}
		}
		if faults[i] != nil || fmt.Sprint(r) != fmt.Sprint(want) {
			c.fault("record %d of a batch: %+v, %w, want %+v", i, r, faults[i], want)
		}
	}
	if records, faults := c.table.GetAll(c.ctx, nil); len(records)+len(faults)+len(c.table.PutAll(c.ctx, nil)) > 0 {
		c.fault("an empty batch has results")
	}
}

// open: returns all open records of a partition and no others, page by page.
func (c *checker) open() {
	var want, older []string
	for i := range 2*PageSize + 1 {
		name := fmt.Sprintf("f%04d", i)
		r := ledger.Record{Key: ledger.Key{Partition: "audit#r#C#0", Sort: name}, Revision: 1, Doc: []byte(`{}`), Open: i%10 != 0}
		if i%3 == 0 {
			r.Active = int64(100 + i)
		}
		c.put(r)
		if r.Open {
			want = append(want, name)
			if r.Active < 300 {
				older = append(older, name)
			}
		}
	}
	c.put(ledger.Record{Key: ledger.Key{Partition: "audit#r#C#1", Sort: "f"}, Revision: 1, Doc: []byte(`{}`), Open: true})
	for before, want := range map[int64][]string{0: want, 300: older} {
		var got []string
		for after, more := "", true; more; {
			page, next, err := c.table.Open(c.ctx, "audit#r#C#0", before, after)
			if err != nil {
				c.fault("open before %d after %q: %w", before, after, err)
				return
			}
			for _, r := range page {
				got = append(got, r.Sort)
			}
			after, more = next, next != ""
		}
		if !slices.Equal(got, want) {
			c.fault("open before %d: %d records, want %d", before, len(got), len(want))
		}
	}
}

// due: returns what is due, the longest due first, page by page.
func (c *checker) due() {
	const n = 2*PageSize + 1
	for i := range n {
		at := time.Unix(int64(10_000-i), 0)
		c.put(ledger.Record{Key: ledger.Key{Partition: "finding#due", Sort: fmt.Sprintf("f%04d", i)}, Revision: 1, Doc: []byte(`{}`), RefreshShard: "3", RefreshAt: at})
	}
	var last ledger.Record
	seen := 0
	for more := true; more; {
		page, follow, err := c.table.Due(c.ctx, "3", time.Unix(9_999, 0), last)
		if err != nil {
			c.fault("due: %w", err)
			return
		}
		for _, r := range page {
			if r.RefreshAt.Before(last.RefreshAt) {
				c.fault("due: %v after %v", r.RefreshAt, last.RefreshAt)
			}
			last = r
			seen++
		}
		more = follow && len(page) > 0
	}
	if counted, err := c.table.DueCount(c.ctx, "3", time.Unix(9_999, 0), n); err != nil || counted != n-1 {
		c.fault("due: counted %d records, want %d: %w", counted, n-1, err)
	}
	if seen != n-1 { // the first is due a second later
		c.fault("due: %d records, want %d", seen, n-1)
	}
}
