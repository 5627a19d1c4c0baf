package simulation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"sync"
	"time"
)

// trace is the log of a run. Equal seeds have equal traces.
type trace struct {
	begin time.Time
	sum   hash.Hash
	// text is the log itself, if it is kept.
	keep bool
	text bytes.Buffer

	mu    sync.Mutex
	lines []string // of functions, since the last step
}

func newTrace(keep bool) *trace { return &trace{sum: sha256.New(), keep: keep} }

func (l *trace) printf(format string, args ...any) {
	fmt.Fprintf(l.sum, "%d ", time.Now().UnixNano())
	fmt.Fprintf(l.sum, format, args...) // a hash never fails
	if l.keep {
		fmt.Fprintf(&l.text, "%12.3fs ", time.Since(l.begin).Seconds())
		fmt.Fprintf(&l.text, format, args...)
		l.text.WriteByte('\n')
	}
}

// digest identifies the run.
func (l *trace) digest() string { return hex.EncodeToString(l.sum.Sum(nil)) }

// functions adds the lines of the functions, sorted: their goroutines ran in any order.
func (l *trace) functions() {
	l.mu.Lock()
	lines := l.lines
	l.lines = nil
	l.mu.Unlock()
	slices.Sort(lines)
	for _, line := range lines {
		l.printf("%s", line)
	}
}

// writer is the standard output of an environment.
type writer struct {
	log *trace
	env *environment
}

// Write adds a line. The lines of a dead environment are lost.
func (w writer) Write(line []byte) (int, error) {
	if w.env.dead.Load() {
		return len(line), nil
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.log.lines = append(w.log.lines, w.env.name+" "+string(bytes.TrimSuffix(line, []byte("\n"))))
	return len(line), nil
}
