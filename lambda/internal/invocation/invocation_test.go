package invocation_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenderhub/defenderhub/lambda/internal/invocation"
)

func TestWorkEndsBeforeTheInvocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for left, want := range map[time.Duration]time.Duration{time.Minute: 55 * time.Second, 20 * time.Second: 15 * time.Second, 8 * time.Second: 6 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), left)
			work, end := invocation.WithMargin(ctx, 5*time.Second)
			deadline, ok := work.Deadline()
			if got := time.Until(deadline); !ok || got != want {
				t.Errorf("of %v the work has %v, want %v", left, got, want)
			}
			end()
			cancel()
		}
		work, end := invocation.WithMargin(t.Context(), time.Second)
		if _, ok := work.Deadline(); ok {
			t.Error("work without a deadline got one")
		}
		if end(); work.Err() == nil {
			t.Error("the context is not canceled after its end")
		}
	})
}

func TestHalfLeavesTimeForTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		half, end := invocation.Half(ctx)
		defer end()
		if <-half.Done(); ctx.Err() != nil {
			t.Error("the work has ended with its lookups")
		}
		if deadline, _ := ctx.Deadline(); time.Until(deadline) != 30*time.Second {
			t.Errorf("the work has %v left, want 30s", time.Until(deadline))
		}
		endless, end := invocation.Half(t.Context())
		if _, ok := endless.Deadline(); ok {
			t.Error("lookups of work without a deadline got one")
		}
		if end(); endless.Err() == nil {
			t.Error("the context is not canceled after its end")
		}
	})
}
