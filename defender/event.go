package defender

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// DeviceEvent is a security event that a device reports on the event topic, as
// JSON. docs/device-events.md holds the schema.
type DeviceEvent struct {
	// Type says what happened: 1 to 64 of a-z 0-9 -, for example "tamper". With the
	// client id it identifies the finding.
	Type string `json:"type"`
	// State is "active" (the default) or "cleared", which archives the finding.
	State string `json:"state,omitempty"`
	// Severity is an ASFF label. Default: MEDIUM.
	Severity string `json:"severity,omitempty"`
	// Description is at most 1024 characters. Default: a sentence made of type and client id.
	Description string `json:"description,omitempty"`
	// Time is the device's own clock in ms. It is shown, never used for order.
	Time int64 `json:"time,omitempty"`
	// Details are at most 20 pairs of strings: keys of 1 to 64 characters, values of 1
	// to 1024.
	Details map[string]string `json:"details,omitempty"`
}

// The states of a device event.
const (
	EventActive  = "active"
	EventCleared = "cleared"
)

var eventType = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// MaxEventDetails is how many details an event may have: ProductFields take 50
// pairs, and the finding needs some of its own.
const MaxEventDetails = 20

// DecodeDeviceEvent reads and validates an event. State and severity are filled in.
// Every fault of an event is reported at once.
func DecodeDeviceEvent(payload []byte) (DeviceEvent, error) {
	var e DeviceEvent
	d := json.NewDecoder(bytes.NewReader(payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return DeviceEvent{}, fmt.Errorf("device event is not a JSON object of its schema: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return DeviceEvent{}, errors.New("device event is not a JSON object of its schema: something follows the object")
	}
	if e.State == "" {
		e.State = EventActive
	}
	if e.Severity == "" {
		e.Severity = DeviceEvents.Info().Severity.String()
	}
	if err := e.validate(); err != nil {
		return DeviceEvent{}, fmt.Errorf("device event: %w", err)
	}
	return e, nil
}

func (e DeviceEvent) validate() error {
	var faults []error
	if !eventType.MatchString(e.Type) {
		faults = append(faults, invalid("type", orMissing(e.Type), "1 to 64 of a-z 0-9 -"))
	}
	if e.State != EventActive && e.State != EventCleared {
		faults = append(faults, invalid("state", e.State, `"active" or "cleared"`))
	}
	if !slices.Contains(severityLabels[1:], e.Severity) {
		faults = append(faults, invalid("severity", e.Severity, "one of %s", strings.Join(severityLabels[1:], ", ")))
	}
	if !utf8.ValidString(e.Description) || utf8.RuneCountInString(e.Description) > maxDescription {
		faults = append(faults, invalid("description", e.Description, "at most %d characters", maxDescription))
	}
	if e.Time < 0 {
		faults = append(faults, invalid("time", e.Time, "ms since 1970"))
	}
	if n := len(e.Details); n > MaxEventDetails {
		faults = append(faults, invalid("details", fmt.Sprintf("%d pairs", n), "at most %d", MaxEventDetails))
	}
	for _, k := range sortedKeys(e.Details) {
		if n := utf8.RuneCountInString(k); n > 64 || blank(k) {
			faults = append(faults, invalid("details", k, "keys of 1 to 64 characters"))
		}
		if n := utf8.RuneCountInString(e.Details[k]); n > 1024 || blank(e.Details[k]) {
			faults = append(faults, invalid("details."+k, e.Details[k], "a value of 1 to 1024 characters"))
		}
	}
	return errors.Join(faults...)
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// blank tells whether s has no character that prints: Security Hub refuses such strings.
func blank(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsSpace(r) && !unicode.IsControl(r) }) < 0
}
