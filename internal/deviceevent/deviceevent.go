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

// Event is a security event that a device publishes on the event topic, as JSON. It is described
// in docs/device-events.md; its JSON Schema is docs/device-event.schema.json.
type Event struct {
	// Type is what happened: 1 to 64 of a-z 0-9 -, for example "tamper". With the client ID it
	// identifies the finding.
	Type string `json:"type"`
	// State is "active" (the default) or "cleared", which archives the finding.
	State string `json:"state,omitempty"`
	// Severity is an ASFF label.
	// Default: the source's severity, which is MEDIUM unless a prop changes it. For a cleared
	// event the default is the finding's severity.
	Severity string `json:"severity,omitempty"`
	// Description has at most 1024 characters.
	// Default: a sentence with type and client ID.
	Description string `json:"description,omitempty"`
	// Time is the device's own clock in ms since 1970. It is shown, but never used for order.
	Time int64 `json:"time,omitempty"`
	// Details has at most 20 pairs: keys of 1 to 64 characters, values of 1 to 1024.
	Details map[string]string `json:"details,omitempty"`
}

// The states of a device event.
const (
	Active  = "active"
	Cleared = "cleared"
)

// Limits of a device event, in characters.
const (
	// MaxDetails is how many details an event may have: ProductFields has at most 50 pairs, and
	// the finding needs some of them.
	MaxDetails = 20

	maxEventKey   = 64
	maxEventValue = 1024
	// maxEventTime is the largest integer that every JSON implementation represents exactly.
	maxEventTime = 1<<53 - 1
)

var eventType = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// Decode decodes and validates an event, and sets the default State. Its error lists every fault.
// Field names are case-sensitive, and null is not a value.
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

// MaxTypes limits the findings that one sender can create by choosing names:
//
//   - event types per device, unless a list of expected types is set
//   - client IDs of refused connections per certificate
//   - findings of events that a client publishes in the name of AWS IoT
//
// It is a choice of this project.
const MaxTypes = 20

// ValidType reports whether an event may have this type.
func ValidType(name string) bool { return eventType.MatchString(name) }

const typeRule = "1 to 64 of a-z 0-9 -"

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

// readTime accepts 1.8e12 and 5.0 too: devices without integers send such numbers.
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
			// The device chooses the key: quoted, it cannot forge a log line.
			faults = append(faults, invalid(fmt.Sprintf("[%q]", key), orKind(value, err), "a string of 1 to %d characters", maxEventValue))
		}
		e.Details[key] = value
	}
	return errors.Join(faults...)
}

// jsonKind is the kind of a JSON value. A fault shows the kind instead of the value.
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

// stringOf decodes a JSON string. For any other value its error is a jsonKind.
func stringOf(raw json.RawMessage) (string, error) {
	var s *string
	if err := json.Unmarshal(raw, &s); err != nil || s == nil {
		return "", kindOf(raw)
	}
	return *s, nil
}

func (k jsonKind) Error() string { return string(k) }

// orKind returns what a fault shows: the string, or the kind of any other value.
func orKind(s string, err error) any {
	if err != nil {
		return err
	}
	return s
}

// severities are the labels that an event may use.
func severities() []string {
	var labels []string
	for s := defender.Informational; s <= defender.Critical; s++ {
		labels = append(labels, s.String())
	}
	return labels
}

// invalid returns a FieldError; a nil value means that the field is missing.
func invalid(field string, value any, want string, args ...any) error {
	if len(args) > 0 {
		want = fmt.Sprintf(want, args...)
	}
	return &defender.FieldError{Field: field, Value: value, Want: want}
}
