package engine

import (
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// Rules returns the IoT rules that send what the behaviors need, and nothing else.
// reportTopic is the topic filter of device reports, "" for Basic Ingest.
//
// The filter # does not match AWS's reserved topics. So a behavior without a dimension, or with an
// inverted one, gets no messages from those. No behavior gets messages of Basic Ingest. A message
// that two rules match arrives twice, with the same ID if it was sent over MQTT.
func Rules(behaviors []Compiled, reportTopic string) []iotrule.TelemetryRule {
	var rules []iotrule.TelemetryRule
	if slices.ContainsFunc(behaviors, func(c Compiled) bool { return c.needsLifecycle() }) {
		rules = append(rules, iotrule.LifecycleRule())
	}
	all := uncovered(topicsOf(behaviors, allMessages))
	for _, topic := range all {
		rules = append(rules, iotrule.MessageRule(iotrule.PublishedMessage, topic))
	}
	for _, topic := range topicsOf(behaviors, violatingMessages) {
		if slices.ContainsFunc(all, func(filter string) bool { return covers(filter, topic) }) {
			continue // a rule sends all its messages already
		}
		rules = append(rules, iotrule.MessageRule(iotrule.Oversize, topic, sizeBounds(behaviors, topic)...))
	}
	if NeedsReports(behaviors) {
		rules = append(rules, iotrule.ReportRule(reportTopic))
	}
	return rules
}

// sizeBounds are the bounds of the behaviors that need the violating messages of a topic
// filter. The engine, not the rule, applies their dimensions.
func sizeBounds(behaviors []Compiled, topic string) []iotrule.SizeBound {
	var bounds []iotrule.SizeBound
	for i := range behaviors {
		if c := &behaviors[i]; c.kind.messages(c) == violatingMessages && slices.Contains(c.topics(), topic) {
			bounds = append(bounds, iotrule.SizeBound{Operator: c.Behavior.Criteria.Operator(), Bytes: *c.Behavior.Criteria.Value().Count})
		}
	}
	return bounds
}

// needsLifecycle reports whether the behavior needs lifecycle events: as its datapoints, or to
// judge windows without datapoints.
func (c Compiled) needsLifecycle() bool {
	m := c.Behavior.Criteria.Metric()
	return c.confirm.within > 0 || m.Side == iotapi.CloudSide && !(m.Name == defender.SourceIPAddress.Info().Name && c.Behavior.Dimension != nil)
}

// topics returns the topic filters of the messages that the behavior needs.
func (c Compiled) topics() []string {
	d := c.Behavior.Dimension
	if d == nil || d.NotIn {
		return []string{"#"}
	}
	topics := make([]string, len(d.TopicFilters))
	for i, filter := range d.TopicFilters {
		levels := strings.Split(filter, "/")
		for j, level := range levels {
			if strings.Contains(level, clientIDVariable) {
				levels[j] = "+" // a wildcard must be a whole level
			}
		}
		topics[i] = strings.Join(levels, "/")
	}
	return topics
}

// topicsOf returns the topic filters of the behaviors that need the given messages, each once.
func topicsOf(behaviors []Compiled, need messageNeed) []string {
	var all []string
	for _, c := range behaviors {
		if c.kind.messages(&c) == need {
			all = append(all, c.topics()...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// uncovered drops filters whose topics another filter matches.
func uncovered(filters []string) []string {
	return slices.DeleteFunc(slices.Clone(filters), func(filter string) bool {
		return slices.ContainsFunc(filters, func(other string) bool { return other != filter && covers(other, filter) })
	})
}

// covers reports whether wide matches every topic that narrow matches.
func covers(wide, narrow string) bool {
	if strings.HasPrefix(narrow, "$") && (wide[0] == '+' || wide[0] == '#') {
		return false
	}
	w, n := strings.Split(wide, "/"), strings.Split(narrow, "/")
	for i, level := range w {
		switch {
		case i >= len(n):
			return false // a/# does not match a
		case level == "#":
			return true
		case n[i] == "#", level != "+" && level != n[i]:
			return false
		}
	}
	return len(w) == len(n)
}
