package defender

import (
	"fmt"
	"strings"
)

// Source is a source of findings.
type Source int

const (
	// RejectedReports are device reports that Device Defender refused.
	RejectedReports Source = iota + 1
	// SecurityDisconnects are connections that AWS IoT ended for a security reason.
	SecurityDisconnects
	// RefusedConnections are attempts of clients to connect that AWS IoT refused.
	RefusedConnections
	// DeviceEvents are security events that devices report themselves.
	DeviceEvents
	// AuditNotifications are the results of Device Defender audits.
	AuditNotifications
	// DetectNotifications are the alarms of Device Defender Detect.
	DetectNotifications
	// BehaviorTransitions are the alarms of the self-managed engine.
	BehaviorTransitions
	// CorrelatedFindings are the composite findings of correlation rules; see package correlation.
	CorrelatedFindings
)

// source is a row of the table of sources.
type source struct {
	name     string
	severity Severity
	// clears reports whether the source also reports the end of a finding.
	clears bool
}

var sources = [...]source{
	RejectedReports:     {name: "rejected-report", severity: Low},
	SecurityDisconnects: {name: "security-disconnect", severity: Medium},
	RefusedConnections:  {name: "refused-connection", severity: Medium},
	DeviceEvents:        {name: "device-event", severity: Medium, clears: true},
	AuditNotifications:  {name: "audit", severity: Medium, clears: true},
	DetectNotifications: {name: "detect", severity: Medium, clears: true},
	BehaviorTransitions: {name: "behavior", severity: Medium, clears: true},
	CorrelatedFindings:  {name: "correlation", severity: High, clears: true},
}

// Sources returns all sources.
func Sources() []Source {
	all := make([]Source, 0, len(sources)-1)
	for i := range sources[1:] {
		all = append(all, Source(i+1))
	}
	return all
}

// Known reports whether s is one of the sources.
func (s Source) Known() bool { return s > 0 && int(s) < len(sources) }

// String returns the source's name in queue messages, logs, metrics and ProductFields.
func (s Source) String() string {
	if !s.Known() {
		return fmt.Sprintf("Source(%d)", int(s))
	}
	return sources[s].name
}

// Severity returns the severity of the source's findings unless a prop, a check or a behavior
// sets another, and SeverityDefault for an unknown source.
func (s Source) Severity() Severity {
	if !s.Known() {
		return SeverityDefault
	}
	return sources[s].severity
}

// Clears reports whether the source also reports the end of a finding. The forwarder archives the
// findings of the other sources after ForwarderProps.QuietTime.
func (s Source) Clears() bool { return s.Known() && sources[s].clears }

// ParseSource parses a source's name.
func ParseSource(name string) (Source, error) {
	for _, s := range Sources() {
		if s.String() == name {
			return s, nil
		}
	}
	var names []string
	for _, s := range Sources() {
		names = append(names, s.String())
	}
	return 0, fmt.Errorf("source %q, want one of %s", name, strings.Join(names, ", "))
}
