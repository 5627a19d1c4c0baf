package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

// handler is the handler of a function.
type handler func(context.Context, json.RawMessage) (any, error)

// program builds the handler of an environment.
type program func(*environment, host.Host) (handler, error)

// function is a deployed Lambda function.
type function struct {
	name, arn string
	timeout   time.Duration
	build     program
	// environ are the variables of the deployed version. A deployment replaces them, and for a
	// while both versions serve.
	environ, before []string
	// mixed is until when environments of both versions are created.
	mixed time.Time
	idle  []*environment
	// paused is the last pause of its event sources.
	paused pause
	// removed reports that a deployment has deleted the function.
	removed bool
}

// environment is an execution environment of a function. It serves one invocation at a time.
type environment struct {
	world   *world
	number  int
	name    string
	fn      *function
	environ []string
	skew    time.Duration
	handle  handler
	serving *invocation
	dead    atomic.Bool
}

// invocation is one call of a function.
type invocation struct {
	number int
	env    *environment
	event  json.RawMessage
	cancel context.CancelFunc
	// done gets the result. It is not called if the environment crashed; then failed is true.
	done   func(value any, err error, failed bool)
	value  any
	err    error
	events map[string]int
}

// invoke starts an invocation in an idle environment, or in a new one.
func (w *world) invoke(fn *function, event json.RawMessage, done func(value any, err error, failed bool)) {
	if fn.removed {
		return
	}
	e := w.environment(fn)
	w.invocations++
	i := &invocation{number: w.invocations, env: e, event: event, done: done, events: map[string]int{}}
	e.serving = i
	w.log.printf("invoke %s with %d bytes", e.name, len(event))
	ctx, cancel := context.WithTimeout(context.Background(), fn.timeout)
	i.cancel = cancel
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{AwsRequestID: fmt.Sprint(i.number), InvokedFunctionArn: fn.arn})
	w.at(time.Now().Add(fn.timeout), func() {
		if e.serving == i {
			w.counts["timeouts"]++
			w.log.printf("%s timed out", e.name)
			w.kill(e)
		}
	})
	go func() {
		defer func() {
			if p := recover(); p != nil {
				i.err = fmt.Errorf("panic: %v", p)
				w.violations.add("no panic", "%s: %v", e.name, p)
			}
			w.finish(i)
		}()
		i.value, i.err = e.handle(ctx, event)
	}()
}

// environment returns an idle environment of a function, or creates one. AWS replaces idle
// environments of an old version some time after a deployment.
func (w *world) environment(fn *function) *environment {
	mixed := time.Now().Before(fn.mixed)
	if !mixed {
		fn.idle = slices.DeleteFunc(fn.idle, func(e *environment) bool { return !slices.Equal(e.environ, fn.environ) })
	}
	if n := len(fn.idle); n > 0 && !w.chance(0.02) {
		i := w.rng.IntN(n)
		e := fn.idle[i]
		fn.idle = slices.Delete(fn.idle, i, i+1)
		return e
	}
	environ := fn.environ
	if mixed && w.chance(0.5) {
		environ = fn.before
	}
	w.environments++
	e := &environment{world: w, number: w.environments, fn: fn, environ: environ, name: fmt.Sprintf("%s/%d", fn.name, w.environments)}
	skew := w.between(-2*time.Minute, 2*time.Minute)
	if w.faults.strikes(clockSkew, fn) {
		e.skew = skew
	}
	out := writer{w.log, e}
	handle, err := fn.build(e, host.Host{
		Environ: environ, Now: func() time.Time { return time.Now().Add(e.skew) }, Metrics: out, Log: out, Random: w.random(), Program: "simulated",
	})
	if err != nil {
		panic(fmt.Sprintf("the constructor of %s: %v", fn.name, err)) // the simulation's own fault
	}
	e.handle = handle
	w.living = append(w.living, e)
	return e
}

// random returns a source that depends only on the seed and the time: goroutines call it in any order.
func (w *world) random() func(n int64) int64 {
	seed := w.seed
	return func(n int64) int64 {
		x := seed*0x9e3779b97f4a7c15 + uint64(time.Now().UnixNano())
		x ^= x >> 31
		x *= 0xbf58476d1ce4e5b9
		x ^= x >> 27
		x *= 0x94d049bb133111eb
		x ^= x >> 31
		return int64(x % uint64(n))
	}
}

// returned ends an invocation that returned.
func (w *world) returned(i *invocation) {
	i.cancel()
	e := i.env
	if e.dead.Load() || e.serving != i {
		return
	}
	e.serving = nil
	w.log.printf("%s returned %v", e.name, i.err)
	if i.err != nil {
		w.counts["failed invocations"]++
	}
	e.fn.idle = append(e.fn.idle, e)
	i.done(i.value, i.err, false)
}

// kill ends an environment. Some of its calls in flight still have an effect. Later calls have
// none.
func (w *world) kill(e *environment) {
	e.dead.Store(true)
	w.log.printf("%s crashed", e.name)
	i := e.serving
	e.serving = nil
	if i != nil {
		i.cancel() // before its goroutines run again
	}
	var kept []*call
	for _, c := range w.pending {
		if c.env != e {
			kept = append(kept, c)
			continue
		}
		if w.chance(0.5) {
			_, err := c.do()
			w.ledger.end(c, false)
			w.log.printf("%v without an owner: %v", c, err)
		}
		c.answers(nil, errCrashed)
	}
	w.pending = kept
	if i != nil {
		i.done(nil, errCrashed, true)
	}
}

// shutDown ends all environments, so that no goroutine outlives the run.
func (w *world) shutDown() {
	for _, c := range w.pending {
		c.env.dead.Store(true)
		c.answers(nil, errCrashed)
	}
	w.pending = nil
	for _, e := range w.living {
		e.dead.Store(true)
		if e.serving != nil {
			e.serving.cancel()
		}
	}
}
