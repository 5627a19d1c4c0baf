package iotrule

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

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

// Decode reads a message that a rule's action or its error action wrote.
// After an error action the topic tells the source: reserved topics are AWS's, any
// other topic belongs to [defender.DeviceEvents].
func Decode(body []byte) (defender.Source, Envelope, error) {
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

func sourceOfTopic(name string) defender.Source {
	for _, s := range Sources() {
		if f := Of(s).TopicFilter; f != "" && topicfilter.Matches(f, name) {
			return s
		}
	}
	return defender.DeviceEvents
}
