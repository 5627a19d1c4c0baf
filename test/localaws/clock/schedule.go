package clock

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule is a schedule expression of Amazon EventBridge: rate(...), cron(...) or
// at(...).
type Schedule struct {
	every time.Duration
	cron  cron.Schedule
	at    time.Time
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
		return Schedule{at: at}, nil
	}
	if text, ok := between(expression, "cron("); ok {
		fields := strings.Fields(text)
		if len(fields) != 6 || fields[5] != "*" || strings.ContainsAny(fields[2]+fields[4], "LW#") {
			return Schedule{}, fmt.Errorf("schedule %q: the local cloud follows cron with six fields, the year *, and no L, W or #", expression)
		}
		parsed, err := cron.ParseStandard(strings.ReplaceAll(strings.Join(fields[:5], " "), "?", "*"))
		if err != nil {
			return Schedule{}, fmt.Errorf("schedule %q: %w", expression, err)
		}
		return Schedule{cron: parsed}, nil
	}
	return Schedule{}, fmt.Errorf("schedule %q: want rate(...), cron(...) or at(...)", expression)
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
		for at := s.cron.Next(from.UTC()); !at.IsZero() && !at.After(to); at = s.cron.Next(at) {
			due = append(due, at)
		}
	case s.at.After(from) && !s.at.After(to):
		due = append(due, s.at)
	}
	return due
}
