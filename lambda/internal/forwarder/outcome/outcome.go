// Package outcome has the result of sending a signal to Security Hub. It is one type from the
// importer to the function's answer to the queue.
package outcome

import "errors"

// Verdict is the result for a signal, or for its finding. Of two verdicts about one message, the
// greater decides.
type Verdict int

const (
	// Done: Security Hub shows it, or something newer.
	Done Verdict = iota
	// Left: Security Hub throttles. The state is in the ledger, and the next invocation with quota
	// imports it.
	Left
	// Refused: Security Hub will never accept it.
	Refused
	// Failing: Security Hub fails it alone, for a reason that may be temporary; the message
	// must be retried.
	Failing
	// Retry: it was not imported, or the result is unknown; the message must be retried.
	Retry
	// HubOff: Security Hub is not enabled in this account and Region; the message must be retried
	// later.
	HubOff
)

// Error returns the name of the verdict.
func (v Verdict) Error() string {
	return [...]string{Done: "done", Left: "left in the ledger", Refused: "refused", Failing: "failing", Retry: "retry", HubOff: "Security Hub is off"}[v]
}

// Outcome is a Verdict, with a reason unless it is Done. As an error it ends work that has become
// useless.
type Outcome struct {
	Verdict Verdict
	Reason  string
	// Progress reports whether this invocation made progress on a message with too much work for
	// one. The message may then be retried immediately.
	Progress bool
}

// Error returns the reason.
func (o Outcome) Error() string { return o.Reason }

// Is lets errors.Is find an outcome by its verdict.
func (o Outcome) Is(target error) bool { return target == o.Verdict }

// Of returns the outcome in an error, Retry for any other error, and Done for nil.
func Of(err error) Outcome {
	var o Outcome
	if err != nil && !errors.As(err, &o) {
		o = Outcome{Verdict: Retry, Reason: err.Error()}
	}
	return o
}

// Worst returns the outcome that decides about a message with both. Of equal verdicts it is the one
// with the lesser reason, so that logs and records do not depend on the order of a map.
func Worst(a, b Outcome) Outcome {
	if b.Verdict > a.Verdict || b.Verdict == a.Verdict && b.Reason < a.Reason {
		return b
	}
	return a
}
