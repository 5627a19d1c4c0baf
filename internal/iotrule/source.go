// Package iotrule holds every IoT rule's SQL and the envelope that it produces, so that
// they are written and read in one place.
package iotrule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
)

// Rule is the IoT rule of a source.
type Rule struct {
	// TopicFilter is the filter of the rule, "" where a prop gives it. A client ID may have
	// slashes, and a client that is refused chooses it.
	TopicFilter string
	// Where is the rule's WHERE clause, "" for all messages.
	Where string
	// FromDevice reports whether devices publish the messages, so that clientid() and
	// principal() name the sender. AWS publishes the others: a clientid() there belongs to a
	// client that published one itself.
	FromDevice bool
}

// SecurityDisconnectReasons are the disconnect reasons that are findings.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
var SecurityDisconnectReasons = []string{"AUTH_ERROR", "FORBIDDEN_ACCESS", "DUPLICATE_CLIENTID"}

var rules = map[defender.Source]Rule{
	defender.RejectedReports:     {TopicFilter: "$aws/things/+/defender/metrics/+/rejected"},
	defender.SecurityDisconnects: {TopicFilter: "$aws/events/presence/disconnected/#", Where: anyOf("disconnectReason", SecurityDisconnectReasons)},
	defender.RefusedConnections:  {TopicFilter: "$aws/events/presence/connect_failed/#"},
	defender.DeviceEvents:        {FromDevice: true},
}

// anyOf is a chain over one field: IN with a literal list is not shown by AWS, and
// a chain over several fields would be poisoned by one that is missing.
func anyOf(field string, values []string) string {
	terms := make([]string, len(values))
	for i, v := range values {
		terms[i] = fmt.Sprintf("%s = '%s'", field, v)
	}
	return strings.Join(terms, " OR ")
}

// Sources returns the sources that IoT rules send, in the order of [defender.Sources].
func Sources() []defender.Source {
	var all []defender.Source
	for _, s := range defender.Sources() {
		if Sends(s) {
			all = append(all, s)
		}
	}
	return all
}

// Sends reports whether an IoT rule sends the source's messages. Notifications come by
// Amazon SNS, transitions from the evaluator.
func Sends(s defender.Source) bool { _, ok := rules[s]; return ok }

// Of returns the rule of a source, the zero Rule for a source without one.
func Of(s defender.Source) Rule { return rules[s] }

// DefaultEventTopic is the topic filter on which devices report security events.
const DefaultEventTopic = "defenderhub/events/+"

// SQL returns the statement of the source's IoT rule, for SQL version [SQLVersion]. The
// whole payload travels in base64, so that a payload that is no JSON, a missing
// field or a name that SQL cannot write never loses a message. eventTopic is used
// by [defender.DeviceEvents] alone, except, a list of disconnect reasons, by
// [defender.SecurityDisconnects] alone.
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

// SQLVersion is the version of IoT SQL that every rule names; CloudFormation would
// take 2015-10-08.
const SQLVersion = "2016-03-23"

// NotMQTT is what clientid() gives for a message that did not come over MQTT.
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-sql-functions.html
const NotMQTT = "n/a"
