// Package invocation divides the time of an invocation.
package invocation

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

// WithMargin returns a context that ends a margin before the invocation does. With less than four
// margins left, the margin is a quarter of the time.
func WithMargin(ctx context.Context, margin time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(margin, time.Until(deadline)/4)))
}

// Half returns a context that ends when half of ctx's time has passed. It is for calls that the
// work can do without, such as lookups for a text: if their service does not answer, they fail early
// enough for the work, and all later ones fail at once.
func Half(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

const (
	// parallel is the number of elements that Settle handles at once.
	parallel = 16
	// answerTime is reserved for the invocation's answer: a batch may have thousands of messages.
	answerTime = time.Second
)

// Settle calls settle for each element, several at once. The context ends before the invocation does:
// if the queue is slow, only the remaining elements fail, not the whole batch.
func Settle[E any](ctx context.Context, all []E, settle func(context.Context, E)) {
	ctx, cancel := WithMargin(ctx, answerTime)
	defer cancel()
	var some errgroup.Group
	some.SetLimit(parallel)
	for _, e := range all {
		some.Go(func() error {
			settle(ctx, e)
			return nil
		})
	}
	_ = some.Wait() // none fails
}
