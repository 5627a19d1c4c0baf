package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/defenderhub/defenderhub/lambda/internal/document"
)

// Key is a key of the table.
type Key struct{ Partition, Sort string }

// Record is an item of the table.
type Record struct {
	Key
	// Revision counts the writes of the record: 1 is the first.
	Revision int64
	// Doc is JSON.
	Doc []byte
	// Open marks the records that [Table.Open] returns. Active is the order (ms) of an active
	// finding, else 0.
	Open   bool
	Active int64
	// RefreshShard and RefreshAt put the record into the index of due records, unless RefreshAt
	// is zero.
	RefreshShard string
	RefreshAt    time.Time
	// Expires is when the record may be deleted; zero means never.
	Expires time.Time
}

// ErrConflict is Put's error if another invocation has written first.
var ErrConflict = fmt.Errorf("the ledger's record %w", document.ErrConflict)

// Table is the part of DynamoDB that the ledger needs. All operations but Due and DueCount are
// consistent with each other; those may lag behind.
type Table interface {
	// Get returns the record, with revision 0 if there is none.
	Get(context.Context, Key) (Record, error)
	// Put writes the record if the stored one has the previous revision, else it returns
	// ErrConflict.
	Put(context.Context, Record) error
	// GetAll is Get, and PutAll is Put, for several records with different keys. The results are
	// in the order of the arguments; each record has its own error.
	GetAll(context.Context, []Key) ([]Record, []error)
	PutAll(context.Context, []Record) []error
	// Open returns a page of a partition's open records after a sort key ("" for the first page).
	// It also returns the sort key for the next page, "" after the last. Unless before is 0, it
	// leaves out records whose Active is at least before; a record that another version wrote may
	// lack it.
	Open(ctx context.Context, partition string, before int64, after string) ([]Record, string, error)
	// Due returns a page of a shard's records that are due at a time, the longest due first,
	// after a record (the zero Record for the first page). It also reports whether there may be
	// more.
	Due(ctx context.Context, shard string, at time.Time, after Record) ([]Record, bool, error)
	// DueCount counts a shard's records that are due at a time, and stops at about most.
	DueCount(ctx context.Context, shard string, at time.Time, most int) (int, error)
}

// Place keeps a document under a key of the table; see package document.
type Place struct {
	Table Table
	Key   Key
	// Expires is when the document may be deleted; the zero time keeps it.
	Expires time.Time
}

// Read implements [document.Place].
func (p Place) Read(ctx context.Context) ([]byte, int64, error) {
	r, err := p.Table.Get(ctx, p.Key)
	return r.Doc, r.Revision, err
}

// Write implements [document.Place].
func (p Place) Write(ctx context.Context, text []byte, revision int64) error {
	return p.Table.Put(ctx, Record{Key: p.Key, Revision: revision, Doc: text, Expires: p.Expires})
}
