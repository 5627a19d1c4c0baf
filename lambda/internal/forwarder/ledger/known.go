package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Known are confirmed, active findings of audit checks as they were at one time, in a tenth of
// their size. An audit reads them with a few queries instead of one read per finding.
//
// They may be out of date, so they only decide about repeats, whose write has a condition.
type Known map[[16]byte]known

// mostKnown limits the memory to about 10 MB. Further findings are read one by one.
const mostKnown = 50_000

// known is an entry without the fields that the signal also has.
type known struct {
	order, createdAt, updatedAt, firstObserved, lastObserved, importedAt, doubtedAt, revision int64
	digest                                                                                    [12]byte
}

func knownKey(check, id string) [16]byte {
	sum := sha256.Sum256([]byte(check + "\x00" + id))
	return [16]byte(sum[:])
}

// ReadKnown adds the findings of a check that a task that began at before (ms) has not found yet.
func (l *Ledger) ReadKnown(ctx context.Context, check string, before int64, k Known) error {
	return l.records(ctx, auditPrefix(l.region, check), before, func(records []Record) error {
		for _, r := range records {
			if len(k) < mostKnown {
				k.add(check, r)
			}
		}
		return nil
	})
}

// add adds the entry of a record, unless known cannot hold all of it.
func (k Known) add(check string, r Record) {
	var e Entry
	head, _, found := bytes.Cut(r.Doc, []byte(`,"finding":{`)) // the text of a field has its quotes escaped
	if !found || json.Unmarshal(append(bytes.Clone(head), '}'), &e) != nil {
		return
	}
	if e.Status != Confirmed || e.State != asff.Active || e.Check != check || len(e.Shown) > 0 {
		return
	}
	n := known{
		order: e.Order.Time, createdAt: e.CreatedAt, updatedAt: e.UpdatedAt, firstObserved: e.FirstObserved, lastObserved: e.LastObserved,
		importedAt: e.ImportedAt, doubtedAt: e.DoubtedAt, revision: r.Revision,
	}
	if size, err := hex.Decode(n.digest[:], []byte(e.Digest)); err != nil || size != len(n.digest) {
		return
	}
	if e.Order != n.orderOf() {
		return
	}
	k[knownKey(check, e.ID)] = n
}

// orderOf returns the order of an audit finding.
func (n known) orderOf() signal.Order {
	return signal.Order{Time: n.order, Tie: signal.Tie(asff.Active, hex.EncodeToString(n.digest[:]))}
}

// entry returns the entry that a signal is about, with the signal's finding.
func (k Known) entry(s signal.Signal) (*Entry, bool) {
	if len(k) == 0 || s.Source != defender.AuditNotifications {
		return nil, false
	}
	n, ok := k[knownKey(s.Check, s.Finding.ID)]
	if !ok {
		return nil, false
	}
	return &Entry{
		Status: Confirmed, Source: s.Source, Check: s.Check, ID: s.Finding.ID, State: asff.Active, Order: n.orderOf(), Digest: hex.EncodeToString(n.digest[:]),
		CreatedAt: n.createdAt, UpdatedAt: n.updatedAt, FirstObserved: n.firstObserved, LastObserved: n.lastObserved, ImportedAt: n.importedAt, DoubtedAt: n.doubtedAt,
		Finding: &s.Finding, revision: n.revision,
	}, true
}

// KnownSignal is [Ledger.Signal] for a finding that may be known.
func (l *Ledger) KnownSignal(now time.Time, s signal.Signal, k Known) Request {
	r := l.Signal(now, s)
	if e, ok := k.entry(s); ok {
		if next, decision := r.decide(e); decision == note {
			next.revision = e.revision + 1
			r.noted = &next
		}
	}
	return r
}
