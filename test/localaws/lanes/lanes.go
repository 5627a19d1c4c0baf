// Package lanes runs work in the background. The work of one lane runs in order, and lanes run
// concurrently.
package lanes

import (
	"context"
	"fmt"
	"sync"
)

// Lanes runs work. The zero value is ready to use.
type Lanes struct {
	mu    sync.Mutex
	lanes map[string][]func() // waiting work, by busy lane
	idle  chan struct{}       // closed when no lane is busy any more
}

// Go adds work to a lane, and returns at once. Work may call Go itself.
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

// next returns the next work of a lane. It returns nil, and ends the lane, if there is none.
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

// Settle waits until all work has ended, including work that other work added.
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
