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

// Status is how far Security Hub knows what an entry says.
type Status string

const (
	// Pending: the entry was claimed; whether its finding was imported is not known.
	Pending Status = "pending"
	// Confirmed: Security Hub has it.
	Confirmed Status = "confirmed"
	// Unseen: the end of a finding arrived that never began. Security Hub has nothing; the
	// entry is there so that a beginning that comes late does not leave it active.
	Unseen Status = "unseen"
	// Refused: Security Hub has nothing, and will not take what was claimed. It suppresses
	// nothing, and the schedule leaves it alone.
	Refused Status = "refused"
)

// Entry is what the ledger knows about a finding. Times are ms since 1970.
type Entry struct {
	Status Status          `json:"status"`
	Source defender.Source `json:"-"`
	Check  string          `json:"check,omitempty"`
	// Profile and Behavior are those of a finding of the self-managed engine.
	Profile  string `json:"profile,omitempty"`
	Behavior string `json:"behavior,omitempty"`

	ID     string           `json:"id"`
	State  asff.RecordState `json:"state"`
	Order  signal.Order     `json:"order"`
	Digest string           `json:"digest"`
	// Inherits is that of an end that is Unseen.
	Inherits bool `json:"inherits,omitempty"`
	// Quiet is that of the signals.
	Quiet bool `json:"quiet,omitempty"`

	CreatedAt     int64 `json:"createdAt,omitempty"`
	UpdatedAt     int64 `json:"updatedAt,omitempty"`
	FirstObserved int64 `json:"firstObserved,omitempty"`
	LastObserved  int64 `json:"lastObserved,omitempty"`
	// ImportedAt is when an import was last confirmed.
	ImportedAt int64 `json:"importedAt,omitempty"`

	// DoubtedAt is when Security Hub first failed what was claimed since, for a reason that
	// may pass; 0 when it took the last.
	DoubtedAt int64 `json:"doubtedAt,omitempty"`

	// Finding is what was claimed, exactly as it is imported. It is nil once the end of a
	// finding is confirmed.
	Finding *asff.Finding `json:"finding,omitempty"`
	// Shown is what Security Hub has or may have while something newer is claimed, the newest
	// last.
	Shown []Shown `json:"shown,omitempty"`

	revision int64
}

// Shown is the part of an entry that a claim replaces. It stands again where Security Hub
// refuses the claim.
type Shown struct {
	// Status is Pending where it is not known whether Security Hub has it.
	Status Status           `json:"status"`
	State  asff.RecordState `json:"state"`
	Digest string           `json:"digest"`
	// Finding is nil where the end of the finding is confirmed.
	Finding *asff.Finding `json:"finding,omitempty"`
}

// mostShown bounds what is remembered while nothing is confirmed, as when Security Hub is off.
const mostShown = 4

// claimed is e as pending.
func (e Entry) claimed() Entry {
	if e.Status == Confirmed || e.Status == Pending {
		e.Shown = append(slices.Clone(e.Shown), Shown{e.Status, e.State, e.Digest, e.Finding})
	}
	if len(e.Shown) > mostShown {
		e.Shown = slices.Delete(e.Shown, 1, 2) // the first may be confirmed
	}
	e.Status = Pending
	return e
}

// refused is e, whose claim was refused, with what Security Hub has. That it was seen then
// is true all the same. The refused signal itself still counts as newer, so that it is
// tried when it comes again.
func (e Entry) refused() Entry {
	last := len(e.Shown) - 1
	if last < 0 {
		e.Status = Refused
		return e
	}
	was := e.Shown[last]
	e.Status, e.State, e.Digest, e.Finding, e.Shown = was.Status, was.State, was.Digest, was.Finding, e.Shown[:last]
	if e.Status == Pending {
		e.Finding = content(e, *e.Finding)
	}
	e.Order.Tie = ""
	return e
}

// entryDoc names the source in the stored form.
type entryDoc struct {
	Entry
	SourceName string `json:"source"`
}

const (
	// shards spread what is listed together, and what is due, over partitions of the table:
	// a partition takes 1,000 writes a second.
	// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
	shards = 8
	// remember is how long what ended stays in the ledger: longer than Security Hub keeps
	// a finding and than a queue keeps a message.
	remember = asff.FindingLifetime + 7*24*time.Hour
	// refreshAfter is how long after its last import an active finding is imported again.
	refreshAfter = 60 * 24 * time.Hour
	// pendingAfter is how long a claim waits for its own message before the schedule
	// imports it.
	pendingAfter = time.Hour
	// doubtFor is how long Security Hub may fail a finding for a reason that may pass. A
	// message is tried some thirty times in it.
	doubtFor = 24 * time.Hour
	// maxDoc leaves room for keys in an item of 400 KB: one finding always fits, two of the
	// greatest do not.
	// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
	maxDoc = 390_000
)

// key of an entry: the findings of a check lie together, and those of the self-managed
// engine; everything else is spread.
func key(region string, source defender.Source, check, id string) Key {
	switch {
	case check != "":
		return Key{Partition: auditPrefix(region, check) + shard(id), Sort: keyText(id)}
	case source == defender.BehaviorTransitions:
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
	for _, s := range append(e.Shown, Shown{e.Status, e.State, e.Digest, e.Finding}) {
		if s.Finding == nil && (s.Status != Confirmed || s.State == asff.Active) {
			return nil, fmt.Errorf("ledger record %s / %s has no finding", r.Partition, r.Sort)
		}
	}
	e.Source, e.revision = source, r.Revision
	return &e, nil
}

func (l *Ledger) encode(e Entry, now time.Time) (Record, error) {
	doc, err := json.Marshal(entryDoc{Entry: e, SourceName: e.Source.String()})
	for err == nil && len(doc) > maxDoc && len(e.Shown) > 0 {
		e.Shown = e.Shown[1:]
		doc, err = json.Marshal(entryDoc{Entry: e, SourceName: e.Source.String()})
	}
	if err != nil {
		return Record{}, fmt.Errorf("ledger entry of %s: %w", e.ID, err)
	}
	r := Record{Key: key(l.region, e.Source, e.Check, e.ID), Revision: e.revision, Doc: doc}
	switch {
	case e.Status == Pending:
		r.Open, r.RefreshAt = true, now.Add(pendingAfter)
	case e.Status == Confirmed && e.State == asff.Active:
		r.Open, r.RefreshAt = true, l.dueAt(e)
	default:
		r.Expires = now.Add(remember)
	}
	if !r.RefreshAt.IsZero() {
		r.RefreshShard = shard(e.ID)
	}
	return r, nil
}

// dueAt is when a confirmed active finding wants the schedule's attention.
func (l *Ledger) dueAt(e Entry) time.Time {
	due := time.UnixMilli(e.ImportedAt).Add(refreshAfter)
	if quiet := l.quietAt(e); !quiet.IsZero() && quiet.Before(due) {
		return quiet
	}
	return due
}

// clears reports whether an event ends the finding.
func (e Entry) clears() bool { return e.Source.Clears() && !e.Quiet }

// quietAt is when a finding of which nothing is heard is archived, zero for those that
// only an event ends.
func (l *Ledger) quietAt(e Entry) time.Time {
	switch {
	case e.Source == defender.AuditNotifications:
		return time.UnixMilli(max(e.LastObserved, e.Order.Time)).Add(contract.AuditFindingLifetime)
	case e.clears():
		return time.Time{}
	}
	return time.UnixMilli(e.LastObserved).Add(l.quiet)
}
