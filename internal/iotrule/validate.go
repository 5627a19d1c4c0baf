package iotrule

import (
	"regexp"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// ValidateFilter reports an MQTT topic filter that AWS IoT refuses, as [topicfilter.Fault]
// does.
func ValidateFilter(filter string) error {
	if want := topicfilter.Fault(filter); want != "" {
		return invalid(filter, want)
	}
	return nil
}

// ValidateFrom is [ValidateFilter] for the FROM of a rule, which compares text: a
// variable such as ${iot:ClientId} never matches there. No topic of Basic Ingest can be in
// FROM: a message to it reaches the rule that it names, past every FROM.
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-basic-ingest.html
func ValidateFrom(filter string) error {
	switch {
	case strings.HasPrefix(filter, "$aws/rules/"):
		return invalid(filter, "no topic of Basic Ingest, which no rule can name")
	case strings.Contains(filter, "${"):
		return invalid(filter, "no variable, which a rule takes literally, so that the filter never matches: write + for any client ID")
	}
	return ValidateFilter(filter)
}

// ValidateEventTopic is [ValidateFrom] for the topics of [defender.DeviceEvents]. Every message
// there is taken for an event, so the filter names at least one level, and no topic of AWS's.
func ValidateEventTopic(filter string) error {
	if err := ValidateFrom(filter); err != nil {
		return err
	}
	if strings.HasPrefix(filter, "$") {
		return invalid(filter, "a topic filter that does not begin with $: devices report no events on AWS's own topics, and each message there would become a dead letter")
	}
	return validateNamed(filter)
}

// ValidateReportTopic is [ValidateFrom] for device reports. Every message there is taken
// for a report, so the filter names at least one level. Of AWS's own topics it matches only
// those on which devices report to Device Defender, and not its answers.
func ValidateReportTopic(filter string) error {
	if err := ValidateFrom(filter); err != nil {
		return err
	}
	if strings.HasPrefix(filter, "$") {
		if !reservedReports.MatchString(filter) {
			return invalid(filter, "a topic filter of your own, or $aws/things/+/defender/metrics/+: on AWS's other topics is no report, and each message there would be an unreadable one")
		}
		return nil
	}
	return validateNamed(filter)
}

// reservedReports are filters of the topics on which devices report to Device Defender.
var reservedReports = regexp.MustCompile(`^\$aws/things/[^/#]+/defender/metrics/(\+|json|cbor)$`)

// validateNamed reports a filter of wildcards alone, which matches messages of all kinds.
func validateNamed(filter string) error {
	for level := range strings.SplitSeq(filter, "/") {
		if level != "+" && level != "#" {
			return nil
		}
	}
	return invalid(filter, "a topic filter with at least one level that is no wildcard: this one takes every other message too, and each would become a dead letter")
}

var ruleName = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)

// ValidateName reports a name that AWS IoT takes for no rule.
// https://docs.aws.amazon.com/iot/latest/apireference/API_CreateTopicRule.html
func ValidateName(name string) error {
	if !ruleName.MatchString(name) {
		return invalid(name, "1 to 128 of A-Z a-z 0-9 _")
	}
	return nil
}

// invalid is a FieldError whose value is missing where it is "".
func invalid(value, want string) error {
	if value == "" {
		return &defender.FieldError{Want: want}
	}
	return &defender.FieldError{Value: value, Want: want}
}
