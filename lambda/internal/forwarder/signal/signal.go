// Package signal holds what a source says about one finding, and decides which of several signals
// is the newest.
package signal

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// Signal is a source's statement that a finding holds (RecordState ACTIVE) or no longer holds
// (ARCHIVED).
type Signal struct {
	Source defender.Source
	// Check is the API name of the finding's audit check, "" for everything else, including check
	// summaries.
	Check string
	// Profile and Behavior are those of a transition of the self-managed engine, a composite finding's
	// rule and its digest, else "".
	Profile, Behavior string
	// Finding lacks CreatedAt, UpdatedAt, FirstObservedAt and LastObservedAt, which the ledger
	// sets.
	Finding asff.Finding
	// Time is when it happened, in ms since 1970, by an AWS clock.
	Time int64
	// First is the earliest Time of the signals that were merged into this one.
	First int64
	// Raised reports whether one of the merged signals was ACTIVE.
	Raised bool
	// Inherits reports whether the signal ends a finding and has no severity: the finding keeps its
	// own.
	Inherits bool
	// Quiet reports whether no event ends the finding, although events end other findings of the
	// source.
	Quiet bool
	// EndsOnly reports whether the signal is dropped if the ledger does not have the finding.
	EndsOnly bool
	// Bound limits how many findings a sender raises; nil means no limit.
	Bound *Bound
	Order Order
	// Digest is equal for signals with the same content; see [New].
	Digest string
}

// Bound limits the findings of a group of signals, such as the device events of one device.
type Bound struct {
	// Group is the group with the limit; "" if the signal never has a finding of its own.
	Group string
	// Ends reports whether all findings of the group end without a signal, after the quiet time.
	// The group's list then expires after a while: a sender of forged events can invent groups.
	Ends bool
	// Over returns what replaces the signal if the group has reached its limit; nil means drop it.
	// Few groups ever do.
	Over func() Signal
}

// SharedField is the product field of a finding that a group's signals over the limit share.
const SharedField = "SharedFinding"

// New returns the signal that f holds, or no longer holds, at a time (ms). A repeat is imported
// only if title, severity, types, resources, state or substance changes. So substance must not
// contain text that names a session, a task or a time.
func New(source defender.Source, f asff.Finding, at int64, order Order, substance ...string) Signal {
	f = f.Fit()
	order.Tie = Tie(f.RecordState, digest(f, substance))
	return Signal{
		Source: source, Finding: f,
		Time: at, First: at,
		Raised: f.RecordState == asff.Active,
		Order:  order,
		Digest: order.Tie[1:],
	}
}

// Removable reports whether a deployment can remove the behavior or the rule of the finding, whose
// end then never arrives.
func (s Signal) Removable() bool {
	return s.Source == defender.BehaviorTransitions || s.Source == defender.CorrelatedFindings
}

// digest hashes a JSON array. The ledger keeps digests, so another form would be a change of each
// finding.
func digest(f asff.Finding, substance []string) string {
	f.FindingProviderFields.RelatedFindings = nil // the audit of another schedule is not a change
	text := asff.AppendString(append(make([]byte, 0, 1024), '['), f.Title)
	text = asff.AppendString(append(text, ','), string(f.RecordState))
	text = f.FindingProviderFields.AppendJSON(append(text, ','))
	text = append(text, ",["...)
	for i, r := range f.Resources {
		if i > 0 {
			text = append(text, ',')
		}
		text = asff.AppendString(text, r.Type+" "+r.ID)
	}
	text = append(asff.AppendStrings(append(text, "],"...), substance), ']')
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12])
}

// Tie orders states of the same time: in doubt a finding holds.
func Tie(state asff.RecordState, digest string) string {
	if state == asff.Active {
		return "1" + digest
	}
	return "0" + digest
}

// Merge merges signals with the same finding ID into one: the newest, with the earliest first
// time. It sorts all.
func Merge(all []Signal) Signal {
	slices.SortStableFunc(all, func(a, b Signal) int { return a.Order.Compare(b.Order) })
	merged := all[0]
	for _, s := range all[1:] {
		if s.Inherits {
			s = s.After(merged.Finding, merged.Inherits)
		}
		s.First = min(s.First, merged.First)
		s.Raised = s.Raised || merged.Raised
		merged = s
	}
	return merged
}

// After returns s, which inherits, as the signal after f; inherits reports whether f inherits
// too.
func (s Signal) After(f asff.Finding, inherits bool) Signal {
	s.Finding.FindingProviderFields.Severity, s.Inherits = f.FindingProviderFields.Severity, inherits
	return s
}

// NotAfter returns s with no time later than a time that has certainly passed: a signal from the
// future would suppress all later ones.
func (s Signal) NotAfter(at time.Time) Signal {
	ms := at.UnixMilli()
	s.Time, s.First, s.Order.Time = min(s.Time, ms), min(s.First, ms), min(s.Order.Time, ms)
	return s
}
