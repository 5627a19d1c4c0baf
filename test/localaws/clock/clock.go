// Package clock is the clock of a local AWS. It runs with the machine's clock, and can be stepped
// forward. Schedules, audits, expiry and alarms use only this clock.
package clock

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
)

// Clock is real time plus all steps so far. The zero value is ready to use.
type Clock struct {
	mu     sync.Mutex
	steps  []step
	onStep []func(from, to time.Time)
}

// step is how far the clock is ahead of the machine's clock since a time.
type step struct {
	machine time.Time
	ahead   time.Duration
}

// Now returns the cloud's time, in UTC.
func (c *Clock) Now() time.Time { return c.At(time.Now()) }

// At converts a time of the machine's clock to the cloud's time, in UTC. Functions and the emulator
// use the machine's clock.
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

// OnStep registers f, which is called after each step with the times before and after it.
func (c *Clock) OnStep(f func(from, to time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onStep = append(c.onStep, f)
}

// Step moves the clock forward by d, and returns when all functions of OnStep have run. A clock
// never goes back: a d of 0 or less does nothing.
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

// Schedule is a schedule expression of Amazon EventBridge, rate(...) or cron(...).
type Schedule struct {
	every time.Duration
	cron  cron.Schedule
	zone  *time.Location
}

var (
	rateForm = regexp.MustCompile(`^rate\((\d+) (minute|hour|day)s?\)$`)
	// cronForm has minutes, hours, day of month, month, day of week and year. Weekdays have names,
	// because AWS numbers them from 1, and cron from 0.
	cronForm = regexp.MustCompile(`^cron\((\S+ \S+) ([^ LW]+) (\S+) (\?|[*A-Z,-]+) \*\)$`)
)

// ParseSchedule parses a schedule expression. Its error names what the local AWS does not support: at,
// and of cron L, W, #, numbers of weekdays, and years other than *.
func ParseSchedule(expression string) (Schedule, error) {
	if m := rateForm.FindStringSubmatch(expression); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n < 1 {
			return Schedule{}, fmt.Errorf("schedule %q: want a rate of at least 1", expression)
		}
		unit := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[m[2]]
		return Schedule{every: time.Duration(n) * unit}, nil
	}
	m := cronForm.FindStringSubmatch(expression)
	if m == nil {
		return Schedule{}, fmt.Errorf("schedule %q: the local AWS supports rate(...), and cron(...) with six fields, the year *, weekdays by name, and no L, W or #", expression)
	}
	if (m[2] == "?") == (m[4] == "?") {
		return Schedule{}, fmt.Errorf("schedule %q: exactly one of day of month and day of week must be ?", expression)
	}
	parsed, err := cron.ParseStandard(strings.ReplaceAll(strings.Join(m[1:], " "), "?", "*"))
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %q: %w", expression, err)
	}
	return Schedule{cron: parsed, zone: time.UTC}, nil
}

// In returns the schedule in a time zone. The default is UTC. A rate has no time zone.
func (s Schedule) In(zone *time.Location) Schedule {
	s.zone = zone
	return s
}

// Due returns the times after from, and not after to, at which the schedule runs. A rate counts from
// created.
func (s Schedule) Due(created, from, to time.Time) []time.Time {
	var due []time.Time
	switch {
	case s.every > 0:
		n := from.Sub(created)/s.every + 1
		if from.Before(created) {
			n = 1
		}
		for at := created.Add(n * s.every); !at.After(to); at = at.Add(s.every) {
			due = append(due, at)
		}
	case s.cron != nil:
		for at := s.cron.Next(from.In(s.zone)); !at.IsZero() && !at.After(to); at = s.cron.Next(at) {
			due = append(due, at)
		}
	}
	return due
}

// ServeHTTP returns the time. A POST with ?step=24h steps the clock before.
func (c *Clock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		step, err := time.ParseDuration(r.FormValue("step"))
		if err != nil || step <= 0 {
			http.Error(w, "want ?step= with a duration above 0, such as 90m or 24h", http.StatusBadRequest)
			return
		}
		c.Step(step)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]time.Time{"now": c.Now()})
}
