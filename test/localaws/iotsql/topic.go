package iotsql

import (
	"fmt"
	"strings"
)

// Limits of a topic filter, from "AWS IoT Core message broker and protocol
// limits and quotas" in the AWS General Reference.
const (
	maxTopicBytes   = 256
	maxTopicSlashes = 7
)

// basicIngest is how topics start that go to one rule, past the message broker.
const basicIngest = "$aws/rules/"

// BasicIngest splits a topic of Basic Ingest, $aws/rules/RULE/REST, into the
// rule that it names and the topic that the rule sees; false for any other
// topic.
func BasicIngest(topic string) (rule, rest string, ok bool) {
	after, ok := strings.CutPrefix(topic, basicIngest)
	if !ok {
		return "", "", false
	}
	rule, rest, _ = strings.Cut(after, "/")
	return rule, rest, true
}

// Matches tells whether a message on topic starts the rule with this statement
// and the name ruleName. A topic of Basic Ingest starts the rule that it names,
// whatever its FROM; any other topic must match the FROM clause.
func (s *Statement) Matches(ruleName, topic string) bool {
	if rule, _, ok := BasicIngest(topic); ok {
		return rule == ruleName
	}
	return s.filter != "" && MatchTopic(s.filter, topic)
}

// TopicFilter is the FROM clause: empty for a rule that only Basic Ingest
// starts.
func (s *Statement) TopicFilter() string { return s.filter }

// MatchTopic reports whether a topic filter takes in a topic. It follows AWS's page
// "MQTT topics", by which sensor/# does not match sensor itself, and MQTT in that a
// wildcard in the first level does not match reserved topics.
func MatchTopic(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	levels := strings.Split(topic, "/")
	wanted := strings.Split(filter, "/")
	for i, want := range wanted {
		if i >= len(levels) {
			return false
		}
		if want == "#" {
			return true
		}
		if want != "+" && want != levels[i] {
			return false
		}
	}
	return len(levels) == len(wanted)
}

// checkTopicFilter refuses what no rule can subscribe to.
func checkTopicFilter(filter string) error {
	if filter == "" {
		return fmt.Errorf("FROM '': want a topic filter, or no FROM for a rule that only Basic Ingest starts")
	}
	if strings.HasPrefix(filter, basicIngest) {
		return fmt.Errorf("FROM '%s': rules cannot subscribe to Basic Ingest topics; leave FROM out", filter)
	}
	if len(filter) > maxTopicBytes {
		return fmt.Errorf("FROM: topic filter of %d bytes, want at most %d", len(filter), maxTopicBytes)
	}
	levels := strings.Split(filter, "/")
	if len(levels) > maxTopicSlashes+1 {
		return fmt.Errorf("FROM '%s': %d slashes, want at most %d", filter, len(levels)-1, maxTopicSlashes)
	}
	for i, level := range levels {
		if level == "+" || level == "#" && i == len(levels)-1 {
			continue
		}
		if level == "#" {
			return fmt.Errorf("FROM '%s': # must be the last level", filter)
		}
		if strings.ContainsAny(level, "+#") {
			return fmt.Errorf("FROM '%s': a wildcard must be the only character of its level %q", filter, level)
		}
	}
	return nil
}
