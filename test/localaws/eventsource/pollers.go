package eventsource

import (
	"context"
	"time"
)

// Pollers runs a poller for each mapping of a queue that exists.
type Pollers struct {
	Queue  Queue
	Invoke Invoke
	Report func(Batch)
	// May is asked before each request: an error where the function's role does not let
	// Lambda read the queue. Nil: all may be read.
	May May
	// At converts the times that SQS tells to those that functions see; nil: they are the same.
	At func(time.Time) time.Time
	// Hurry reports whether somebody waits for the queues to be empty; nil: nobody does.
	Hurry Hurry

	serving serving[Mapping]
}

// Set starts and stops pollers so that exactly the given mappings are served. The new
// ones poll until ctx ends.
func (p *Pollers) Set(ctx context.Context, mappings []Mapping) {
	p.serving.set(ctx, mappings, func(_ context.Context, m Mapping) func(context.Context) {
		return (&Poller{Mapping: m, Queue: p.Queue, Invoke: p.Invoke, Report: p.Report, May: p.May, At: p.At, Hurry: p.Hurry}).Run
	})
}

// Mappings are those that are served.
func (p *Pollers) Mappings() []Mapping { return p.serving.mappings() }

// Wait returns when every poller has ended.
func (p *Pollers) Wait() { p.serving.wait.Wait() }
