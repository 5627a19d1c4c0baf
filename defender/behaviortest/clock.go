package behaviortest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Clock is the time since the start of a test. Its text form has hours and minutes, such as 0:05 or
// 27:30, and optionally seconds (0:05:10) or days (2d 0:05).
type Clock time.Duration

var clockForm = regexp.MustCompile(`^(?:(\d{1,4})d ?)?(\d{1,5}):([0-5]\d)(?::([0-5]\d))?$`)

// UnmarshalJSON reads the text form.
func (c *Clock) UnmarshalJSON(data []byte) error {
	var text string
	var parts []string
	if json.Unmarshal(data, &text) == nil {
		parts = clockForm.FindStringSubmatch(text)
	}
	if parts == nil {
		return fmt.Errorf("time %s, want hours and minutes since the start, such as 0:05, 0:05:10 or 2d 0:05", data)
	}
	var sum time.Duration
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		n, _ := strconv.Atoi(parts[i+1]) // digits or nothing
		sum += time.Duration(n) * unit
	}
	*c = Clock(sum)
	return nil
}

// MarshalJSON writes the text form.
func (c Clock) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// String returns the text form, without days.
func (c Clock) String() string {
	d := time.Duration(c)
	text := fmt.Sprintf("%d:%02d", int(d/time.Hour), int(d/time.Minute)%60)
	if s := int(d/time.Second) % 60; s != 0 {
		text += fmt.Sprintf(":%02d", s)
	}
	return text
}
