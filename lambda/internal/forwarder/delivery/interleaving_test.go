package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/delivery"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/importer"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

const (
	account = "123456789012"
	region  = "us-east-1"
	id      = "defenderhub/detect/us-east-1/profile/behavior/thing"
)

var start = time.Date(2026, 9, 15, 3, 0, 0, 0, time.UTC)

// world has a ledger, a Security Hub, and workers that take one step at a time. Before and after
// each call to the ledger or to Security Hub they wait for permission to continue, or to crash.
type world struct {
	now     time.Time
	table   ledgertest.Table
	service *securityhubtest.Service
	hub     *securityhubtest.Hub
	ledger  *ledger.Ledger
	deliver *delivery.Delivery
	// older reports whether the next worker is of the previous version of the function; nil means none.
	older    func() bool
	previous *delivery.Delivery
	// leaver returns the next worker's leaver, which may be nil; nil means that no worker leaves states.
	leaver  func() delivery.Leaver
	workers []*worker
	// unequal describes new findings whose CreatedAt and UpdatedAt differ.
	unequal []string
	// coarse makes workers wait only before each call.
	coarse bool
}

// newFindings checks the times of the first import of a finding.
type newFindings struct {
	importer.API
	w *world
}

func (n newFindings) BatchImportFindings(ctx context.Context, in *securityhub.BatchImportFindingsInput, o ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error) {
	for _, f := range in.Findings {
		if _, known := n.w.hub.Finding(*f.ProductArn, *f.Id); !known && *f.CreatedAt != *f.UpdatedAt {
			n.w.unequal = append(n.w.unequal, fmt.Sprintf("created at %s, updated at %s", *f.CreatedAt, *f.UpdatedAt))
		}
	}
	return n.API.BatchImportFindings(ctx, in, o...)
}

type worker struct {
	messages []signal.Signal
	waiting  chan struct{} // the worker is waiting before its next step
	proceed  chan error    // nil, or its crash
	done     chan bool     // whether the worker succeeded, once it has finished
	crashed  bool
	coarse   bool
}

var errCrash = errors.New("the function was killed")

type workerKey struct{}

// step runs before and after each call of a worker. After a crash, its calls have no effect.
func step(ctx context.Context, _ string, after bool) error {
	w, ok := ctx.Value(workerKey{}).(*worker)
	if !ok || after && w.coarse && !w.crashed {
		return nil
	}
	if w.crashed {
		return errCrash
	}
	w.waiting <- struct{}{}
	return <-w.proceed
}

func newWorld(t interface{ Fatal(...any) }) *world {
	w := &world{now: start}
	now := func() time.Time { return w.now }
	w.service = securityhubtest.New(securityhubtest.Config{Now: now})
	w.hub = w.service.Hub(account, region)
	if err := w.hub.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	w.table.Step = step
	w.ledger = ledger.New(&w.table, region, contract.DefaultQuietTime)
	client := securityhub.NewFromConfig(inprocess.Config(w.service, account, region))
	w.deliver = &delivery.Delivery{
		DeadLetter: func(context.Context, ledger.Entry, string) error { return nil },
		Ledger:     w.ledger,
		Importer:   importer.New(ledgertest.Imports{API: newFindings{client, w}, Step: step}, func(int64) int64 { return 0 }),
		Metrics:    emf.New(contract.MetricDimensionForwarder, "f", io.Discard, now),
		Log:        slog.New(slog.DiscardHandler),
	}
	before := *w.deliver
	before.Ledger = ledger.New(previousTable{&w.table}, region, contract.DefaultQuietTime)
	w.previous = &before
	return w
}

// previousTable is the table as the previous version of the function uses it. That version reads and
// writes whole records, one by one, and drops unknown fields.
type previousTable struct{ *ledgertest.Table }

// leftAt is a field that the previous version does not know.
var leftAt = regexp.MustCompile(`"leftAt":\d+,`)

func (t previousTable) Get(ctx context.Context, k ledger.Key) (ledger.Record, error) {
	r, err := t.Table.Get(ctx, k)
	r.Doc = leftAt.ReplaceAll(r.Doc, nil)
	return r, err
}

func (t previousTable) GetAll(ctx context.Context, keys []ledger.Key) ([]ledger.Record, []error) {
	return ledgertest.GetEach(ctx, t, keys)
}

func (t previousTable) Put(ctx context.Context, r ledger.Record) error {
	r.Active = 0
	return t.Table.Put(ctx, r)
}

func (t previousTable) PutAll(ctx context.Context, records []ledger.Record) []error {
	return ledgertest.PutEach(ctx, t, records)
}

// begin starts a worker that delivers messages, or, without messages, due entries.
func (w *world) begin(messages ...signal.Signal) {
	k := &worker{messages: messages, coarse: w.coarse, waiting: make(chan struct{}), proceed: make(chan error), done: make(chan bool, 1)}
	w.workers = append(w.workers, k)
	now, deliver := w.now, w.deliver
	if w.older != nil && w.older() {
		deliver = w.previous
	}
	var leaver delivery.Leaver
	if w.leaver != nil && deliver == w.deliver {
		leaver = w.leaver()
	}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), workerKey{}, k))
	go func() {
		defer cancel()
		defer close(k.waiting)
		succeeded := true
		collect := func(outcomes map[string]outcome.Outcome) {
			for _, o := range outcomes {
				succeeded = succeeded && (o.Verdict == outcome.Done || o.Verdict == outcome.Left || o.Verdict == outcome.Refused)
			}
		}
		if len(messages) > 0 {
			collect(deliver.DeliverOrLeave(cancelling{ctx, k}, now, messages, leaver))
		} else if err := w.ledger.Due(ctx, now, func(entries []ledger.Entry) error {
			collect(deliver.Refresh(cancelling{ctx, k}, now, entries))
			return nil
		}); err != nil {
			succeeded = false
		}
		k.done <- succeeded
	}()
	<-k.waiting
}

// cancelling is a context that is canceled once its worker has crashed.
type cancelling struct {
	context.Context
	w *worker
}

func (c cancelling) Err() error {
	if c.w.crashed {
		return context.Canceled
	}
	return c.Context.Err()
}

// advance lets worker i take a step, or crash. It returns the messages to retry once the worker
// has ended.
func (w *world) advance(i int, crash bool) (again []signal.Signal) {
	k := w.workers[i]
	if crash {
		k.crashed = true
		k.proceed <- errCrash
	} else {
		k.proceed <- nil
	}
	if _, more := <-k.waiting; more {
		return nil
	}
	w.workers = slices.Delete(w.workers, i, i+1)
	if succeeded := <-k.done; succeeded && !k.crashed {
		return nil
	}
	return k.messages
}

// event returns a signal of one finding.
func event(ms int64, state asff.RecordState, title string) signal.Signal {
	f := asff.Finding{
		ID: id, ProductARN: asff.DefaultProductARN("aws", region, account), GeneratorID: "test", AWSAccountID: account,
		Title: title, RecordState: state, Resources: []asff.Resource{{Type: "Other", ID: "thing"}},
	}
	f.FindingProviderFields.Severity.Label = "MEDIUM"
	f.FindingProviderFields.Types = []string{asff.TypeUnusualBehaviors}
	return signal.New(defender.DetectNotifications, f, ms, signal.Order{Time: ms})
}

func (w *world) finding() (securityhubtest.Finding, bool) {
	return w.hub.Finding(asff.DefaultProductARN("aws", region, account), id)
}

func TestEveryInterleavingAndCrashEndsInTheNewestState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { everyInterleaving(t, newWorld(t)) })
}

// During a deployment and after a rollback, both versions of the function use one table.
func TestEveryInterleavingOfTwoVersionsEndsInTheNewestState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		w.older = func() bool { return rapid.Bool().Draw(t, "previous version") }
		everyInterleaving(t, w)
	})
}

func everyInterleaving(t *rapid.T, w *world) {
	events := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) signal.Signal {
		state := rapid.SampledFrom([]asff.RecordState{asff.Active, asff.Archived}).Draw(t, "state")
		ms := start.UnixMilli() - 10 + rapid.Int64Range(0, 6).Draw(t, "time")
		return event(ms, state, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "title"))
	}), 1, 5).Draw(t, "events")
	duplicates := rapid.SliceOfN(rapid.SampledFrom(events), 0, 2).Draw(t, "duplicates")
	queue := rapid.Permutation(slices.Concat(events, duplicates)).Draw(t, "arrival")
	crashes := rapid.IntRange(0, 4).Draw(t, "crashes")

	w.drain(t, queue, crashes)
	if w.leaver != nil { // the schedule imports states that were left, or that a crash left unconfirmed
		for range 2 {
			w.now = w.now.Add(2 * time.Hour)
			w.begin()
			w.drain(t, nil, 0)
		}
	}
	w.check(t, events)
}

// drain delivers messages until the queue is empty. Several workers run at once, and some crash.
func (w *world) drain(t *rapid.T, queue []signal.Signal, crashes int) {
	for len(queue) > 0 || len(w.workers) > 0 {
		const maxWorkers = 3
		choice := rapid.IntRange(0, 9).Draw(t, "next")
		switch {
		case choice == 0:
			w.now = w.now.Add(rapid.SampledFrom([]time.Duration{time.Millisecond, 50 * time.Minute, 3 * time.Hour}).Draw(t, "pass"))
		case choice == 1 && len(w.workers) < maxWorkers && w.table.Len() > 0:
			w.begin()
		case choice <= 4 && len(queue) > 0 && len(w.workers) < maxWorkers || len(w.workers) == 0 && len(queue) > 0:
			n := rapid.IntRange(1, min(2, len(queue))).Draw(t, "batch")
			batch := slices.Clone(queue[:n])
			queue = queue[n:]
			w.begin(batch...)
		case len(w.workers) > 0:
			i := rapid.IntRange(0, len(w.workers)-1).Draw(t, "worker")
			crash := crashes > 0 && rapid.IntRange(0, 5).Draw(t, "crash") == 0
			if crash {
				crashes--
			}
			queue = append(queue, w.advance(i, crash)...)
		}
	}
}

// Security Hub refuses some versions. The version that it shows still ends after the quiet time, and a
// later version that it accepts replaces it.
func TestEveryInterleavingWithRefusalsEndsTheAcceptedVersion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		queue := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) signal.Signal {
			ms := start.UnixMilli() - 10 + rapid.Int64Range(0, 6).Draw(t, "time")
			s := event(ms, asff.Active, rapid.SampledFrom([]string{"a", "b", "refused"}).Draw(t, "title"))
			if s.Finding.Title == "refused" {
				s.Finding.Title = strings.Repeat("x", 300)
			}
			s.Source = defender.RefusedConnections // it has no end event
			return s
		}), 1, 5).Draw(t, "events")
		w.drain(t, queue, rapid.IntRange(0, 4).Draw(t, "crashes"))
		w.now = w.now.Add(contract.DefaultQuietTime + 24*time.Hour)
		for range 2 { // unconfirmed claims are imported first
			w.drain(t, nil, 0)
			w.begin()
			w.drain(t, nil, 0)
		}
		if f, ok := w.finding(); ok && f.RecordState != "ARCHIVED" {
			t.Fatalf("state %s after the quiet time, want ARCHIVED", f.RecordState)
		}
		last := event(w.now.UnixMilli(), asff.Active, "last")
		last.Source = defender.RefusedConnections
		w.deliver.Deliver(context.Background(), w.now, []signal.Signal{last})
		if f, _ := w.finding(); f.RecordState != "ACTIVE" || f.Title != "last" {
			t.Fatalf("after the last version: %s, %q; want ACTIVE, last", f.RecordState, f.Title)
		}
	})
}

// TestAllInterleavingsOfTwoWorkers tries every order of the steps of two workers, without a crash
// and with a crash of each worker at every step.
func TestAllInterleavingsOfTwoWorkers(t *testing.T) {
	ms := start.UnixMilli()
	alarm := event(ms-2, asff.Active, "a")
	for name, events := range map[string][]signal.Signal{
		"alarm and clear": {alarm, event(ms-1, asff.Archived, "a")},
		"two alarms":      {alarm, event(ms-1, asff.Active, "b")},
		"duplicates":      {alarm, alarm},
	} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			for o := (orders{}); runs == 0 || o.next(); runs++ {
				w := newWorld(t)
				w.coarse = true
				w.begin(events[0])
				w.begin(events[1])
				var again []signal.Signal
				for crashes := 1; len(w.workers) > 0; {
					choice := o.choose(len(w.workers) * (1 + crashes))
					crash := choice >= len(w.workers)
					if crash {
						crashes--
					}
					again = append(again, w.advance(choice%max(len(w.workers), 1), crash)...)
				}
				w.replay(t, again...)
				w.check(t, events)
			}
			if runs < 300 {
				t.Errorf("%d runs, want at least 300: that is not every order", runs)
			}
		})
	}
}

// orders enumerates all sequences of choices, one per run.
type orders struct {
	choices, options []int
	at               int
}

// choose makes the run's next choice out of n.
func (o *orders) choose(n int) int {
	if o.at == len(o.choices) {
		o.choices, o.options = append(o.choices, 0), append(o.options, n)
	}
	o.at++
	return o.choices[o.at-1]
}

// next advances to the next sequence, and reports whether there is one.
func (o *orders) next() bool {
	o.at = 0
	for last := len(o.choices) - 1; last >= 0; last-- {
		if o.choices[last]+1 < o.options[last] {
			o.choices[last]++
			o.choices, o.options = o.choices[:last+1], o.options[:last+1]
			return true
		}
	}
	return false
}

// check requires that Security Hub shows the newest of events.
func (w *world) check(t interface{ Fatalf(string, ...any) }, events []signal.Signal) {
	if len(w.unequal) > 0 {
		t.Fatalf("new findings with different times: %s", w.unequal)
	}
	newest, raised := events[0], false
	for _, e := range events {
		if e.Order.Compare(newest.Order) > 0 {
			newest = e
		}
		raised = raised || e.Raised
	}
	f, ok := w.finding()
	if ok != raised {
		t.Fatalf("finding exists: %v, raised: %v", ok, raised)
	}
	if !ok {
		return
	}
	if f.RecordState != string(newest.Finding.RecordState) {
		t.Fatalf("Security Hub shows %s, the newest event is %s", f.RecordState, newest.Finding.RecordState)
	}
	if newest.Raised && f.Title != newest.Finding.Title {
		t.Fatalf("Security Hub shows %q, the newest event says %q", f.Title, newest.Finding.Title)
	}
}

// replay delivers messages one after the other, and requires that each succeeds.
func (w *world) replay(t *testing.T, messages ...signal.Signal) {
	t.Helper()
	for _, m := range messages {
		for id, o := range w.deliver.Deliver(context.Background(), w.now, []signal.Signal{m}) {
			if o.Verdict != outcome.Done {
				t.Fatalf("%s: %+v, want Done", id, o)
			}
		}
	}
}
