package defenderhub

import (
	"github.com/defenderhub/defenderhub/defender"
	rulefile "github.com/defenderhub/defenderhub/internal/correlation"
)

// The codes of errors that a change of another field can fix, in defender.FieldError.Code. They
// stay the same when the words of an error change.
const (
	// CodeTwoEngines: DetectProps has Native and SelfManaged.
	CodeTwoEngines = "two-engines"
	// CodeNoBehaviors: the engine of DetectProps has nothing to judge.
	CodeNoBehaviors = "no-behaviors"
	// CodeNoReports: a prop about device reports is set, but no behavior uses them.
	CodeNoReports = "no-reports"
	// CodeSharedTopic: device reports and device events share a topic.
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
	// CodeLostAudits: nothing imports the findings of audits.
	CodeLostAudits = "lost-audits"
	// CodeNothingScheduled: a scheduled audit has no check left.
	CodeNothingScheduled = "nothing-scheduled"
	// CodeNoForwarder: a part needs the forwarder that NoForwarder leaves out.
	CodeNoForwarder = "no-forwarder"
	// CodeNothingForwarded: Forward names sources although NoForwarder is set.
	CodeNothingForwarded = "nothing-forwarded"
	// CodeNoFleetSize: a rule's spread is a share of a fleet of unknown size.
	CodeNoFleetSize = rulefile.CodeNoFleetSize
	// CodeProductsAndSources: a NotifyFilter has Products and Sources.
	CodeProductsAndSources = "products-and-sources"
	// CodeLongEnvironment: the environment of the forwarder's functions is longer than AWS allows.
	CodeLongEnvironment = "long-environment"
	// CodeRuledOut: this field can be set only with another value of another field.
	CodeRuledOut = "ruled-out"
)

// coded adds a fault with its code and with the changes of other fields that fix it.
func (f *faults) coded(code, field string, value any, want string, alternatives ...defender.Alternative) {
	*f = append(*f, &defender.FieldError{Field: field, Value: value, Want: want, Code: code, Alternatives: alternatives})
}
