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

// Transport is how the IoT rules send telemetry to the evaluator.
type Transport int

const (
	// TransportSQS is an Amazon SQS queue. It costs nothing when idle.
	TransportSQS Transport = iota
	// TransportKinesis is an Amazon Kinesis data stream, which keeps the records of each thing in
	// order. It also costs money when idle, but for a large fleet that sends reports it costs less
	// than a queue: docs/detect.md has the figures.
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

// ReservedReportTopic is the topic filter on which AWS's own agents send device reports to Device
// Defender. No AWS page says that IoT rules receive these messages (unverified), so try it with one
// device first.
const ReservedReportTopic = "$aws/things/+/defender/metrics/+"

// DefaultProfile is the name of the security profile that DetectProps.Behaviors form with the
// self-managed engine.
const DefaultProfile = "defenderhub"

// SelfManagedProps configure the self-managed engine. The zero value uses a queue and two functions.
// docs/detect.md says what the engine costs.
type SelfManagedProps struct {
	// Transport is how the IoT rules send telemetry to the evaluator. If you change it, messages in
	// flight are lost, usually those of a few seconds.
	// Default: TransportSQS.
	Transport Transport
	// Shards is the number of shards of the stream, 1 to 200. A shard accepts 1 MB and 1000 records
	// per second. The closer looks for unread telemetry in 100 shards only: see "Backlogs" in
	// docs/detect.md.
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	// Default: 0, an on-demand stream.
	Shards int
	// ReportTopic is the MQTT topic filter on which devices send their reports. It has at most
	// 256 bytes and 7 slashes, no variables, and at least one level without a wildcard. It must not
	// share topics with RulesProps.EventTopic. Of the topics that begin with $, only
	// [ReservedReportTopic] is allowed. The evaluator answers unreadable reports on TOPIC/rejected.
	//
	// Default: "", Basic Ingest, where AWS does not charge for messages. Devices publish to
	// SelfManagedDetect.ReportTopic, which is $aws/rules/RULE/report.
	ReportTopic string
	// ReportsRuleName is the name of the rule for device reports, 1 to 128 of A-Z a-z 0-9 _. With
	// Basic Ingest it is part of the topic. Set it if devices of several accounts or Regions run
	// the same firmware, or if the topic must outlive the stack. Changing it replaces the rule.
	// Default: "", a name that CloudFormation generates, different in each stack.
	ReportsRuleName string

	// ReportInterval is how often devices send their reports, in whole seconds from 10 seconds to
	// 1 hour.
	//
	// If a behavior about bytes or packets has a longer window, the engine judges the sum of the
	// window's reports. It then stores each report, even a conforming one: docs/detect.md says what
	// that costs. The metric FrequentReports counts reports that arrive more often.
	// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
	// Default: 0, which means 5 minutes, as AWS's quota allows. The engine judges a window of
	// 5 minutes by its largest report.
	ReportInterval time.Duration
	// ConfirmFirstTraffic is for agents that send their counters since boot as the first report,
	// such as AWS's: docs/detect.md lists them. The first value of bytes or packets of a new
	// connection, or of an unknown device, becomes a datapoint only if the next window confirms it.
	// This delays alarms about traffic by one window.
	ConfirmFirstTraffic bool
	// ReportsEvery raises a finding if a device that has sent a report sends none for this time,
	// in whole minutes from 5 minutes to 24 hours. With a shorter time the engine stores more of a
	// device's reports: docs/detect.md says what that costs.
	// Default: 0, no finding for devices that stop sending reports.
	ReportsEvery time.Duration
	// ReportsSeverity is the severity of findings about devices that send no report, or unreadable
	// ones.
	// Default: SeverityDefault, MEDIUM.
	ReportsSeverity defender.Severity
	// MinDatapoints is how many datapoints of the fleet the engine needs before it judges devices by
	// a percentile, 1 to 1,000,000.
	// Default: 0, which means 100.
	MinDatapoints int
	// MembershipAge is how long a thing's name and groups from the registry are cached, in whole
	// minutes from 1 minute to 24 hours.
	// Default: 0, which means 15 minutes.
	MembershipAge time.Duration
	// UnregisteredLifetime is how long after its last datapoint an alarm about the silence of an
	// unregistered client (disconnect-duration, ReportsEvery) ends, in whole minutes from 1 hour to
	// 365 days. The alarm of a thing ends when the thing is deleted, renamed or moved out of the
	// targets.
	// Default: 0, which means 14 days.
	UnregisteredLifetime time.Duration

	// BatchSize is the maximum number of messages of the rules per invocation, 1 to 10000.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
	// Default: 0, which means 1000.
	BatchSize int
	// BatchWindow is how long Lambda waits for a batch to fill, in whole seconds from 1 second to
	// 5 minutes. A longer window delays findings, but costs less if batches do not fill.
	// Default: 0, which means 10 seconds.
	BatchWindow time.Duration
	// MaxConcurrency is the maximum number of concurrent invocations per queue, 2 to 1000. A
	// stream has one per shard.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
	// Default: 0, which means 10.
	MaxConcurrency int
	// Closers is how many invocations per minute share the work of judging silent devices, 1 to 16.
	// Several closers have an alarm and a metric each.
	// Default: 0, which means 1.
	Closers int

	// Function configures the functions. They need network access to DynamoDB, Amazon SQS, AWS IoT
	// and its data plane. With TransportKinesis the closer also needs access to Amazon Kinesis.
	// Default: nil, DefenderHubProps.Function within a DefenderHub, else the zero value.
	Function *FunctionProps
	// Prebuilt is the path of a prebuilt lambda/evaluator. The behaviors are deployed in a file
	// beside the program. See ForwarderProps.Prebuilt.
	// Default: "", go build compiles it at synthesis.
	Prebuilt string
	// MemoryMiB is the memory of each function, 128 to 10240 MiB. With 256 MiB, an environment caches
	// the thing groups of 10,000 devices, and of 256 more for each further MiB. Percentiles and
	// baselines for thing groups need that: docs/planning.md has the sizes.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
	// Default: 0, which means 256.
	MemoryMiB int
	// Timeout is the timeout of the functions, in whole seconds from 10 seconds to 15 minutes. The
	// queues retry a message after BatchWindow and six times Timeout, as AWS advises.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
	// Default: 0, which means 1 minute.
	Timeout time.Duration

	// PointInTimeRecovery lets you restore the state table to any second of the last 35 days. If the
	// state is lost, the engine judges each device anew and learns baselines again.
	PointInTimeRecovery bool
	// StateRemovalPolicy is the state table's removal policy.
	// Default: "", awscdk.RemovalPolicy_DESTROY, which deletes the table with the stack.
	StateRemovalPolicy awscdk.RemovalPolicy
	// AlarmTopic is notified when an alarm goes off and when it returns to OK; see
	// DefenderHubProps.AlarmTopic.
	// Default: nil, DefenderHubProps.AlarmTopic within a DefenderHub, else the alarms notify nobody.
	AlarmTopic awssns.ITopic
	// Alarms tune the alarms.
	// Default: nil, twelve alarms.
	Alarms *SelfManagedAlarmsProps

	// executable is the path of the program, set by compile.
	executable string
}

const (
	// leastReportInterval lets the engine sum the 180 reports of a 30-minute window exactly. The
	// 360 reports of an hour exceed MaxTally in package engine, so their sum is an estimate.
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
		f.connected("Shards", p.Shards, "set Transport: TransportKinesis as well", defender.Alternative{Field: "Transport", Value: "TransportKinesis"})
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
	f.severity("ReportsSeverity", p.ReportsSeverity)
	f.number("MinDatapoints", p.MinDatapoints, 1, 1_000_000, "datapoints")
	f.minutes("MembershipAge", p.MembershipAge, time.Minute, 24*time.Hour)
	f.minutes("UnregisteredLifetime", p.UnregisteredLifetime, time.Hour, 365*24*time.Hour)
	f.batch(p.BatchSize, "messages", p.BatchWindow, p.MaxConcurrency)
	f.number("Closers", p.Closers, 1, contract.StateDueShards, "invocations")
	f.function(p.Function, p.Prebuilt)
	f.number("MemoryMiB", p.MemoryMiB, 128, 10240, "MiB")
	f.duration("Timeout", p.Timeout, 10*time.Second, 15*time.Minute)
	f.removalPolicy("StateRemovalPolicy", p.StateRemovalPolicy)
	f.topic("AlarmTopic", p.AlarmTopic)
	f.under("Alarms", value(p.Alarms).validate())
	return f.err()
}

// compiles reports whether synthesis must compile the program.
func (p SelfManagedProps) compiles() bool { return p.Prebuilt == "" }

// compile sets executable: to Prebuilt, or to the compiled program.
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
	// StateTable stores the state of devices, mostly of those that do not conform, and the
	// distributions of the fleet.
	StateTable() awsdynamodb.ITable
	// Evaluator judges the telemetry.
	Evaluator() awslambda.IFunction
	// Closer judges silent devices each minute.
	Closer() awslambda.IFunction
	// Rules are the rules that send the telemetry, by the kind of telemetry.
	Rules() map[string]awscdk.CfnResource
	// ReportsRuleName is the name of the rule for device reports; nil if no behavior uses device
	// reports.
	ReportsRuleName() *string
	// ReportTopic is the topic to which devices publish their reports: SelfManagedProps.ReportTopic,
	// or a topic of Basic Ingest; nil if no behavior uses device reports.
	ReportTopic() *string
	// Alarms are the enabled alarms.
	Alarms() []awscloudwatch.IAlarm
	// MetricReceived counts messages that arrived.
	// Default: the sum over 5 minutes.
	MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricFailed counts messages that could not be judged and are retried.
	// Default: the sum over 5 minutes.
	MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricThrottledMessages counts messages to the rules that AWS IoT throttled.
	// Default: the sum over 5 minutes.
	MetricThrottledMessages(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricTransitions counts alarms that were raised, cleared or invalidated.
	// Default: the sum over 5 minutes.
	MetricTransitions(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricUnsent counts transitions that did not reach the forwarder's queue and are sent
	// again.
	// Default: the sum over 5 minutes.
	MetricUnsent(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricBlind counts minutes in which the closer judged nothing, because telemetry waited and
	// the evaluator's progress was unknown.
	// Default: the sum over 5 minutes.
	MetricBlind(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricUnfinished counts minutes in which the closer did not finish all due work.
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

// allRules returns the rules in the order of their kinds of telemetry.
func (e *selfManaged) allRules() []awscdk.CfnResource {
	var all []awscdk.CfnResource
	for _, id := range slices.Sorted(maps.Keys(e.rules)) {
		all = append(all, e.rules[id])
	}
	return all
}

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
