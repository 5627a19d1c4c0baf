package defender

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

var basicIngest = regexp.MustCompile(`^\$aws/rules/[^/+#]+/`)

// ValidateTopicFilter reports an MQTT topic filter that AWS IoT refuses: empty,
// over 256 bytes, more than 7 slashes, or wildcards that are not a level of their
// own. The prefix $aws/rules/RULE/ of Basic Ingest does not count. The quote ' and
// what is no UTF-8 are refused as well: no rule could name such a topic. So is $share/: a
// shared subscription is a way to subscribe, and no topic begins so.
// https://docs.aws.amazon.com/general/latest/gr/iot-core.html
func ValidateTopicFilter(filter string) error {
	bad := func(want string) error { return invalid("", orMissing(filter), want) }
	counted := basicIngest.ReplaceAllString(filter, "")
	switch {
	case filter == "" || len(counted) > 256:
		return bad("an MQTT topic filter of 1 to 256 bytes")
	case strings.Count(counted, "/") > 7:
		return bad("a topic filter with at most 7 slashes")
	case strings.ContainsAny(filter, "\x00'") || !utf8.ValidString(filter):
		return bad("a topic filter of UTF-8 without ' or NUL")
	case strings.HasPrefix(filter, "$share/"):
		return bad("a topic filter without $share/GROUP/, which never matches: no topic begins so")
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.Contains(level, "#") && (level != "#" || i != len(levels)-1) {
			return bad("# alone in the last level")
		}
		if strings.Contains(level, "+") && level != "+" {
			return bad("+ alone in a level")
		}
	}
	return nil
}

// ValidateRuleTopic is [ValidateTopicFilter] for the FROM of a rule, which compares text: a
// variable such as ${iot:ClientId} never matches there. No topic of Basic Ingest can be in
// FROM: a message to it reaches the rule that it names, past every FROM.
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-basic-ingest.html
func ValidateRuleTopic(filter string) error {
	switch {
	case strings.HasPrefix(filter, "$aws/rules/"):
		return invalid("", filter, "no topic of Basic Ingest, which no rule can name")
	case strings.Contains(filter, "${"):
		return invalid("", filter, "no variable, which a rule takes literally, so that the filter never matches: write + for any client ID")
	}
	return ValidateTopicFilter(filter)
}

// ValidateEventTopic is [ValidateRuleTopic] for the topics of [DeviceEvents]. Every message
// there is taken for an event, so the filter names at least one level, and no topic of AWS's.
func ValidateEventTopic(filter string) error {
	if err := ValidateRuleTopic(filter); err != nil {
		return err
	}
	if strings.HasPrefix(filter, "$") {
		return invalid("", filter, "a topic filter that does not begin with $: devices report no events on AWS's own topics, and each message there would become a dead letter")
	}
	return validateNamed(filter)
}

// ValidateReportTopic is [ValidateRuleTopic] for device reports. Every message there is taken
// for a report, so the filter names at least one level. Of AWS's own topics it matches only
// those on which devices report to Device Defender, and not its answers.
func ValidateReportTopic(filter string) error {
	if err := ValidateRuleTopic(filter); err != nil {
		return err
	}
	if strings.HasPrefix(filter, "$") {
		if !reservedReports.MatchString(filter) {
			return invalid("", filter, "a topic filter of your own, or $aws/things/+/defender/metrics/+: on AWS's other topics is no report, and each message there would be an unreadable one")
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
	return invalid("", filter, "a topic filter with at least one level that is no wildcard: this one takes every other message too, and each would become a dead letter")
}

// FiltersOverlap reports whether a topic exists that both filters match, as [TopicMatches]
// has it.
func FiltersOverlap(a, b string) bool {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	wild := func(level string) bool { return level == "+" || level == "#" }
	if wild(x[0]) && strings.HasPrefix(b, "$") || wild(y[0]) && strings.HasPrefix(a, "$") {
		return false
	}
	for i := 0; ; i++ {
		switch {
		case i == len(x) || i == len(y):
			return len(x) == len(y)
		case x[i] == "#" || y[i] == "#":
			return true
		case x[i] != y[i] && !wild(x[i]) && !wild(y[i]):
			return false
		}
	}
}

var ruleName = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)

// ValidateRuleName reports a name that AWS IoT takes for no rule.
// https://docs.aws.amazon.com/iot/latest/apireference/API_CreateTopicRule.html
func ValidateRuleName(name string) error {
	if !ruleName.MatchString(name) {
		return invalid("", orMissing(name), "1 to 128 of A-Z a-z 0-9 _")
	}
	return nil
}

// TopicMatches reports whether AWS IoT says that an MQTT topic matches filter. Wildcards in
// the first level do not match topics that begin with $, and a/# does not match a, as it would
// by MQTT's own rules.
// https://docs.aws.amazon.com/iot/latest/developerguide/topics.html
func TopicMatches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		if level == "#" && i < len(t) {
			return true
		}
		if i >= len(t) || level != "+" && level != t[i] {
			return false
		}
	}
	return len(f) == len(t)
}

// TopicClaim is the level of topic that stands where filter has its first +: what
// the sender claims to be. It is "" where filter has none or does not match.
func TopicClaim(filter, topic string) string {
	if !TopicMatches(filter, topic) {
		return ""
	}
	levels := strings.Split(topic, "/")
	for i, level := range strings.Split(filter, "/") {
		if level == "+" && i < len(levels) {
			return levels[i]
		}
	}
	return ""
}
