package engine

import (
	"fmt"
	"slices"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// Datapoint is one measurement of a thing. Without a metric it only shows the state of its MQTT
// session.
type Datapoint struct {
	// Metric is the metric's name in the AWS IoT API.
	Metric string
	// Time in ms since 1970: the rule's timestamp(), or the timestamp of the lifecycle event,
	// which its duplicates share.
	Time int64
	// ID identifies the message, report or event. Only its duplicates have the same ID.
	ID string
	// Value has the metric's type. Events that are counted have the count 1.
	Value iotapi.Value
	// Topic of a message, for dimensions, and ClientID of a message or lifecycle event, for
	// dimensions and to distinguish the sessions of one thing.
	Topic, ClientID string
	// Partial is set for an incomplete list. If it conforms it is not a datapoint: a missing
	// element may violate.
	Partial *iotapi.Partial
	// Screened is true if the IoT rule drops conforming measurements. Counts and sums ignore
	// such a datapoint.
	Screened bool
	// Link is what the datapoint shows about the session, Session its identifier.
	Link    Link
	Session string
}

// sampled returns Partial if the list is a sample, else nil.
func (d Datapoint) sampled() *iotapi.Partial {
	if d.Partial == nil || !d.Partial.Sampled() {
		return nil
	}
	return d.Partial
}

// ReportReceived is the metric of a datapoint that each readable device report has, for
// [ReportsEvery].
const ReportReceived = "defenderhub:report-received"

// Lifecycle is a lifecycle event of AWS IoT Core.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
type Lifecycle struct {
	ClientID         string `json:"clientId"`
	ThingName        string `json:"thingName"`
	Principal        string `json:"principalIdentifier"`
	Timestamp        int64  `json:"timestamp"`
	EventType        string `json:"eventType"`
	Session          string `json:"sessionIdentifier"`
	Version          int64  `json:"versionNumber"`
	IPAddress        string `json:"ipAddress"`
	DisconnectReason string `json:"disconnectReason"`
}

// refusals are the disconnect reasons that count as an authorization failure. AWS IoT has no
// event for a denied publish or subscribe that does not end the connection.
var refusals = []string{"AUTH_ERROR", "FORBIDDEN_ACCESS"}

// Datapoints returns the datapoints of the event, none for other event types. A refused
// connection counts as an attempt and as a failure. Its address is not a source IP address of
// the device: the refused client may be another one.
func (l Lifecycle) Datapoints() []Datapoint {
	id := fmt.Sprintf("%s/%s/%s/%d", l.EventType, l.ClientID, l.Session, l.Version)
	if l.EventType == "connect_failed" { // attempts of one session differ only in their time
		id = fmt.Sprintf("%s/%d", id, l.Timestamp)
	}
	of := func(m defender.Metric, v iotapi.Value) Datapoint {
		return Datapoint{Metric: m.Info().Name, Time: l.Timestamp, ID: id, Value: v, ClientID: l.ClientID}
	}
	once := int64(1)
	one := iotapi.Value{Count: &once}
	var points []Datapoint
	link := NoLink
	switch l.EventType {
	case "connected":
		link = Connected
		points = append(points, of(defender.ConnectionAttempts, one))
		if l.IPAddress != "" {
			points = append(points, of(defender.SourceIPAddress, iotapi.Value{CIDRs: []string{l.IPAddress}}))
		}
	case "connect_failed":
		points = append(points, of(defender.ConnectionAttempts, one), of(defender.AuthorizationFailures, one))
	case "disconnected":
		link = Disconnected
		points = append(points, of(defender.Disconnects, one))
		if slices.Contains(refusals, l.DisconnectReason) {
			points = append(points, of(defender.AuthorizationFailures, one))
		}
	}
	if len(points) > 0 && hasLifecycleEvents(l.ClientID) {
		// A persistent session may keep its identifier when the client reconnects (AWS does not
		// say); the version rises, and is the same in connect and disconnect.
		points[0].Link, points[0].Session = link, fmt.Sprintf("%s/%d", l.Session, l.Version)
	}
	return points
}

// Message is one message that a thing published.
type Message struct {
	Topic, ClientID, SourceIP string
	// ID is the rule's traceid(), unique per message.
	ID string
	// Time is the rule's timestamp() in ms.
	Time int64
	// Bytes is the payload's size.
	Bytes int64
	// MQTT is true if the message was sent in a session for whose end AWS IoT has an event.
	MQTT bool
	// Screened is [Datapoint.Screened].
	Screened bool
}

// Datapoint returns the message's datapoint of a metric: MessageByteSize, MessagesSent or
// SourceIPAddress.
func (m Message) Datapoint(metric defender.Metric) Datapoint {
	d := Datapoint{Metric: metric.Info().Name, Time: m.Time, ID: m.ID, Topic: m.Topic, ClientID: m.ClientID, Screened: m.Screened}
	if m.MQTT {
		d.Link = Alive
	}
	once := int64(1)
	switch d.Metric {
	case defender.MessageByteSize.Info().Name:
		d.Value.Count = &m.Bytes
	case defender.MessagesSent.Info().Name:
		d.Value.Count = &once
	case defender.SourceIPAddress.Info().Name:
		d.Value.CIDRs = []string{m.SourceIP}
	}
	return d
}

// Report returns the datapoints of a device report: one of each metric in values, one of
// [ReportReceived], and one for [ReadableReports]. partial has the incomplete lists. An unreadable
// report has values, but no valid one. id must be the same for each delivery of the report.
func Report(id string, at int64, values map[string]iotapi.Value, partial map[string]iotapi.Partial, isUnreadable bool) []Datapoint {
	points := make([]Datapoint, 0, len(values)+2)
	for metric, value := range values {
		d := Datapoint{Metric: metric, Time: at, ID: id, Value: value}
		if p, ok := partial[metric]; ok {
			d.Partial = &p
		}
		points = append(points, d)
	}
	n := 0.0
	if isUnreadable {
		n = 1
	}
	return append(points, Datapoint{Metric: ReportReceived, Time: at, ID: id}, unreadable(id, at, n))
}

// UnreadableReport returns the datapoint of a message that contains no report; see
// [ReadableReports].
func UnreadableReport(id string, at int64) []Datapoint { return []Datapoint{unreadable(id, at, 1)} }

func unreadable(id string, at int64, n float64) Datapoint {
	return Datapoint{Metric: contract.UnreadableReport, Time: at, ID: id, Value: iotapi.Value{Number: &n}}
}

// MessageDatapoints returns a message's datapoints of its sender. An [iotrule.Oversize] message
// shows only its size.
func MessageDatapoints(t iotrule.Telemetry) []Datapoint {
	m := Message{
		Topic: t.Topic, ClientID: t.ClientID, SourceIP: t.SourceIP, ID: t.ID, Time: t.Time, Bytes: t.Bytes,
		MQTT: t.ClientID != "" && t.ClientID != iotrule.NotMQTT && hasLifecycleEvents(t.ClientID), Screened: t.Kind == iotrule.Oversize,
	}
	points := []Datapoint{m.Datapoint(defender.MessageByteSize)}
	if m.Screened {
		return points
	}
	points = append(points, m.Datapoint(defender.MessagesSent))
	if t.SourceIP != "" { // an error action has none
		points = append(points, m.Datapoint(defender.SourceIPAddress))
	}
	return points
}
