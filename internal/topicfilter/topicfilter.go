// Package topicfilter validates and matches the topic filters of AWS IoT.
package topicfilter

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

var basicIngest = regexp.MustCompile(`^\$aws/rules/[^/+#]+/`)

// Fault returns what AWS IoT requires of an MQTT topic filter that it refuses, and "" for one
// that it accepts. It refuses:
//
//   - empty filters, and filters of over 256 bytes or 7 slashes; the prefix $aws/rules/RULE/ of
//     Basic Ingest does not count
//   - wildcards that are not a whole level
//   - the quote ', NUL and invalid UTF-8, because a rule's SQL cannot contain them
//   - $share/, which only works in a subscription
//
// https://docs.aws.amazon.com/general/latest/gr/iot-core.html
func Fault(filter string) string {
	counted := basicIngest.ReplaceAllString(filter, "")
	switch {
	case filter == "" || len(counted) > 256:
		return "an MQTT topic filter of 1 to 256 bytes"
	case strings.Count(counted, "/") > 7:
		return "a topic filter with at most 7 slashes"
	case strings.ContainsAny(filter, "\x00'") || !utf8.ValidString(filter):
		return "a topic filter of UTF-8 without ' or NUL"
	case strings.HasPrefix(filter, "$share/"):
		return "a topic filter without $share/GROUP/, which never matches: no topic begins so"
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.Contains(level, "#") && (level != "#" || i != len(levels)-1) {
			return "# alone in the last level"
		}
		if strings.Contains(level, "+") && level != "+" {
			return "+ alone in a level"
		}
	}
	return ""
}

// Matches reports whether an MQTT topic matches filter by the rules of AWS IoT. Wildcards in the
// first level do not match topics that begin with $. Unlike in the MQTT standard, a/# does not
// match a.
// https://docs.aws.amazon.com/iot/latest/developerguide/topics.html
func Matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	for {
		pattern, filterRest, filterGoesOn := strings.Cut(filter, "/")
		level, topicRest, topicGoesOn := strings.Cut(topic, "/")
		switch {
		case pattern == "#":
			return true
		case pattern != "+" && pattern != level:
			return false
		case !filterGoesOn || !topicGoesOn:
			return filterGoesOn == topicGoesOn
		}
		filter, topic = filterRest, topicRest
	}
}

// Claim returns the level of topic at filter's first +: the name that the sender claims. It
// returns "" if filter has no + or does not match.
func Claim(filter, topic string) string {
	if !Matches(filter, topic) {
		return ""
	}
	for filter != "" {
		pattern, filterRest, _ := strings.Cut(filter, "/")
		level, topicRest, _ := strings.Cut(topic, "/")
		if pattern == "+" {
			return level
		}
		filter, topic = filterRest, topicRest
	}
	return ""
}

// Overlap reports whether some topic matches both filters, by the rules of [Matches].
func Overlap(a, b string) bool {
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
