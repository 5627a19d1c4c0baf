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

// Transport is what carries telemetry from the IoT rules to the evaluator.
type Transport int

const (
	// TransportSQS is an Amazon SQS queue. It costs nothing while nothing happens.
	TransportSQS Transport = iota
	// TransportKinesis is an Amazon Kinesis data stream, which keeps the data of each thing
	// in order. It costs money while nothing happens as well, and less than a queue where a
	// large fleet sends reports.
	TransportKinesis
)

// Transports are all transports, in the order of their constants.
func Transports() []Transport { return []Transport{TransportSQS, TransportKinesis} }

// String is the name that the app's configuration uses.
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

// ReservedReportTopic is the topic filter on which AWS's own agents send their device
// reports to Device Defender. No AWS page says that IoT rules see these topics
// (unverified), so try it with one device before you rely on it.
const ReservedReportTopic = "$aws/things/+/defender/metrics/+"

// DefaultProfile is the name of the security profile that DetectProps.Behaviors make with
// the self-managed engine.
const DefaultProfile = "defenderhub"

// SelfManagedProps configure the self-managed engine. The zero value judges with
// a queue and two functions that cost nothing while nothing happens.
type SelfManagedProps struct {
	// Forwarder brings the alarms to Security Hub. Within a DefenderHub it is connected;
	// [NewDetect] alone needs it.
	Forwarder Forwarder

	// Transport carries telemetry from the IoT rules to the evaluator. Changing it gives up
	// what is on its way, as a rule some seconds.
	// Default: TransportSQS.
	Transport Transport
	// Shards are those of the stream, 1 to 200, each for 1 MB and 1000 records a second.
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	// Default: 0, a stream on demand.
	Shards int
	// ReportTopic is the MQTT topic filter on which devices send their reports, at most 256
	// bytes and 7 slashes, without variables, with at least one level that is no wildcard; the
	// evaluator answers there what it cannot read, on TOPIC/rejected. It shares no topic with
	// RulesProps.EventTopic. [ReservedReportTopic] are the topics of AWS's agents, and the only
	// ones that may begin with $.
	// Default: "", Basic Ingest: devices publish to $aws/rules/RULE/..., without the
	// price of a message, where RULE is [Detect.ReportsRuleName].
	ReportTopic string
	// ReportsRuleName is the name of the rule that brings device reports in, 1 to 128 of
	// A-Z a-z 0-9 _. With Basic Ingest devices publish to it, so give one where devices of
	// several accounts or Regions run the same firmware, or where their topic has to outlive
	// the stack. Changing it replaces the rule.
	// Default: "", a name that CloudFormation makes, another one for each stack.
	ReportsRuleName string

	// ReportInterval is how often devices send their reports, in whole seconds from 10
	// seconds to 1 hour. If it is shorter than a behavior's window of bytes or packets, the
	// window is judged by the sum of its reports, for which each report is remembered, also
	// one that conforms: docs/detect.md says what that costs. Reports that come more often are
	// counted in the metric FrequentReports.
	// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
	// Default: 0, which stands for 5 minutes, the least that AWS advises: a window of 5 minutes
	// is judged by its largest report.
	ReportInterval time.Duration
	// ConfirmFirstTraffic is for agents that send their counters since boot as the first
	// report, as AWS's do: docs/detect.md names them. The first value of bytes or packets after
	// a device connected, or of a device of which nothing is remembered, is a datapoint only if
	// the next window confirms it. So an alarm about traffic comes a window later.
	ConfirmFirstTraffic bool
	// ReportsEvery gives a finding where a device that has sent a report sends none for so
	// long, in whole minutes from 5 minutes to 24 hours. The shorter, the more of a device's
	// reports have to be remembered: docs/detect.md says what that costs.
	// Default: 0, silence is not judged.
	ReportsEvery time.Duration
	// ReportsSeverity is the severity of devices that send no report, or none that can be
	// read.
	// Default: SeverityDefault, MEDIUM.
	ReportsSeverity defender.Severity
	// MinDatapoints is how many datapoints of the fleet a percentile needs before anything
	// is judged by it, 1 to 1,000,000.
	// Default: 0, which stands for 100.
	MinDatapoints int
	// MembershipAge is how long what the registry says of a thing (its name, its groups) is
	// believed, in whole minutes from 1 minute to 24 hours.
	// Default: 0, which stands for 15 minutes.
	MembershipAge time.Duration
	// UnregisteredLifetime is how long after its last datapoint an alarm ends that time alone
	// decides (disconnect-duration, ReportsEvery), where the client ID is no thing in the
	// registry. In whole minutes from 1 hour to 365 days. The alarm of a thing ends when the
	// thing is deleted, renamed or moved out of the targets.
	// Default: 0, which stands for 14 days.
	UnregisteredLifetime time.Duration

	// BatchSize is how many messages of the rules one invocation gets, 1 to 10000.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
	// Default: 0, which stands for 1000.
	BatchSize int
	// BatchWindow is how long Lambda waits for a batch to fill, 1 second to 5 minutes. It is
	// the latency that a finding takes; a longer one costs less where a batch does not fill.
	// Default: 0, which stands for 10 seconds.
	BatchWindow time.Duration
	// MaxConcurrency is how many invocations a queue may cause at once, 2 to 1000. A stream
	// causes one for each shard.
	// Default: 0, which stands for 10.
	MaxConcurrency int
	// Closers are the invocations that share the work of each minute, to judge what silence
	// decides: 1 to 16. From two on each has an alarm and a metric of its own.
	// Default: 0, which stands for 1.
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
	// Default: 0, which stands for 256.
	MemoryMiB int
	// Timeout of the functions, 10 seconds to 15 minutes. The queues hide a message for six
	// times as long, as AWS advises, and BatchWindow, before it is tried again.
	// Default: 0, which stands for 1 minute.
	Timeout time.Duration

	// PointInTimeRecovery lets the table of states be restored to any second of the last 35
	// days. Without a state a device is judged anew, and a baseline is learned again.
	PointInTimeRecovery bool
	// StateRemovalPolicy is that of the table of states.
	// Default: "", awscdk.RemovalPolicy_DESTROY, it goes with the stack.
	StateRemovalPolicy awscdk.RemovalPolicy
	// AlarmTopic is told when an alarm goes off and when it ends; see
	// DefenderHubProps.AlarmTopic.
	// Default: nil, DefenderHubProps.AlarmTopic within a DefenderHub, else nobody is told.
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

// SelfManagedDetect is the self-managed engine: what judges behaviors without Device Defender
// Detect.
type SelfManagedDetect interface {
	// TelemetryQueue is where the rules' messages arrive; nil with TransportKinesis.
	TelemetryQueue() awssqs.IQueue
	// Stream is where the rules' messages arrive; nil with TransportSQS.
	Stream() awskinesis.IStream
	// ErrorQueue is where the rules' error actions arrive.
	ErrorQueue() awssqs.IQueue
	// DeadLetterQueue holds what could not be judged.
	DeadLetterQueue() awssqs.IQueue
	// StateTable holds the devices that do not conform, and the distributions of the fleet.
	StateTable() awsdynamodb.ITable
	// Evaluator judges the telemetry.
	Evaluator() awslambda.IFunction
	// Closer judges silence, each minute.
	Closer() awslambda.IFunction
	// Rules send the telemetry, by the name of its kind.
	Rules() map[string]awscdk.CfnResource
	// ReportsRuleName is the name of the rule that receives device reports; nil where no
	// behavior is judged by device reports.
	ReportsRuleName() *string
	// ReportTopic is what devices publish their reports to: the topic filter of
	// SelfManagedProps, or a topic of Basic Ingest; nil where ReportsRuleName is.
	ReportTopic() *string
	// Alarms are the alarms that are on.
	Alarms() []awscloudwatch.IAlarm
	// MetricReceived counts messages that arrived. Default: the sum over 5 minutes.
	MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricFailed counts messages that failed to be judged and are tried again. Default: the sum over 5 minutes.
	MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricTransitions counts alarms that were raised, cleared or invalidated. Default: the sum over 5 minutes.
	MetricTransitions(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricUnsent counts transitions that did not reach the forwarder's queue and are sent again. Default: the sum over 5 minutes.
	MetricUnsent(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricBlind counts minutes in which the closer judged nothing, because telemetry waited. Default: the sum over 5 minutes.
	MetricBlind(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricUnfinished counts minutes in which the closer had no time left for all that was due. Default: the sum over 5 minutes.
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
