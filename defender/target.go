package defender

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Target is the things that a security profile watches. The zero value is
// [AllThings].
// https://docs.aws.amazon.com/iot/latest/apireference/API_AttachSecurityProfile.html
type Target struct {
	kind  targetKind
	group string
}

type targetKind int

const (
	allThings targetKind = iota
	registeredThings
	unregisteredThings
	thingGroup
)

var (
	// AllThings are all devices, in the registry or not.
	AllThings = Target{}
	// RegisteredThings are the devices that the registry holds.
	RegisteredThings = Target{kind: registeredThings}
	// UnregisteredThings are the devices that the registry does not hold. A stable
	// client id tells one from another.
	UnregisteredThings = Target{kind: unregisteredThings}
)

// ThingGroup are the things in the group name. Use the group's name, or a deploy-time
// reference to it.
func ThingGroup(name string) Target { return Target{kind: thingGroup, group: name} }

// Group is the thing group's name, "" for the other targets.
func (t Target) Group() string { return t.group }

// Resource is the last part of the target's ARN, after
// arn:PARTITION:iot:REGION:ACCOUNT:.
func (t Target) Resource() string {
	switch t.kind {
	case registeredThings:
		return "all/registered-things"
	case unregisteredThings:
		return "all/unregistered-things"
	case thingGroup:
		return "thinggroup/" + t.group
	}
	return "all/things"
}

// Validate reports a thing group without a usable name.
func (t Target) Validate() error {
	if t.kind == thingGroup && !validName(t.group) {
		return invalid("", orMissing(t.group), "a thing group's name: %s", nameRule)
	}
	return nil
}

// SecurityProfile is a set of behaviors and the things that they are watched on.
type SecurityProfile struct {
	// Name is 1 to 128 of A-Z a-z 0-9 : _ -. Default: "", a name that CloudFormation makes.
	Name string
	// Description is at most 1000 characters, all on one line.
	Description string
	Behaviors   []Behavior
	// Targets are the things that the profile watches; a target takes at most five
	// profiles. Default: nil, all things.
	Targets []Target
	// RetainedMetrics are kept for 14 days although no behavior uses them.
	RetainedMetrics []Metric
}

// Validate reports every fault of the profile.
func (p SecurityProfile) Validate() error {
	var faults []error
	if p.Name != "" && !validName(p.Name) {
		faults = append(faults, invalid("Name", p.Name, "%s, or empty for a generated name", nameRule))
	}
	if n := len([]rune(p.Description)); n > 1000 {
		faults = append(faults, invalid("Description", fmt.Sprintf("%d characters", n), "at most 1000"))
	}
	if strings.ContainsFunc(p.Description, func(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) || r != ' ' && unicode.IsSpace(r) }) {
		faults = append(faults, invalid("Description", p.Description, "characters that print, and no space but the common one"))
	}
	faults = append(faults, Under("Behaviors", ValidateBehaviors(p.Behaviors)))
	for i, t := range p.Targets {
		at := fmt.Sprintf("Targets[%d]", i)
		faults = append(faults, Under(at, t.Validate()))
		if slices.Index(p.Targets, t) < i {
			faults = append(faults, invalid(at, t.Resource(), "each target once"))
		}
	}
	retained := map[string]bool{}
	for i, m := range p.RetainedMetrics {
		at := fmt.Sprintf("RetainedMetrics[%d]", i)
		if m == nil || m.Info().Name == "" {
			faults = append(faults, invalid(at, nil, "a metric, such as defender.MessagesSent"))
			continue
		}
		name := m.Info().Name
		faults = append(faults, Under(at, validateCustomName(m.Info())))
		if retained[name] {
			faults = append(faults, invalid(at, name, "each metric once"))
		}
		retained[name] = true
	}
	return errors.Join(faults...)
}

// Engine is what judges the behaviors.
type Engine int

const (
	// None judges nothing: only the audit and the rules give findings.
	None Engine = iota
	// Native is AWS IoT Device Defender Detect. AWS opens it to no new customer
	// since 2026-08-31; accounts that used it before keep it.
	Native
	// SelfManaged is the engine of defenderhub: IoT rules, a queue or a stream, and Lambda
	// functions in the account judge the behaviors, without Device Defender Detect.
	SelfManaged
)

// Engines are all engines, in the order of their constants.
func Engines() []Engine { return []Engine{None, Native, SelfManaged} }

// String is the name that the app's configuration uses.
func (e Engine) String() string {
	switch e {
	case None:
		return "none"
	case Native:
		return "native"
	case SelfManaged:
		return "self-managed"
	}
	return fmt.Sprintf("Engine(%d)", int(e))
}

// Validate reports an unknown engine.
func (e Engine) Validate() error {
	if e < None || e > SelfManaged {
		return invalid("", int(e), "defender.None, defender.Native or defender.SelfManaged")
	}
	return nil
}
