// Package transition holds the message in which the evaluator of the self-managed engine sends a
// change of an alarm to the forwarder. Both sides use this one type.
package transition

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
)

// Message is one transition of a behavior of one device.
type Message struct {
	// Thing is the name of the device's thing. It is the client ID if the registry has no such
	// thing or did not answer.
	Thing string
	// ClientID identifies the device: its MQTT client ID, or the thing's
	// name if it only publishes over HTTPS.
	ClientID string
	// Registered reports whether the registry has the thing; nil if that is unknown.
	Registered *bool
	Transition engine.Transition
}

// maxTime in ms is the largest number that every reader of JSON reads exactly.
const maxTime = 1 << 53

type messageJSON struct {
	Source     string            `json:"source"`
	Thing      string            `json:"thing,omitempty"`
	ClientID   string            `json:"clientId"`
	Registered *bool             `json:"registered,omitempty"`
	Transition engine.Transition `json:"transition"`
}

// MarshalJSON writes the form of the forwarder's queue.
func (m Message) MarshalJSON() ([]byte, error) {
	return json.Marshal(messageJSON{defender.BehaviorTransitions.String(), m.Thing, m.ClientID, m.Registered, m.Transition})
}

// UnmarshalJSON reads what MarshalJSON writes. It returns an error for a message of another source,
// and for one that lacks the device or the change.
func (m *Message) UnmarshalJSON(data []byte) error {
	var in messageJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("transition of a behavior: %w", err)
	}
	t := in.Transition
	switch {
	case in.Source != defender.BehaviorTransitions.String():
		return fmt.Errorf("transition of a behavior has source %q, want %s", in.Source, defender.BehaviorTransitions)
	case in.ClientID == "":
		return errors.New("transition of a behavior has no client ID")
	case t.Behavior.Name == "" || t.Profile == "" || t.ViolationID == "" || t.Time <= 0 || t.Time > maxTime || t.StartTime < 0 || t.StartTime > maxTime:
		return errors.New("transition of a behavior lacks its behavior, security profile or violation ID, or has no valid times in ms since 1970")
	case t.Change != engine.InAlarm && t.Change != engine.AlarmCleared && t.Change != engine.AlarmInvalidated:
		return fmt.Errorf("transition of a behavior has type %q, want %s, %s or %s", t.Change, engine.InAlarm, engine.AlarmCleared, engine.AlarmInvalidated)
	}
	*m = Message{in.Thing, in.ClientID, in.Registered, t}
	return nil
}
