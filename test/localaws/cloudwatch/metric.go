// Package cloudwatch evaluates metric alarms as Amazon CloudWatch does, after each step of the clock.
// Its metrics are those that functions log in the embedded metric format, the SQS metrics of
// queues, the errors of functions, and the events that rules lost. For an alarm that cannot be evaluated, it returns the
// reason.
package cloudwatch

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// retention is how long values are kept. An alarm can look back 7 days.
const retention = 15 * 24 * time.Hour

// Metric identifies a metric by its namespace, name and dimensions.
type Metric struct{ Namespace, Name, dimensions string }

// NewMetric returns the metric with these dimensions.
func NewMetric(namespace, name string, dimensions map[string]string) Metric {
	var canonical strings.Builder
	for _, key := range slices.Sorted(maps.Keys(dimensions)) {
		canonical.WriteString(strconv.Quote(key) + "=" + strconv.Quote(dimensions[key]) + " ")
	}
	return Metric{namespace, name, canonical.String()}
}

// Statistics are the statistics of a metric in a period.
type Statistics struct{ Count, Sum, Minimum, Maximum float64 }

func (s *Statistics) add(other Statistics) {
	if other.Count == 0 {
		return
	}
	if s.Count == 0 {
		*s = other
		return
	}
	s.Count += other.Count
	s.Sum += other.Sum
	s.Minimum = min(s.Minimum, other.Minimum)
	s.Maximum = max(s.Maximum, other.Maximum)
}

// Store keeps the values of metrics. Its zero value is empty.
type Store struct {
	mu     sync.Mutex
	points map[Metric][]point
	levels map[Metric][]level
}

type point struct {
	at    time.Time
	value float64
}

// level is a value that is measured at each whole minute after from and not after to.
type level struct {
	from, to  time.Time
	value     float64 // at from
	perSecond float64
}

// Put records a value.
func (s *Store) Put(m Metric, at time.Time, value float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.points == nil {
		s.points = map[Metric][]point{}
	}
	s.points[m] = append(s.points[m], point{at, value})
}

// Hold records a value that grew linearly between from and to, with a datapoint for each minute.
func (s *Store) Hold(m Metric, from, to time.Time, value, perSecond float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.levels == nil {
		s.levels = map[Metric][]level{}
	}
	s.levels[m] = append(s.levels[m], level{from, to, value, perSecond})
}

// Statistics returns the statistics of a period, which does not include to.
func (s *Store) Statistics(m Metric, from, to time.Time) Statistics {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum Statistics
	for _, p := range s.points[m] {
		if !p.at.Before(from) && p.at.Before(to) {
			sum.add(Statistics{1, p.value, p.value, p.value})
		}
	}
	for _, l := range s.levels[m] {
		sum.add(l.statistics(from, to))
	}
	return sum
}

func (l level) statistics(from, to time.Time) Statistics {
	first := l.from.Truncate(time.Minute).Add(time.Minute)
	if begin := from.Add(time.Minute - 1).Truncate(time.Minute); begin.After(first) {
		first = begin
	}
	last := l.to.Truncate(time.Minute)
	if end := to.Add(-1).Truncate(time.Minute); end.Before(last) {
		last = end
	}
	if last.Before(first) {
		return Statistics{}
	}
	count := float64(last.Sub(first)/time.Minute) + 1
	low, high := l.at(first), l.at(last)
	return Statistics{Count: count, Sum: count * (low + high) / 2, Minimum: min(low, high), Maximum: max(low, high)}
}

func (l level) at(t time.Time) float64 { return l.value + l.perSecond*t.Sub(l.from).Seconds() }

// forget deletes values that are too old for every alarm.
func (s *Store) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := now.Add(-retention)
	for m, points := range s.points {
		s.points[m] = slices.DeleteFunc(points, func(p point) bool { return p.at.Before(limit) })
	}
	for m, levels := range s.levels {
		s.levels[m] = slices.DeleteFunc(levels, func(l level) bool { return l.to.Before(limit) })
	}
}
