// Package invocation keeps time back for what an invocation has to say at its end.
package invocation

import (
	"context"
	"time"
)

// WithMargin returns a context for the work, which ends a margin before the invocation does. Of
// an invocation with less than four margins left it is a quarter of the time.
func WithMargin(ctx context.Context, margin time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(margin, time.Until(deadline)/4)))
}
