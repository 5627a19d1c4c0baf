// Package topicfilter knows the topics and topic filters of AWS IoT.
package topicfilter

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

var basicIngest = regexp.MustCompile(`^\$aws/rules/[^/+#]+/`)

// Fault returns what AWS IoT wants of an MQTT topic filter that it refuses, and "" for one that it accepts. It refuses filters that are: empty,
// over 256 bytes, more than 7 slashes, or wildcards that are not a level of their
// own. The prefix $aws/rules/RULE/ of Basic Ingest does not count. The quote ' and
// what is no UTF-8 are refused as well: no rule could name such a topic. So is $share/: a
// shared subscription is a way to subscribe, and no topic begins so.
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

// Matches reports whether AWS IoT says that an MQTT topic matches filter. Wildcards in
// the first level do not match topics that begin with $, and a/# does not match a, as it would
// by MQTT's own rules.
// https://docs.aws.amazon.com/iot/latest/developerguide/topics.html
func Matches(filter, topic string) bool {
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

// Claim is the level of topic that stands where filter has its first +: what
// the sender claims to be. It is "" where filter has none or does not match.
func Claim(filter, topic string) string {
	if !Matches(filter, topic) {
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

// Overlap reports whether a topic exists that both filters match, as [Matches]
// has it.
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
