package iotrule

import (
	"errors"
	"fmt"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/leanjson"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// Envelope is a message that an IoT rule wrote to the ingest queue.
type Envelope struct {
	Source string `json:"source"`
	// Topic is the topic that the message was published to.
	Topic string `json:"topic"`
	// Time is when the rules engine received the message, in ms since 1970; 0 after an error
	// action.
	Time int64 `json:"time,omitempty"`
	// ClientID is the sender's client ID as AWS IoT authenticated it. It is "n/a" for messages
	// that were not sent over MQTT, such as AWS's own.
	ClientID string `json:"clientId,omitempty"`
	// Principal (the certificate ID for X.509) and SourceIP of the sender, as AWS IoT
	// authenticated them. Only messages that devices publish have them.
	Principal string `json:"principal,omitempty"`
	SourceIP  string `json:"sourceIp,omitempty"`
	// Payload is the published payload, at most 128 KB.
	Payload []byte `json:"payload"`
	// RuleError says why the rule's action failed; "" if it did not. The envelope of a failed
	// action comes from the error action, without Principal, SourceIP and Time.
	RuleError string `json:"-"`
	// Thing is set if the sender is an additional connection of a thing, as proved by its
	// certificate.
	Thing string `json:"-"`
}

// errorAction is the message that AWS IoT passes to a rule's error action.
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

// Decode decodes a message that a rule's action or error action wrote. An error action's message
// does not name the source, but the topic identifies it: reserved topics are AWS's, all others
// belong to [defender.DeviceEvents].
func Decode(body []byte) (defender.Source, Envelope, error) {
	var e Envelope
	if err := leanjson.Unmarshal(body, &e); err != nil {
		return 0, Envelope{}, fmt.Errorf("queue message is not the JSON of a rule: %w", err)
	}
	if e.Topic == "" {
		return 0, Envelope{}, errors.New("queue message names no topic: it was not written by a rule of defenderhub")
	}
	if e.Source == "" {
		return decodeErrorAction(body)
	}
	source, err := defender.ParseSource(e.Source)
	if err != nil {
		return 0, Envelope{}, err
	}
	if !Sends(source) {
		return 0, Envelope{}, fmt.Errorf("source %q does not come from a rule", e.Source)
	}
	return source, e, nil
}

func decodeErrorAction(body []byte) (defender.Source, Envelope, error) {
	var a errorAction
	if err := leanjson.Unmarshal(body, &a); err != nil {
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

func sourceOfTopic(name string) defender.Source {
	for _, s := range Sources() {
		if f := Of(s).TopicFilter; f != "" && topicfilter.Matches(f, name) {
			return s
		}
	}
	return defender.DeviceEvents
}
