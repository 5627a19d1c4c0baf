package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Status is how much of an entry Security Hub has.
type Status string

const (
	// Pending: the entry is claimed, and its finding may have been imported.
	Pending Status = "pending"
	// Confirmed: Security Hub has the finding.
	Confirmed Status = "confirmed"
	// Unseen: the finding ended before its beginning arrived. Security Hub has nothing. The entry
	// ensures that a late beginning does not become active.
	Unseen Status = "unseen"
	// Refused: Security Hub has nothing, and will not accept the claim. It suppresses nothing,
	// and the schedule ignores it.
	Refused Status = "refused"
)

// Entry is the ledger's record of a finding. Times are in ms since 1970.
type Entry struct {
	Status Status          `json:"status"`
	Source defender.Source `json:"-"`
	Check  string          `json:"check,omitempty"`
	// Profile and Behavior are those of a finding of the self-managed engine. A composite finding
	// has its rule's name and digest.
	Profile  string `json:"profile,omitempty"`
	Behavior string `json:"behavior,omitempty"`

	ID     string           `json:"id"`
	State  asff.RecordState `json:"state"`
	Order  signal.Order     `json:"order"`
	Digest string           `json:"digest"`
	// Inherits is [signal.Signal.Inherits] of an Unseen end.
	Inherits bool `json:"inherits,omitempty"`
	// Quiet is [signal.Signal.Quiet].
	Quiet bool `json:"quiet,omitempty"`

	CreatedAt     int64 `json:"createdAt,omitempty"`
	UpdatedAt     int64 `json:"updatedAt,omitempty"`
	FirstObserved int64 `json:"firstObserved,omitempty"`
	LastObserved  int64 `json:"lastObserved,omitempty"`
	// ImportedAt is when an import was last confirmed.
	ImportedAt int64 `json:"importedAt,omitempty"`

	// DoubtedAt is when Security Hub first failed the finding since its last success, for a reason
	// that may be temporary; 0 if it has not failed since.
	DoubtedAt int64 `json:"doubtedAt,omitempty"`

	// LeftAt is when, since the last import, a state was first left in the ledger for the next
	// invocation with quota; 0 if the claim's own message imports it.
	LeftAt int64 `json:"leftAt,omitempty"`
	// Unowned reports whether no message imports the claim, so that a refusal is known only here.
	Unowned bool `json:"unowned,omitempty"`

	// Finding is the claimed finding, exactly as it is imported. It is nil once the end of a
	// finding is confirmed.
	Finding *asff.Finding `json:"finding,omitempty"`
	// Shown are the versions that Security Hub has or may have while a newer one is claimed, the
	// newest last.
	Shown []Shown `json:"shown,omitempty"`

	revision int64
	// encoded caches the JSON of a finding; of is that finding.
	encoded struct {
		of   *asff.Finding
		text []byte
	}
}

// Left reports whether the newest state was left for the next invocation with quota.
func (e Entry) Left() bool { return e.Status == Pending && e.LeftAt != 0 }

// Shown is the part of an entry that a claim replaces. It is restored if Security Hub refuses the
// claim.
type Shown struct {
	// Status is Pending if Security Hub may or may not have it.
	Status Status           `json:"status"`
	State  asff.RecordState `json:"state"`
	Digest string           `json:"digest"`
	// Finding is nil if the end of the finding is confirmed.
	Finding *asff.Finding `json:"finding,omitempty"`
	// Unowned is [Entry.Unowned].
	Unowned bool `json:"unowned,omitempty"`
}

// mostShown limits the versions that are kept while nothing is confirmed, as when Security Hub is
// off.
const mostShown = 4

// claimed returns e as pending.
func (e Entry) claimed() Entry {
	if e.Status == Confirmed || e.Status == Pending {
		e.Shown = append(slices.Clone(e.Shown), Shown{e.Status, e.State, e.Digest, e.Finding, e.Unowned})
	}
	if len(e.Shown) > mostShown {
		e.Shown = slices.Delete(e.Shown, 1, 2) // the first may be confirmed
	}
	e.Status = Pending
	return e
}

// refused returns e, after its claim was refused, with the version that Security Hub has. It
// keeps the time at which the finding was seen. The refused signal still counts as newer, so that
// it is tried again when its message is retried.
func (e Entry) refused() Entry {
	last := len(e.Shown) - 1
	e.LeftAt, e.Unowned = 0, false
	if last < 0 {
		e.Status = Refused
		return e
	}
	was := e.Shown[last]
	e.Status, e.State, e.Digest, e.Finding, e.Shown = was.Status, was.State, was.Digest, was.Finding, e.Shown[:last]
	if e.Status == Pending {
		e.Finding, e.Unowned = content(e, *e.Finding), was.Unowned
	}
	e.Order.Tie = ""
	return e
}

// entryDoc adds the source to the stored form.
type entryDoc struct {
	Entry
	SourceName string `json:"source"`
}

const (
	// shards distribute open findings, and due findings, over partitions of the table: a
	// partition allows 1,000 writes per second.
	// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
	shards = 8
	// keepEnded is how long ended findings stay in the ledger: longer than Security Hub keeps a
	// finding and a queue keeps a message.
	keepEnded = asff.FindingLifetime + 7*24*time.Hour
	// refreshAfter is how long after its last import an active finding is imported again.
	refreshAfter = 60 * 24 * time.Hour
	// pendingAfter is how long a claim waits for its own message before the schedule imports it.
	pendingAfter = time.Hour
	// longestLeft is how long newer states may postpone the import of a state that was left.
	longestLeft = 10 * time.Minute
	// doubtFor is how long Security Hub may fail a finding for a reason that may be temporary. In
	// that time, a message is tried about thirty times.
	doubtFor = 24 * time.Hour
	// maxDoc leaves room for keys in an item of 400 KB. One finding always fits, but not two of
	// the maximum size.
	// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
	maxDoc = 390_000
)

// key returns an entry's key. The findings of one check share a partition, as do those of the
// self-managed engine and of correlation rules. All others are distributed.
func key(region string, source defender.Source, check, id string) Key {
	switch {
	case check != "":
		return Key{Partition: auditPrefix(region, check) + shard(id), Sort: keyText(id)}
	case source == defender.BehaviorTransitions, source == defender.CorrelatedFindings:
		return Key{Partition: behaviorPrefix(region) + shard(id), Sort: keyText(id)}
	}
	return Key{Partition: "finding#" + keyText(id), Sort: "finding"}
}

func (l *Ledger) decode(r Record) (*Entry, error) {
	if r.Revision == 0 {
		return nil, nil
	}
	var doc entryDoc
	if err := json.Unmarshal(r.Doc, &doc); err != nil {
		return nil, fmt.Errorf("ledger record %s / %s is not the JSON of an entry: %w", r.Partition, r.Sort, err)
	}
	source, err := defender.ParseSource(doc.SourceName)
	if err != nil {
		return nil, fmt.Errorf("ledger record %s / %s: %w", r.Partition, r.Sort, err)
	}
	e := doc.Entry
	for _, s := range append(e.Shown, Shown{Status: e.Status, State: e.State, Finding: e.Finding}) {
		if s.Finding == nil && (s.Status != Confirmed || s.State == asff.Active) {
			return nil, fmt.Errorf("ledger record %s / %s has no finding", r.Partition, r.Sort)
		}
	}
	e.Source, e.revision = source, r.Revision
	// An earlier version, after a rollback, drops Quiet and Unowned when it writes the entry.
	e.Unowned = e.Unowned || e.LeftAt != 0
	e.Quiet = e.Quiet || e.Finding != nil && e.Finding.ProductFields[signal.SharedField] != ""
	return &e, nil
}

// document returns the stored form. The finding, which is most of it, is encoded once per claim.
func (e *Entry) document() ([]byte, error) {
	rest := *e
	rest.Finding = nil
	doc, err := json.Marshal(entryDoc{Entry: rest, SourceName: e.Source.String()})
	if err != nil || e.Finding == nil {
		return doc, err
	}
	doc = append(slices.Grow(doc[:len(doc)-1], len(e.encoded.text)+len(`,"finding":}`)), `,"finding":`...)
	return append(append(doc, e.encoded.text...), '}'), nil
}

func (l *Ledger) encode(e *Entry, now time.Time) (Record, error) {
	if e.Finding != nil && e.encoded.of != e.Finding {
		e.encoded.of, e.encoded.text = e.Finding, e.Finding.AppendJSON(nil)
	}
	doc, err := e.document()
	for err == nil && len(doc) > maxDoc && len(e.Shown) > 0 {
		e.Shown = e.Shown[1:]
		doc, err = e.document()
	}
	if err != nil {
		return Record{}, fmt.Errorf("ledger entry of %s: %w", e.ID, err)
	}
	r := Record{Key: key(l.region, e.Source, e.Check, e.ID), Revision: e.revision, Doc: doc}
	if e.State == asff.Active {
		r.Active = e.Order.Time
	}
	switch {
	case e.Left():
		r.Open, r.RefreshAt = true, now
		if latest := time.UnixMilli(e.LeftAt).Add(longestLeft); latest.Before(now) {
			r.RefreshAt = latest
		}
	case e.Status == Pending:
		r.Open, r.RefreshAt = true, now.Add(pendingAfter)
	case e.Status == Confirmed && e.State == asff.Active:
		r.Open, r.RefreshAt = true, l.dueAt(*e)
	default:
		r.Expires = now.Add(keepEnded)
	}
	if !r.RefreshAt.IsZero() {
		r.RefreshShard = shard(e.ID)
	}
	return r, nil
}

// dueAt returns when the schedule must handle a confirmed active finding.
func (l *Ledger) dueAt(e Entry) time.Time {
	due := time.UnixMilli(e.ImportedAt).Add(refreshAfter)
	if quiet := l.quietAt(e); !quiet.IsZero() && quiet.Before(due) {
		return quiet
	}
	return due
}

// clears reports whether an event ends the finding.
func (e Entry) clears() bool { return e.Source.Clears() && !e.Quiet }

// quietAt returns when a finding without new signals is archived; the zero time for findings that
// only an event ends.
func (l *Ledger) quietAt(e Entry) time.Time {
	switch {
	case e.Source == defender.AuditNotifications:
		return time.UnixMilli(max(e.LastObserved, e.Order.Time)).Add(contract.AuditFindingLifetime)
	case e.Source == defender.CorrelatedFindings:
		return time.UnixMilli(e.Order.Time).Add(contract.IncidentLifetime)
	case e.clears():
		return time.Time{}
	}
	return time.UnixMilli(e.LastObserved).Add(l.quiet)
}
