// Package clock is the one clock of a local cloud. It runs with the machine's clock
// until somebody steps it; everything that waits for a time in the local cloud
// (schedules, audits, expiry, alarms) is due by this clock and by no other.
package clock

import (
	"slices"
	"sync"
	"time"
)

// Clock is real time plus all steps so far. The zero value is ready to use.
type Clock struct {
	mu     sync.Mutex
	steps  []step
	onStep []func(from, to time.Time)
}

// step is how far the clock is ahead of the machine's from a time on.
type step struct {
	machine time.Time
	ahead   time.Duration
}

// Now returns the cloud's time, in UTC.
func (c *Clock) Now() time.Time { return c.At(time.Now()) }

// At returns what time it was in the cloud, in UTC, when the machine's clock showed
// machine. Functions and the emulator know the machine's time alone.
func (c *Clock) At(machine time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range slices.Backward(c.steps) {
		if !machine.Before(s.machine) {
			return machine.UTC().Add(s.ahead)
		}
	}
	return machine.UTC()
}

// OnStep registers what is to happen when the clock is stepped; it gets the time
// before and after.
func (c *Clock) OnStep(f func(from, to time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onStep = append(c.onStep, f)
}

// Step puts the clock forward by d and returns when everything registered has run.
// A clock never goes back: a d of 0 or less does nothing.
func (c *Clock) Step(d time.Duration) {
	if d <= 0 {
		return
	}
	c.mu.Lock()
	machine, ahead := time.Now(), time.Duration(0)
	if n := len(c.steps); n > 0 {
		ahead = c.steps[n-1].ahead
	}
	from := machine.UTC().Add(ahead)
	c.steps = append(c.steps, step{machine, ahead + d})
	due := slices.Clone(c.onStep)
	c.mu.Unlock()
	for _, f := range due {
		f(from, from.Add(d))
	}
}
