// Package document keeps JSON documents that several invocations read and change at once.
// Each write counts up a revision, on the condition that nobody else wrote since the document
// was read.
package document

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrConflict is in the error of a write before which somebody else has written.
var ErrConflict = errors.New("was changed by another invocation")

// Place is where a table keeps one document.
type Place interface {
	// Read returns the text and its revision, 0 where there is none. It reads consistently.
	Read(ctx context.Context) (text []byte, revision int64, err error)
	// Write writes the text where the stored revision is the one before, or returns an error
	// that wraps [ErrConflict].
	Write(ctx context.Context, text []byte, revision int64) error
}

// Document is a document of one type. Both fields are needed.
type Document[V any] struct {
	Place Place
	// Name is what errors call it, such as "marker of swept behaviors".
	Name string
}

// Version is a document as it was read or written. The zero value is one that is not there.
type Version[V any] struct {
	Value V
	// Revision counts the writes.
	Revision int64
}

// attempts to write bound how often invocations may get in each other's way.
const attempts = 10

// Read returns the newest version.
func (d Document[V]) Read(ctx context.Context) (Version[V], error) {
	text, revision, err := d.Place.Read(ctx)
	if err != nil {
		return Version[V]{}, fmt.Errorf("read the %s: %w", d.Name, err)
	}
	v := Version[V]{Revision: revision}
	if revision == 0 {
		return v, nil
	}
	if err := json.Unmarshal(text, &v.Value); err != nil {
		return Version[V]{}, fmt.Errorf("%s is not JSON: %w", d.Name, err)
	}
	return v, nil
}

// Write writes v after the version that it was made of, and counts up its revision. The error
// wraps [ErrConflict] where another version was written since.
func (d Document[V]) Write(ctx context.Context, v *Version[V]) error {
	text, err := json.Marshal(v.Value)
	if err == nil {
		err = d.Place.Write(ctx, text, v.Revision+1)
	}
	if err != nil {
		return fmt.Errorf("write the %s: %w", d.Name, err)
	}
	v.Revision++
	return nil
}

// Change reads, changes and writes until nobody else writes in between. f reports whether
// there is anything to write. Change returns what f left. After ten conflicts the error wraps
// [ErrConflict].
func (d Document[V]) Change(ctx context.Context, f func(*Version[V]) bool) (Version[V], error) {
	var err error
	for range attempts {
		var v Version[V]
		if v, err = d.Read(ctx); err != nil || !f(&v) {
			return v, err
		}
		if err = d.Write(ctx, &v); !errors.Is(err, ErrConflict) {
			return v, err
		}
	}
	return Version[V]{}, fmt.Errorf("%d attempts: %w", attempts, err)
}
