package simulation

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

// The ledger's protocol, per finding, as its clients see it: claim (a write of a pending entry)
// returns a token, the revision, or is lost against another write. Confirm (a write of a
// confirmed entry) with a token is ok, or stale. Read returns what was written last.

// entry is what the protocol knows about a finding's record.
type entry struct {
	revision int64
	status   string
	state    string
	order    int64
	updated  int64
}

// access is the input of an operation.
type access struct {
	key   string
	write bool
	entry entry
}

// outcome is its output.
type outcome int

const (
	accepted outcome = iota
	lost
	// unknown: the client got no answer.
	unknown
)

// history records the accesses to the ledger.
type protocolHistory struct {
	clock int64
	// current are the accesses of the call that is being served.
	current    []access
	outcomes   []outcome
	operations []porcupine.Operation
	// closed ends the history: later, items expire.
	closed bool
}

func (h *protocolHistory) tick() int64 {
	h.clock++
	return h.clock
}

// observe reads an access to an item of the ledger; others are ignored.
func (h *protocolHistory) observe(a dynamodbtest.Access) {
	if a.Table != ledgerTable {
		return
	}
	pk, _ := a.Key["pk"].(*types.AttributeValueMemberS)
	sk, _ := a.Key["sk"].(*types.AttributeValueMemberS)
	e, ok := entryOf(a.Item)
	if pk == nil || sk == nil || !ok && (a.Item != nil || !strings.HasPrefix(pk.Value, "finding#") && !strings.Contains(sk.Value, "defenderhub/")) {
		return // a marker, a checkpoint
	}
	o := accepted
	if a.Failed {
		o = lost
	}
	h.current, h.outcomes = append(h.current, access{pk.Value + " " + sk.Value, a.Write, e}), append(h.outcomes, o)
}

// ledgerRecord is a record of the ledger as its JSON has it.
type ledgerRecord struct {
	ID, Status, State            string
	Order                        struct{ Time int64 }
	UpdatedAt, LeftAt, DoubtedAt int64
}

// ledgerRecordOf reads an item of the ledger. It returns false for a marker or a checkpoint.
func ledgerRecordOf(it dynamodbtest.Item) (d ledgerRecord, ok bool) {
	doc, _ := it["doc"].(*types.AttributeValueMemberS)
	if doc == nil {
		return ledgerRecord{}, false
	}
	err := json.Unmarshal([]byte(doc.Value), &d)
	return d, err == nil && d.Status != ""
}

// entryOf reads an item, which has its entry as JSON.
func entryOf(it dynamodbtest.Item) (entry, bool) {
	d, ok := ledgerRecordOf(it)
	revision, _ := it["revision"].(*types.AttributeValueMemberN)
	if !ok || revision == nil {
		return entry{}, false
	}
	n, err := strconv.ParseInt(revision.Value, 10, 64)
	return entry{n, d.Status, d.State, d.Order.Time, d.UpdatedAt}, err == nil
}

// begin starts a call, whose accesses follow.
func (h *protocolHistory) begin() { h.current, h.outcomes = nil, nil }

// end adds the operations of a call. Without an answer their outcome stays open. If the SDK has
// repeated the call, only the answer to its last accesses is known.
func (h *protocolHistory) end(c *call, answered bool) {
	last := map[string]int{}
	for i, a := range h.current {
		last[a.key] = i
	}
	if h.closed {
		h.current = nil
	}
	for i, a := range h.current {
		o, end := h.outcomes[i], h.tick()
		if !answered || last[a.key] != i {
			o, end = unknown, math.MaxInt64
		}
		if o == unknown && !a.write {
			continue
		}
		h.operations = append(h.operations, porcupine.Operation{ClientId: c.client, Input: a, Call: c.called, Output: written{o, a.entry}, Return: end})
	}
	h.begin()
}

// written is an outcome, and what was read.
type written struct {
	outcome outcome
	entry   entry
}

// protocol is the specification, per finding.
var protocol = porcupine.NondeterministicModel{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		by := map[string]int{}
		var parts [][]porcupine.Operation
		for _, o := range all {
			key := o.Input.(access).key
			i, known := by[key]
			if !known {
				i = len(parts)
				by[key], parts = i, append(parts, nil)
			}
			parts[i] = append(parts[i], o)
		}
		return parts
	},
	Init: func() []any { return []any{entry{}} },
	Step: func(state, input, output any) []any {
		now, in, out := state.(entry), input.(access), output.(written)
		if !in.write {
			if out.entry == now {
				return []any{now}
			}
			return nil
		}
		next := in.entry
		fits := next.revision == now.revision+1
		switch {
		case out.outcome == lost && fits:
			return nil // nobody else has written
		case out.outcome == lost:
			return []any{now}
		case !fits && out.outcome == accepted, fits && !allowed(now, next):
			return nil
		case !fits:
			return []any{now}
		case out.outcome == unknown:
			return []any{now, next}
		}
		return []any{next}
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v: %+v", input, output)
	},
}

// allowed reports whether a write may follow: no order goes back, UpdatedAt does not fall, and a
// confirmation confirms what was claimed.
func allowed(now, next entry) bool {
	if next.order < now.order || next.updated < now.updated {
		return false
	}
	switch {
	case next.status == "pending" && now.status == "pending" && next.updated == now.updated:
		return next.state == now.state // a doubt
	case next.status == "pending":
		return next.updated > now.updated
	case next.status == "confirmed" && now.status == "pending":
		return next.state == now.state && next.updated == now.updated
	case next.status == "confirmed":
		return now.status == "confirmed" && next.state == now.state
	case next.status == "unseen":
		return now.status == "" || now.status == "unseen"
	}
	return next.status == "refused"
}

// checkProtocol returns the violation of the protocol, "" for none.
func checkProtocol(operations []porcupine.Operation) string {
	model := protocol.ToModel()
	for _, part := range protocol.Partition(operations) {
		if porcupine.CheckOperations(model, part) {
			continue
		}
		var b strings.Builder
		for _, o := range part {
			fmt.Fprintf(&b, "\n%d-%d client %d: %+v: %+v", o.Call, o.Return, o.ClientId, o.Input, o.Output)
		}
		return b.String()
	}
	return ""
}

func TestProtocolRejectsWhatTheLedgerMustNotDo(t *testing.T) {
	const key = "finding#a finding"
	claim := func(revision, order int64, state string) entry {
		return entry{revision, "pending", state, order, order}
	}
	confirm := func(e entry) entry { return entry{e.revision + 1, "confirmed", e.state, e.order, e.updated} }
	write := func(e entry, o outcome) func(from, to int64) porcupine.Operation {
		return func(from, to int64) porcupine.Operation {
			return porcupine.Operation{Input: access{key, true, e}, Output: written{o, e}, Call: from, Return: to}
		}
	}
	read := func(e entry) func(from, to int64) porcupine.Operation {
		return func(from, to int64) porcupine.Operation {
			return porcupine.Operation{Input: access{key: key}, Output: written{entry: e}, Call: from, Return: to}
		}
	}
	first, second := claim(1, 10, "ACTIVE"), claim(2, 20, "ARCHIVED")
	late := claim(2, 5, "ARCHIVED")
	other := confirm(second)
	other.state = "ACTIVE"
	for name, row := range map[string]struct {
		steps []func(from, to int64) porcupine.Operation
		legal bool
	}{
		"claim, confirm, read":                   {[]func(int64, int64) porcupine.Operation{write(first, accepted), write(confirm(first), accepted), read(confirm(first))}, true},
		"a lost answer that had an effect":       {[]func(int64, int64) porcupine.Operation{write(first, unknown), write(second, accepted), write(confirm(second), accepted)}, true},
		"a lost answer that had none":            {[]func(int64, int64) porcupine.Operation{write(first, unknown), read(entry{})}, true},
		"a stale confirmation":                   {[]func(int64, int64) porcupine.Operation{write(first, accepted), write(second, accepted), write(confirm(first), lost), read(second)}, true},
		"a confirmation that overwrites a claim": {[]func(int64, int64) porcupine.Operation{write(first, accepted), write(second, accepted), write(confirm(first), accepted)}, false},
		"a confirmation of another state":        {[]func(int64, int64) porcupine.Operation{write(first, accepted), write(second, accepted), write(other, accepted)}, false},
		"a claim that is older":                  {[]func(int64, int64) porcupine.Operation{write(first, accepted), write(late, accepted)}, false},
		"a claim that is lost against nobody":    {[]func(int64, int64) porcupine.Operation{write(first, lost)}, false},
		"a read of what was overwritten":         {[]func(int64, int64) porcupine.Operation{write(first, accepted), write(second, accepted), read(first)}, false},
	} {
		var all []porcupine.Operation
		for i, step := range row.steps {
			o := step(int64(2*i), int64(2*i+1))
			if o.Output.(written).outcome == unknown {
				o.Return = math.MaxInt64
			}
			o.ClientId = i
			all = append(all, o)
		}
		if fault := checkProtocol(all); (fault == "") != row.legal {
			t.Errorf("%s: legal %t, want %t %s", name, fault == "", row.legal, fault)
		}
	}
}
