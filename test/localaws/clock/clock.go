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
	offset time.Duration
	onStep []func(from, to time.Time)
}

// Now returns the cloud's time, in UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().UTC().Add(c.offset)
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
	from := c.Now()
	c.mu.Lock()
	c.offset += d
	due := slices.Clone(c.onStep)
	c.mu.Unlock()
	for _, f := range due {
		f(from, from.Add(d))
	}
}
