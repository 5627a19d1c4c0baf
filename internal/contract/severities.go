package contract

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
)

// Severities are the severities that replace the defaults: by source, and for alarms of Device
// Defender Detect by behavior. The text form, in [EnvSeverities], is
// "rejected-report=HIGH,detect/small-messages=LOW".
type Severities struct {
	Sources   map[defender.Source]defender.Severity
	Behaviors map[string]defender.Severity
	// Disconnects are by disconnect reason.
	Disconnects map[string]defender.Severity
	// Events are by type of device event. If any are given, other types are unexpected.
	// [defender.SeverityDefault] keeps the severity that the event asks for.
	Events map[string]defender.Severity
}

const (
	behaviorPrefix   = "detect/"
	disconnectPrefix = "disconnect/"
	eventPrefix      = "event/"
)

// String returns the text form, sorted; "" if nothing is changed.
func (s Severities) String() string {
	var pairs []string
	for source, severity := range s.Sources {
		if severity != defender.SeverityDefault {
			pairs = append(pairs, source.String()+"="+severity.String())
		}
	}
	for behavior, severity := range s.Behaviors {
		if severity != defender.SeverityDefault {
			pairs = append(pairs, behaviorPrefix+behavior+"="+severity.String())
		}
	}
	for reason, severity := range s.Disconnects {
		if severity != defender.SeverityDefault {
			pairs = append(pairs, disconnectPrefix+reason+"="+severity.String())
		}
	}
	for event, severity := range s.Events {
		if severity == defender.SeverityDefault {
			pairs = append(pairs, eventPrefix+event)
			continue
		}
		pairs = append(pairs, eventPrefix+event+"="+severity.String())
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// ParseSeverities parses the text form.
func ParseSeverities(text string) (Severities, error) {
	s := Severities{Sources: map[defender.Source]defender.Severity{}, Behaviors: map[string]defender.Severity{}, Disconnects: map[string]defender.Severity{}, Events: map[string]defender.Severity{}}
	if text == "" {
		return s, nil
	}
	var faults []error
	for _, pair := range strings.Split(text, ",") {
		name, label, given := strings.Cut(pair, "=")
		event, ofEvent := strings.CutPrefix(name, eventPrefix)
		if ofEvent && !given {
			s.Events[event] = defender.SeverityDefault
			continue
		}
		severity, err := defender.ParseSeverity(label)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if behavior, ok := strings.CutPrefix(name, behaviorPrefix); ok {
			s.Behaviors[behavior] = severity
			continue
		}
		if reason, ok := strings.CutPrefix(name, disconnectPrefix); ok {
			s.Disconnects[reason] = severity
			continue
		}
		if ofEvent {
			s.Events[event] = severity
			continue
		}
		source, err := defender.ParseSource(name)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		s.Sources[source] = severity
	}
	return s, errors.Join(faults...)
}
