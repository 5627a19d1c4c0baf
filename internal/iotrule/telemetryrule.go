package iotrule

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// TelemetryRule is an IoT rule that sends [Telemetry] to the evaluator.
type TelemetryRule struct {
	// ID is unique in a deployment and stays the same while the rule does.
	ID string
	// Kind of the telemetry that the rule sends.
	Kind TelemetryKind
	// SQL is the statement, for SQL version [SQLVersion].
	SQL string
	// TopicFilter is the rule's topic filter, "" for Basic Ingest.
	TopicFilter string
	// Bounds are those of [Oversize]: the rule sends the messages that violate one of them.
	Bounds []SizeBound
	// PartitionKey is the substitution template that returns the client ID, for a stream.
	PartitionKey string
}

// presenceTopic is where AWS IoT publishes connected, disconnected and connect_failed. It must
// match client IDs with slashes, because a refused client chooses its client ID.
const presenceTopic = "$aws/events/presence/#"

// LifecycleRule returns the rule that sends all lifecycle events.
func LifecycleRule() TelemetryRule {
	return TelemetryRule{
		ID: "lifecycle", Kind: LifecycleEvent, TopicFilter: presenceTopic, PartitionKey: "${clientId}",
		SQL: telemetrySQL(LifecycleEvent, "clientid() AS clientId", encodedPayload) + from(presenceTopic),
	}
}

// MessageRule returns the rule that sends the messages on the topics of a filter, as kind:
// [PublishedMessage], or [Oversize] for messages that violate one of the bounds.
func MessageRule(kind TelemetryKind, topicFilter string, bounds ...SizeBound) TelemetryRule {
	sql := telemetrySQL(kind, identity, PayloadBytes+" AS bytes") + from(topicFilter)
	id := string(kind)
	if where := ViolatesSize(bounds); where != "" {
		sql += " WHERE " + where
	}
	if topicFilter != "#" {
		f := fnv.New32a()
		f.Write([]byte(topicFilter)) // never fails
		id = fmt.Sprintf("%s-%08x", id, f.Sum32())
	}
	return TelemetryRule{ID: id, Kind: kind, SQL: sql, TopicFilter: topicFilter, Bounds: bounds, PartitionKey: "${clientid()}"}
}

// ReportRule returns the rule that sends device reports. topicFilter is "" for Basic Ingest, which
// needs a rule without FROM.
func ReportRule(topicFilter string) TelemetryRule {
	sql := telemetrySQL(DeviceReport, identity, encodedPayload)
	if topicFilter != "" {
		sql += from(topicFilter)
	}
	return TelemetryRule{ID: "reports", Kind: DeviceReport, TopicFilter: topicFilter, PartitionKey: "${clientid()}", SQL: sql}
}

const (
	// traceid() is Undefined for a message that was not sent over MQTT, and is then left out.
	// get_or_default would choose between the two, but not for a payload that is not JSON.
	// https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html
	identity       = "traceid() AS traceId, newuuid() AS id, clientid() AS clientId, principal() AS principal, sourceip() AS sourceIp"
	encodedPayload = "encode(*, 'base64') AS payload"
)

func telemetrySQL(kind TelemetryKind, fields ...string) string {
	return fmt.Sprintf("SELECT '%s' AS kind, topic() AS topic, timestamp() AS time, %s", kind, strings.Join(fields, ", "))
}

func from(topicFilter string) string { return " FROM '" + topicFilter + "'" }

// PayloadBytes is the size of a message's payload in IoT SQL. No SQL function returns the size
// of a payload that may not be JSON. Base64 has four characters for three bytes, and one or two
// = at its end for padding. The length is a multiple of four, so the integer arithmetic is
// exact. That AWS encodes JSON byte for byte as it was published is likely but not documented.
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html
const PayloadBytes = "(length(encode(*, 'base64')) / 4 * 3 - cast(endswith(encode(*, 'base64'), '=') as Int) - cast(endswith(encode(*, 'base64'), '==') as Int))"

// SizeBound is a comparison that is true for the payload size, in bytes, of conforming messages.
type SizeBound struct {
	// Operator is one of the four that compare numbers.
	Operator iotapi.Operator
	Bytes    int64
}

// inverse are the comparisons that are true if the normal one is false.
var inverse = map[iotapi.Operator]string{
	iotapi.LessThan:          ">=",
	iotapi.LessThanEquals:    ">",
	iotapi.GreaterThan:       "<=",
	iotapi.GreaterThanEquals: "<",
}

// Violates reports whether a rule with the bounds sends a message of a size.
func (r TelemetryRule) Violates(bytes int64) bool {
	return slices.ContainsFunc(r.Bounds, func(b SizeBound) bool {
		switch b.Operator {
		case iotapi.LessThan:
			return bytes >= b.Bytes
		case iotapi.LessThanEquals:
			return bytes > b.Bytes
		case iotapi.GreaterThan:
			return bytes <= b.Bytes
		}
		return bytes < b.Bytes
	})
}

// ViolatesSize returns a WHERE condition that is true for messages that violate one of the bounds,
// "" without bounds. It lets a rule drop conforming messages, so that they cost no action. For each
// operator it contains only the strictest bound, so that it stays short.
func ViolatesSize(bounds []SizeBound) string {
	var operators []iotapi.Operator
	strictest := map[iotapi.Operator]int64{}
	for _, b := range bounds {
		bytes := b.Bytes
		known, ok := strictest[b.Operator]
		switch {
		case !ok:
			operators = append(operators, b.Operator)
		case b.Operator == iotapi.LessThan || b.Operator == iotapi.LessThanEquals:
			bytes = min(known, bytes)
		default:
			bytes = max(known, bytes)
		}
		strictest[b.Operator] = bytes
	}
	var terms []string
	for _, operator := range operators {
		terms = append(terms, fmt.Sprintf("%s %s %d", PayloadBytes, inverse[operator], strictest[operator]))
	}
	return strings.Join(terms, " OR ")
}
