package eventsource

import (
	"context"
	"sync"
)

// serving runs one poller for each mapping that exists.
type serving[M comparable] struct {
	mu      sync.Mutex
	running map[M]context.CancelFunc
	wait    sync.WaitGroup
}

// set starts and stops pollers so that exactly the given mappings are served. prepare
// is called before set returns; what it returns polls until its context ends.
func (s *serving[M]) set(ctx context.Context, mappings []M, prepare func(context.Context, M) func(context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[M]bool{}
	for _, m := range mappings {
		wanted[m] = true
	}
	for m, stop := range s.running {
		if !wanted[m] {
			stop()
			delete(s.running, m)
		}
	}
	for _, m := range mappings {
		if s.running[m] != nil {
			continue
		}
		if s.running == nil {
			s.running = map[M]context.CancelFunc{}
		}
		one, stop := context.WithCancel(ctx)
		s.running[m] = stop
		run := prepare(one, m)
		s.wait.Go(func() { run(one) })
	}
}

func (s *serving[M]) mappings() []M {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]M, 0, len(s.running))
	for m := range s.running {
		list = append(list, m)
	}
	return list
}
