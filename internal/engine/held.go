package engine

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Held is what a state holds about one behavior. A behavior to which a device conforms needs no
// state.
type Held struct {
	Profile, Behavior string
	// Since is the time of the datapoint that raised the alarm; the zero time without an alarm.
	Since time.Time
	// Run counts the consecutive datapoints that contradict the present state.
	Run int
	// Waiting is how many windows are not judged yet.
	Waiting int
	// Settled is the time up to which the behavior was judged; the zero time if it never was.
	Settled time.Time
}

// Held returns what the state holds, sorted by behavior.
func (s State) Held() []Held {
	var all []Held
	for _, key := range slices.Sorted(maps.Keys(s.tracks)) {
		t := s.tracks[key]
		profile, behavior, _ := strings.Cut(nameOf(key), "/")
		all = append(all, Held{profile, behavior, timeOf(t.Alarm.Since), t.Alarm.Run, len(t.Windows), timeOf(t.Settled)})
	}
	return all
}

// timeOf returns the zero time for 0.
func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
