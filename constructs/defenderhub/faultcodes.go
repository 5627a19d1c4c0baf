package defenderhub

import "github.com/defenderhub/defenderhub/defender"

// The codes of defender.FieldError that another field can fix. They stay the same when the words
// change.
const (
	// CodeTwoEngines: DetectProps has Native and SelfManaged.
	CodeTwoEngines = "two-engines"
	// CodeNoBehaviors: the engine of DetectProps has nothing to judge.
	CodeNoBehaviors = "no-behaviors"
	// CodeNoReports: no behavior is judged by device reports, and a prop is about them.
	CodeNoReports = "no-reports"
	// CodeSharedTopic: reports and events share a topic.
	CodeSharedTopic = "shared-topic"
	// CodeSentAlready: Device Defender's own integration sends the source already.
	CodeSentAlready = "sent-already"
	// CodeNoEngine: the source needs an engine that is not set.
	CodeNoEngine = "no-engine"
	// CodeUnjudged: DetectProps has behaviors and no engine.
	CodeUnjudged = "unjudged"
	// CodeNoTransitions: the alarms of the self-managed engine are not forwarded.
	CodeNoTransitions = "no-transitions"
	// CodeNoAuditTopic: the topic of the existing audit configuration is not known.
	CodeNoAuditTopic = "no-audit-topic"
	// CodeLostAudits: nothing would import the findings of audits.
	CodeLostAudits = "lost-audits"
	// CodeNothingScheduled: a scheduled audit has no check left.
	CodeNothingScheduled = "nothing-scheduled"
	// CodeNoForwarder: a part needs the forwarder that NoForwarder leaves out.
	CodeNoForwarder = "no-forwarder"
	// CodeNothingForwarded: sources are named although there is no forwarder.
	CodeNothingForwarded = "nothing-forwarded"
)

// coded adds a fault with its code, and with the other fields that end it.
func (f *faults) coded(code, field string, value any, want string, alternatives ...defender.Alternative) {
	*f = append(*f, &defender.FieldError{Field: field, Value: value, Want: want, Code: code, Alternatives: alternatives})
}
