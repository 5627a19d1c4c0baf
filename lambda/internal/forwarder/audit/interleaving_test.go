//go:build !race

// Only one of these invocations runs at a time, so the race detector would find nothing.

package audit_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/audit"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/delivery"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/importer"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

// TestTheNewestTaskWinsInEveryInterleaving runs two copies of an old notification and one of a
// newer task at once. It tries every order of the steps that touch the same records. The message
// of an unfinished invocation is retried. Delivering a finding is one step here; the tests of
// package delivery split it.
func TestTheNewestTaskWinsInEveryInterleaving(t *testing.T) {
	old, newer := task("old", 1, bad(policies)), func(checks map[string]string) mapping.AuditTask { return task("new", 2, checks) }
	for name, c := range map[string]struct {
		newer    mapping.AuditTask
		finds    []types.AuditFinding
		disabled []string
		want     string
	}{
		"the newer task finds nothing":      {newer(map[string]string{policies: "COMPLETED_COMPLIANT"}), nil, nil, "ARCHIVED"},
		"the newer task finds another":      {newer(bad(policies)), []types.AuditFinding{policy("other")}, nil, "ARCHIVED"},
		"the newer task finds the same":     {newer(bad(policies)), []types.AuditFinding{policy("old")}, nil, "ACTIVE"},
		"the check is disabled meanwhile":   {newer(bad(certificates)), nil, []string{policies}, "ARCHIVED"},
		"the check of the newer task fails": {newer(map[string]string{policies: "FAILED"}), nil, nil, "ACTIVE"},
	} {
		t.Run(name, func(t *testing.T) {
			findings := map[string][]types.AuditFinding{"old": {policy("old")}, "new": c.finds}
			alone := newExploredCloud(nil, findings)
			alone.messages = []*invocation{{task: old}}
			alone.run(nil)
			used := map[string]bool{}
			for _, r := range alone.table.Records() {
				used[r.Partition] = true
			}
			e := &explorer{seen: map[[32]byte]bool{}}
			conflicts := 0
			for runs := 0; runs == 0 || e.next(); runs++ {
				w := newExploredCloud(c.disabled, findings)
				w.used = used
				w.messages = []*invocation{{task: old}, {task: old}, {task: c.newer}}
				finished := w.run(e)
				conflicts += w.conflicts
				if !finished {
					continue
				}
				state := ""
				for _, f := range w.shown {
					if f.policy == "old" {
						state = f.state
					}
				}
				if state != c.want && !(state == "" && c.want == "ARCHIVED") {
					t.Fatalf("run %d: the finding of the old task is %q, want %s; steps:\n%s", runs, state, c.want, strings.Join(w.trace, "\n"))
				}
			}
			if len(e.seen) < 100 || conflicts == 0 {
				t.Errorf("%d states and %d conflicts, want at least 100 and 1: that is not every interleaving", len(e.seen), conflicts)
			}
		})
	}
}

// explorer enumerates all sequences of choices, one per run. It ends a run that reaches a state
// from which another run continued.
type explorer struct {
	choices, options []int
	at               int
	seen             map[[32]byte]bool
}

// choose makes the next choice out of n. It reports false if state was seen before.
func (e *explorer) choose(n int, state [32]byte) (int, bool) {
	if e.at == len(e.choices) {
		if e.seen[state] {
			return 0, false
		}
		e.seen[state] = true
		e.choices, e.options = append(e.choices, 0), append(e.options, n)
	}
	e.at++
	return e.choices[e.at-1], true
}

// next advances to the next sequence and reports whether there is one.
func (e *explorer) next() bool {
	e.at = 0
	for last := len(e.choices) - 1; last >= 0; last-- {
		if e.choices[last]+1 < e.options[last] {
			e.choices[last]++
			e.choices, e.options = e.choices[:last+1], e.options[:last+1]
			return true
		}
	}
	return false
}

// exploredCloud is a ledger and a Security Hub whose invocations take one step at a time.
type exploredCloud struct {
	table     ledgertest.Table
	shown     map[string]shownFinding
	auditor   *audit.Auditor
	now       time.Time
	messages  []*invocation
	conflicts int
	trace     []string
	// used has the partitions in which the old task has records.
	used map[string]bool
}

// invocation processes one copy of a notification.
type invocation struct {
	name    string
	task    mapping.AuditTask
	waiting chan string
	proceed chan bool
	done    chan outcome.Outcome
	cancel  context.CancelFunc
	// more reports whether the invocation waits before a step.
	more    bool
	crashed bool
	// read is the key of the last read. Reading a record and writing it without a conflict is
	// one step.
	read ledger.Key
	// log is a digest of all that the invocation has read, which determines its local state.
	log [32]byte
}

type invocationKey struct{}

func newExploredCloud(disabled []string, findings map[string][]types.AuditFinding) *exploredCloud {
	w := &exploredCloud{now: exploredAt, shown: map[string]shownFinding{}}
	log, zero := slog.New(slog.DiscardHandler), func(int64) int64 { return 0 }
	table := exploredTable{w}
	book := ledger.New(table, region, contract.DefaultQuietTime)
	w.auditor = &audit.Auditor{
		IoT: &fakeIoT{findings: findings, disabled: disabled}, Table: table, Findings: book, Region: region, Random: zero, Log: log,
		Deliver: &delivery.Delivery{
			Ledger:   book,
			Importer: importer.New(exploredHub{w}, zero),
			Metrics:  emf.New(contract.MetricDimensionForwarder, "f", io.Discard, func() time.Time { return w.now }), Log: log,
		},
	}
	for id := range findings {
		w.table.Put(context.Background(), ledger.Record{Key: ledger.Key{Partition: "task#" + id, Sort: "checkpoint"}, Revision: 1, Doc: []byte(`{"summaries":true}`)})
	}
	return w
}

// exploredAt is later than the tasks, and the same in all runs.
var exploredAt = time.Now()

// run processes all messages in the order that e chooses, and reports whether it finished.
func (w *exploredCloud) run(e *explorer) bool {
	for i, m := range w.messages {
		m.name = fmt.Sprintf("%d (%s)", i, m.task.ID)
		w.begin(m)
	}
	left := w.messages
	for len(left) > 0 {
		choice, fresh := 0, true
		if e != nil {
			choice, fresh = e.choose(len(left), w.state())
		}
		if !fresh {
			for _, m := range left {
				w.end(m)
			}
			return false
		}
		m := left[choice]
		if m.more && w.advance(m) {
			continue
		}
		if o := <-m.done; o.Verdict != outcome.Done {
			if strings.Contains(o.Reason, ledger.ErrConflict.Error()) {
				w.conflicts++
			}
			w.trace = append(w.trace, m.name+" is retried: "+o.Reason)
			w.begin(m)
			continue
		}
		m.log = [32]byte{} // its reads no longer matter
		left = slices.DeleteFunc(slices.Clone(left), func(other *invocation) bool { return other == m })
	}
	return true
}

func (w *exploredCloud) begin(m *invocation) {
	*m = invocation{name: m.name, task: m.task, waiting: make(chan string), proceed: make(chan bool), done: make(chan outcome.Outcome, 1)}
	k := m
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), invocationKey{}, k))
	k.cancel = cancel
	go func() {
		defer close(k.waiting)
		defer cancel()
		k.waiting <- "begin"
		<-k.proceed
		k.done <- w.auditor.Process(ctx, w.now, mapping.Mapper{Account: account, Partition: "aws", Region: region}, k.task)
	}()
	<-k.waiting
	w.advance(k) // nothing is shared before the first step
}

// advance lets m take a step and reports whether it has another.
func (w *exploredCloud) advance(m *invocation) bool {
	m.proceed <- true
	var next string
	if next, m.more = <-m.waiting; m.more {
		w.trace = append(w.trace, m.name+" is before "+next)
	}
	return m.more
}

// end kills m: its further calls have no effect.
func (w *exploredCloud) end(m *invocation) {
	if !m.more {
		return
	}
	m.crashed = true
	m.cancel()
	m.proceed <- false
	for range m.waiting { // until it has returned
	}
}

// state returns a digest of all that determines how a run continues.
func (w *exploredCloud) state() [32]byte {
	h := sha256.New()
	for _, r := range w.table.Records() {
		fmt.Fprintf(h, "%s %s %d %s\n", r.Partition, r.Sort, r.Revision, r.Doc)
	}
	for _, id := range slices.Sorted(maps.Keys(w.shown)) {
		fmt.Fprintln(h, w.shown[id])
	}
	var copies []string // in any order: the two copies of one task are interchangeable
	for _, m := range w.messages {
		copies = append(copies, fmt.Sprintf("%s %x", m.task.ID, m.log))
	}
	slices.Sort(copies)
	fmt.Fprint(h, copies)
	return [32]byte(h.Sum(nil))
}

var errKilled = errors.New("the function was killed")

// step waits before a call that others may notice. It fails once the invocation has crashed.
func (w *exploredCloud) step(ctx context.Context, call string) error {
	m := ctx.Value(invocationKey{}).(*invocation)
	if !m.crashed {
		m.waiting <- call
		<-m.proceed
	}
	if m.crashed {
		return errKilled
	}
	return nil
}

// learn adds the result of a call to the invocation's log.
func learn(ctx context.Context, records []ledger.Record, err error) {
	m := ctx.Value(invocationKey{}).(*invocation)
	h := sha256.New()
	fmt.Fprintf(h, "%x %v\n", m.log, err)
	for _, r := range records {
		fmt.Fprintf(h, "%d %s\n", r.Revision, r.Doc)
	}
	m.log = [32]byte(h.Sum(nil))
}

// exploredHub is a Security Hub that keeps the newest version of each finding. The order of
// imports does not matter.
type exploredHub struct{ w *exploredCloud }

func (h exploredHub) BatchImportFindings(ctx context.Context, in *securityhub.BatchImportFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error) {
	if ctx.Value(invocationKey{}).(*invocation).crashed {
		return nil, errKilled
	}
	for _, f := range in.Findings {
		if was, ok := h.w.shown[*f.Id]; !ok || *f.UpdatedAt > was.updated {
			h.w.shown[*f.Id] = shownFinding{*f.UpdatedAt, string(f.RecordState), f.ProductFields["PolicyName"]}
		}
	}
	return &securityhub.BatchImportFindingsOutput{}, nil
}

type shownFinding struct{ updated, state, policy string }

// exploredTable is the table of an exploredCloud.
type exploredTable struct{ w *exploredCloud }

// step waits before a call to a record that the old task's invocations share with each other or
// with the newer one's: the check's watermark and findings, and the old checkpoint.
func (t exploredTable) step(ctx context.Context, call, partition string) error {
	if ctx.Value(invocationKey{}).(*invocation).crashed {
		return errKilled
	}
	if !t.w.used[partition] || strings.HasPrefix(partition, "finding#") {
		return nil
	}
	return t.w.step(ctx, call+" "+partition)
}

func (t exploredTable) Get(ctx context.Context, k ledger.Key) (ledger.Record, error) {
	if err := t.step(ctx, "get", k.Partition); err != nil {
		return ledger.Record{}, err
	}
	ctx.Value(invocationKey{}).(*invocation).read = k
	r, err := t.w.table.Get(ctx, k)
	learn(ctx, []ledger.Record{r}, err)
	return r, err
}

func (t exploredTable) Put(ctx context.Context, r ledger.Record) error {
	confirms := strings.HasPrefix(r.Partition, "audit#") // the claim of an earlier step
	if m := ctx.Value(invocationKey{}).(*invocation); m.crashed || m.read != r.Key && !confirms {
		if err := t.step(ctx, "put", r.Partition); err != nil {
			return err
		}
	}
	m := ctx.Value(invocationKey{}).(*invocation)
	m.read = ledger.Key{}
	if r.Partition == "task#old" {
		m.log = [32]byte{} // from here on it needs only the checkpoint that it writes
	}
	err := t.w.table.Put(ctx, r)
	learn(ctx, []ledger.Record{r}, err)
	return err
}

func (t exploredTable) GetAll(ctx context.Context, keys []ledger.Key) ([]ledger.Record, []error) {
	return ledgertest.GetEach(ctx, t, keys)
}

func (t exploredTable) PutAll(ctx context.Context, records []ledger.Record) []error {
	return ledgertest.PutEach(ctx, t, records)
}

func (t exploredTable) Open(ctx context.Context, partition string, before int64, after string) ([]ledger.Record, string, error) {
	if err := t.step(ctx, "open", partition); err != nil {
		return nil, "", err
	}
	records, next, err := t.w.table.Open(ctx, partition, before, after)
	learn(ctx, records, err)
	return records, next, err
}

func (t exploredTable) DueCount(context.Context, string, time.Time, int) (int, error) {
	return 0, errors.New("an audit does not count due records")
}

func (t exploredTable) Due(context.Context, string, time.Time, ledger.Record) ([]ledger.Record, bool, error) {
	return nil, false, errors.New("an audit does not list due records")
}
