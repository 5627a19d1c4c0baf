// Package lanes runs work in the background: what is put on one lane runs in its order,
// lanes run beside each other, and somebody can wait until nothing is left.
package lanes

import (
	"context"
	"fmt"
	"sync"
)

// Lanes runs work. The zero value is ready to use.
type Lanes struct {
	mu    sync.Mutex
	lanes map[string][]func() // work that waits, by busy lane
	idle  chan struct{}       // closed when the last busy lane has nothing left
}

// Go runs work on a lane, after all that is there already, and returns at once. Work
// may call Go itself.
func (l *Lanes) Go(lane string, work func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lanes == nil {
		l.lanes = map[string][]func(){}
	}
	if len(l.lanes) == 0 {
		l.idle = make(chan struct{})
	}
	waiting, busy := l.lanes[lane]
	l.lanes[lane] = append(waiting, work)
	if !busy {
		go l.run(lane)
	}
}

func (l *Lanes) run(lane string) {
	for work := l.next(lane); work != nil; work = l.next(lane) {
		work()
	}
}

// next is nil for a lane that has nothing left, which it ends.
func (l *Lanes) next(lane string) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting := l.lanes[lane]
	if len(waiting) == 0 {
		delete(l.lanes, lane)
		if len(l.lanes) == 0 {
			close(l.idle)
		}
		return nil
	}
	l.lanes[lane] = waiting[1:]
	return waiting[0]
}

// Settle waits until nothing runs and nothing waits, what work itself has started
// included.
func (l *Lanes) Settle(ctx context.Context) error {
	l.mu.Lock()
	idle, busy := l.idle, len(l.lanes)
	l.mu.Unlock()
	if busy == 0 {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("background work of %d lanes is not done: %w", busy, context.Cause(ctx))
	}
}
