package defender

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Source is where findings come from.
type Source int

const (
	// RejectedReports are device reports that Device Defender refused.
	RejectedReports Source = iota + 1
	// SecurityDisconnects are connections that AWS IoT ended for a security reason.
	SecurityDisconnects
	// RefusedConnections are clients that were not allowed to connect.
	RefusedConnections
	// DeviceEvents are security events that devices report themselves.
	DeviceEvents
	// AuditNotifications are the results of Device Defender audits.
	AuditNotifications
	// DetectNotifications are the alerts of Device Defender Detect.
	DetectNotifications
	// BehaviorTransitions are the alarms of the self-managed engine.
	BehaviorTransitions
)

// SourceInfo is the row of the sources table.
type SourceInfo struct {
	// Name stands in queue messages, logs, metrics and ProductFields.
	Name string
	// Rule tells that an IoT rule brings the source in. Notifications come by Amazon SNS,
	// transitions from the evaluator.
	Rule bool
	// TopicFilter is the filter of the rule, "" where a prop gives it. A client id may have
	// slashes, and a client that is refused chooses it.
	TopicFilter string
	// Where is the rule's WHERE clause, "" for all messages.
	Where string
	// FromDevice tells that devices publish the messages, so that clientid() and
	// principal() say who it was. AWS publishes the others: a clientid() there tells of one
	// that a client published.
	FromDevice bool
	// Clears tells that the source says when a finding is over. The findings of the
	// others are archived after a quiet time.
	Clears bool
	// Severity of the findings.
	Severity Severity
}

// SecurityDisconnectReasons are the disconnect reasons that are findings.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
var SecurityDisconnectReasons = []string{"AUTH_ERROR", "FORBIDDEN_ACCESS", "DUPLICATE_CLIENTID"}

var sources = [...]SourceInfo{
	RejectedReports:     {Name: "rejected-report", Rule: true, TopicFilter: "$aws/things/+/defender/metrics/+/rejected", Severity: Low},
	SecurityDisconnects: {Name: "security-disconnect", Rule: true, TopicFilter: "$aws/events/presence/disconnected/#", Where: anyOf("disconnectReason", SecurityDisconnectReasons), Severity: Medium},
	RefusedConnections:  {Name: "refused-connection", Rule: true, TopicFilter: "$aws/events/presence/connect_failed/#", Severity: Medium},
	DeviceEvents:        {Name: "device-event", Rule: true, FromDevice: true, Clears: true, Severity: Medium},
	AuditNotifications:  {Name: "audit", Clears: true, Severity: Medium},
	DetectNotifications: {Name: "detect", Clears: true, Severity: Medium},
	BehaviorTransitions: {Name: "behavior", Clears: true, Severity: Medium},
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

// Sources returns all sources.
func Sources() []Source {
	all := make([]Source, 0, len(sources)-1)
	for i := range sources[1:] {
		all = append(all, Source(i+1))
	}
	return all
}

// RuleSources returns the sources that IoT rules bring in.
func RuleSources() []Source {
	return slices.DeleteFunc(Sources(), func(s Source) bool { return !s.Info().Rule })
}

// Known reports whether s is one of the sources.
func (s Source) Known() bool { return s > 0 && int(s) < len(sources) }

// Info returns s's row, the zero SourceInfo for an unknown source.
func (s Source) Info() SourceInfo {
	if !s.Known() {
		return SourceInfo{}
	}
	return sources[s]
}

// String is the source's name.
func (s Source) String() string {
	if !s.Known() {
		return fmt.Sprintf("Source(%d)", int(s))
	}
	return sources[s].Name
}

// ParseSource reads a source's name.
func ParseSource(name string) (Source, error) {
	var names []string
	for _, s := range Sources() {
		if s.String() == name {
			return s, nil
		}
		names = append(names, s.String())
	}
	return 0, fmt.Errorf("source %q, want one of %s", name, strings.Join(names, ", "))
}

// DefaultEventTopic is the topic filter on which devices report security events.
const DefaultEventTopic = "defenderhub/events/+"

// SQL is the statement of the source's IoT rule, for SQL version [SQLVersion]. The
// whole payload travels in base64, so that a payload that is no JSON, a missing
// field or a name that SQL cannot write never loses a message. eventTopic is used
// by [DeviceEvents] alone, except, a list of disconnect reasons, by [SecurityDisconnects] alone.
func (s Source) SQL(eventTopic string, except ...string) string {
	row := s.Info()
	fields := []string{
		fmt.Sprintf("'%s' AS source", row.Name),
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
	if s == SecurityDisconnects && len(except) > 0 {
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

// Envelope is a message of the ingest queue that a rule wrote.
type Envelope struct {
	Source string `json:"source"`
	// Topic that the message was published to.
	Topic string `json:"topic"`
	// Time in ms at which the rules engine saw the message; 0 after an error action.
	Time int64 `json:"time,omitempty"`
	// ClientID of the sender, as AWS IoT authenticated it; "n/a" for what did not come over
	// MQTT, such as AWS's own messages.
	ClientID string `json:"clientId,omitempty"`
	// Principal (certificate id for X.509) and SourceIP of the sender, as AWS IoT
	// authenticated it; only for messages that devices publish.
	Principal string `json:"principal,omitempty"`
	SourceIP  string `json:"sourceIp,omitempty"`
	// Payload as published, at most 128 KB.
	Payload []byte `json:"payload"`
	// RuleError is why the rule's action failed, "" when it did not: the envelope was
	// then made from the error action's message, and Principal, SourceIP and Time are lost.
	RuleError string `json:"-"`
	// Thing is the thing of which the sender is a further connection, as its certificate
	// proves; "" for any other sender.
	Thing string `json:"-"`
}

// errorAction is what AWS IoT hands to a rule's error action.
// https://docs.aws.amazon.com/iot/latest/developerguide/rule-error-handling.html
type errorAction struct {
	RuleName string `json:"ruleName"`
	Topic    string `json:"topic"`
	ClientID string `json:"clientId"`
	Payload  []byte `json:"base64OriginalPayload"`
	Failures []struct {
		FailedAction   string `json:"failedAction"`
		FailedResource string `json:"failedResource"`
		ErrorMessage   string `json:"errorMessage"`
	} `json:"failures"`
}

// DecodeEnvelope reads a message that a rule's action or its error action wrote.
// After an error action the topic tells the source: reserved topics are AWS's, any
// other topic belongs to [DeviceEvents].
func DecodeEnvelope(body []byte) (Source, Envelope, error) {
	var e Envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return 0, Envelope{}, fmt.Errorf("queue message is not the JSON of a rule: %w", err)
	}
	if e.Topic == "" {
		return 0, Envelope{}, errors.New("queue message names no topic: it was not written by a rule of defenderhub")
	}
	if e.Source == "" {
		return decodeErrorAction(body)
	}
	source, err := ParseSource(e.Source)
	if err != nil {
		return 0, Envelope{}, err
	}
	if !source.Info().Rule {
		return 0, Envelope{}, fmt.Errorf("source %q does not come from a rule", e.Source)
	}
	return source, e, nil
}

func decodeErrorAction(body []byte) (Source, Envelope, error) {
	var a errorAction
	if err := json.Unmarshal(body, &a); err != nil {
		return 0, Envelope{}, fmt.Errorf("queue message is not the JSON of an error action: %w", err)
	}
	if a.RuleName == "" {
		return 0, Envelope{}, errors.New("queue message names neither a source nor a rule: it was not written by a rule of defenderhub")
	}
	source := sourceOfTopic(a.Topic)
	reasons := []string{"rule " + a.RuleName}
	for _, f := range a.Failures {
		reasons = append(reasons, f.FailedAction+": "+f.ErrorMessage)
	}
	return source, Envelope{Source: source.String(), Topic: a.Topic, ClientID: a.ClientID, Payload: a.Payload, RuleError: strings.Join(reasons, "; ")}, nil
}

func sourceOfTopic(topic string) Source {
	for _, s := range RuleSources() {
		if f := s.Info().TopicFilter; f != "" && TopicMatches(f, topic) {
			return s
		}
	}
	return DeviceEvents
}

// ValidateSources reports unknown and repeated sources of a list, by index.
func ValidateSources(list []Source) error {
	var faults []error
	for i, s := range list {
		field := fmt.Sprintf("[%d]", i)
		if !s.Known() {
			faults = append(faults, invalid(field, s.String(), "one of the sources of package defender, such as defender.RejectedReports"))
		} else if slices.Index(list, s) < i {
			faults = append(faults, invalid(field, s.String(), "each source once"))
		}
	}
	return errors.Join(faults...)
}
