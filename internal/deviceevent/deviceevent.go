// Package deviceevent reads the security events that devices report.
package deviceevent

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// Event is a security event that a device reports on the event topic, as
// JSON. docs/device-events.md describes it, docs/device-event.schema.json is its schema.
type Event struct {
	// Type says what happened: 1 to 64 of a-z 0-9 -, for example "tamper". With the
	// client id it identifies the finding.
	Type string `json:"type"`
	// State is "active" (the default) or "cleared", which archives the finding.
	State string `json:"state,omitempty"`
	// Severity is an ASFF label. Default: that of the source, MEDIUM unless a prop changes it;
	// of a cleared event, that of the finding.
	Severity string `json:"severity,omitempty"`
	// Description is at most 1024 characters. Default: a sentence made of type and client id.
	Description string `json:"description,omitempty"`
	// Time is the device's own clock in ms since 1970. It is shown, never used for order.
	Time int64 `json:"time,omitempty"`
	// Details are at most 20 pairs of strings: keys of 1 to 64 characters, values of 1
	// to 1024.
	Details map[string]string `json:"details,omitempty"`
}

// The states of a device event.
const (
	Active  = "active"
	Cleared = "cleared"
)

// Limits of a device event, in characters.
const (
	// MaxDetails is how many details an event may have: ProductFields take 50
	// pairs, and the finding needs some of its own.
	MaxDetails = 20

	maxEventKey   = 64
	maxEventValue = 1024
	// maxEventTime is the largest whole number that every JSON implementation keeps.
	maxEventTime = 1<<53 - 1
)

var eventType = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// Decode reads and validates an event, and fills in State. It reports every
// fault at once; the names of fields are case-sensitive, and null is no value.
func Decode(payload []byte) (Event, error) {
	var fields map[string]json.RawMessage
	err := json.Unmarshal(payload, &fields)
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mismatch):
		return Event{}, fmt.Errorf("device event: JSON %s, want an object", mismatch.Value)
	case err != nil:
		return Event{}, fmt.Errorf("device event is not JSON: %w", err)
	case fields == nil:
		return Event{}, errors.New("device event: JSON null, want an object")
	}
	e := Event{State: Active}
	var faults []error
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		fault, known := e.read(name, fields[name])
		faults = append(faults, fault)
		if !known {
			unknown = append(unknown, name)
		}
	}
	if _, ok := fields["type"]; !ok {
		faults = append(faults, invalid("type", nil, typeRule))
	}
	if len(unknown) > 0 {
		faults = append(faults, invalid("", strings.Join(unknown, ", "), "no fields but type, state, severity, description, time and details"))
	}
	if err := errors.Join(faults...); err != nil {
		return Event{}, fmt.Errorf("device event: %w", err)
	}
	return e, nil
}

// MaxTypes is how many types of events may be findings of their own, for each device,
// where no list says which are expected. It also bounds the client IDs of refused connections
// that may be findings of their own, for each certificate, and the findings of events that a
// client publishes as if it were AWS IoT. It is a choice of this project.
const MaxTypes = 20

// ValidType reports whether an event may have the type.
func ValidType(name string) bool { return eventType.MatchString(name) }

const typeRule = "1 to 64 of a-z 0-9 -"

// read reads a field.
func (e *Event) read(name string, raw json.RawMessage) (fault error, known bool) {
	text := func(into *string, want string, valid func(string) bool) error {
		s, err := stringOf(raw)
		if *into = s; err != nil || !valid(s) {
			return invalid(name, orKind(s, err), "%s", want)
		}
		return nil
	}
	switch name {
	case "type":
		return text(&e.Type, typeRule, eventType.MatchString), true
	case "state":
		return text(&e.State, `"active" or "cleared"`, func(s string) bool { return s == Active || s == Cleared }), true
	case "severity":
		labels := severities()
		return text(&e.Severity, "one of "+strings.Join(labels, ", "), func(s string) bool { return slices.Contains(labels, s) }), true
	case "description":
		return text(&e.Description, fmt.Sprintf("a text of at most %d characters", asff.MaxDescription),
			func(s string) bool { return utf8.RuneCountInString(s) <= asff.MaxDescription }), true
	case "time":
		return e.readTime(raw), true
	case "details":
		return defender.Under(name, e.readDetails(raw)), true
	}
	return nil, false
}

// readTime takes 1.8e12 and 5.0 as well: devices without integers write such numbers.
func (e *Event) readTime(raw json.RawMessage) error {
	var ms *float64
	err := json.Unmarshal(raw, &ms)
	if err != nil || ms == nil || *ms < 0 || *ms > maxEventTime || *ms != math.Trunc(*ms) {
		value := any(kindOf(raw))
		if ms != nil && err == nil {
			value = *ms
		}
		return invalid("time", value, "a whole number of ms since 1970")
	}
	e.Time = int64(*ms)
	return nil
}

func (e *Event) readDetails(raw json.RawMessage) error {
	var pairs map[string]json.RawMessage
	if err := json.Unmarshal(raw, &pairs); err != nil || pairs == nil {
		return invalid("", kindOf(raw), "an object of strings")
	}
	if n := len(pairs); n > MaxDetails {
		return invalid("", jsonKind(fmt.Sprintf("%d pairs", n)), "at most %d", MaxDetails)
	}
	e.Details = make(map[string]string, len(pairs))
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		if utf8.RuneCountInString(key) > maxEventKey || asff.Blank(key) {
			faults = append(faults, invalid("", key, "keys of 1 to %d characters", maxEventKey))
			continue
		}
		value, err := stringOf(pairs[key])
		if err != nil || utf8.RuneCountInString(value) > maxEventValue || asff.Blank(value) {
			// The key is the device's choice: quoted, it cannot forge a line of a log.
			faults = append(faults, invalid(fmt.Sprintf("[%q]", key), orKind(value, err), "a string of 1 to %d characters", maxEventValue))
		}
		e.Details[key] = value
	}
	return errors.Join(faults...)
}

// jsonKind is the kind of a JSON value. A fault shows it instead of the value.
type jsonKind string

func kindOf(raw json.RawMessage) jsonKind {
	switch raw[0] {
	case 'n':
		return "JSON null"
	case 't', 'f':
		return "JSON boolean"
	case '"':
		return "JSON string"
	case '[':
		return "JSON array"
	case '{':
		return "JSON object"
	}
	return "JSON number"
}

// stringOf reads a JSON string. The error of anything else is a jsonKind.
func stringOf(raw json.RawMessage) (string, error) {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", kindOf(raw)
	}
	return *s, nil
}

func (k jsonKind) Error() string { return string(k) }

// orKind is what a fault shows: the kind of a value that is no string, else the string.
func orKind(s string, err error) any {
	if err != nil {
		return err
	}
	return s
}

// severities are the labels that an event may name.
func severities() []string {
	var labels []string
	for s := defender.Informational; s <= defender.Critical; s++ {
		labels = append(labels, s.String())
	}
	return labels
}

// invalid is a FieldError; missing values are given as nil.
func invalid(field string, value any, want string, args ...any) error {
	if len(args) > 0 {
		want = fmt.Sprintf(want, args...)
	}
	return &defender.FieldError{Field: field, Value: value, Want: want}
}
