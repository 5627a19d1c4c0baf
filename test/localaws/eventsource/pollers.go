package eventsource

import (
	"context"
	"sync"
)

// Pollers runs a poller for each mapping that exists.
type Pollers struct {
	Queue  Queue
	Invoke Invoke
	Report func(Batch)

	mu      sync.Mutex
	running map[Mapping]context.CancelFunc
	wait    sync.WaitGroup
}

// Set starts and stops pollers so that exactly the given mappings are served. The new
// ones poll until ctx ends.
func (p *Pollers) Set(ctx context.Context, mappings []Mapping) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := map[Mapping]bool{}
	for _, m := range mappings {
		wanted[m] = true
	}
	for m, stop := range p.running {
		if !wanted[m] {
			stop()
			delete(p.running, m)
		}
	}
	for _, m := range mappings {
		if p.running[m] != nil {
			continue
		}
		if p.running == nil {
			p.running = map[Mapping]context.CancelFunc{}
		}
		one, stop := context.WithCancel(ctx)
		p.running[m] = stop
		poller := &Poller{Mapping: m, Queue: p.Queue, Invoke: p.Invoke, Report: p.Report}
		p.wait.Go(func() { poller.Run(one) })
	}
}

// Mappings are those that are served.
func (p *Pollers) Mappings() []Mapping {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Mapping, 0, len(p.running))
	for m := range p.running {
		list = append(list, m)
	}
	return list
}

// Wait returns when every poller has ended.
func (p *Pollers) Wait() { p.wait.Wait() }
