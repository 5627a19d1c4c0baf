// Package deviceevent reads the security events that devices report.
package deviceevent

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/leanjson"
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

// typeCharacters are the characters that a type may have.
const typeCharacters = "abcdefghijklmnopqrstuvwxyz0123456789-"

// members are the members of an event by name: of those with the same name, the last.
type members struct {
	typ, state, severity, description, time, details leanjson.Value
	unknown                                          []string
}

// Decode decodes and validates an event, and sets the default State. Its error lists every fault.
// Field names are case-sensitive, and null is not a value.
func Decode(payload []byte) (Event, error) {
	document, err := leanjson.Parse(payload)
	switch {
	case err != nil:
		return Event{}, fmt.Errorf("device event is not JSON: %w", err)
	case document.Kind() != '{':
		return Event{}, fmt.Errorf("device event: %s, want an object", kindOf(document))
	}
	var m members
	for o := document.Object(); o.Next(); {
		m.add(o.Name, o.Value)
	}
	e := Event{State: Active}
	faults := e.read(m)
	if m.typ == "" {
		faults = append(faults, invalid("type", nil, typeRule))
	}
	if len(m.unknown) > 0 {
		slices.Sort(m.unknown)
		faults = append(faults, invalid("", strings.Join(slices.Compact(m.unknown), ", "), "no fields but type, state, severity, description, time and details"))
	}
	if err := errors.Join(faults...); err != nil {
		return Event{}, fmt.Errorf("device event: %w", err)
	}
	return e, nil
}

func (m *members) add(name string, value leanjson.Value) {
	switch name {
	case "type":
		m.typ = value
	case "state":
		m.state = value
	case "severity":
		m.severity = value
	case "description":
		m.description = value
	case "time":
		m.time = value
	case "details":
		m.details = value
	default:
		m.unknown = append(m.unknown, name)
	}
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
func ValidType(name string) bool {
	return name != "" && len(name) <= 64 && strings.Trim(name, typeCharacters) == ""
}

const typeRule = "1 to 64 of a-z 0-9 -"

// read sets the fields of e, and returns the faults in the order of the fields' names.
func (e *Event) read(m members) (faults []error) {
	text := func(name string, value leanjson.Value, into *string, valid func(string) bool, want string) {
		if value == "" {
			return
		}
		s, err := stringOf(value)
		if *into = s; err != nil || !valid(s) {
			faults = append(faults, invalid(name, orKind(s, err), "%s", want))
		}
	}
	text("description", m.description, &e.Description, validDescription, descriptionRule)
	if m.details != "" {
		if err := e.readDetails(m.details); err != nil {
			faults = append(faults, defender.Under("details", err))
		}
	}
	text("severity", m.severity, &e.Severity, validSeverity, severityRule)
	text("state", m.state, &e.State, validState, `"active" or "cleared"`)
	if m.time != "" {
		if err := e.readTime(m.time); err != nil {
			faults = append(faults, err)
		}
	}
	text("type", m.typ, &e.Type, ValidType, typeRule)
	return faults
}

var (
	severities      = labels()
	severityRule    = "one of " + strings.Join(severities, ", ")
	descriptionRule = fmt.Sprintf("a text of at most %d characters", asff.MaxDescription)
)

func validDescription(s string) bool { return utf8.RuneCountInString(s) <= asff.MaxDescription }

func validSeverity(s string) bool { return slices.Contains(severities, s) }

func validState(s string) bool { return s == Active || s == Cleared }

// readTime accepts 1.8e12 and 5.0 too: devices without integers send such numbers.
func (e *Event) readTime(v leanjson.Value) error {
	ms, err := strconv.ParseFloat(string(v), 64) // of all JSON values, it accepts only numbers
	if err != nil || ms < 0 || ms > maxEventTime || ms != math.Trunc(ms) {
		value := any(kindOf(v))
		if err == nil {
			value = ms
		}
		return invalid("time", value, "a whole number of ms since 1970")
	}
	e.Time = int64(ms)
	return nil
}

func (e *Event) readDetails(v leanjson.Value) error {
	if v.Kind() != '{' {
		return invalid("", kindOf(v), "an object of strings")
	}
	values := map[string]leanjson.Value{}
	for o := v.Object(); o.Next(); {
		values[o.Name] = o.Value
	}
	if n := len(values); n > MaxDetails {
		return invalid("", jsonKind(fmt.Sprintf("%d pairs", n)), "at most %d", MaxDetails)
	}
	e.Details = make(map[string]string, len(values))
	var faults []error
	for _, key := range sortedKeys(values) {
		if utf8.RuneCountInString(key) > maxEventKey || asff.Blank(key) {
			faults = append(faults, invalid("", key, "keys of 1 to %d characters", maxEventKey))
			continue
		}
		value, err := stringOf(values[key])
		if err != nil || utf8.RuneCountInString(value) > maxEventValue || asff.Blank(value) {
			// The device chooses the key: quoted, it cannot forge a log line.
			faults = append(faults, invalid(fmt.Sprintf("[%q]", key), orKind(value, err), "a string of 1 to %d characters", maxEventValue))
		}
		e.Details[key] = value
	}
	return errors.Join(faults...)
}

// DetailKeys returns the keys of the details, in order.
func (e Event) DetailKeys() []string { return sortedKeys(e.Details) }

// sortedKeys allocates once, unlike slices.Sorted(maps.Keys(m)).
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// jsonKind is the kind of a JSON value. A fault shows the kind instead of the value.
type jsonKind string

func kindOf(v leanjson.Value) jsonKind {
	switch v.Kind() {
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

// stringOf returns the text of a JSON string. For any other value its error is a jsonKind.
func stringOf(v leanjson.Value) (string, error) {
	if s, ok := v.Text(); ok {
		return s, nil
	}
	return "", kindOf(v)
}

func (k jsonKind) Error() string { return string(k) }

// orKind returns what a fault shows: the string, or the kind of any other value.
func orKind(s string, err error) any {
	if err != nil {
		return err
	}
	return s
}

// labels are the severities that an event may use.
func labels() (all []string) {
	for s := defender.Informational; s <= defender.Critical; s++ {
		all = append(all, s.String())
	}
	return all
}

// invalid returns a FieldError; a nil value means that the field is missing.
func invalid(field string, value any, want string, args ...any) error {
	if len(args) > 0 {
		want = fmt.Sprintf(want, args...)
	}
	return &defender.FieldError{Field: field, Value: value, Want: want}
}
