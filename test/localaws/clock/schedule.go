package clock

import (
	"errors"
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
