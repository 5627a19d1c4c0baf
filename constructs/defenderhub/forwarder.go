package defenderhub

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	rulefile "github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/deviceevent"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// ForwarderProps configure [Forwarder].
type ForwarderProps struct {
	// AuditTopic is the topic of audit results, in the stack's Region: results do not name theirs. A
	// DefenderHub sets it if DefenderHubProps.Forward has defender.AuditNotifications.
	// Default: nil, audits are not forwarded.
	AuditTopic awssns.ITopic
	// DetectTopic is the topic of the alarms of a Device Defender Detect that you configured
	// without [Detect].
	// Default: nil, only the alarms of Detects are forwarded.
	DetectTopic awssns.ITopic
	// Detects are the props of each [Detect] that has this forwarder as DetectProps.Forwarder. The
	// forwarder takes the severities of behaviors from them. It archives findings of behaviors that
	// no Detect lists. NewDetect validates the props. A DefenderHub sets them from
	// DefenderHubProps.Detect.
	// Default: nil, no Detect sends alarms to this forwarder.
	Detects []*DetectProps
	// Correlate are the props of the [Correlate] that has this forwarder as
	// CorrelateProps.Forwarder. The forwarder ends the composite findings of all other rules.
	// NewCorrelate validates the props. A DefenderHub sets them from DefenderHubProps.Correlate.
	// Default: nil, all composite findings end within a day.
	Correlate *CorrelateProps
	// EventTopic is RulesProps.EventTopic, the MQTT topic filter on which devices report security
	// events. A DefenderHub sets it.
	// Default: "", defenderhub/events/+.
	EventTopic string
	// ClientPattern maps the client IDs of a thing's additional connections to the thing. It is a
	// regular expression (RE2) of at most 256 bytes that matches a whole client ID and has one
	// capture, the thing's name.
	//
	// The forwarder counts a client ID as the thing only if its certificate is attached to that
	// thing alone. Device events and the self-managed engine treat these client IDs as one device.
	// Default: "", ([a-zA-Z0-9:_-]+)#[0-9]+, for example THING#2, as AWS IoT Greengrass connects.
	ClientPattern string
	// QuietTime is how long a finding of the rules stays active without a new event, in whole seconds
	// from 1 hour to 80 days. No event ends such a finding.
	// Default: 0, which means 7 days.
	QuietTime time.Duration
	// Severities replace the severities of sources. The severity of a device event or a behavior
	// overrides them. A change reaches active findings in hourly runs: docs/findings.md says how many
	// findings a run updates.
	// Default: nil, LOW for rejected reports, the check's severity for audits, HIGH for composite
	// findings, MEDIUM for the others.
	Severities map[defender.Source]defender.Severity
	// DisconnectSeverities are severities by disconnect reason (AUTH_ERROR, FORBIDDEN_ACCESS or
	// DUPLICATE_CLIENTID). They override the severity of the source. To leave out a reason, set
	// RulesProps.ExceptDisconnects.
	// Default: nil, the severity of defender.SecurityDisconnects.
	DisconnectSeverities map[string]defender.Severity
	// EventTypes are the expected types of device events, with their severities. SeverityDefault
	// keeps the severity of the event. All other types of a device share one finding with the
	// source's severity, so that the number of a device's findings is limited.
	//
	// The types, all other severities and the behaviors of SelfManagedProps share the function's
	// environment of 4 KB. Synthesis fails if they are too large.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	// Default: nil, each of the first 20 types of a device has its own finding with the severity of
	// the event. All other types of the device share one finding.
	EventTypes map[string]defender.Severity

	// BatchSize is the maximum number of messages per invocation, 1 to 10000.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
	// Default: 0, which means 100.
	BatchSize int
	// BatchWindow is how long Lambda waits for a batch to fill, in whole seconds from 1 second to
	// 5 minutes.
	// Default: 0, which means 2 seconds.
	BatchWindow time.Duration
	// MaxConcurrency is the maximum number of concurrent invocations per queue, 2 to 1000.
	// Security Hub allows 10 calls of BatchImportFindings per second, per account and Region.
	// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_BatchImportFindings.html
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
	// Default: 0, which means 5.
	MaxConcurrency int

	// Function configures the functions. They need network access to Security Hub, Amazon SQS,
	// DynamoDB and, if audits or device events are forwarded, AWS IoT.
	// Default: nil, DefenderHubProps.Function within a DefenderHub, else the zero value.
	Function *FunctionProps
	// Prebuilt is the path of a prebuilt lambda/forwarder for Linux on the functions'
	// Architecture, for machines without Go: the executable, or a zip that contains it with the
	// name bootstrap, such as those of each release.
	// Default: "", go build compiles it at synthesis.
	Prebuilt string
	// MemoryMiB is the memory of each function, 128 to 10240 MiB, and enough for BatchSize. A batch
	// has up to 6 MB, and processing it takes several times as much: as measured, 128 MiB for 1,000
	// messages, 256 for 4,000, 320 for 8,000 and 384 for 10,000. GOMEMLIMIT, the limit of the Go
	// runtime, is four fifths of MemoryMiB.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
	// Default: 0, which means 256, or more if BatchSize needs it.
	MemoryMiB int
	// Timeout is the timeout of the function for events, in whole seconds from 10 seconds to
	// 15 minutes. The queues retry a message after BatchWindow and six times Timeout, as AWS advises.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
	// Default: 0, which means 1 minute.
	Timeout time.Duration
	// AuditTimeout is the timeout of the function for audits, in whole seconds from 1 to 15 minutes.
	// If it ends during an audit with many findings, the next invocation resumes the audit.
	// Default: 0, which means 5 minutes.
	AuditTimeout time.Duration

	// EncryptionKey encrypts queues, ledger and log groups. Its policy must let IAM policies of
	// this account use it, as the CDK's default does. The policy of an imported key must also
	// allow Amazon SNS and CloudWatch Logs.
	// Default: nil, AWS managed keys.
	EncryptionKey awskms.IKey
	// PointInTimeRecovery lets you restore the ledger to any second of the last 35 days. If the
	// ledger is lost, the next events are imported as new findings, and active findings stay active
	// until Security Hub deletes them after 90 days.
	PointInTimeRecovery bool
	// LedgerRemovalPolicy is the ledger's removal policy.
	// Default: "", awscdk.RemovalPolicy_DESTROY, which deletes the ledger with the stack.
	LedgerRemovalPolicy awscdk.RemovalPolicy
	// DetailedMetrics also counts imported findings by severity, and the calls of Security Hub, in
	// up to seven more metrics. CloudWatch charges 0.30 USD a month for each (list price). A
	// DefenderHub with a Dashboard sets it.
	// https://aws.amazon.com/cloudwatch/pricing/
	DetailedMetrics bool
	// AlarmTopic is notified when an alarm goes off and when it returns to OK; see
	// DefenderHubProps.AlarmTopic.
	// Default: nil, DefenderHubProps.AlarmTopic within a DefenderHub, else the alarms notify nobody.
	AlarmTopic awssns.ITopic
	// Alarms tune the alarms.
	// Default: nil, six alarms.
	Alarms *AlarmsProps

	// code is the asset of the program, set by compile.
	code awslambda.Code
	// withoutEvents reports whether no rule forwards device events.
	withoutEvents bool
}

const (
	defaultTimeout      = time.Minute
	defaultAuditTimeout = 5 * time.Minute
	defaultMemoryMiB    = 256
	defaultBatchSize    = 100
	defaultBatchWindow  = 2 * time.Second
	defaultConcurrency  = 5
	// refreshInterval is how often the forwarder looks for quiet findings, and for findings that
	// Security Hub would soon delete.
	refreshInterval = time.Hour
)

func (p ForwarderProps) validate() error {
	var f faults
	if p.EventTopic != "" && !unresolved(p.EventTopic) {
		f.under("EventTopic", iotrule.ValidateEventTopic(p.EventTopic))
	}
	f.under("ClientPattern", validateClientPattern(p.ClientPattern))
	f.topic("AuditTopic", p.AuditTopic)
	f.topic("DetectTopic", p.DetectTopic)
	f.key("EncryptionKey", p.EncryptionKey)
	f.duration("QuietTime", p.QuietTime, time.Hour, 80*24*time.Hour)
	f.under("Severities", validateSeverities(p.Severities))
	f.under("DisconnectSeverities", validateNamedSeverities(p.DisconnectSeverities, "one of "+strings.Join(iotrule.SecurityDisconnectReasons, ", "),
		func(reason string) bool { return slices.Contains(iotrule.SecurityDisconnectReasons, reason) }))
	f.under("EventTypes", validateNamedSeverities(p.EventTypes, "a type of 1 to 64 of a-z 0-9 -", deviceevent.ValidType))
	f.under("", p.validateDetects())
	f.under("", p.validateEnvironment())
	f.batch(p.BatchSize, "messages", p.BatchWindow, p.MaxConcurrency)
	f.function(p.Function, p.Prebuilt)
	f.number("MemoryMiB", p.MemoryMiB, 128, 10240, "MiB")
	if need := contract.MemoryForBatch(or(p.BatchSize, defaultBatchSize)); p.MemoryMiB >= 128 && p.MemoryMiB < need {
		f.add("MemoryMiB", p.MemoryMiB, fmt.Sprintf("at least %d MiB for a BatchSize of %d, or a smaller BatchSize", need, or(p.BatchSize, defaultBatchSize)))
	}
	f.duration("Timeout", p.Timeout, 10*time.Second, 15*time.Minute)
	f.duration("AuditTimeout", p.AuditTimeout, time.Minute, 15*time.Minute)
	f.removalPolicy("LedgerRemovalPolicy", p.LedgerRemovalPolicy)
	f.topic("AlarmTopic", p.AlarmTopic)
	f.under("Alarms", value(p.Alarms).validate())
	return f.err()
}

func validateClientPattern(pattern string) error {
	if unresolved(pattern) {
		return &defender.FieldError{Value: deployTime, Want: "a regular expression that is known at synthesis"}
	}
	_, err := contract.ParseClientPattern(pattern)
	return err
}

func validateLogLevel(level slog.Level) error {
	switch level {
	case slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError:
		return nil
	}
	return &defender.FieldError{Value: level.String(), Want: "slog.LevelDebug, LevelInfo, LevelWarn or LevelError"}
}

func validateSeverities(severities map[defender.Source]defender.Severity) error {
	var f faults
	for _, s := range slices.Sorted(maps.Keys(severities)) {
		field := "[" + s.String() + "]"
		if !s.Known() {
			f.add(field, s.String(), "one of the sources of package defender, such as defender.RejectedReports")
		} else {
			f.severity(field, severities[s])
		}
	}
	return f.err()
}

// validateNamedSeverities reports unknown names and severities, by name.
func validateNamedSeverities(severities map[string]defender.Severity, names string, known func(string) bool) error {
	var f faults
	for _, name := range slices.Sorted(maps.Keys(severities)) {
		field := fmt.Sprintf("[%q]", name)
		if !known(name) {
			f.add(field, name, names)
		}
		f.severity(field, severities[name])
	}
	return f.err()
}

// compiles reports whether synthesis must compile the program.
func (p *ForwarderProps) compiles() bool { return p.Prebuilt == "" }

// compile sets code: to Prebuilt, or to the compiled program.
func (p *ForwarderProps) compile() (err error) {
	p.code, err = functionCode(forwarderFunction, value(p.Function).Architecture, p.Prebuilt)
	return err
}

// Forwarder imports events as findings into Security Hub.
type Forwarder interface {
	constructs.Construct
	// Queue receives the messages of all sources except audits. The forwarder trusts them, so only
	// AWS IoT rules and the parts of this package may send to it. Your own programs can publish
	// device events instead: see docs/device-events.md.
	Queue() awssqs.IQueue
	// ErrorQueue receives the messages of the rules' error actions.
	ErrorQueue() awssqs.IQueue
	// AuditSubscription sends the results of audits to AuditQueue; nil without AuditTopic.
	AuditSubscription() awssns.Subscription
	// AuditQueue receives the results of audits; nil without AuditTopic.
	AuditQueue() awssqs.IQueue
	// DeadLetterQueue has the messages that could not be imported, with the reason as attributes.
	DeadLetterQueue() awssqs.IQueue
	// Function imports the findings of events.
	Function() awslambda.IFunction
	// AuditFunction imports the findings of audits; nil without AuditTopic.
	AuditFunction() awslambda.IFunction
	// Ledger stores the first time, last time and state of each finding.
	Ledger() awsdynamodb.ITable
	// Alarms are the enabled alarms.
	Alarms() []awscloudwatch.IAlarm
	// MetricReceived counts messages that arrived.
	// Default: the sum over 5 minutes.
	MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricImported counts active findings that were imported; archived ones count separately.
	// Default: the sum over 5 minutes.
	MetricImported(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricImportCalls counts calls of BatchImportFindings; nil without DetailedMetrics.
	// Default: the sum over 5 minutes.
	MetricImportCalls(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricArchived counts findings that were archived.
	// Default: the sum over 5 minutes.
	MetricArchived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricUnchanged counts findings that needed no import.
	// Default: the sum over 5 minutes.
	MetricUnchanged(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricFailed counts findings that could not be imported. They are retried, unless Security Hub
	// refused them.
	// Default: the sum over 5 minutes.
	MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricRefused counts messages that the forwarder moved to the dead-letter queue, and findings
	// without a message that it sent there.
	// Default: the sum over 5 minutes.
	MetricRefused(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricSecurityHubOff counts imports that failed because Security Hub is not enabled.
	// Default: the sum over 5 minutes.
	MetricSecurityHubOff(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric

	// agreement returns the settings that the parts that send to the forwarder must share.
	agreement() agreement
	// subscribeAlarms subscribes Queue to a topic of Device Defender Detect.
	subscribeAlarms(topic awssns.ITopic)
}

// agreement holds the settings that a forwarder shares with the parts that send to it.
type agreement struct {
	clientPattern string
	// eventTopic is the topic filter of device events, "" if they are not forwarded.
	eventTopic string
	// detects are the behaviors of each Detect that sends its alarms.
	detects []judged
	// rules are the correlation rules, nil without a Correlate.
	rules rulefile.LiveRules
}

type forwarder struct {
	constructs.Construct
	queue, errorQueue, auditQueue, deadLetters awssqs.Queue
	function, auditFunction                    awslambda.Function
	ledger                                     awsdynamodb.Table
	alarms                                     []awscloudwatch.IAlarm
	auditSubscription                          awssns.Subscription
	key                                        awskms.IKey
	detailed                                   bool
	agreed                                     agreement
}

func (f *forwarder) Queue() awssqs.IQueue           { return f.queue }
func (f *forwarder) ErrorQueue() awssqs.IQueue      { return f.errorQueue }
func (f *forwarder) DeadLetterQueue() awssqs.IQueue { return f.deadLetters }
func (f *forwarder) Function() awslambda.IFunction  { return f.function }
func (f *forwarder) Ledger() awsdynamodb.ITable     { return f.ledger }
func (f *forwarder) Alarms() []awscloudwatch.IAlarm {
	return append([]awscloudwatch.IAlarm(nil), f.alarms...)
}

func (f *forwarder) AuditSubscription() awssns.Subscription { return f.auditSubscription }
func (f *forwarder) agreement() agreement                   { return f.agreed }

func (f *forwarder) AuditQueue() awssqs.IQueue {
	if f.auditQueue == nil {
		return nil
	}
	return f.auditQueue
}

func (f *forwarder) AuditFunction() awslambda.IFunction {
	if f.auditFunction == nil {
		return nil
	}
	return f.auditFunction
}

// NewForwarder creates the queues, the functions and the ledger. It panics with one error that
// lists every fault of props.
func NewForwarder(scope constructs.Construct, id *string, props *ForwarderProps) Forwarder {
	f := &forwarder{}
	constructs.NewConstruct_Override(f, scope, id)
	p := value(props)
	var elsewhere faults
	elsewhere.alarmTopic(f, "AlarmTopic", p.AlarmTopic)
	elsewhere.auditTopic(f, "AuditTopic", p.AuditTopic)
	must(f, errors.Join(p.validate(), elsewhere.err()))
	must(f, p.compile())

	f.key, f.detailed = p.EncryptionKey, p.DetailedMetrics
	f.agreed = agreement{clientPattern: p.ClientPattern}
	if !p.withoutEvents {
		f.agreed.eventTopic = or(p.EventTopic, iotrule.DefaultEventTopic)
	}
	for _, d := range p.Detects {
		f.agreed.detects = append(f.agreed.detects, d.judged())
	}
	if p.Correlate != nil {
		f.agreed.rules = p.Correlate.live()
	}
	f.makeQueues(p)
	f.ledger = newLedger(f, p)
	f.function = f.newFunction("Function", p, or(p.Timeout, defaultTimeout), true, "Imports security events of AWS IoT into AWS Security Hub")
	if live, _ := p.behaviors(); live != nil {
		f.function.AddEnvironment(new(contract.EnvLiveBehaviors), new(live.String()), nil)
	}
	if f.agreed.rules != nil {
		f.function.AddEnvironment(new(contract.EnvLiveRules), new(f.agreed.rules.String()), nil)
	}
	f.queue.GrantConsumeMessages(f.function)
	f.errorQueue.GrantConsumeMessages(f.function)
	consumeQueues(f.function, or(p.BatchSize, defaultBatchSize), or(p.BatchWindow, defaultBatchWindow), or(p.MaxConcurrency, defaultConcurrency), f.queue, f.errorQueue)
	if p.AuditTopic != nil {
		f.auditFunction = f.newFunction("AuditFunction", p, or(p.AuditTimeout, defaultAuditTimeout), false, "Imports the findings of Device Defender audits into AWS Security Hub")
		f.consumeAudits(f.auditFunction)
	}
	f.subscribe(p)
	f.refresh()
	f.alarms = f.newAlarms(p)
	return f
}
