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
	// Time in ms is that of the datapoint. For a count or a sum it is the last millisecond of the
	// window. The transitions of one behavior of a thing have rising times.
	Time int64 `json:"violationEventTime"`
	// Thing is the thing's name, or the client ID of a device without one.
	Thing    string            `json:"thingName"`
	Behavior defender.Behavior `json:"behavior"`
	Change   Change            `json:"violationEventType"`
	// Value is the last measured value; empty if the alarm was invalidated, or silence was judged.
	Value iotapi.Value `json:"metricValue,omitzero"`
	// Sampled is set if Value is a list of which the device sent only a sample.
	Sampled *iotapi.Partial `json:"sampled,omitempty"`
	// ViolationID is a hash of profile, behavior, thing and StartTime. So a repeated evaluation
	// gives the same ID, and an alarm has one ID from its start to its end.
	ViolationID string `json:"violationId"`
	Profile     string `json:"securityProfileName"`
	// StartTime in ms is when the alarm was raised.
	StartTime int64 `json:"violationStartTime"`
	// EndReason is why the registry invalidated the alarm, "" if silence did.
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
