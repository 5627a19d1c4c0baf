package lanes_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/lanes"
)

func TestWorkOfOneLaneKeepsItsOrder(t *testing.T) {
	var l lanes.Lanes
	var got []int
	for i := range 100 {
		l.Go("one", func() { got = append(got, i) })
	}
	if err := l.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(got) != 100 || !slices.IsSorted(got) {
		t.Errorf("ran %v, want 0 to 99 in order", got)
	}
}

func TestLanesDoNotWaitForEachOther(t *testing.T) {
	var l lanes.Lanes
	other := make(chan struct{})
	l.Go("one", func() { <-other })
	l.Go("other", func() { close(other) })
	if err := l.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestSettleWaitsForWorkThatWorkStarts(t *testing.T) {
	var l lanes.Lanes
	done := false
	l.Go("a", func() {
		l.Go("b", func() {
			l.Go("a", func() { done = true })
		})
	})
	if err := l.Settle(t.Context()); err != nil || !done {
		t.Errorf("settled: %v, done %v", err, done)
	}
	if err := l.Settle(t.Context()); err != nil {
		t.Errorf("nothing to wait for: %v", err)
	}
}

func TestSettleEndsWithItsContext(t *testing.T) {
	var l lanes.Lanes
	held := make(chan struct{})
	l.Go("one", func() { <-held })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Settle(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	close(held)
	if err := l.Settle(t.Context()); err != nil {
		t.Error(err)
	}
}
