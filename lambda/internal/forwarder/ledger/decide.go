package ledger

import (
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// decision is what to do with an entry.
type decision int

const (
	nothing decision = iota // the ledger is up to date
	again                   // import what is already claimed
	note                    // write, but do not import
	claim                   // write and import
)

// Repeats of a finding that Security Hub already shows are not imported within these times,
// because an audit finds the same every day, and a device in a loop is refused every second. The
// first limits the age of an audit finding's LastObservedAt, the second of all others.
const (
	auditRepeats = 30 * 24 * time.Hour
	eventRepeats = time.Hour
)

// repeatEvery is how often repeats are written that only extend the quiet time: a write per second
// for a device in a loop would cost more than everything else. If an event ends the finding, every
// repeat is written, because the end is ordered after it.
const repeatEvery = time.Minute

// decide compares a signal with the entry. now is in ms.
func decide(e *Entry, s signal.Signal, now int64) (Entry, decision) {
	switch {
	case e == nil && s.EndsOnly:
		return Entry{}, nothing
	case e == nil:
		return begin(Entry{}, s, now)
	}
	if s.Inherits && e.Finding != nil {
		s = s.After(*e.Finding, e.Inherits)
	}
	order := s.Order.Compare(e.Order)
	if e.Status == Unseen {
		switch {
		case order > 0:
			return begin(*e, s, now)
		case s.Raised:
			return lateBeginning(*e, s, now), claim
		}
		return *e, nothing
	}
	switch {
	case order <= 0 && e.Status != Confirmed:
		// The claim's owner may have crashed, or claimed an older signal. A late beginning is
		// claimed as its end.
		return *e, again
	case order <= 0:
		return *e, nothing
	case e.Status == Confirmed && repeats(*e, s, now):
		if !e.clears() && s.Time-e.LastObserved < repeatEvery.Milliseconds() {
			return *e, nothing
		}
		next := observe(*e, s, now)
		next.Order = s.Order
		if next.Finding != nil {
			next.Finding = content(next, s.Finding)
		}
		return next, note
	}
	return take(*e, s, now), claim
}

// begin handles the first signal of a finding, or of its end.
func begin(e Entry, s signal.Signal, now int64) (Entry, decision) {
	if s.Raised {
		return take(e, s, now), claim
	}
	e.Source, e.Check, e.ID = s.Source, s.Check, s.Finding.ID
	e.Profile, e.Behavior, e.Quiet = s.Profile, s.Behavior, s.Quiet
	e.Status, e.State, e.Order, e.Digest = Unseen, s.Finding.RecordState, s.Order, s.Digest
	e.LastObserved = min(s.Time, now)
	e.Finding, e.Inherits = &s.Finding, s.Inherits
	return e, note
}

// lateBeginning imports a finding that ended before its beginning arrived.
func lateBeginning(e Entry, s signal.Signal, now int64) Entry {
	end := signal.Signal{
		Source: e.Source, Check: e.Check, Profile: e.Profile, Behavior: e.Behavior, Finding: *e.Finding,
		Time: e.LastObserved, First: s.First, Order: e.Order, Digest: e.Digest,
	}
	if e.Inherits {
		end = end.After(s.Finding, false)
	}
	return take(e, end, now)
}

// take updates the entry from the signal, with an UpdatedAt that is newer than all before. A time
// in the future counts as now, so that it does not suppress later signals.
func take(e Entry, s signal.Signal, now int64) Entry {
	e = observe(e.claimed(), s, now)
	e.Source, e.Check, e.ID = s.Source, s.Check, s.Finding.ID
	e.Profile, e.Behavior, e.Quiet = s.Profile, s.Behavior, s.Quiet
	e.Inherits = false
	e.State, e.Order, e.Digest = s.Finding.RecordState, s.Order, s.Digest
	if e.CreatedAt == 0 {
		e.UpdatedAt = e.FirstObserved
	} else {
		e.UpdatedAt = max(e.UpdatedAt+1, min(s.Time, now))
	}
	if e.unknown(now) {
		e.CreatedAt = e.UpdatedAt
	}
	e.Finding = content(e, s.Finding)
	return e
}

// unknown reports whether Security Hub may lack the finding: no import was confirmed, or the last
// is so old that Security Hub has deleted it.
//
// A new finding must have equal CreatedAt and UpdatedAt, and any of several claims may arrive
// first. So each claim has both equal until one is confirmed.
// https://docs.aws.amazon.com/securityhub/latest/userguide/finding-update-batchimportfindings.html
func (e Entry) unknown(now int64) bool {
	return e.ImportedAt == 0 || now-e.ImportedAt > asff.FindingLifetime.Milliseconds()
}

// observe extends the period in which the finding was seen.
func observe(e Entry, s signal.Signal, now int64) Entry {
	if first := min(s.First, now); e.FirstObserved == 0 || first < e.FirstObserved {
		e.FirstObserved = first
	}
	e.LastObserved = max(e.LastObserved, min(s.Time, now))
	return e
}

// content returns a finding with the entry's times.
func content(e Entry, f asff.Finding) *asff.Finding {
	f.CreatedAt, f.UpdatedAt = asff.Milliseconds(e.CreatedAt), asff.Milliseconds(e.UpdatedAt)
	f.FirstObservedAt, f.LastObservedAt = asff.Milliseconds(e.FirstObserved), asff.Milliseconds(e.LastObserved)
	return &f
}

// repeats reports whether Security Hub already shows what s says.
func repeats(e Entry, s signal.Signal, now int64) bool {
	if e.State != s.Finding.RecordState {
		return false
	}
	if e.State == asff.Archived {
		return true // an ended finding need not be imported again
	}
	window := eventRepeats
	if e.Source == defender.AuditNotifications {
		window = auditRepeats
	}
	return e.Digest == s.Digest && now-e.ImportedAt < window.Milliseconds()
}

// unreported explains why an audit finding ended although no audit found it fixed: its check is
// in no schedule any more, or never finishes.
const unreported = " No audit has reported this for 90 days, after which Device Defender also deletes it. It is not known whether it still holds."

// unsent explains why a composite finding ended although no part did.
const unsent = " The correlator has not sent this for 7 days, because it has lost its state or does not run. It is not known whether it still matches."

// decideDue handles an entry that the index lists as due; the index may lag behind.
func (l *Ledger) decideDue(e *Entry, now time.Time) (Entry, decision) {
	switch {
	case e == nil:
		return Entry{}, nothing
	case e.Status == Pending:
		return *e, again
	case e.Status != Confirmed || e.State != asff.Active || e.Finding == nil || l.dueAt(*e).After(now):
		return *e, nothing
	}
	next := e.claimed()
	next.UpdatedAt = max(e.UpdatedAt+1, now.UnixMilli())
	if e.unknown(now.UnixMilli()) {
		next.CreatedAt = next.UpdatedAt
	}
	finding := *e.Finding
	if quiet := l.quietAt(*e); !quiet.IsZero() && !quiet.After(now) {
		finding.RecordState, next.State = asff.Archived, asff.Archived
		switch e.Source {
		case defender.AuditNotifications:
			finding = finding.Noted(unreported)
		case defender.CorrelatedFindings:
			finding = finding.Noted(unsent)
		}
	}
	next.Finding = content(next, finding)
	return next, claim
}

// decideRestated handles an active finding that a deployment may have changed. The order stays,
// so that signals newer than the finding's last are still newer.
func decideRestated(e *Entry, now time.Time, restate Restate) (Entry, decision) {
	switch {
	case e == nil:
		return Entry{}, nothing
	case e.Status != Confirmed || e.State != asff.Active || e.Finding == nil:
		return *e, nothing
	}
	finding := restate(*e)
	if !Restated(*e.Finding, finding) {
		return *e, nothing
	}
	next := e.claimed()
	next.UpdatedAt = max(e.UpdatedAt+1, now.UnixMilli())
	if e.unknown(now.UnixMilli()) {
		next.CreatedAt = next.UpdatedAt
	}
	next.Finding = content(next, finding)
	return next, claim
}

// Restated reports whether severity, types, title or remedy of two findings differ.
func Restated(a, b asff.Finding) bool {
	pa, pb := a.FindingProviderFields, b.FindingProviderFields
	remedies := func(f asff.Finding) (r asff.Remediation) {
		if f.Remediation != nil {
			r = *f.Remediation
		}
		return r
	}
	return a.Title != b.Title || pa.Severity != pb.Severity || !slices.Equal(pa.Types, pb.Types) || remedies(a) != remedies(b)
}
