package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/test/bench/awsstub"
)

// earlier is the last commit whose forwarder reads and writes the ledger one item at a time, and
// leaves no states in it for another function to import.
const earlier = "8a3e870"

// TestOldAndNewFunctionShareATable runs the executable of an earlier commit beside today's, as in
// the minutes of a deployment and of a rollback. Both forward alerts of Detect through one table
// to one Security Hub, which throttles half of the calls. Messages are duplicated, and functions
// are killed between two calls.
func TestOldAndNewFunctionShareATable(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("git", "-C", root, "cat-file", "-e", earlier+"^{commit}").Run(); err != nil {
		t.Skipf("commit %s is not in this clone: git fetch --unshallow", earlier)
	}
	b := &bench{ctx: t.Context(), repository: root, dir: t.TempDir()}
	before, err := b.buildCommit(earlier)
	if err != nil {
		t.Fatal(err)
	}
	now, err := b.buildForwarder(root, "forwarder")
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range []struct {
		name        string
		first, last string
	}{{"deployment", before, now}, {"rollback", now, before}} {
		t.Run(order.name, func(t *testing.T) {
			t.Parallel()
			s := &shared{t: t, bench: b, table: &awsstub.Table{}, hub: &awsstub.Hub{}, want: map[string]string{}, random: rand.New(rand.NewPCG(1, uint64(len(order.name))))}
			s.serve(40, order.first, order.first)
			s.serve(120, order.first, order.last, now) // two of today's leave states to each other
			s.leave(now)
			s.serve(40, order.last, order.last)
			s.settle(order.last)
		})
	}
}

// shared is the state that all functions of a test share.
type shared struct {
	t     *testing.T
	bench *bench
	table *awsstub.Table
	hub   *awsstub.Hub

	mu     sync.Mutex
	random *rand.Rand
	queue  []*queued
	// last is the time of the newest message. want is the newest state of each finding.
	last    time.Time
	want    map[string]string
	crashes int
	// left are the states that were left to a function which was killed.
	left int
}

// queued is a message in the queue.
type queued struct {
	id, body string
	sent     time.Time
	receives int
}

const (
	sharedThings  = 60
	sharedTimeout = 10 * time.Second
)

// chance returns true with probability p.
func (s *shared) chance(p float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.Float64() < p
}

// send fills the queue with alerts in random order, a fifth of them twice.
func (s *shared) send(n int) {
	for range n {
		m := s.add(s.random.IntN(sharedThings))
		if s.random.IntN(5) == 0 {
			s.queue = append(s.queue, &queued{id: m.id + "-again", body: m.body, sent: m.sent})
		}
	}
	s.random.Shuffle(len(s.queue), func(i, j int) { s.queue[i], s.queue[j] = s.queue[j], s.queue[i] })
}

// add adds an alert that changes the state of a thing.
func (s *shared) add(thing int) *queued {
	if s.last.IsZero() {
		s.last = time.Now().Add(-time.Hour)
	}
	id := asff.FindingID(defender.DetectNotifications, "us-east-1", "Fleet", "small-messages", fmt.Sprintf("pump-%d", thing))
	change, state := raised, "ACTIVE"
	if s.want[id] == state {
		change, state = cleared, "ARCHIVED"
	}
	s.want[id] = state
	s.last = s.last.Add(time.Second)
	m := &queued{id: fmt.Sprintf("m-%d", len(s.queue)), body: alert(thing, change, s.last), sent: s.last}
	s.queue = append(s.queue, m)
	return m
}

// serve sends n alerts and lets one function for each path handle them, while Security Hub
// throttles half of the calls.
func (s *shared) serve(n int, paths ...string) {
	s.t.Helper()
	s.send(n)
	s.hub.Throttle(func() bool { return s.chance(0.5) })
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
				if f.chance(0.2) {
					f.crashSoon()
				}
				f.handle(batch, i)
			}
		})
	}
	all.Wait()
}

// leave runs two of today's functions while Security Hub throttles all calls. The first drains the
// backlog, so the second leaves its states to the first. Then the first is killed, as when its
// version is replaced.
func (s *shared) leave(path string) {
	s.t.Helper()
	s.hub.Throttle(func() bool { return true })
	defer s.hub.Throttle(nil)
	drains, leaves := s.start(path), s.start(path)
	defer leaves.stop()
	s.add(sharedThings) // a thing that no other alert is about, so that its state needs an import
	first := s.queue
	s.queue = nil
	s.send(30)
	rest := s.queue
	s.queue = nil
	drains.server.Timeout = 10 * time.Minute
	var ended chan struct{}
	for imports := 0; imports < 2; { // its second call shows that it drains
		ended = make(chan struct{})
		go func() {
			defer close(ended)
			drains.handle(first, 0)
		}()
		imports = 0
		for over := false; imports < 2 && !over; {
			calls, _, _ := drains.server.Reset()
			imports += calls["POST /findings/import"]
			select {
			case <-ended:
				over = true // it left its states to a killed function, which counts as draining for a while
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	leaves.handle(rest, 1)
	if len(s.queue) > 0 {
		s.t.Errorf("%d messages are back in the queue, want their states left in the table", len(s.queue))
	}
	s.left = len(s.table.Pending())
	if s.left == 0 {
		s.t.Error("no state is left in the table")
	}
	_ = drains.process.command.Process.Kill() // it may have ended
	<-ended
	drains.stop()
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
	n := min(len(s.queue), 1+s.random.IntN(30))
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
	f.server.Timeout = sharedTimeout
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
}

// crashSoon kills the function between two of its next calls.
func (f *served) crashSoon() {
	f.mu.Lock()
	after := f.random.IntN(8)
	f.mu.Unlock()
	crashed, p := f.server.CrashAfter(after), f.process
	go func() {
		select {
		case <-crashed:
			_ = p.command.Process.Kill() // it may have ended
		case <-p.ended:
		}
	}()
}

// handle passes a batch to the function, and returns to the queue the messages that failed, or
// all if the function was killed.
func (f *served) handle(batch []*queued, number int) {
	var records []any
	for _, m := range batch {
		records = append(records, record("Queue", m.id, m.body, m.sent, m.receives))
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

// settle runs the hourly schedule of the remaining version three times, from two hours later on, and
// requires that Security Hub has the newest state of each finding.
func (s *shared) settle(path string) {
	f := s.start(path)
	defer f.stop()
	waiting := len(s.table.Pending())
	for hour := range 3 {
		at := time.Now().Add(time.Duration(2+hour) * time.Hour)
		if answer, err := f.server.Invoke(contract.RefreshRequest(at.UTC().Format(time.RFC3339)), f.process.ended); err != nil {
			s.t.Fatalf("the scheduled run failed: %v\nanswer %s\noutput %s", err, answer, &f.process.output)
		}
	}
	if pending := s.table.Pending(); len(pending) > 0 {
		s.t.Errorf("%d findings are not confirmed: %q", len(pending), pending)
	}
	states := s.hub.States()
	for id, want := range s.want {
		if states[id] != want {
			s.t.Errorf("%s is %q, want %q", id, states[id], want)
		}
	}
	if len(states) != len(s.want) {
		s.t.Errorf("Security Hub has %d findings, want %d", len(states), len(s.want))
	}
	s.t.Logf("%d findings, %d crashes, %d states left to a killed function; the schedule of the remaining version imported %d", len(states), s.crashes, s.left, waiting)
}
