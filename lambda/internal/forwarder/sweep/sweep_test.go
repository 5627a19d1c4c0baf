package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/sweep"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

const (
	account = "123456789012"
	region  = "us-east-1"
)

var start = time.Date(2026, 9, 15, 3, 0, 0, 0, time.UTC)

var errCrash = errors.New("the function was killed")

// world has a ledger, a Security Hub, and invocations that take one step at a time. Before and
// after each call they wait for permission to continue, or to crash.
type world struct {
	now     time.Time
	table   ledgertest.Table
	hub     *securityhubtest.Hub
	book    *ledger.Ledger
	deliver *delivery.Delivery
	running []*invocation
}

type invocation struct {
	message *message // nil for a sweep
	waiting chan struct{}
	proceed chan error
	done    chan error
	crashed bool
}

type invocationKey struct{}

// step runs before and after each call of an invocation. After a crash, its calls have no effect.
func step(ctx context.Context, _ string, _ bool) error {
	i, ok := ctx.Value(invocationKey{}).(*invocation)
	if !ok {
		return nil
	}
	if i.crashed {
		return errCrash
	}
	i.waiting <- struct{}{}
	return <-i.proceed
}

// cancelling is a context that is canceled once its invocation has crashed.
type cancelling struct {
	context.Context
	i *invocation
}

func (c cancelling) Err() error {
	if c.i.crashed {
		return context.Canceled
	}
	return c.Context.Err()
}

func newWorld(t interface{ Fatal(...any) }) *world {
	w := &world{now: start}
	service := securityhubtest.New(securityhubtest.Config{Now: func() time.Time { return w.now }})
	w.hub = service.Hub(account, region)
	if err := w.hub.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	w.table.Step = step
	w.book = ledger.New(&w.table, region, contract.DefaultQuietTime)
	w.deliver = &delivery.Delivery{
		Ledger:   w.book,
		Importer: importer.New(ledgertest.Imports{API: securityhub.NewFromConfig(inprocess.Config(service, account, region)), Step: step}, func(int64) int64 { return 0 }),
		Metrics:  emf.New(contract.MetricDimensionForwarder, "f", io.Discard, func() time.Time { return w.now }), Log: slog.New(slog.DiscardHandler),
	}
	return w
}

// environment returns the sweeper of a new environment of the function, with its live behaviors.
func (w *world) environment(live contract.LiveBehaviors) *sweep.Sweeper {
	return &sweep.Sweeper{Table: &w.table, Findings: w.book, Deliver: w.deliver, Region: region, Live: live, Log: slog.New(slog.DiscardHandler)}
}

func live(behaviors ...string) contract.LiveBehaviors {
	l := contract.LiveBehaviors{}
	for _, b := range behaviors {
		l.Add("p", b, defender.SeverityDefault)
	}
	return l
}

// message is a message about a transition of a behavior.
type message struct {
	behavior string
	state    asff.RecordState
	ms       int64
}

const prefix, suffix = "defenderhub/behavior/us-east-1/p/", "/thing"

// signal returns the signal that the mapper makes of the message, with these live behaviors.
func (m message) signal(l contract.LiveBehaviors) signal.Signal {
	f := asff.Finding{
		ID: prefix + m.behavior + suffix, ProductARN: asff.DefaultProductARN("aws", region, account), GeneratorID: "test", AWSAccountID: account,
		Title: "t", Description: "d", RecordState: m.state, Resources: []asff.Resource{{Type: "Other", ID: "thing"}},
	}
	f.FindingProviderFields.Severity.Label = "MEDIUM"
	f.FindingProviderFields.Types = []string{asff.TypeUnusualBehaviors}
	order := signal.Order{Time: m.ms}
	if m.state == asff.Active && !l.Has("p", m.behavior) {
		f.RecordState = asff.Archived
		order.Time++
	}
	s := signal.New(defender.BehaviorTransitions, f, m.ms, order)
	s.Profile, s.Behavior = "p", m.behavior
	return s
}

// process processes a message as the handler does.
func (w *world) process(ctx context.Context, s *sweep.Sweeper, now time.Time, m message) error {
	message := m.signal(s.Live)
	if message.Raised {
		if err := s.Announce(ctx, now); err != nil {
			return err
		}
	}
	for _, o := range w.deliver.Deliver(ctx, now, []signal.Signal{message}) {
		if o.Verdict != outcome.Done {
			return fmt.Errorf("%s", o.Reason)
		}
	}
	return nil
}

// states returns the record states in Security Hub, by behavior.
func (w *world) states() map[string]string {
	states := map[string]string{}
	for _, f := range w.hub.Findings() {
		states[strings.TrimSuffix(strings.TrimPrefix(f.ID, prefix), suffix)] = f.RecordState
	}
	return states
}

// begin starts an invocation, which waits before its first step.
func (w *world) begin(m *message, f func(context.Context) error) {
	i := &invocation{message: m, waiting: make(chan struct{}), proceed: make(chan error), done: make(chan error, 1)}
	w.running = append(w.running, i)
	ctx := cancelling{context.WithValue(context.Background(), invocationKey{}, i), i}
	go func() {
		defer close(i.waiting)
		i.done <- f(ctx)
	}()
	<-i.waiting
}

// advance lets an invocation take a step, or crash, and reports whether it has ended and failed.
func (w *world) advance(i *invocation, crash bool) (over, failed bool) {
	var fault error
	if i.crashed = crash; crash {
		fault = errCrash
	}
	i.proceed <- fault
	if _, more := <-i.waiting; more {
		return false, false
	}
	w.running = slices.DeleteFunc(w.running, func(r *invocation) bool { return r == i })
	return true, <-i.done != nil || i.crashed
}

// TestEveryInterleavingArchivesRemovedBehaviors deploys several times while invocations of
// all deployments interleave and crash. Security Hub must show the evaluator's newest transition of a
// behavior since the behavior is live.
func TestEveryInterleavingArchivesRemovedBehaviors(t *testing.T) {
	names := []string{"a", "b"}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		newest := map[string]message{}
		since := map[string]time.Time{} // when a live behavior was added
		var deployed []string
		var current *sweep.Sweeper
		deploy := func() {
			w.now = w.now.Add(time.Minute)
			deployed = nil
			for _, b := range names {
				if !rapid.Bool().Draw(t, b+" is live") {
					delete(since, b)
					continue
				}
				deployed = append(deployed, b)
				if _, was := since[b]; !was {
					since[b] = w.now
				}
			}
			current = w.environment(live(deployed...))
		}
		deploy()
		var queue []message
		deliver := func(m message) {
			s, now := current, w.now
			if rapid.Bool().Draw(t, "new environment") {
				s = w.environment(current.Live)
			}
			w.begin(&m, func(ctx context.Context) error { return w.process(ctx, s, now, m) })
		}
		deploys, crashes := rapid.IntRange(0, 3).Draw(t, "deploys"), rapid.IntRange(0, 3).Draw(t, "crashes")
		turns := rapid.IntRange(10, 80).Draw(t, "turns")
		for turn := 0; turn < turns || len(w.running) > 0; turn++ {
			choice, room := rapid.IntRange(0, 9).Draw(t, "next"), len(w.running) < 4 && turn < turns
			switch {
			case choice == 0 && deploys > 0:
				deploys--
				deploy()
			case choice == 1 && room:
				s, now := w.environment(current.Live), w.now
				w.begin(nil, func(ctx context.Context) error { _, err := s.Sweep(ctx, now); return err })
			case choice == 2 && room && len(deployed) > 0:
				w.now = w.now.Add(time.Second)
				m := message{
					rapid.SampledFrom(deployed).Draw(t, "behavior"),
					rapid.SampledFrom([]asff.RecordState{asff.Active, asff.Active, asff.Archived}).Draw(t, "state"),
					w.now.UnixMilli(),
				}
				newest[m.behavior] = m
				deliver(m)
			case choice == 3 && room && len(queue) > 0:
				deliver(queue[0])
				queue = queue[1:]
			case len(w.running) > 0:
				i := w.running[rapid.IntRange(0, len(w.running)-1).Draw(t, "invocation")]
				crash := crashes > 0 && rapid.IntRange(0, 9).Draw(t, "crash") == 0
				if crash {
					crashes--
				}
				if over, failed := w.advance(i, crash); over && failed && i.message != nil {
					queue = append(queue, *i.message)
				}
			}
		}
		for _, m := range queue {
			if err := w.process(context.Background(), current, w.now, m); err != nil {
				t.Fatal(err)
			}
		}
		w.settle(t, current.Live)
		states := w.states()
		for _, b := range names {
			began, isLive := since[b]
			m, sent := newest[b]
			switch {
			case !isLive && states[b] == "ACTIVE":
				t.Fatalf("%s is active, but not live", b)
			case isLive && sent && m.ms > began.UnixMilli() && states[b] != string(m.state) && (states[b] != "" || m.state == asff.Active):
				t.Fatalf("%s is %q, want %s, the newest state since it is live", b, states[b], m.state)
			}
		}
	})
}

// A finding that cannot be archived now does not block the others.
func TestFailedArchiveDoesNotBlockOtherFindings(t *testing.T) {
	broken := &sweep.Sweeper{Deliver: failing{}, Live: live("lives")}
	entry := func(behavior string) ledger.Entry {
		return ledger.Entry{Source: defender.BehaviorTransitions, State: asff.Active, Profile: "p", Behavior: behavior, ID: behavior, Finding: &asff.Finding{ID: behavior}}
	}
	rest, archived, err := broken.Archive(context.Background(), start, []ledger.Entry{entry("gone"), entry("lives")})
	if err != nil || archived != 0 || len(rest) != 1 || rest[0].ID != "lives" {
		t.Errorf("%d archived, rest %v, error %v; want none, and the rest is the live behavior", archived, rest, err)
	}
}

type failing struct{}

func (failing) Deliver(_ context.Context, _ time.Time, signals []signal.Signal) map[string]outcome.Outcome {
	return map[string]outcome.Outcome{signals[0].Finding.ID: {Verdict: outcome.Failing, Reason: "no"}}
}

// settle runs the schedule until it has no more to do.
func (w *world) settle(t interface{ Fatal(...any) }, l contract.LiveBehaviors) {
	for range 3 {
		w.now = w.now.Add(time.Hour)
		s := w.environment(l)
		if _, err := s.Sweep(context.Background(), w.now); err != nil {
			t.Fatal(err)
		}
		if err := w.book.Due(context.Background(), w.now, func(entries []ledger.Entry) error {
			rest, _, err := s.Archive(context.Background(), w.now, entries)
			w.deliver.Refresh(context.Background(), w.now, rest)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}
