// Package document stores JSON documents that concurrent invocations read and change. Each write
// increments the revision, on the condition that no other invocation has written since the document
// was read.
package document

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrConflict is the error of a write if another invocation has written first.
var ErrConflict = errors.New("was changed by another invocation")

// Place is where a table stores one document.
type Place interface {
	// Read returns the text and its revision, 0 if there is none. It reads consistently.
	Read(ctx context.Context) (text []byte, revision int64, err error)
	// Write writes the text if the stored revision is the one before, else it returns an error
	// that wraps [ErrConflict].
	Write(ctx context.Context, text []byte, revision int64) error
}

// Document is a document of one type. Both fields are required.
type Document[V any] struct {
	Place Place
	// Name is the document's name in errors, such as "marker of swept behaviors".
	Name string
}

// Version is a document as it was read or written. The zero value means that it does not exist.
type Version[V any] struct {
	Value V
	// Revision counts the writes.
	Revision int64
}

// attempts is how often a write that conflicts with concurrent invocations is tried.
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

// Write writes v as the successor of the version that was read, and increments its revision. The
// error wraps [ErrConflict] if another version was written since.
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

// Change reads, changes and writes until there is no conflict. f reports whether there is
// anything to write. Change returns the document after f. After ten conflicts the error wraps
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
