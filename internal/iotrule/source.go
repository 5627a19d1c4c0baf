// Package iotrule has the SQL of every IoT rule and the messages that the rules send: [Envelope] to
// the forwarder, [Telemetry] to the evaluator. Both are written and parsed here.
package iotrule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
)

// Rule is the IoT rule of a source.
type Rule struct {
	// TopicFilter is the rule's topic filter, "" if a prop sets it. It must match client IDs with
	// slashes, because a refused client chooses its client ID.
	TopicFilter string
	// Where is the rule's WHERE clause, "" for all messages.
	Where string
	// FromDevice reports whether devices publish the messages, so that clientid() and principal()
	// identify the sender. AWS publishes the others; a clientid() there means that a client
	// forged the message.
	FromDevice bool
}

// SecurityDisconnectReasons are the disconnect reasons that become findings.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
var SecurityDisconnectReasons = []string{"AUTH_ERROR", "FORBIDDEN_ACCESS", "DUPLICATE_CLIENTID"}

var rules = map[defender.Source]Rule{
	defender.RejectedReports:     {TopicFilter: "$aws/things/+/defender/metrics/+/rejected"},
	defender.SecurityDisconnects: {TopicFilter: "$aws/events/presence/disconnected/#", Where: anyOf("disconnectReason", SecurityDisconnectReasons)},
	defender.RefusedConnections:  {TopicFilter: "$aws/events/presence/connect_failed/#"},
	defender.DeviceEvents:        {FromDevice: true},
}

// anyOf joins comparisons of one field with OR. AWS does not document IN with a literal list. A
// chain over several fields would fail if one field is missing.
func anyOf(field string, values []string) string {
	terms := make([]string, len(values))
	for i, v := range values {
		terms[i] = fmt.Sprintf("%s = '%s'", field, v)
	}
	return strings.Join(terms, " OR ")
}

// Sources returns the sources that have an IoT rule, in the order of [defender.Sources].
func Sources() []defender.Source {
	var all []defender.Source
	for _, s := range defender.Sources() {
		if Sends(s) {
			all = append(all, s)
		}
	}
	return all
}

// Sends reports whether the source has an IoT rule. Amazon SNS sends notifications, and the
// evaluator sends transitions.
func Sends(s defender.Source) bool { _, ok := rules[s]; return ok }

// Of returns the rule of a source, or the zero Rule.
func Of(s defender.Source) Rule { return rules[s] }

// DefaultEventTopic is the topic filter on which devices report security events.
const DefaultEventTopic = "defenderhub/events/+"

// SQL returns the statement of the source's IoT rule, for SQL version [SQLVersion]. Only
// [defender.DeviceEvents] uses eventTopic. Only [defender.SecurityDisconnects] uses except, a
// list of disconnect reasons.
//
// The payload is sent in base64. So invalid JSON, a missing field or a name that SQL cannot
// express never loses a message.
func SQL(s defender.Source, eventTopic string, except ...string) string {
	row := Of(s)
	fields := []string{
		fmt.Sprintf("'%s' AS source", s),
		"topic() AS topic",
		"timestamp() AS time",
		"clientid() AS clientId",
	}
	filter := row.TopicFilter
	if row.FromDevice {
		fields = append(fields, "principal() AS principal", "sourceip() AS sourceIp")
		filter = eventTopic
	}
	fields = append(fields, "encode(*, 'base64') AS payload")
	sql := "SELECT " + strings.Join(fields, ", ") + " FROM '" + filter + "'"
	where := row.Where
	if s == defender.SecurityDisconnects && len(except) > 0 {
		where = anyOf("disconnectReason", slices.DeleteFunc(slices.Clone(SecurityDisconnectReasons), func(r string) bool { return slices.Contains(except, r) }))
	}
	if where != "" {
		sql += " WHERE " + where
	}
	return sql
}

// SQLVersion is the IoT SQL version of every rule; CloudFormation's default is 2015-10-08.
const SQLVersion = "2016-03-23"

// NotMQTT is the result of clientid() for a message that was not sent over MQTT.
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html
const NotMQTT = "n/a"
