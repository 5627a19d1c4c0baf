package simulation

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// scheduler decides which call continues. Only its own goroutine, the run's first, uses the
// fields without a lock.
type scheduler struct {
	rng    *rand.Rand
	log    *trace
	faults *faults
	// pending are the calls of all environments, as they were ordered when they parked.
	pending []*call
	timers  timers
	timed   int
	steps   int
	clients int
	// doing is the call that has its effect now.
	doing  *call
	ledger protocolHistory

	mu       sync.Mutex
	parked   []*call
	finished []*invocation
	wake     chan struct{}
}

func newScheduler(seed uint64, log *trace, f *faults) *scheduler {
	s := &scheduler{rng: rand.New(rand.NewPCG(seed, 0x5eed)), log: log, faults: f, wake: make(chan struct{}, 1)}
	f.rng = s.rng
	return s
}

// call is one call of a function to a service.
type call struct {
	env                *environment
	service, operation string
	// about identifies the call among those of its environment.
	about string
	// do has the call's effect. The scheduler runs it.
	do    func() (any, error)
	reply chan answer
	// ready is when the call reaches the service.
	ready time.Time
	// called is when the call was made and client whose it is, for the history of the ledger.
	called int64
	client int
	// event is that of the invocation that made the call.
	event json.RawMessage
	// abandoned calls may have an effect, but no goroutine waits for their answer.
	abandoned bool
	// twins are equal calls of other goroutines at the same moment. They get the same answer: which
	// of them would be first depends on the Go runtime.
	twins []*call
}

// answers answers a call and its twins.
func (c *call) answers(value any, err error) {
	c.reply <- answer{value, err}
	for _, twin := range c.twins {
		if err == nil {
			value, err = twin.do()
			twin.called, twin.client = c.called, c.client
			c.env.world.ledger.end(twin, true)
		}
		twin.reply <- answer{value, err}
	}
}

type answer struct {
	value any
	err   error
}

func (c *call) String() string {
	return fmt.Sprintf("%s %s.%s %s", c.env.name, c.service, c.operation, c.about)
}

func (c *call) compare(o *call) int {
	return cmp.Or(cmp.Compare(c.env.number, o.env.number), cmp.Compare(c.service, o.service), cmp.Compare(c.operation, o.operation), cmp.Compare(c.about, o.about))
}

// errCrashed is the error of each call of a dead environment.
var errCrashed = errors.New("the environment has ended")

// ask makes a call to a service: it parks until the scheduler answers. At the end of ctx, the
// call fails, and may still have an effect.
func ask[T any](ctx context.Context, e *environment, service, operation, about string, do func() (T, error)) (T, error) {
	var zero T
	if e.dead.Load() {
		return zero, errCrashed
	}
	if err := ctx.Err(); err != nil {
		return zero, &aws.RequestCanceledError{Err: err}
	}
	c := &call{env: e, service: service, operation: operation, about: about, reply: make(chan answer, 1)}
	c.do = func() (any, error) {
		e.world.doing = c
		return do()
	}
	e.world.park(c)
	select {
	case a := <-c.reply:
		if a.err != nil {
			return zero, a.err
		}
		return a.value.(T), nil
	case <-ctx.Done():
		e.world.abandon(c)
		return zero, &aws.RequestCanceledError{Err: ctx.Err()}
	}
}

func (s *scheduler) park(c *call) {
	s.mu.Lock()
	s.parked = append(s.parked, c)
	s.mu.Unlock()
	s.signal()
}

func (s *scheduler) abandon(c *call) {
	s.mu.Lock()
	c.abandoned = true
	s.mu.Unlock()
}

func (s *scheduler) finish(i *invocation) {
	s.mu.Lock()
	s.finished = append(s.finished, i)
	s.mu.Unlock()
	s.signal()
}

func (s *scheduler) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// timer runs a function at a time.
type timer struct {
	at    time.Time
	order int
	do    func()
}

type timers []*timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].before(t[j]) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(*timer)) }
func (t *timers) Pop() any {
	old := *t
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	return last
}

func (t *timer) before(o *timer) bool {
	return cmp.Or(t.at.Compare(o.at), cmp.Compare(t.order, o.order)) < 0
}

// at runs do at a time, or now if that time has passed.
func (s *scheduler) at(when time.Time, do func()) {
	s.timed++
	heap.Push(&s.timers, &timer{when, s.timed, do})
}

func (s *scheduler) after(d time.Duration, do func()) { s.at(time.Now().Add(d), do) }

// chance returns true with a probability.
func (s *scheduler) chance(p float64) bool { return s.rng.Float64() < p }

// between returns a random duration.
func (s *scheduler) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rng.Int64N(int64(high-low)+1))
}

func pick[E any](s *scheduler, list []E) E { return list[s.rng.IntN(len(list))] }

// run takes steps until a time, or until done returns true when no step is due.
func (s *scheduler) run(until time.Time, done func() bool) {
	for {
		synctest.Wait()
		s.collect()
		now := time.Now()
		switch {
		case len(s.timers) > 0 && !s.timers[0].at.After(now):
			heap.Pop(&s.timers).(*timer).do()
			continue
		case s.step(now):
			continue
		case !now.Before(until) || done != nil && done():
			return
		}
		next := until
		if len(s.timers) > 0 && s.timers[0].at.Before(next) {
			next = s.timers[0].at
		}
		for _, c := range s.pending {
			if c.ready.Before(next) {
				next = c.ready
			}
		}
		sleep := time.NewTimer(next.Sub(now))
		select {
		case <-s.wake:
		case <-sleep.C:
		}
		sleep.Stop()
	}
}

// collect orders what happened since the last step: goroutines ran in any order.
func (s *scheduler) collect() {
	s.mu.Lock()
	parked, finished := s.parked, s.finished
	s.parked, s.finished = nil, nil
	s.mu.Unlock()
	slices.SortStableFunc(parked, (*call).compare)
	slices.SortFunc(finished, func(a, b *invocation) int { return cmp.Compare(a.number, b.number) })
	s.log.functions()
	now := time.Now()
	var last *call
	for _, c := range parked {
		if c.env.dead.Load() {
			c.reply <- answer{err: errCrashed}
			continue
		}
		if i := c.env.serving; i != nil {
			c.event = i.event
		}
		if last != nil && last.compare(c) == 0 {
			last.twins = append(last.twins, c)
			continue
		}
		last = c
		c.ready = now.Add(s.latency(c))
		s.clients++
		c.called, c.client = s.ledger.tick(), s.clients
		s.pending = append(s.pending, c)
	}
	for _, i := range finished {
		i.env.world.returned(i)
	}
}

// latency returns the time that a call needs to reach its service.
func (s *scheduler) latency(c *call) time.Duration {
	d := s.between(2*time.Millisecond, 20*time.Millisecond)
	slow := s.between(time.Second, 20*time.Second)
	if s.faults.strikes(slowCall, c.env.fn) {
		return slow
	}
	return d
}

// step lets one of the calls that have reached their service continue.
func (s *scheduler) step(now time.Time) bool {
	var ready []int
	for i, c := range s.pending {
		if !c.ready.After(now) {
			ready = append(ready, i)
		}
	}
	if len(ready) == 0 {
		return false
	}
	i := pick(s, ready)
	c := s.pending[i]
	s.pending = slices.Delete(s.pending, i, i+1)
	s.steps++
	if c.abandoned {
		if s.chance(0.5) {
			_, err := c.do()
			s.ledger.end(c, false)
			s.log.printf("%v after its deadline: %v", c, err)
		}
		return true
	}
	c.env.world.serve(c)
	return true
}
