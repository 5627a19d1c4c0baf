// Package outcome says what became of a signal on its way into Security Hub. From the importer
// to the function's answer to the queue it is one type.
package outcome

import "errors"

// Verdict is what became of a signal, or of its finding. Of two that decide about one message,
// the greater does.
type Verdict int

const (
	// Done: Security Hub shows it, or something newer.
	Done Verdict = iota
	// Refused: Security Hub will never take it.
	Refused
	// Failing: Security Hub fails it alone, for a reason that may pass; the message has to come
	// again.
	Failing
	// Retry: it did not arrive, or nobody knows; the message has to come again.
	Retry
	// HubOff: Security Hub is not enabled in this account and Region; the message has to come
	// again, later.
	HubOff
)

// Error names the verdict.
func (v Verdict) Error() string {
	return [...]string{Done: "done", Refused: "refused", Failing: "failing", Retry: "retry", HubOff: "Security Hub is off"}[v]
}

// Outcome is a Verdict, with a reason where it is not Done. As an error it ends the work that
// it makes useless.
type Outcome struct {
	Verdict Verdict
	Reason  string
	// Progress tells of a message with more work than one invocation has time for: this one
	// came further, so that the message may come again at once.
	Progress bool
}

// Error returns the reason.
func (o Outcome) Error() string { return o.Reason }

// Is lets errors.Is find an outcome by its verdict.
func (o Outcome) Is(target error) bool { return target == o.Verdict }

// Of is what an error makes of a message: the outcome in it, for another error Retry, for none
// Done.
func Of(err error) Outcome {
	var o Outcome
	if err != nil && !errors.As(err, &o) {
		o = Outcome{Verdict: Retry, Reason: err.Error()}
	}
	return o
}

// Worst is the outcome that decides about a message with both.
func Worst(a, b Outcome) Outcome {
	if b.Verdict > a.Verdict {
		return b
	}
	return a
}
