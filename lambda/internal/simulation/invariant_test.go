package simulation

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
)

// invariants must hold after the quiet period of each run. The history of findings is
// checked with each import.
var invariants = []struct {
	name  string
	check func(*world)
}{
	{"each identity has one finding in the state of its newest signal", (*world).checkFindings},
	{"the engine's transitions are those of the reference", (*world).checkTransitions},
	{"alarms of retired devices end within a day", (*world).checkRegistry},
	{"alarms of silent devices end", (*world).checkAge},
	{correlateInvariant, (*world).checkIncidents},
	{"an active incident has an active part", (*world).checkParts},
	{notifyInvariant, (*world).checkMessages},
	{verificationInvariant, (*world).checkVerification},
	{"suppressions are those of the last deployment", (*world).checkSuppressions},
	{"invalid messages are dead letters", (*world).checkDeadLetters},
	{"nothing waits", (*world).checkNothingWaits},
	{"the quota of Security Hub", func(w *world) { w.hub.checkQuota() }},
	{"what an analyst set survives", func(w *world) { w.hub.checkEdits() }},
}

func (w *world) check() {
	for _, i := range invariants {
		i.check(w)
	}
}

func (w *world) checkFindings() {
	const name = "each identity has one finding in the state of its newest signal"
	by := map[string]securityhubtest.Finding{}
	for _, f := range w.hub.Findings() {
		if _, twice := by[f.ID]; twice {
			w.violations.add(name, "%s exists twice", f.ID)
		}
		by[f.ID] = f
	}
	for id, all := range w.model.statements {
		last, raised := newest(all)
		f, exists := by[id]
		delete(by, id)
		if w.unsure(all) {
			if exists && !w.settings().has(all[0].behavior) && f.RecordState == "ACTIVE" {
				w.violations.add("findings of removed behaviors end", "%s is active", id)
			}
			continue
		}
		if !exists && all[0].skips && !last[0].active {
			continue
		}
		if !exists && (!last[0].active || w.aged(last[0], id) == "ends") && w.mayBeGone(id) {
			continue
		}
		if exists != raised {
			w.violations.add(name, "%s exists: %t, want %t", id, exists, raised)
			continue
		}
		if !exists {
			continue
		}
		if want := w.settings().severity.Or(defender.Medium).String(); all[0].behavior == openPorts && f.RecordState == "ACTIVE" && f.Severity.Label != want {
			w.violations.add("active findings have the deployed severity", "%s has %s, want %s", id, f.Severity.Label, want)
		}
		if aged := w.aged(last[0], id); aged != "" && last[0].active {
			if !endsByAge(f, aged) {
				w.violations.add(name, "%s is %s after the quiet time", id, f.RecordState)
			}
			continue
		}
		if active := f.RecordState == "ACTIVE"; active != last[0].active {
			w.violations.add(name, "%s is %s, want active: %t", id, f.RecordState, last[0].active)
		} else if active && !slices.ContainsFunc(last, func(s statement) bool { return strings.HasPrefix(f.Description, s.text) }) {
			w.violations.add(name, "%s is %q, want %q", id, f.Description, last[0].text)
		}
	}
	for id, f := range by {
		if composite(f) {
			continue // checkIncidents
		}
		w.violations.add(name, "%s has no signal", id)
	}
}

func (w *world) checkDeadLetters() {
	const name = "invalid messages are dead letters"
	found := map[string]bool{}
	for _, m := range w.deadLetters.messages {
		if m.attributes["Reason"] == "" {
			w.violations.add(name, "a dead letter without a reason: %s", m.body)
		}
		var body struct {
			Payload  []byte `json:"payload"`
			Original []byte `json:"base64OriginalPayload"`
		}
		_ = json.Unmarshal([]byte(m.body), &body) // what has no payload matches none
		found[string(body.Payload)+string(body.Original)] = true
	}
	for _, payload := range w.model.invalid {
		if !found[payload] {
			w.violations.add(name, "%s is in no dead letter", payload)
		}
		delete(found, payload)
	}
	for payload := range found {
		if !slices.Contains(w.model.invalid, payload) {
			w.violations.add(name, "%s is a dead letter", payload)
		}
	}
}

func (w *world) checkNothingWaits() {
	const name = "nothing waits"
	for _, q := range w.queues {
		if q.source != nil && len(q.messages) > 0 {
			w.violations.add(name, "%d messages in the queue %s", len(q.messages), q.name)
		}
	}
	for _, it := range w.dynamodb.Items(ledgerTable) {
		n, ok := it[contract.LedgerRefreshAt].(*types.AttributeValueMemberN)
		if !ok {
			continue
		}
		seconds, _ := strconv.ParseInt(n.Value, 10, 64) // the ledger writes numbers
		if at := time.Unix(seconds, 0); at.Before(time.Now().Add(2 * time.Hour)) {
			w.violations.add(name, "a record of the ledger is due at %v: %s", at, texts(it))
		}
	}
}

// checkOwners requires that a message is not finished before its claims are imported. Claims that
// were left to the next invocation with quota, or that Security Hub fails, are due by the schedule,
// and so are claims of the schedule itself: a run on the hour has no message, and the next one repairs
// what it left. It checks what the schedule would repair, in runs in which no function ends between
// two calls.
func (w *world) checkOwners() {
	if w.faults.some(crash, slowCall, hubOff) || !w.idle() {
		return
	}
	for _, it := range w.dynamodb.Items(ledgerTable) {
		e, ok := ledgerRecordOf(it)
		if !ok || e.Status != "pending" || e.LeftAt > 0 || e.DoubtedAt > 0 || e.UpdatedAt%time.Hour.Milliseconds() == 0 {
			continue
		}
		w.counts["unconfirmed claims checked"]++
		if shown := w.hub.seen[e.ID]; shown.updated != asff.Milliseconds(e.UpdatedAt).String() {
			w.violations.add("messages import what they claim", "%s is claimed and not imported, and no message waits: %+v; Security Hub has %+v", e.ID, e, shown)
		}
	}
}

// settings are those of the last deployment.
func (w *world) settings() settings { return w.deployed[len(w.deployed)-1] }

// unsure reports whether a deployment decides about a finding: its behavior was removed or renamed
// for a while.
func (w *world) unsure(all []statement) bool { return w.changes(all[0].behavior) }

// changes reports whether a deployment removed, renamed or added a behavior.
func (w *world) changes(behavior string) bool {
	return behavior != "" && slices.ContainsFunc(w.deployed, func(s settings) bool { return !s.has(behavior) })
}

func (w *world) checkTransitions() {
	const name = "the engine's transitions are those of the reference"
	for _, d := range w.fleetOf {
		if d.history.late {
			w.counts["devices with late telemetry"]++
			continue
		}
		w.counts["devices compared with the reference"]++
		var got []change
		for c := range w.model.sent[d.client] {
			got = append(got, c)
		}
		want := d.reference(time.Now())
		changed := func(c change) bool {
			return w.changes(c.behavior) || !d.compares(c.behavior) || w.passed > 0 && c.kind == "alarm-invalidated"
		}
		got, want = slices.DeleteFunc(got, changed), slices.DeleteFunc(want, changed)
		order := func(a, b change) int {
			return cmp.Or(strings.Compare(a.behavior, b.behavior), cmp.Compare(a.time, b.time))
		}
		slices.SortFunc(got, order)
		w.counts["transitions compared"] += len(want)
		if !slices.Equal(got, want) {
			w.violations.add(name, "%s: got\n%v\nwant\n%v\n%s", d.client, got, want, d.history)
		}
	}
}
