package iotsql

import "testing"

func TestTopicFilters(t *testing.T) {
	for _, tt := range []struct {
		filter, topic string
		want          bool
	}{
		{"topic/subtopic", "topic/subtopic", true}, {"topic/subtopic", "topic/subtopic-2", false}, {"topic/subtopic", "topic", false},
		{"topic/#", "topic/subtopic", true}, {"topic/#", "topic/subtopic-3/details", true}, {"topic/#", "topic-2/subtopic-x", false},
		{"topic/+", "topic/subtopic-2", true}, {"topic/+", "topic/subtopic-3/details", false}, {"topic/+", "topic-2/subtopic-x", false},
		{"sensor/#", "sensor/", true}, {"sensor/#", "sensor", false},
		{"sensor/+/room1", "sensor/temperature/room1", true}, {"sensor/+/room1", "sensor/temperature/room2", false},
		{"+/#", "a/b/c", true}, {"+/#", "a", false}, {"+", "a", true}, {"+", "a/b", false}, {"a/+", "a/", true},
		{"#", "a/b", true}, {"#", "$aws/events/presence/connected/c", false}, {"+/events/#", "$aws/events/presence/connected/c", false},
		{"$aws/events/presence/+/+", "$aws/events/presence/connect_failed/c", true}, {"$aws/things/+/defender/metrics/#", "$aws/things/t/defender/metrics/json/rejected", true},
	} {
		s := mustParse(t, "SELECT * FROM '"+tt.filter+"'")
		if got := s.Matches("rule", tt.topic); got != tt.want || s.filter != tt.filter {
			t.Errorf("%s matches %s: %t, want %t", tt.filter, tt.topic, got, tt.want)
		}
	}
}

func TestBasicIngestGoesToTheNamedRule(t *testing.T) {
	const topic = "$aws/rules/BuildingManager/Buildings/Building5/Floor2/Room201/Lights"
	for _, from := range []string{" FROM 'Buildings/#'", ""} {
		s := mustParse(t, "SELECT topic() AS t, topic(3) AS floor"+from)
		if !s.Matches("BuildingManager", topic) || s.Matches("Other", topic) {
			t.Errorf("%q: Basic Ingest does not start exactly the named rule", from)
		}
		if got := evalStatement(t, s, Message{Topic: topic}); got != `{"floor":"Floor2","t":"Buildings/Building5/Floor2/Room201/Lights"}` {
			t.Errorf("%q: %s", from, got)
		}
	}
	if mustParse(t, "SELECT *").Matches("r", "any/topic") {
		t.Error("a rule without FROM matches a topic of the message broker")
	}
	if mustParse(t, "SELECT * FROM '#'").Matches("r", "$aws/rules/other/x") {
		t.Error("a rule with FROM '#' matches Basic Ingest for another rule")
	}
	if rule, rest, ok := BasicIngest("$aws/rules/r"); rule != "r" || rest != "" || !ok {
		t.Errorf("got %q, %q, %t", rule, rest, ok)
	}
}
