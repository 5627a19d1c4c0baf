package correlation

import (
	"cmp"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

// controls is the product of the findings of Security Hub's own controls.
const controls = "aws/securityhub"

// GeneratorPrefix begins the GeneratorId of composite findings; the rule's name follows.
const GeneratorPrefix = "defenderhub/correlation/"

// IsComposite reports whether a finding is a composite finding, which is never a part.
func IsComposite(e findingevent.Event) bool {
	source, ok := e.DeviceSource()
	return ok && source == defender.CorrelatedFindings || strings.HasPrefix(e.Generator, GeneratorPrefix)
}

// Match returns the indexes of the stages that a finding matches, whatever its state and
// its device.
func (r Rule) Match(e findingevent.Event) []int {
	if IsComposite(e) {
		return nil
	}
	var all []int
	for i, s := range r.Stages {
		if slices.ContainsFunc(s.Match, func(m Matcher) bool { return m.matches(e) }) {
			all = append(all, i)
		}
	}
	return all
}

// Could returns the indexes of the stages that a finding would match with another severity and other
// types, which an analyst or the product can change.
func (r Rule) Could(e findingevent.Event) []int {
	stages := make([]Stage, len(r.Stages))
	for i, s := range r.Stages {
		matchers := slices.Clone(s.Match)
		for j := range matchers {
			matchers[j].Severity, matchers[j].Types = 0, nil
		}
		s.Match = matchers
		stages[i] = s
	}
	r.Stages = stages
	return r.Match(e)
}

// Key returns what the findings of a campaign have in common: the behavior, the check, the type of
// device event, or why a connection ended or was refused. It is "" for other findings, which no
// campaign counts.
func Key(e findingevent.Event) string {
	source, ok := e.DeviceSource()
	if !ok {
		return ""
	}
	event := ""
	if source == defender.DeviceEvents { // other findings have the type of a lifecycle event
		event = e.ProductFields["EventType"]
	}
	for _, k := range []struct{ kind, value string }{
		{"behavior", e.ProductFields["BehaviorName"]}, {"check", checkOf(e)}, {"event", event},
		{"reason", cmp.Or(e.ProductFields["DisconnectReason"], e.ProductFields["ConnectFailureReason"])},
	} {
		if k.value != "" {
			return k.kind + " " + k.value
		}
	}
	return ""
}

// checkOf returns the API name of a finding's audit check, "" for check summaries.
func checkOf(e findingevent.Event) string {
	if e.ProductFields["ReportType"] == "CheckSummary" {
		return ""
	}
	name := e.ProductFields["CheckName"]
	if c, err := defender.ParseCheck(name); err == nil {
		return c.String()
	}
	return name
}

// Service returns the service that a finding is from. Findings of Device Defender and of
// defenderhub have one, because both observe the same signals.
func Service(e findingevent.Event) string {
	if _, ok := e.DeviceSource(); ok {
		return "aws/iot-device-defender"
	}
	return e.Product()
}

func (m Matcher) matches(e findingevent.Event) bool {
	product := e.Product()
	source, ofDevices := e.DeviceSource()
	fields := e.ProductFields
	metric := ""
	if ofDevices {
		metric = fields["MetricName"]
	}
	switch {
	case len(m.Products) > 0 && !slices.Contains(m.Products, product),
		product == controls && !slices.Contains(m.Products, controls),
		len(m.Sources) > 0 && !(ofDevices && slices.Contains(m.Sources, source.String())),
		e.Severity < defender.Severity(m.Severity),
		!among(m.Checks, checkOf(e)),
		!among(m.Behaviors, fields["BehaviorName"]),
		!among(m.Metrics, metric),
		metric != "" && slices.Contains(m.ExceptMetrics, metric),
		!among(m.Events, fields["EventType"]),
		!among(m.Reasons, fields["DisconnectReason"], fields["ConnectFailureReason"], fields["ReasonForNonComplianceCode"]),
		!begins(m.Types, e.Types...),
		!begins(m.Generators, e.Generator):
		return false
	}
	return true
}

// among reports whether a list is empty or has one of the values.
func among(list []string, values ...string) bool {
	return len(list) == 0 || slices.ContainsFunc(values, func(v string) bool { return v != "" && slices.Contains(list, v) })
}

// begins reports whether list is empty, or one of the values begins with one of its prefixes.
func begins(list []string, values ...string) bool {
	return len(list) == 0 || slices.ContainsFunc(values, func(v string) bool {
		return slices.ContainsFunc(list, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
}
