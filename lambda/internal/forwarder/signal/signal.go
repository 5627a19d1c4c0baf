// Package signal holds what a source says about one finding, and which of several
// such signals is the newest.
package signal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// Signal is a source's statement that a finding holds (RecordState ACTIVE) or holds no
// more (ARCHIVED).
type Signal struct {
	Source defender.Source
	// Check is the API name of the audit check whose finding this is, "" for everything
	// that is not an audit finding (check summaries included).
	Check string
	// Profile and Behavior are those of a transition of the self-managed engine, "" for
	// everything else.
	Profile, Behavior string
	// Finding without CreatedAt, UpdatedAt, FirstObservedAt and LastObservedAt: the
	// ledger gives it those.
	Finding asff.Finding
	// Time in ms since 1970 at which it happened, by a clock of AWS.
	Time int64
	// First is the earliest Time of the signals that were merged into this one.
	First int64
	// Raised tells that one of the merged signals was ACTIVE.
	Raised bool
	// Inherits tells of an end that names no severity: the finding keeps the one it had.
	Inherits bool
	// Quiet reports that no event ends the finding, although the source says when others end.
	Quiet bool
	// Bound limits how many findings a sender raises; nil does not.
	Bound *Bound
	Order Order
	// Digest is the same for signals that say the same; see [New].
	Digest string
}

// Bound limits the findings of a group of signals, such as the device events of one device.
type Bound struct {
	// Group is what the limit is for; "" where the finding is in no case one of its own.
	Group string
	// Over is the signal instead, where the group has as many findings as it may have; nil
	// for none.
	Over *Signal
}

// New returns the signal that f holds, or holds no more, at a time (ms). substance is
// what makes a repeat worth importing when it changes, beside title, severity, types,
// resources and state; texts that name a session, a task or a time do not belong there.
func New(source defender.Source, f asff.Finding, at int64, order Order, substance ...string) Signal {
	f = f.Fit()
	s := Signal{
		Source: source, Finding: f,
		Time: at, First: at,
		Raised: f.RecordState == asff.Active,
		Digest: digest(f, substance),
	}
	s.Order = order
	s.Order.Tie = tie(f.RecordState) + s.Digest
	return s
}

func digest(f asff.Finding, substance []string) string {
	resources := make([]string, len(f.Resources))
	for i, r := range f.Resources {
		resources[i] = r.Type + " " + r.ID
	}
	f.FindingProviderFields.RelatedFindings = nil                                                         // an audit that others start is another run, and no news
	text, _ := json.Marshal([]any{f.Title, f.RecordState, f.FindingProviderFields, resources, substance}) // strings cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12])
}

// tie sorts states at one and the same time: in doubt a finding holds.
func tie(state asff.RecordState) string {
	if state == asff.Active {
		return "1"
	}
	return "0"
}

// Merge returns one signal for several with the same finding id: the newest, with the
// earliest first time. It sorts all.
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

// After is s, which inherits, after f; inherits tells that f does so as well.
func (s Signal) After(f asff.Finding, inherits bool) Signal {
	s.Finding.FindingProviderFields.Severity, s.Inherits = f.FindingProviderFields.Severity, inherits
	return s
}

// NotAfter returns s as of a time at which it was certainly known: what claims to come
// from the future would keep all later signals out.
func (s Signal) NotAfter(at time.Time) Signal {
	ms := at.UnixMilli()
	s.Time, s.First, s.Order.Time = min(s.Time, ms), min(s.First, ms), min(s.Order.Time, ms)
	return s
}
