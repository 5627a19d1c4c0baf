package defender

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// SecurityProfile is a set of behaviors and the things that they apply to.
type SecurityProfile struct {
	// Name is 1 to 128 of A-Z a-z 0-9 : _ -.
	// Default: "", a name that CloudFormation generates.
	Name string
	// Description has at most 1000 printable characters on one line.
	Description string
	// Behaviors are at most 100. Their lists have at most 1000 elements in total: networks, ports,
	// numbers and strings.
	Behaviors []Behavior
	// Targets are the things that the profile applies to. A target has at most five profiles.
	// Default: nil, all things.
	Targets []Target
	// RetainedMetrics are metrics that AWS collects and keeps for 14 days although no behavior uses
	// them.
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
		faults = append(faults, invalid("Description", p.Description, "printable characters on one line, with no white space other than U+0020"))
	}
	faults = append(faults, Under("Behaviors", validateBehaviors(p.Behaviors)))
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
