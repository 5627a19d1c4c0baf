// Package clock is the one clock of a local cloud. It runs with the machine's clock
// until somebody steps it; everything that waits for a time in the local cloud
// (schedules, audits, expiry, alarms) is due by this clock and by no other.
package clock

import (
	"encoding/json"
	"errors"
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

// Schedule is a schedule expression of Amazon EventBridge: rate(...), cron(...) or
// at(...).
type Schedule struct {
	every time.Duration
	cron  cron.Schedule
	at    time.Time
	zone  *time.Location
}

var rateForm = regexp.MustCompile(`^rate\((\d+) (minute|hour|day)s?\)$`)

// ParseSchedule reads a schedule expression. What the local cloud cannot follow (L, W
// and # in cron, years other than *) is an error that names it.
func ParseSchedule(expression string) (Schedule, error) {
	if m := rateForm.FindStringSubmatch(expression); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n < 1 {
			return Schedule{}, fmt.Errorf("schedule %q: want a rate of at least 1", expression)
		}
		unit := map[string]time.Duration{"minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour}[m[2]]
		return Schedule{every: time.Duration(n) * unit}, nil
	}
	if text, ok := between(expression, "at("); ok {
		at, err := time.Parse("2006-01-02T15:04:05", text)
		if err != nil {
			return Schedule{}, fmt.Errorf("schedule %q: %w", expression, err)
		}
		return Schedule{at: at, zone: time.UTC}, nil
	}
	if text, ok := between(expression, "cron("); ok {
		parsed, err := parseCron(strings.Fields(text))
		if err != nil {
			return Schedule{}, fmt.Errorf("schedule %q: %w", expression, err)
		}
		return Schedule{cron: parsed, zone: time.UTC}, nil
	}
	return Schedule{}, fmt.Errorf("schedule %q: want rate(...), cron(...) or at(...)", expression)
}

// parseCron reads minutes, hours, day of month, month, day of week and year.
func parseCron(fields []string) (cron.Schedule, error) {
	if len(fields) != 6 || fields[5] != "*" || strings.ContainsAny(fields[2], "LW") || strings.ContainsAny(fields[4], "L#") {
		return nil, errors.New("the local cloud follows cron with six fields, the year *, and no L, W or #")
	}
	if (fields[2] == "?") == (fields[4] == "?") {
		return nil, errors.New("exactly one of day of month and day of week must be ?")
	}
	weekday, err := fromZero(fields[4])
	if err != nil {
		return nil, err
	}
	fields = []string{fields[0], fields[1], strings.Replace(fields[2], "?", "*", 1), fields[3], weekday}
	return cron.ParseStandard(strings.Join(fields, " "))
}

var days = regexp.MustCompile(`\d+`)

// fromZero counts the days of the week from 0 for Sunday, where AWS counts from 1.
func fromZero(field string) (string, error) {
	if field == "?" {
		return "*", nil
	}
	if strings.Contains(field, "/") {
		return "", errors.New("the local cloud follows no steps in the day of week")
	}
	var outside error
	counted := days.ReplaceAllStringFunc(field, func(day string) string {
		n, err := strconv.Atoi(day)
		if err != nil || n < 1 || n > 7 {
			outside = fmt.Errorf("day of week %s, want 1 for Sunday to 7 or SUN to SAT", day)
		}
		return strconv.Itoa(n - 1)
	})
	return counted, outside
}

// In returns the schedule with the times of cron and at in a time zone. They are in
// UTC otherwise; a rate has no zone.
func (s Schedule) In(zone *time.Location) Schedule {
	if !s.at.IsZero() {
		t := s.at
		s.at = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, zone)
	}
	s.zone = zone
	return s
}

func between(expression, opening string) (string, bool) {
	rest, ok := strings.CutPrefix(expression, opening)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, ")")
}

// Due returns the times after from, up to and with to, at which the schedule runs.
// A rate counts from created.
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
	case s.at.After(from) && !s.at.After(to):
		due = append(due, s.at)
	}
	return due
}

// ServeHTTP answers what time it is, after the step that a POST asks for: ?step=24h.
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
