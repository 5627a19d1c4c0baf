package defenderhub

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskinesis"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// Transport is how telemetry gets from the IoT rules to the evaluator.
type Transport int

const (
	// TransportSQS is an Amazon SQS queue. It costs nothing while nothing happens.
	TransportSQS Transport = iota
	// TransportKinesis is an Amazon Kinesis data stream, which keeps the records of each thing in
	// order. It also costs money when idle, but less than a queue for a large fleet that sends
	// reports.
	TransportKinesis
)

// Transports returns all transports, in the order of their constants.
func Transports() []Transport { return []Transport{TransportSQS, TransportKinesis} }

// String returns the name in the app's configuration.
func (t Transport) String() string {
	switch t {
	case TransportSQS:
		return "sqs"
	case TransportKinesis:
		return "kinesis"
	}
	return fmt.Sprintf("Transport(%d)", int(t))
}

func (t Transport) validate() error {
	if t != TransportSQS && t != TransportKinesis {
		return &defender.FieldError{Value: int(t), Want: "TransportSQS or TransportKinesis"}
	}
	return nil
}

// ReservedReportTopic is the topic filter on which AWS's own agents send their device reports to
// Device Defender. No AWS page says that IoT rules receive these messages (unverified), so try it
// with one device first.
const ReservedReportTopic = "$aws/things/+/defender/metrics/+"

// DefaultProfile is the name of the security profile of DetectProps.Behaviors with the
// self-managed engine.
const DefaultProfile = "defenderhub"

// SelfManagedProps configure the self-managed engine. The zero value judges with a queue and two
// functions that cost nothing while nothing happens.
type SelfManagedProps struct {
	// Transport is how telemetry gets from the IoT rules to the evaluator. Changing it loses
	// messages in flight, usually those of some seconds.
	// Default: TransportSQS.
	Transport Transport
	// Shards is the number of shards of the stream, 1 to 200, each for 1 MB and 1000 records per
	// second.
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html Default: 0, an
	// on-demand stream.
	Shards int
	// ReportTopic is the MQTT topic filter on which devices send their reports. It has at most
	// 256 bytes and 7 slashes, no variables, and at least one level without a wildcard. It must
	// not share topics with RulesProps.EventTopic. Only [ReservedReportTopic], the topics of
	// AWS's agents, may begin with $. The evaluator answers unreadable reports on TOPIC/rejected.
	//
	// Default: "", Basic Ingest, without a charge for messages: devices publish to
	// $aws/rules/RULE/..., where RULE is [Detect.ReportsRuleName].
	ReportTopic string
	// ReportsRuleName is the name of the rule for device reports, 1 to 128 of A-Z a-z 0-9 _. With
	// Basic Ingest it is part of the topic. So set it if devices of several accounts or Regions
	// run the same firmware, or if the topic must outlive the stack. Changing it replaces the
	// rule.
	// Default: "", a name that CloudFormation generates, different in each stack.
	ReportsRuleName string

	// ReportInterval is how often devices send their reports, in whole seconds from 10 seconds to
	// 1 hour.
	//
	// If it is shorter than a behavior's window of bytes or packets, the window is judged by the
	// sum of its reports. Then each report is stored, even a conforming one: docs/detect.md says
	// what that costs. More frequent reports are counted in the metric FrequentReports.
	// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html Default: 0, which
	// means 5 minutes, the minimum that AWS advises: a window of 5 minutes is judged by its
	// largest report.
	ReportInterval time.Duration
	// ConfirmFirstTraffic is for agents, such as AWS's, that send their counters since boot as
	// the first report: docs/detect.md lists them. The first value of bytes or packets of a new
	// connection, or of an unknown device, is a datapoint only if the next window confirms it. So
	// an alarm about traffic is one window later.
	ConfirmFirstTraffic bool
	// ReportsEvery raises a finding if a device that has sent a report sends none for this time,
	// in whole minutes from 5 minutes to 24 hours. A shorter time stores more of a device's
	// reports: docs/detect.md says what that costs.
	// Default: 0, silence is not judged.
	ReportsEvery time.Duration
	// ReportsSeverity is the severity of devices that send no report, or no readable one.
	// Default: SeverityDefault, MEDIUM.
	ReportsSeverity defender.Severity
	// MinDatapoints is how many datapoints of the fleet a percentile needs before it judges, 1 to
	// 1,000,000.
	// Default: 0, which means 100.
	MinDatapoints int
	// MembershipAge is how long a thing's name and groups from the registry are cached, in whole
	// minutes from 1 minute to 24 hours.
	// Default: 0, which means 15 minutes.
	MembershipAge time.Duration
	// UnregisteredLifetime is how long after its last datapoint an alarm of an unregistered
	// client ends, if only time decides about it (disconnect-duration, ReportsEvery). In whole
	// minutes from 1 hour to 365 days. The alarm of a thing ends when the thing is deleted,
	// renamed or moved out of the targets.
	// Default: 0, which means 14 days.
	UnregisteredLifetime time.Duration

	// BatchSize is the maximum number of messages of the rules per invocation, 1 to 10000.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html Default: 0, which
	// means 1000.
	BatchSize int
	// BatchWindow is how long Lambda waits for a batch to fill, 1 second to 5 minutes. It delays
	// findings, but costs less if batches do not fill.
	// Default: 0, which means 10 seconds.
	BatchWindow time.Duration
	// MaxConcurrency is the maximum number of concurrent invocations per queue, 2 to 1000. A
	// stream has one per shard.
	// Default: 0, which means 10.
	MaxConcurrency int
	// Closers is how many invocations per minute share the work of judging silent devices, 1 to
	// 16. From two on, each has its own alarm and metric.
	// Default: 0, which means 1.
	Closers int

	// Function configures the functions. They need a way to DynamoDB, Amazon SQS, AWS IoT with
	// its data plane, and CloudWatch Logs, and with TransportKinesis the closer one to Amazon
	// Kinesis.
	// Default: nil, DefenderHubProps.Function within a DefenderHub, else the zero value.
	Function *FunctionProps
	// Prebuilt is the path of a prebuilt lambda/evaluator, as ForwarderProps.Prebuilt says. The
	// behaviors are deployed in a file beside it.
	// Default: "", go build compiles it at synthesis.
	Prebuilt string
	// MemoryMiB is 128 to 10240.
	// Default: 0, which means 256.
	MemoryMiB int
	// Timeout of the functions, 10 seconds to 15 minutes. The queues hide a message for
	// BatchWindow and six times Timeout, as AWS advises, before it is retried.
	// Default: 0, which means 1 minute.
	Timeout time.Duration

	// PointInTimeRecovery lets you restore the state table to any second of the last 35 days.
	// Without its state, a device is judged anew, and a baseline is learned again.
	PointInTimeRecovery bool
	// StateRemovalPolicy is the state table's removal policy.
	// Default: "", awscdk.RemovalPolicy_DESTROY, it is deleted with the stack.
	StateRemovalPolicy awscdk.RemovalPolicy
	// AlarmTopic is notified when an alarm goes off and when it ends; see
	// DefenderHubProps.AlarmTopic.
	// Default: nil, DefenderHubProps.AlarmTopic within a DefenderHub, else the alarms notify nobody.
	AlarmTopic awssns.ITopic
	// Alarms tune the alarms.
	// Default: nil, eleven alarms.
	Alarms *SelfManagedAlarmsProps

	// executable is the path of Prebuilt, or of what compile built.
	executable string
}

const (
	// leastReportInterval keeps the reports of a window of 30 minutes below those that a sum
	// takes exactly, and of an hour near: see [evaluate.MaxTally].
	leastReportInterval = 10 * time.Second
	mostReportInterval  = time.Hour

	defaultEvaluatorBatchSize   = 1000
	defaultEvaluatorBatchWindow = 10 * time.Second
	defaultEvaluatorConcurrency = 10
	defaultMembershipAge        = 15 * time.Minute
	defaultClosers              = 1
)

func (p SelfManagedProps) validate() error {
	var f faults
	f.under("Transport", p.Transport.validate())
	f.number("Shards", p.Shards, 1, 200, "shards")
	if p.Transport == TransportSQS {
		f.connected("Shards", p.Shards, "set Transport: TransportKinesis as well")
	} else {
		f.connected("MaxConcurrency", p.MaxConcurrency, "a stream causes one invocation for each shard; set Shards")
	}
	if p.ReportTopic != "" {
		f.under("ReportTopic", validateReportTopic(p.ReportTopic))
	}
	if p.ReportsRuleName != "" && !unresolved(p.ReportsRuleName) {
		f.under("ReportsRuleName", iotrule.ValidateName(p.ReportsRuleName))
	}
	f.duration("ReportInterval", p.ReportInterval, leastReportInterval, mostReportInterval)
	f.minutes("ReportsEvery", p.ReportsEvery, 5*time.Minute, 24*time.Hour)
	if p.ReportsSeverity < defender.SeverityDefault || p.ReportsSeverity > defender.Critical {
		f.add("ReportsSeverity", int(p.ReportsSeverity), "SeverityDefault, Informational, Low, Medium, High or Critical")
	}
	f.number("MinDatapoints", p.MinDatapoints, 1, 1_000_000, "datapoints")
	f.minutes("MembershipAge", p.MembershipAge, time.Minute, 24*time.Hour)
	f.minutes("UnregisteredLifetime", p.UnregisteredLifetime, time.Hour, 365*24*time.Hour)
	f.number("BatchSize", p.BatchSize, 1, 10000, "messages")
	f.duration("BatchWindow", p.BatchWindow, time.Second, 5*time.Minute)
	f.number("MaxConcurrency", p.MaxConcurrency, 2, 1000, "invocations")
	f.number("Closers", p.Closers, 1, contract.StateDueShards, "invocations")
	f.under("Function", value(p.Function).validate())
	f.prebuilt("Prebuilt", p.Prebuilt)
	f.number("MemoryMiB", p.MemoryMiB, 128, 10240, "MiB")
	f.duration("Timeout", p.Timeout, 10*time.Second, 15*time.Minute)
	f.removalPolicy("StateRemovalPolicy", p.StateRemovalPolicy)
	f.topic("AlarmTopic", p.AlarmTopic)
	f.under("Alarms", value(p.Alarms).validate())
	return f.err()
}

// compiles reports whether the evaluator has to be built.
func (p SelfManagedProps) compiles() bool { return p.Prebuilt == "" }

// compile builds the evaluator where no prebuilt one is given.
func (p *SelfManagedProps) compile() (err error) {
	p.executable, err = functionExecutable(evaluatorFunction, value(p.Function).Architecture, p.Prebuilt)
	return err
}

// SelfManagedDetect is the self-managed engine, which judges behaviors without Device Defender
// Detect.
type SelfManagedDetect interface {
	// TelemetryQueue receives the rules' messages; nil with TransportKinesis.
	TelemetryQueue() awssqs.IQueue
	// Stream receives the rules' messages; nil with TransportSQS.
	Stream() awskinesis.IStream
	// ErrorQueue receives the messages of the rules' error actions.
	ErrorQueue() awssqs.IQueue
	// DeadLetterQueue has the messages that could not be judged.
	DeadLetterQueue() awssqs.IQueue
	// StateTable stores the devices that do not conform, and the distributions of the fleet.
	StateTable() awsdynamodb.ITable
	// Evaluator judges the telemetry.
	Evaluator() awslambda.IFunction
	// Closer judges silent devices, each minute.
	Closer() awslambda.IFunction
	// Rules send the telemetry, by the name of its kind.
	Rules() map[string]awscdk.CfnResource
	// ReportsRuleName is the name of the rule for device reports; nil if no behavior uses device
	// reports.
	ReportsRuleName() *string
	// ReportTopic is the topic to which devices publish their reports: the topic filter of
	// SelfManagedProps, or a topic of Basic Ingest; nil if ReportsRuleName is.
	ReportTopic() *string
	// Alarms are the enabled alarms.
	Alarms() []awscloudwatch.IAlarm
	// MetricReceived counts messages that arrived.
	// Default: the sum over 5 minutes.
	MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricFailed counts messages that failed to be judged and are tried again.
	// Default: the sum over 5 minutes.
	MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricTransitions counts alarms that were raised, cleared or invalidated.
	// Default: the sum over 5 minutes.
	MetricTransitions(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricUnsent counts transitions that did not reach the forwarder's queue and are sent
	// again.
	// Default: the sum over 5 minutes.
	MetricUnsent(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricBlind counts minutes in which the closer judged nothing, because telemetry waited.
	// Default: the sum over 5 minutes.
	MetricBlind(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricUnfinished counts minutes in which the closer had no time left for all that was due.
	// Default: the sum over 5 minutes.
	MetricUnfinished(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
}

// selfManaged is the self-managed engine.
type selfManaged struct {
	scope                          *detect
	queue, errorQueue, deadLetters awssqs.Queue
	stream                         awskinesis.Stream
	rules                          map[string]awscdk.CfnResource
	reportsRule, reportTopic       *string
	state                          awsdynamodb.Table
	evaluator, closer              awslambda.Function
	alarms                         []awscloudwatch.IAlarm
}

func (e *selfManaged) ErrorQueue() awssqs.IQueue            { return e.errorQueue }
func (e *selfManaged) DeadLetterQueue() awssqs.IQueue       { return e.deadLetters }
func (e *selfManaged) StateTable() awsdynamodb.ITable       { return e.state }
func (e *selfManaged) Evaluator() awslambda.IFunction       { return e.evaluator }
func (e *selfManaged) Closer() awslambda.IFunction          { return e.closer }
func (e *selfManaged) Rules() map[string]awscdk.CfnResource { return maps.Clone(e.rules) }
func (e *selfManaged) ReportsRuleName() *string             { return e.reportsRule }
func (e *selfManaged) ReportTopic() *string                 { return e.reportTopic }
func (e *selfManaged) Alarms() []awscloudwatch.IAlarm       { return slices.Clone(e.alarms) }

func (e *selfManaged) TelemetryQueue() awssqs.IQueue {
	if e.queue == nil {
		return nil
	}
	return e.queue
}

func (e *selfManaged) Stream() awskinesis.IStream {
	if e.stream == nil {
		return nil
	}
	return e.stream
}
