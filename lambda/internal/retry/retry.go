// Package retry waits between attempts: exponentially, with full jitter, and never past the
// deadline of the invocation.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff grows from First to Longest.
type Backoff struct {
	// First and Longest limit the random wait after the first and after later failures.
	First, Longest time.Duration
	// Random returns a number in [0, n).
	// Default: math/rand/v2.
	Random func(n int64) int64
}

// Wait waits before the next attempt after this number of failures (1, 2, ...). If ctx has ended
// or its deadline is earlier than the end of the wait, it returns false immediately.
func (b Backoff) Wait(ctx context.Context, failures int) bool {
	if ctx.Err() != nil {
		return false
	}
	ceiling := b.Longest
	if shift := failures - 1; shift < 20 {
		ceiling = min(b.Longest, b.First<<shift)
	}
	random := b.Random
	if random == nil {
		random = rand.Int64N
	}
	wait := time.Duration(random(int64(ceiling) + 1))
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
