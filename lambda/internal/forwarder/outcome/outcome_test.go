package outcome_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

func TestWorstOutcomeDecides(t *testing.T) {
	order := []outcome.Verdict{outcome.Done, outcome.Refused, outcome.Failing, outcome.Retry, outcome.HubOff}
	for i, a := range order {
		for j, b := range order {
			if got := outcome.Worst(outcome.Outcome{Verdict: a}, outcome.Outcome{Verdict: b}).Verdict; got != order[max(i, j)] {
				t.Errorf("worst of %v and %v: %v, want %v", a, b, got, order[max(i, j)])
			}
		}
	}
}

func TestReasonsDoNotDependOnTheOrder(t *testing.T) {
	a, b := outcome.Outcome{Verdict: outcome.Retry, Reason: "a"}, outcome.Outcome{Verdict: outcome.Retry, Reason: "b"}
	if outcome.Worst(a, b) != a || outcome.Worst(b, a) != a {
		t.Error("the reason of two equal verdicts depends on their order")
	}
}

func TestErrorsAreOutcomes(t *testing.T) {
	off := outcome.Outcome{Verdict: outcome.HubOff, Reason: "off"}
	for _, row := range []struct {
		err  error
		want outcome.Outcome
	}{
		{nil, outcome.Outcome{}},
		{errors.New("no"), outcome.Outcome{Verdict: outcome.Retry, Reason: "no"}},
		{off, off},
		{fmt.Errorf("sweep: %w", off), off},
	} {
		if got := outcome.Of(row.err); got != row.want {
			t.Errorf("%v is %+v, want %+v", row.err, got, row.want)
		}
	}
	both := errors.Join(outcome.Outcome{Verdict: outcome.Failing, Reason: "no"}, fmt.Errorf("sweep: %w", off))
	if !errors.Is(both, outcome.HubOff) || !errors.Is(both, outcome.Failing) || errors.Is(both, outcome.Retry) {
		t.Errorf("error %v, want HubOff and Failing", both)
	}
}
