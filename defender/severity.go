package defender

import (
	"fmt"
	"slices"
	"strings"
)

// Severity is the severity of a finding, with the labels that Device Defender and the ASFF share.
// The zero value means the default of the context.
type Severity int

// The severities, least first.
const (
	// SeverityDefault is the default severity of the check, behavior or source.
	SeverityDefault Severity = iota
	Informational
	Low
	Medium
	High
	Critical
)

var severityLabels = []string{"", "INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"}

// String returns the ASFF label, "" for SeverityDefault.
func (s Severity) String() string {
	if s < 0 || int(s) >= len(severityLabels) {
		return fmt.Sprintf("Severity(%d)", int(s))
	}
	return severityLabels[s]
}

// Or returns s, or other if s is SeverityDefault.
func (s Severity) Or(other Severity) Severity {
	if s == SeverityDefault {
		return other
	}
	return s
}

// ParseSeverity parses an ASFF label, in any case.
func ParseSeverity(label string) (Severity, error) {
	if i := slices.Index(severityLabels, strings.ToUpper(label)); i > 0 {
		return Severity(i), nil
	}
	return SeverityDefault, fmt.Errorf("severity %q, want one of %s", label, strings.Join(severityLabels[1:], ", "))
}
