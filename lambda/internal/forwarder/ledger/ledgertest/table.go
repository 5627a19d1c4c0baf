// Package ledgertest is a table in memory with the DynamoDB semantics that the ledger needs:
// conditional writes and consistent reads.
package ledgertest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
)

// PageSize is how many records a page of Open and Due has.
const PageSize = 200

// Table implements ledger.Table. The zero value is an empty table.
type Table struct {
	// Step, if set, runs before and after each operation takes effect. Its error becomes the
	// operation's. Tests use it to interleave and crash invocations.
	Step func(ctx context.Context, operation string, done bool) error

	mu      sync.Mutex
	records map[ledger.Key]ledger.Record
	writes  int
}

// Writes counts the writes that took effect.
func (t *Table) Writes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writes
}

// Expire deletes records that have expired at a time.
func (t *Table) Expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, r := range t.records {
		if !r.Expires.IsZero() && !r.Expires.After(now) {
			delete(t.records, k)
		}
	}
}

// Records returns all records, sorted by key.
func (t *Table) Records() []ledger.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Values(t.records), func(a, b ledger.Record) int {
		return cmp.Or(strings.Compare(a.Partition, b.Partition), strings.Compare(a.Sort, b.Sort))
	})
}

// Len returns the number of records.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.records)
}

func (t *Table) do(ctx context.Context, operation string, effect func() error) error {
	if t.Step != nil {
		if err := t.Step(ctx, operation, false); err != nil {
			return err
		}
	}
	t.mu.Lock()
	err := effect()
	t.mu.Unlock()
	if err == nil && t.Step != nil {
		err = t.Step(ctx, operation, true)
	}
	return err
}

// Get implements ledger.Table.
func (t *Table) Get(ctx context.Context, k ledger.Key) (ledger.Record, error) {
	r := ledger.Record{Key: k}
	err := t.do(ctx, "Get", func() error {
		if stored, ok := t.records[k]; ok {
			r = stored
		}
		return nil
	})
	return r, err
}

// Put implements ledger.Table.
func (t *Table) Put(ctx context.Context, r ledger.Record) error {
	return t.do(ctx, "Put", func() error {
		if t.records[r.Key].Revision != r.Revision-1 {
			return ledger.ErrConflict
		}
		if t.records == nil {
			t.records = map[ledger.Key]ledger.Record{}
		}
		t.records[r.Key] = r
		t.writes++
		return nil
	})
}

// GetAll implements ledger.Table. Each record is a step of its own.
func (t *Table) GetAll(ctx context.Context, keys []ledger.Key) ([]ledger.Record, []error) {
	return GetEach(ctx, t, keys)
}

// PutAll implements ledger.Table. Each record is a step of its own.
func (t *Table) PutAll(ctx context.Context, records []ledger.Record) []error {
	return PutEach(ctx, t, records)
}

// GetEach is GetAll of a table that only has Get.
func GetEach(ctx context.Context, table interface {
	Get(context.Context, ledger.Key) (ledger.Record, error)
}, keys []ledger.Key) ([]ledger.Record, []error) {
	records, faults := make([]ledger.Record, len(keys)), make([]error, len(keys))
	for i, k := range keys {
		records[i], faults[i] = table.Get(ctx, k)
	}
	return records, faults
}

// PutEach is PutAll of a table that only has Put.
func PutEach(ctx context.Context, table interface {
	Put(context.Context, ledger.Record) error
}, records []ledger.Record) []error {
	faults := make([]error, len(records))
	for i, r := range records {
		faults[i] = table.Put(ctx, r)
	}
	return faults
}

// Open implements ledger.Table.
func (t *Table) Open(ctx context.Context, partition string, before int64, after string) (page []ledger.Record, next string, err error) {
	err = t.do(ctx, "Open", func() error {
		for _, r := range t.records {
			if r.Partition == partition && r.Sort > after && r.Open && (before == 0 || r.Active < before) {
				page = append(page, r)
			}
		}
		slices.SortFunc(page, func(a, b ledger.Record) int { return strings.Compare(a.Sort, b.Sort) })
		if len(page) > PageSize {
			page = page[:PageSize]
			next = page[PageSize-1].Sort
		}
		return nil
	})
	return page, next, err
}

// Due implements ledger.Table.
func (t *Table) Due(ctx context.Context, shard string, at time.Time, after ledger.Record) (page []ledger.Record, more bool, err error) {
	err = t.do(ctx, "Due", func() error {
		for _, r := range t.records {
			if r.RefreshShard == shard && !r.RefreshAt.IsZero() && !r.RefreshAt.After(at) && (after.Key == ledger.Key{} || later(r, after)) {
				page = append(page, r)
			}
		}
		sort.Slice(page, func(i, j int) bool { return later(page[j], page[i]) })
		if more = len(page) > PageSize; more {
			page = page[:PageSize]
		}
		return nil
	})
	return page, more, err
}

// DueCount implements ledger.Table.
func (t *Table) DueCount(ctx context.Context, shard string, at time.Time, most int) (n int, err error) {
	err = t.do(ctx, "DueCount", func() error {
		for _, r := range t.records {
			if r.RefreshShard == shard && !r.RefreshAt.IsZero() && !r.RefreshAt.After(at) {
				n++
			}
		}
		return nil
	})
	return n, err
}

// later orders the index: by time, then by key.
func later(a, b ledger.Record) bool {
	if !a.RefreshAt.Equal(b.RefreshAt) {
		return a.RefreshAt.After(b.RefreshAt)
	}
	return a.Partition+"\x00"+a.Sort > b.Partition+"\x00"+b.Sort
}
