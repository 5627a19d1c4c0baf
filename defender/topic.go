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
// what is no UTF-8 are refused as well: no rule could name such a topic.
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

// ValidateRuleTopic is [ValidateTopicFilter] for the FROM of a rule. No topic of Basic Ingest
// can stand there: a message to it reaches the rule that it names, past every FROM.
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-basic-ingest.html
func ValidateRuleTopic(filter string) error {
	if strings.HasPrefix(filter, "$aws/rules/") {
		return invalid("", filter, "no topic of Basic Ingest, which no rule can name")
	}
	return ValidateTopicFilter(filter)
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
