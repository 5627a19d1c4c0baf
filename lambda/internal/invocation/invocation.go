// Package invocation reserves time at the end of an invocation for its results.
package invocation

import (
	"context"
	"time"
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
