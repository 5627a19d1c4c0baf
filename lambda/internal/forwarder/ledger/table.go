package ledger

import (
	"context"
	"errors"
	"time"
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
	// Open marks what [Table.Open] lists.
	Open bool
	// RefreshShard and RefreshAt put the record into the index of what is due; the zero
	// RefreshAt keeps it out.
	RefreshShard string
	RefreshAt    time.Time
	// Expires is when the record may be deleted; the zero time keeps it.
	Expires time.Time
}

// ErrConflict is what Put returns where somebody else has written first.
var ErrConflict = errors.New("the ledger's record was changed by another invocation")

// Table is what the ledger needs of DynamoDB. Get, Put and Open are consistent with
// each other; Due may lag behind.
type Table interface {
	// Get returns the record, with revision 0 where there is none.
	Get(context.Context, Key) (Record, error)
	// Put writes the record if the stored one has the revision before, or ErrConflict.
	Put(context.Context, Record) error
	// Open returns a page of the open records of a partition, after a sort key ("" for
	// the first page), and the sort key for the next page, "" after the last.
	Open(ctx context.Context, partition, after string) ([]Record, string, error)
	// Due returns a page of the records of a shard that are due at a time, the longest
	// due first, after a record (the zero Record for the first page), and whether more
	// may follow.
	Due(ctx context.Context, shard string, at time.Time, after Record) ([]Record, bool, error)
}
