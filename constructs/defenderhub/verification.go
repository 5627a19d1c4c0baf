package defenderhub

import (
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

// VerificationProps configure [Verification]. The zero value deploys a queue, a function and two
// alarms.
type VerificationProps struct {
	// Function configures the function. It needs network access to AWS IoT and Security Hub.
	// Default: nil, DefenderHubProps.Function within a DefenderHub, else the zero value.
	Function *FunctionProps
	// Prebuilt is the path of a prebuilt lambda/verification. See ForwarderProps.Prebuilt.
	// Default: "", go build compiles it at synthesis.
	Prebuilt string
	// EncryptionKey encrypts the queues and the log group. Its policy must let IAM policies of this
	// account use it, as the CDK's default does. The policy of an imported key must also allow
	// Amazon EventBridge and CloudWatch Logs.
	// Default: nil, DefenderHubProps.EncryptionKey within a DefenderHub, else AWS managed keys.
	EncryptionKey awskms.IKey
	// AlarmTopic is notified when an alarm goes off and when it returns to OK; see
	// DefenderHubProps.AlarmTopic.
	// Default: nil, DefenderHubProps.AlarmTopic within a DefenderHub, else the alarms notify nobody.
	AlarmTopic awssns.ITopic
	// DeadLetters tunes the alarm that goes off when messages are in the dead-letter queue.
	// Default: above 0 messages in 1 of 1 periods.
	DeadLetters Alarm
	// LostEvents tunes the alarm that goes off when Amazon EventBridge can deliver events neither to
	// the queue nor to the dead-letter queue; see CorrelateAlarmsProps.LostEvents.
	// Default: above 0 events in 1 of 1 periods.
	LostEvents Alarm

	// code is the asset of the program, set by compile.
	code awslambda.Code
}

func (p VerificationProps) validate() error {
	var f faults
	f.function(p.Function, p.Prebuilt)
	f.key("EncryptionKey", p.EncryptionKey)
	f.topic("AlarmTopic", p.AlarmTopic)
	f.alarm("DeadLetters", p.DeadLetters)
	f.alarm("LostEvents", p.LostEvents)
	return f.err()
}

// compiles reports whether synthesis must compile the program.
func (p VerificationProps) compiles() bool { return p.Prebuilt == "" }

// compile sets code to the program of Prebuilt, or compiles it.
func (p *VerificationProps) compile() (err error) {
	p.code, err = functionCode(verificationFunction, value(p.Function).Architecture, p.Prebuilt)
	return err
}

// Verification copies the verification states that analysts set in Security Hub to Device Defender
// Detect: TRUE_POSITIVE, FALSE_POSITIVE and BENIGN_POSITIVE, but not UNKNOWN. It reads the findings
// about alarms of Detect in this account and Region, from Detect's own integration and from the
// forwarder.
type Verification interface {
	constructs.Construct
	// Rule sends the events of Security Hub with a verification state to the queue.
	Rule() awscdk.CfnResource
	// Queue receives the events of Security Hub.
	Queue() awssqs.IQueue
	// DeadLetterQueue has the events whose state could not be copied.
	DeadLetterQueue() awssqs.IQueue
	// Function copies the states.
	Function() awslambda.IFunction
	// Alarms are the enabled alarms.
	Alarms() []awscloudwatch.IAlarm
}

type verification struct {
	constructs.Construct
	events   *findingQueue
	function awslambda.Function
	alarms   []awscloudwatch.IAlarm
}

func (v *verification) Rule() awscdk.CfnResource       { return v.events.rule }
func (v *verification) Queue() awssqs.IQueue           { return v.events.queue }
func (v *verification) DeadLetterQueue() awssqs.IQueue { return v.events.deadLetters }
func (v *verification) Function() awslambda.IFunction  { return v.function }
func (v *verification) Alarms() []awscloudwatch.IAlarm { return slices.Clone(v.alarms) }

// These values suit a function that runs rarely, and whose work may be some minutes late.
const (
	verificationTimeout     = time.Minute
	verificationBatchSize   = 10
	verificationConcurrency = 2
	verificationReceives    = 5
)

// NewVerification deploys the rule, the queue and the function. It panics with one error that lists
// every fault of props.
func NewVerification(scope constructs.Construct, id *string, props *VerificationProps) Verification {
	v := &verification{}
	constructs.NewConstruct_Override(v, scope, id)
	p := value(props)
	must(v, errors.Join(p.validate(), alarmTopicFault(v, p.AlarmTopic)))
	must(v, p.compile())

	v.events = newFindingQueue(v, findingQueueOptions{
		description: "Sends alarms of Device Defender Detect that an analyst verified", pattern: verifiedAlarms(), key: p.EncryptionKey,
		visibility: visibility(verificationTimeout, defaultBatchWindow), receives: verificationReceives,
	})
	// AWS documents no resource type for GetFindings (unverified).
	statements := []awsiam.PolicyStatement{v.events.consumePermissions(), allow([]string{"iot:PutVerificationStateOnViolation", "securityhub:GetFindings"}, "*")}
	statements = append(statements, useKey(p.EncryptionKey)...)
	v.function = newGoFunction(v, "Function", goFunction{
		description: "Copies verification states from AWS Security Hub to Device Defender Detect", code: p.code, FunctionProps: value(p.Function),
		timeout: verificationTimeout, memoryMiB: 128, key: p.EncryptionKey, statements: statements,
		environment: map[string]string{contract.EnvLogLevel: value(p.Function).LogLevel.String()},
		suppressions: append(aliasSuppressions(v, p.EncryptionKey), nagSuppression{
			rule: "AwsSolutions-IAM5", reason: "AWS IoT defines no resource type for violations, and any finding may have to be read.",
			findings: []string{"Resource::*"},
		}),
	})
	v.events.consume(v.function, verificationBatchSize, defaultBatchWindow, verificationConcurrency)
	a := newAlarms(v, p.AlarmTopic)
	a.add("DeadLettersAlarm", p.DeadLetters, Alarm{Periods: 1},
		"The dead-letter queue has events that could not be read or delivered, or whose verification state could not be copied to Device Defender. Read the reason in the function's log, correct the cause, then run defenderhub dead-letters retry --queue VerificationDeadLetters",
		v.events.deadLetters.MetricApproximateNumberOfMessagesVisible(fiveMinutes("Maximum")))
	a.add("LostEventsAlarm", p.LostEvents, Alarm{Periods: 1}, lostEvents, v.events.lost())
	v.alarms = a.made
	return v
}

// verifiedAlarms returns the event pattern of findings about alarms of Detect that have a
// verification state.
func verifiedAlarms() map[string]any {
	return map[string]any{
		"source": []any{findingevent.Source}, "detail-type": []any{findingevent.DetailType},
		"detail": map[string]any{"findings": map[string]any{
			"AwsAccountId":      []any{awscdk.Aws_ACCOUNT_ID()},
			"Region":            []any{awscdk.Aws_REGION()},
			"ProductArn":        []any{productARN("", findingevent.DetectProduct), defaultProductARN()},
			"ProductFields":     map[string]any{"ViolationId": []any{map[string]any{"exists": true}}},
			"VerificationState": []any{"TRUE_POSITIVE", "FALSE_POSITIVE", "BENIGN_POSITIVE"},
		}},
	}
}
