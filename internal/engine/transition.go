package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Transition is a change of an alarm. Its JSON form is the alert that Device Defender
// Detect sends to Amazon SNS; behavior.severity, violationStartTime, endReason and renamedTo are added.
type Transition struct {
	// Time in ms: of the datapoint, or where a window was counted its last millisecond.
	// The transitions of one behavior of a thing have rising times.
	Time int64 `json:"violationEventTime"`
	// Thing is the thing's name, or the client id of a device without one.
	Thing    string            `json:"thingName"`
	Behavior defender.Behavior `json:"behavior"`
	Change   Change            `json:"violationEventType"`
	// Value is the last that was measured; empty in alarm-invalidated and where silence
	// was judged.
	Value iotapi.Value `json:"metricValue,omitzero"`
	// Sampled is set where the device listed a sample of what Value is about only.
	Sampled *iotapi.Partial `json:"sampled,omitempty"`
	// ViolationID follows from profile, behavior, thing and StartTime, so that a repeated
	// evaluation gives the same, and clearing an alarm names the alarm that it clears.
	ViolationID string `json:"violationId"`
	Profile     string `json:"securityProfileName"`
	// StartTime in ms is when the alarm was raised.
	StartTime int64 `json:"violationStartTime"`
	// EndReason is why an alarm was invalidated by the registry, "" where silence did.
	EndReason EndReason `json:"endReason,omitempty"`
	// RenamedTo is the thing's new name, for [ThingRenamed].
	RenamedTo string `json:"renamedTo,omitempty"`
	// Additional is set for learned behaviors.
	Additional *Additional `json:"violationEventAdditionalInfo,omitempty"`
}

// Additional is what a learned behavior adds to a transition.
type Additional struct {
	ConfidenceLevel defender.Confidence `json:"confidenceLevel"`
}

func (c Compiled) transition(thing string, change Change, at, since int64, value *iotapi.Value) Transition {
	t := Transition{
		Time: at, Thing: thing, Behavior: c.Behavior, Change: change, Profile: c.Profile,
		StartTime: since, ViolationID: violationID(c.Profile, c.Behavior.Name, thing, since),
	}
	if value != nil && change != AlarmInvalidated {
		t.Value = *value
	}
	if level := c.Behavior.Criteria.Confidence(); level != "" {
		t.Additional = &Additional{level}
	}
	return t
}

// violationID is 32 hexadecimal digits, like AWS's.
func violationID(profile, behavior, thing string, since int64) string {
	text, _ := json.Marshal([]string{profile, behavior, thing, fmt.Sprint(since)}) // strings always marshal
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
