package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/defenderhub/defenderhub/lambda/internal/retry"
)

func TestWaitsGrowToTheLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retry.Backoff{First: 100 * time.Millisecond, Longest: time.Second, Random: func(n int64) int64 { return n - 1 }}
		for failures, want := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond, 5: time.Second, 100: time.Second} {
			start := time.Now()
			if !b.Wait(context.Background(), failures) || time.Since(start) != want {
				t.Errorf("after %d failures: waited %v, want %v", failures, time.Since(start), want)
			}
		}
	})
}

func TestJitterIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b := retry.Backoff{First: time.Hour, Longest: time.Hour, Random: func(int64) int64 { return 0 }}
		if !b.Wait(context.Background(), 1) || time.Since(start) != 0 {
			t.Errorf("waited %v, want no wait", time.Since(start))
		}
	})
}

func TestNoWaitPassesTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		b := retry.Backoff{First: 2 * time.Second, Longest: 2 * time.Second, Random: func(n int64) int64 { return n - 1 }}
		if b.Wait(ctx, 1) || time.Since(start) != 0 {
			t.Errorf("waited %v, want no wait", time.Since(start))
		}
	})
}
