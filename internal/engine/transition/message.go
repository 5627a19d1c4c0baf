// Package transition is the message in which the evaluator of the self-managed engine
// tells the forwarder of an alarm. Both sides read and write this one type.
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
	// Thing is the name of the thing that the device is, or the client id where the registry
	// holds none or did not answer.
	Thing string
	// ClientID identifies the device: its MQTT client ID, or the thing's
	// name if it only publishes over HTTPS.
	ClientID string
	// Registered reports whether the registry has the thing; nil if that is unknown.
	Registered *bool
	Transition engine.Transition
}

// maxTime in ms is up to where every reader of JSON takes a number as it is written.
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

// UnmarshalJSON reads what MarshalJSON writes. A message of another source, and one that
// says neither of what device nor what changed, is an error.
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
		return errors.New("transition of a behavior names no client id")
	case t.Behavior.Name == "" || t.Profile == "" || t.ViolationID == "" || t.Time <= 0 || t.Time > maxTime || t.StartTime < 0 || t.StartTime > maxTime:
		return errors.New("transition of a behavior wants a behavior, a security profile, a violation id and times in ms since 1970")
	case t.Change != engine.InAlarm && t.Change != engine.AlarmCleared && t.Change != engine.AlarmInvalidated:
		return fmt.Errorf("transition of a behavior has type %q, want %s, %s or %s", t.Change, engine.InAlarm, engine.AlarmCleared, engine.AlarmInvalidated)
	}
	*m = Message{in.Thing, in.ClientID, in.Registered, t}
	return nil
}
