package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// Kind is what a rule of the self-managed engine brings.
type Kind string

// The kinds.
const (
	// LifecycleEvent is an event that AWS IoT publishes about a client's session.
	LifecycleEvent Kind = "lifecycle"
	// PublishedMessage is a message that a thing published: its size, not its payload.
	// Of Oversize alone those come that break a behavior.
	PublishedMessage Kind = "message"
	Oversize         Kind = "oversize"
	// DeviceReport is a device report.
	DeviceReport Kind = "report"
)

// Telemetry is what a rule sends to the evaluator.
type Telemetry struct {
	Kind  Kind   `json:"kind"`
	Topic string `json:"topic,omitempty"`
	// Time in ms at which the rules engine saw the message; 0 after an error action.
	Time int64 `json:"time,omitempty"`
	// ID is the rule's traceid(), or for messages that did not come over MQTT a random one.
	ID string `json:"id,omitempty"`
	// ClientID is "n/a" and Principal the sender's where a message came over HTTPS. Of a
	// lifecycle event, whose payload names the device, ClientID tells who published it:
	// see [Telemetry.Forged].
	ClientID  string `json:"clientId,omitempty"`
	Principal string `json:"principal,omitempty"`
	SourceIP  string `json:"sourceIp,omitempty"`
	// Bytes is the size of a message's payload.
	Bytes int64 `json:"bytes,omitempty"`
	// Payload of a lifecycle event or a device report, as published.
	Payload []byte `json:"payload,omitempty"`
}

// Rule is an IoT rule that feeds the evaluator.
type Rule struct {
	// ID tells the rules of one deployment apart and stays the same while the rule does.
	ID string
	// Kind of what the rule brings.
	Kind Kind
	// SQL is the statement, for SQL version [defender.SQLVersion].
	SQL string
	// PartitionKey is the substitution template that names the thing, for a stream.
	PartitionKey string
}

// presenceTopic is where AWS IoT publishes connected, disconnected and connect_failed. A
// client id may have slashes, and a client that is refused chooses it.
const presenceTopic = "$aws/events/presence/#"

// Rules are the IoT rules that bring what the behaviors need, and nothing else.
// reportTopic is the topic filter of device reports, "" for Basic Ingest, which takes a
// rule without FROM.
//
// The filter # leaves out AWS's reserved topics, so a behavior without dimension, or with
// one that is turned around, sees no messages on those; none sees those of Basic Ingest. A
// message to which the rules of two dimensions apply comes twice, with the same id if it
// came over MQTT.
func Rules(behaviors []Compiled, reportTopic string) []Rule {
	var rules []Rule
	if slices.ContainsFunc(behaviors, func(c Compiled) bool { return c.needsLifecycle() }) {
		rules = append(rules, Rule{
			ID: "lifecycle", Kind: LifecycleEvent, PartitionKey: "${clientId}",
			SQL: selects(LifecycleEvent, "topic() AS topic", "timestamp() AS time", "clientid() AS clientId", "encode(*, 'base64') AS payload") + from(presenceTopic),
		})
	}
	counting := uncovered(topicsOf(behaviors, allMessages))
	for _, topic := range counting {
		rules = append(rules, messageRule(PublishedMessage, topic, ""))
	}
	for _, topic := range topicsOf(behaviors, violatingMessages) {
		if slices.ContainsFunc(counting, func(filter string) bool { return covers(filter, topic) }) {
			continue // every message comes already
		}
		rules = append(rules, messageRule(Oversize, topic, PushDown(slices.DeleteFunc(slices.Clone(behaviors), func(c Compiled) bool {
			return !slices.Contains(c.topics(), topic)
		}))))
	}
	if NeedsReports(behaviors) {
		sql := selects(DeviceReport, "topic() AS topic", "timestamp() AS time", identity, "encode(*, 'base64') AS payload")
		if reportTopic != "" {
			sql += from(reportTopic)
		}
		rules = append(rules, Rule{ID: "reports", Kind: DeviceReport, PartitionKey: "${clientid()}", SQL: sql})
	}
	return rules
}

const identity = "get_or_default(traceid(), newuuid()) AS id, clientid() AS clientId, principal() AS principal, sourceip() AS sourceIp"

func selects(kind Kind, fields ...string) string {
	return fmt.Sprintf("SELECT '%s' AS kind, %s", kind, strings.Join(fields, ", "))
}

func from(topic string) string { return " FROM '" + topic + "'" }

func messageRule(kind Kind, topic, where string) Rule {
	sql := selects(kind, "topic() AS topic", "timestamp() AS time", identity, PayloadBytes+" AS bytes") + from(topic)
	id := string(kind)
	if where != "" {
		sql += " WHERE " + where
	}
	if topic != "#" {
		f := fnv.New32a()
		f.Write([]byte(topic)) // never fails
		id = fmt.Sprintf("%s-%08x", id, f.Sum32())
	}
	return Rule{ID: id, Kind: kind, SQL: sql, PartitionKey: "${clientid()}"}
}

// needsLifecycle tells that the behavior is judged by events of sessions: they are its
// datapoints, or they tell which quiet windows conform.
func (c Compiled) needsLifecycle() bool {
	m := c.Behavior.Criteria.Metric()
	return c.confirm.within > 0 || m.Side == iotapi.CloudSide && !(m.Name == defender.SourceIPAddress.Info().Name && c.Behavior.Dimension != nil)
}

// topics are the topic filters of the messages that the behavior asks for.
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
				levels[j] = "+" // a wildcard has its level to itself
			}
		}
		topics[i] = strings.Join(levels, "/")
	}
	return topics
}

// topicsOf are the topic filters of the behaviors that need the given messages, each once.
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

// uncovered leaves out filters whose topics another one matches already.
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

// Datapoints are what a message says about its sender. One of a rule that lets only
// violating ones through says nothing but its size.
func (t Telemetry) Datapoints() []Datapoint {
	m := Message{
		Topic: t.Topic, ClientID: t.ClientID, SourceIP: t.SourceIP, ID: t.ID, Time: t.Time, Bytes: t.Bytes,
		MQTT: t.ClientID != "" && t.ClientID != iotrule.NotMQTT && hasLifecycleEvents(t.ClientID), Screened: t.Kind == Oversize,
	}
	points := []Datapoint{m.Datapoint(defender.MessageByteSize)}
	if t.Kind == Oversize {
		return points
	}
	points = append(points, m.Datapoint(defender.MessagesSent))
	if t.SourceIP != "" { // an error action does not tell
		points = append(points, m.Datapoint(defender.SourceIPAddress))
	}
	return points
}

// Forged reports that a lifecycle event of a client was published by another one. AWS
// publishes these events, but Basic Ingest takes a message to any rule whatever its FROM,
// if the device's policy allows it. clientid() is "n/a" for what AWS publishes, or perhaps
// the client's own (unverified). A device that publishes over HTTPS is not told from AWS.
func (t Telemetry) Forged(client string) bool {
	return t.ClientID != "" && t.ClientID != iotrule.NotMQTT && t.ClientID != client
}

// DecodeTelemetry reads what a rule sent, or its error action; reportsRule is the name of
// the rule of device reports, which devices know: with Basic Ingest they choose the topic,
// so that the topic of a report says nothing. After an error action principal, address and
// time are lost.
// https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html
func DecodeTelemetry(body []byte, reportsRule string) (Telemetry, error) {
	var in struct {
		Telemetry
		RuleName string `json:"ruleName"`
		TraceID  string `json:"cloudwatchTraceId"`
		Original []byte `json:"base64OriginalPayload"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return Telemetry{}, fmt.Errorf("telemetry is not the JSON of a rule: %w", err)
	}
	t := in.Telemetry
	switch {
	case t.Kind != "" && !slices.Contains([]Kind{LifecycleEvent, PublishedMessage, Oversize, DeviceReport}, t.Kind):
		return Telemetry{}, fmt.Errorf("telemetry of kind %q, want lifecycle, message, oversize or report", t.Kind)
	case t.Time < 0 || t.Bytes < 0:
		return Telemetry{}, fmt.Errorf("telemetry of time %d with %d bytes, want neither below 0", t.Time, t.Bytes)
	case t.Kind != "":
		return t, nil
	case in.RuleName == "":
		return Telemetry{}, errors.New("telemetry names neither its kind nor a rule: it was not written by a rule of defenderhub")
	}
	t = Telemetry{Topic: in.Topic, ID: in.TraceID, ClientID: in.ClientID}
	switch {
	case in.RuleName == reportsRule:
		t.Kind, t.Payload = DeviceReport, in.Original
	case topicfilter.Matches(presenceTopic, in.Topic):
		t.Kind, t.Payload = LifecycleEvent, in.Original
	default:
		t.Kind, t.Bytes = PublishedMessage, int64(len(in.Original))
	}
	return t, nil
}
