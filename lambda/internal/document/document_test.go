package document_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/defenderhub/defenderhub/lambda/internal/document"
)

// memory stores a document in memory.
type memory struct {
	mu       sync.Mutex
	text     string
	revision int64
	reads    int
	fails    error
	// before runs before each write.
	before func()
}

func (m *memory) Read(context.Context) ([]byte, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	return []byte(m.text), m.revision, m.fails
}

func (m *memory) Write(_ context.Context, text []byte, revision int64) error {
	if m.before != nil {
		m.before()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if revision != m.revision+1 {
		return fmt.Errorf("the record %w", document.ErrConflict)
	}
	m.text, m.revision = string(text), revision
	return nil
}

type count struct{ N int }

func counter(m *memory) document.Document[count] {
	return document.Document[count]{Place: m, Name: "counter"}
}

func TestConcurrentChangesAllCount(t *testing.T) {
	m := &memory{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := counter(m).Change(t.Context(), func(v *document.Version[count]) bool { v.Value.N++; return true }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if v, err := counter(m).Read(t.Context()); err != nil || v.Value.N != 8 || v.Revision != 8 {
		t.Errorf("got %+v, error %v; want 8 changes in 8 revisions", v, err)
	}
}

func TestUnchangedDocumentIsNotWritten(t *testing.T) {
	m := &memory{}
	v, err := counter(m).Change(t.Context(), func(v *document.Version[count]) bool { v.Value.N = 3; return false })
	if err != nil || v.Value.N != 3 || m.revision != 0 || m.reads != 1 {
		t.Errorf("got %+v, error %v; %d writes and %d reads, want none and one", v, err, m.revision, m.reads)
	}
}

func TestWriteAfterAnotherIsAConflict(t *testing.T) {
	m := &memory{}
	d := counter(m)
	var first, second document.Version[count]
	if err := d.Write(t.Context(), &first); err != nil || first.Revision != 1 {
		t.Fatalf("first write: %+v, error %v; want revision 1", first, err)
	}
	if err := d.Write(t.Context(), &second); !errors.Is(err, document.ErrConflict) || second.Revision != 0 {
		t.Errorf("second write: %+v, error %v; want ErrConflict", second, err)
	}
	m.before = func() { m.revision++ }
	if _, err := d.Change(t.Context(), func(*document.Version[count]) bool { return true }); !errors.Is(err, document.ErrConflict) || m.reads != 10 {
		t.Errorf("each write comes after another: error %v after %d reads, want ErrConflict after 10", err, m.reads)
	}
}

func TestFaultsNameTheDocument(t *testing.T) {
	broken := errors.New("throttled")
	for want, m := range map[string]*memory{
		"read the counter: throttled": {fails: broken},
		"counter is not JSON":         {text: "{", revision: 1},
	} {
		if _, err := counter(m).Read(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("read: error %v, want %s", err, want)
		}
		if _, err := counter(m).Change(t.Context(), func(*document.Version[count]) bool { return true }); err == nil || m.revision > 1 {
			t.Errorf("change of %q: error %v, revision %d; want an error and no write", m.text, err, m.revision)
		}
	}
}
