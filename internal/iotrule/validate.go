package iotrule

import (
	"regexp"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// ValidateFilter returns an error for an MQTT topic filter that AWS IoT refuses, as
// [topicfilter.Fault] does.
func ValidateFilter(filter string) error {
	if want := topicfilter.Fault(filter); want != "" {
		return invalid(filter, want)
	}
	return nil
}

// ValidateFrom is [ValidateFilter] for the FROM clause of a rule. FROM compares text, so a
// variable such as ${iot:ClientId} never matches. FROM cannot match topics of Basic Ingest: a
// message to one goes directly to the rule in its topic.
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-basic-ingest.html
func ValidateFrom(filter string) error {
	switch {
	case strings.HasPrefix(filter, "$aws/rules/"):
		return invalid(filter, "a topic outside Basic Ingest: FROM never matches those")
	case strings.Contains(filter, "${"):
		return invalid(filter, "a filter without variables, which a rule reads as plain text: write + for any client ID")
	}
	return ValidateFilter(filter)
}

// ValidateEventTopic is [ValidateFrom] for the topics of [defender.DeviceEvents]. The filter must
// have at least one level without a wildcard and must not match AWS's own topics, because every
// message is read as an event.
func ValidateEventTopic(filter string) error {
	if err := ValidateFrom(filter); err != nil {
		return err
	}
	if strings.HasPrefix(filter, "$") {
		return invalid(filter, "a topic filter that does not begin with $: devices report no events on AWS's own topics, and each message there would become a dead letter")
	}
	return validateNamed(filter)
}

// ValidateReportTopic is [ValidateFrom] for device reports. The filter must have at least one
// level without a wildcard, because every message is read as a report. Of AWS's own topics it may
// match only those on which devices report to Device Defender, without the answers.
func ValidateReportTopic(filter string) error {
	if err := ValidateFrom(filter); err != nil {
		return err
	}
	if strings.HasPrefix(filter, "$") {
		if !reservedReports.MatchString(filter) {
			return invalid(filter, "a topic filter of your own, or $aws/things/+/defender/metrics/+: AWS's other topics carry no device reports")
		}
		return nil
	}
	return validateNamed(filter)
}

// reservedReports are the topic filters on which devices report to Device Defender.
var reservedReports = regexp.MustCompile(`^\$aws/things/[^/#]+/defender/metrics/(\+|json|cbor)$`)

// validateNamed returns an error for a filter of wildcards alone, which matches messages of all
// kinds.
func validateNamed(filter string) error {
	for level := range strings.SplitSeq(filter, "/") {
		if level != "+" && level != "#" {
			return nil
		}
	}
	return invalid(filter, "a topic filter with at least one level that is not a wildcard: this one also matches unrelated messages, and each would become a dead letter")
}

var ruleName = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)

// ValidateName returns an error for a name that AWS IoT does not allow for a rule.
// https://docs.aws.amazon.com/iot/latest/apireference/API_CreateTopicRule.html
func ValidateName(name string) error {
	if !ruleName.MatchString(name) {
		return invalid(name, "1 to 128 of A-Z a-z 0-9 _")
	}
	return nil
}

// invalid returns a FieldError; "" means that the value is missing.
func invalid(value, want string) error {
	if value == "" {
		return &defender.FieldError{Want: want}
	}
	return &defender.FieldError{Value: value, Want: want}
}
