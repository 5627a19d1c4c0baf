package iotrule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// TelemetryKind is what a rule of the self-managed engine sends.
type TelemetryKind string

// The kinds.
const (
	// LifecycleEvent is an event that AWS IoT publishes about a client's session.
	LifecycleEvent TelemetryKind = "lifecycle"
	// PublishedMessage is a message that a thing published: its size, not its payload.
	PublishedMessage TelemetryKind = "message"
	// Oversize is a message as well. Its rule drops those that conform to all behaviors.
	Oversize TelemetryKind = "oversize"
	// DeviceReport is a device report.
	DeviceReport TelemetryKind = "report"
)

// Telemetry is a message that a rule sends to the evaluator.
type Telemetry struct {
	Kind  TelemetryKind `json:"kind"`
	Topic string        `json:"topic,omitempty"`
	// Time in ms at which the rules engine received the message; 0 after an error action.
	Time int64 `json:"time,omitempty"`
	// ID is the rule's traceid(), or its newuuid() for a message that was not sent over MQTT.
	ID string `json:"id,omitempty"`
	// ClientID and Principal are the sender's. For a message over HTTPS, ClientID is
	// [NotMQTT]. The payload of a lifecycle event names the device; its ClientID is the
	// publisher's: see [Telemetry.Forged].
	ClientID  string `json:"clientId,omitempty"`
	Principal string `json:"principal,omitempty"`
	SourceIP  string `json:"sourceIp,omitempty"`
	// Bytes is the size of a message's payload.
	Bytes int64 `json:"bytes,omitempty"`
	// Payload of a lifecycle event or a device report, as published.
	Payload []byte `json:"payload,omitempty"`
}

// Forged reports whether a lifecycle event of a client was published by another client. AWS
// publishes these events, but Basic Ingest sends a message to any rule, whatever its FROM, if
// the device's policy allows it. clientid() is [NotMQTT] for the events of AWS, or perhaps the
// client's own (unverified). A device that publishes over HTTPS looks like AWS.
func (t Telemetry) Forged(client string) bool {
	return t.ClientID != "" && t.ClientID != NotMQTT && t.ClientID != client
}

// DecodeTelemetry parses a message of a rule or of its error action. reportsRule is the name of the
// rule of device reports. Devices know that name: with Basic Ingest they choose the topic, so the
// topic does not identify a report. An error action has no principal, address and time.
// https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html
func DecodeTelemetry(body []byte, reportsRule string) (Telemetry, error) {
	var in struct {
		Telemetry
		TraceID    string `json:"traceId"`
		RuleName   string `json:"ruleName"`
		ErrorTrace string `json:"cloudwatchTraceId"`
		Original   []byte `json:"base64OriginalPayload"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return Telemetry{}, fmt.Errorf("telemetry is not the JSON of a rule: %w", err)
	}
	t := in.Telemetry
	t.ID = cmp.Or(in.TraceID, t.ID)
	switch {
	case t.Kind != "" && !slices.Contains([]TelemetryKind{LifecycleEvent, PublishedMessage, Oversize, DeviceReport}, t.Kind):
		return Telemetry{}, fmt.Errorf("telemetry of kind %q, want lifecycle, message, oversize or report", t.Kind)
	case t.Time < 0 || t.Bytes < 0:
		return Telemetry{}, fmt.Errorf("telemetry of time %d with %d bytes, want neither below 0", t.Time, t.Bytes)
	case t.Kind != "":
		return t, nil
	case in.RuleName == "":
		return Telemetry{}, errors.New("telemetry names neither its kind nor a rule: it was not written by a rule of defenderhub")
	}
	t = Telemetry{Topic: in.Topic, ID: in.ErrorTrace, ClientID: in.ClientID}
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
