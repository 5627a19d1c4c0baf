package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/test/bench/awsstub"
)

// shared is the state that all functions of a test share.
type shared struct {
	t      *testing.T
	bench  *bench
	table  *awsstub.Table
	hub    *awsstub.Hub
	audits *awsstub.Audits
	// batch is the most messages of an invocation, timeout its time.
	batch   int
	timeout time.Duration
	// throttled is the probability that Security Hub throttles a call, killed that a function is
	// killed within a number of calls.
	throttled, killed float64
	calls             int

	mu     sync.Mutex
	random *rand.Rand
	queue  []*queued
	// last is the time of the newest message. want is the newest state of each finding.
	last    time.Time
	want    map[string]expected
	sent    int
	crashes int
	// left are the states that were left to a function which was killed.
	left int

	ledger struct {
		sync.Mutex
		// entries are the findings by key, created their CreatedAt by ID once an import was confirmed.
		entries map[string]entry
		created map[string]string
	}
}

// expected is the newest valid state of a finding. Title and description are "" if any is valid.
type expected struct {
	state, title, description string
	// mayLack reports whether Security Hub may lack the finding, because no function had to import
	// it before it ended.
	mayLack bool
}

// queued is a message in the queue.
type queued struct {
	queue, id, body string
	sent            time.Time
	receives        int
}

// again returns a duplicate.
func (m *queued) again() *queued {
	return &queued{queue: m.queue, id: m.id + "-again", body: m.body, sent: m.sent}
}

// share returns the state for a test, with an empty table.
func share(t *testing.T, b *bench, o order) *shared {
	s := &shared{
		t: t, bench: b, table: &awsstub.Table{}, hub: &awsstub.Hub{}, audits: &awsstub.Audits{},
		batch: 30, timeout: 10 * time.Second, throttled: 0.5, killed: 0.2, calls: 8,
		random: rand.New(rand.NewPCG(1, uint64(len(o.name)))), want: map[string]expected{}, last: time.Now().Add(-time.Hour).Truncate(time.Millisecond),
	}
	s.ledger.entries, s.ledger.created = map[string]entry{}, map[string]string{}
	s.table.Watch(s.check)
	return s
}

// entry is a part of a finding's entry in the ledger.
type entry struct {
	ID, Status                               string
	CreatedAt, UpdatedAt, ImportedAt, LeftAt int64
}

// check checks what holds after each write of a finding, by either version: an unconfirmed import is
// due, so that the schedule owns it; CreatedAt stays once an import was confirmed; and UpdatedAt
// never falls.
func (s *shared) check(w awsstub.Write) {
	var was, is entry
	if json.Unmarshal([]byte(w.After), &is) != nil || is.ID == "" {
		return // not a finding
	}
	_ = json.Unmarshal([]byte(w.Before), &was) // it may be new
	if is.Status == "pending" && !w.Due {
		s.t.Errorf("%s is not confirmed, and is not due", is.ID)
	}
	if was.ImportedAt != 0 && is.CreatedAt != was.CreatedAt {
		s.t.Errorf("CreatedAt of %s is %d, want %d as before", is.ID, is.CreatedAt, was.CreatedAt)
	}
	if is.UpdatedAt < was.UpdatedAt {
		s.t.Errorf("UpdatedAt of %s is %d, want at least %d as before", is.ID, is.UpdatedAt, was.UpdatedAt)
	}
	s.ledger.Lock()
	defer s.ledger.Unlock()
	s.ledger.entries[w.Key] = is
}

// finished requires, after all messages are finished, that only states that were left are not
// confirmed, and that Security Hub has the CreatedAt of each confirmed finding.
func (s *shared) finished() {
	s.t.Helper()
	findings := s.hub.Findings()
	s.ledger.Lock()
	defer s.ledger.Unlock()
	for _, e := range s.ledger.entries {
		was, is := s.ledger.created[e.ID], findings[e.ID].CreatedAt
		switch {
		case e.Status == "pending" && e.LeftAt == 0:
			s.t.Errorf("%s is not confirmed, although all messages are finished", e.ID)
		case was != "" && is != was:
			s.t.Errorf("CreatedAt of %s in Security Hub is %s, want %s as before", e.ID, is, was)
		case e.Status == "confirmed":
			s.ledger.created[e.ID] = is
		}
	}
}

// chance returns true with probability p.
func (s *shared) chance(p float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.Float64() < p
}

// enqueue puts a message into the queue.
func (s *shared) enqueue(queue, body string, sent time.Time) *queued {
	s.sent++
	m := &queued{queue: queue, id: fmt.Sprintf("m-%d", s.sent), body: body, sent: sent}
	s.queue = append(s.queue, m)
	return m
}

// serve lets one function for each path handle the messages in random order, while Security Hub
// throttles calls.
func (s *shared) serve(paths ...string) {
	s.t.Helper()
	s.random.Shuffle(len(s.queue), func(i, j int) { s.queue[i], s.queue[j] = s.queue[j], s.queue[i] })
	s.hub.Throttle(func() bool { return s.chance(s.throttled) })
	defer s.hub.Throttle(nil)
	busy := len(paths)
	var all sync.WaitGroup
	for i, path := range paths {
		all.Go(func() {
			f := s.start(path)
			defer f.stop()
			for {
				batch := s.receive()
				switch {
				case batch == nil && s.wait(&busy):
					continue
				case batch == nil:
					return
				}
				if f.chance(f.killed) {
					f.crashSoon()
				}
				f.handle(batch, i)
			}
		})
	}
	all.Wait()
	s.finished()
}

// wait waits until another function returns messages to the queue, and reports whether one did.
func (s *shared) wait(busy *int) bool {
	s.mu.Lock()
	*busy--
	s.mu.Unlock()
	for {
		s.mu.Lock()
		left, working := len(s.queue), *busy
		if left > 0 {
			*busy++
		}
		s.mu.Unlock()
		if left > 0 || working == 0 || s.t.Context().Err() != nil {
			return left > 0
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// receive returns a batch, nil if the queue is empty.
func (s *shared) receive() []*queued {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.queue), 1+s.random.IntN(s.batch))
	batch := s.queue[:n:n]
	s.queue = s.queue[n:]
	for _, m := range batch {
		m.receives++
	}
	if n == 0 {
		return nil
	}
	return batch
}

func (s *shared) giveBack(batch []*queued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, batch...)
}

// served is a function with its runtime.
type served struct {
	*shared
	path    string
	server  *awsstub.Server
	process *process
}

func (s *shared) start(path string) *served {
	f := &served{shared: s, path: path, server: awsstub.Beside(s.table, s.hub)}
	f.server.Timeout, f.server.Audits = s.timeout, s.audits
	f.restart()
	return f
}

func (f *served) restart() {
	f.server.Restart()
	p, err := f.bench.process(subject{path: f.path}, f.server, "")
	if err != nil {
		panic(err) // the executable was built
	}
	f.process = p
}

func (f *served) stop() {
	f.process.stop(false)
	f.server.Close()
	if calls, _, _ := f.server.Reset(); calls["AmazonSQS.SendMessage"] > 0 {
		f.t.Errorf("%d messages are dead letters", calls["AmazonSQS.SendMessage"])
	}
	if refused := f.server.Refused(); len(refused) > 0 {
		f.t.Errorf("the services do not know %d requests; the first: %s", len(refused), refused[0])
	}
}

// crashSoon kills the function between two of its next calls.
func (f *served) crashSoon() {
	f.mu.Lock()
	after := f.random.IntN(f.calls)
	f.mu.Unlock()
	f.crashAfter(after)
}

// crashAfter kills the function after a number of calls.
func (f *served) crashAfter(calls int) {
	crashed, p := f.server.CrashAfter(calls), f.process
	go func() {
		select {
		case <-crashed:
			_ = p.command.Process.Kill() // it may have ended
		case <-p.ended:
		}
	}()
}

// killAtImport kills the function at its next import.
func (f *served) killAtImport() {
	p := f.process
	go func() {
		for imports := 0; imports == 0; {
			select {
			case <-p.ended:
				return
			case <-time.After(10 * time.Millisecond):
			}
			calls, _, _ := f.server.Reset()
			imports = calls["POST /findings/import"]
		}
		_ = p.command.Process.Kill() // it may have ended
	}()
}

// handle passes a batch to the function, and returns to the queue the messages that failed, or
// all if the function was killed.
func (f *served) handle(batch []*queued, number int) {
	var records []any
	for _, m := range batch {
		records = append(records, record(m.queue, m.id, m.body, m.sent, m.receives))
	}
	answer, err := f.server.Invoke(text(map[string]any{"Records": records}), f.process.ended)
	if err != nil {
		f.mu.Lock()
		f.crashes++
		f.mu.Unlock()
		f.giveBack(batch)
		f.restart()
		return
	}
	var response struct {
		BatchItemFailures []struct{ ItemIdentifier string }
	}
	if err := json.Unmarshal([]byte(answer), &response); err != nil {
		f.t.Errorf("function %d answered %s", number, answer)
	}
	for _, failed := range response.BatchItemFailures {
		for _, m := range batch {
			if m.id == failed.ItemIdentifier {
				f.giveBack([]*queued{m})
			}
		}
	}
}

// finish lets a version handle all messages, while nothing else happens.
func (s *shared) finish(path string) {
	s.t.Helper()
	f := s.start(path)
	for batch := s.receive(); batch != nil; batch = s.receive() {
		f.handle(batch, 0)
	}
	f.stop()
}

// schedule runs the hourly schedule of a version at a time.
func (s *shared) schedule(path string, at time.Time) {
	s.t.Helper()
	f := s.start(path)
	defer f.stop()
	answer, err := f.server.Invoke(contract.RefreshRequest(at.UTC().Format(time.RFC3339)), f.process.ended)
	if err != nil || answer != "null" {
		s.t.Fatalf("the scheduled run failed: %v\nanswer %s\noutput %s", err, answer, &f.process.output)
	}
}

// settle runs the hourly schedule of the remaining version three times, from two hours later on, and
// requires that Security Hub has the newest state of each finding.
func (s *shared) settle(path string) {
	s.t.Helper()
	waiting := len(s.table.Pending())
	for hour := range 3 {
		s.schedule(path, time.Now().Add(time.Duration(2+hour)*time.Hour))
	}
	if pending := s.table.Pending(); len(pending) > 0 {
		s.t.Errorf("%d findings are not confirmed: %q", len(pending), pending)
	}
	s.finished()
	s.compare()
	s.t.Logf("%d findings, %d crashes, %d states left to a killed function; the schedule of the remaining version imported %d", len(s.want), s.crashes, s.left, waiting)
}

// compare requires that Security Hub has the newest state of each finding, and no other findings.
func (s *shared) compare() {
	s.t.Helper()
	findings := s.hub.Findings()
	for id, want := range s.want {
		f, ok := findings[id]
		delete(findings, id)
		switch {
		case !ok && want.mayLack:
		case f.RecordState != want.state:
			s.t.Errorf("%s is %q, want %q", id, f.RecordState, want.state)
		case want.title != "" && f.Title != want.title:
			s.t.Errorf("%s has the title %q, want %q", id, f.Title, want.title)
		case want.description != "" && f.Description != want.description:
			s.t.Errorf("%s has the description %q, want %q", id, f.Description, want.description)
		}
	}
	for id, f := range findings {
		s.t.Errorf("Security Hub has %s, %s, which no message is about", id, f.RecordState)
	}
}
