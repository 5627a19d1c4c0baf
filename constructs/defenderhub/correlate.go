package defenderhub

import (
	"errors"
	"maps"
	"regexp"
	"slices"
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
	"github.com/defenderhub/defenderhub/defender/correlation"
	rulefile "github.com/defenderhub/defenderhub/internal/correlation"
)

// CorrelateProps configure [Correlate]. The zero value correlates the findings of this account and
// Region with the built-in rules.
type CorrelateProps struct {
	// Forwarder imports the composite findings into Security Hub. It is required, and its
	// ForwarderProps.Correlate must be these props. A DefenderHub sets both.
	Forwarder Forwarder

	// Rules define which findings together are an incident. If you remove, rename or change a rule,
	// or remove Correlate, the composite findings are archived within a day. docs/correlate.md
	// lists the built-in rules.
	// Default: nil, correlation.BuiltIn().
	Rules []correlation.Rule
	// Attributes are the names of thing attributes whose values name other resources of the
	// device, such as an attribute with the ID of the Amazon EC2 instance on which a gateway runs.
	// Findings of any product about these resources then count as findings of the device. There are
	// at most 10 names, each 1 to 128 of A-Z a-z 0-9 _ . , @ / : # -.
	// https://docs.aws.amazon.com/iot/latest/apireference/API_AttributePayload.html
	// Default: nil, no other resources.
	Attributes []string
	// FleetSize is the number of devices in the fleet, at most 1,000,000,000. Rules with
	// Spread.Share need it.
	// Default: 0, unknown: a rule with Spread.Share is an error.
	FleetSize int
	// OtherAccounts also correlates findings of the other accounts and Regions that Security Hub
	// shows in an administrator account or a home Region. Their composite findings are imported
	// into this account and name the other account. The function does not read the other account's
	// registry, so a device there has only the aliases that its findings name.
	OtherAccounts bool
	// Pattern replaces the event pattern that is derived from the rules: a JSON object of at most
	// 2048 characters. It is useful to select fewer events. Events that no rule can use are ignored.
	// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html
	// Default: nil, the findings that a stage of a rule can match.
	Pattern map[string]any
	// RegistryAge is how long the aliases of a device from the registry are cached, in whole
	// minutes from 1 minute to 24 hours.
	// Default: 0, which means 1 hour.
	RegistryAge time.Duration

	// BatchSize is the maximum number of events per invocation, 1 to 10000.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
	// Default: 0, which means 100.
	BatchSize int
	// BatchWindow is how long Lambda waits for a batch to fill, in whole seconds from 1 second to
	// 5 minutes.
	// Default: 0, which means 5 seconds.
	BatchWindow time.Duration
	// MaxConcurrency is the maximum number of concurrent invocations, 2 to 1000.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
	// Default: 0, which means 5.
	MaxConcurrency int

	// Function configures the function. It needs network access to Security Hub, DynamoDB, Amazon
	// SQS and AWS IoT.
	// Default: nil, DefenderHubProps.Function within a DefenderHub, else the zero value.
	Function *FunctionProps
	// Prebuilt is the path of a prebuilt lambda/correlator. The rules are deployed in a file beside
	// the program. See ForwarderProps.Prebuilt.
	// Default: "", go build compiles it at synthesis.
	Prebuilt string
	// MemoryMiB is the memory of the function, 128 to 10240 MiB.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
	// Default: 0, which means 256.
	MemoryMiB int
	// Timeout is the timeout of the function, in whole seconds from 10 seconds to 15 minutes. The
	// queue retries an event after BatchWindow and six times Timeout, as AWS advises.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
	// Default: 0, which means 1 minute.
	Timeout time.Duration

	// EncryptionKey encrypts the queues, the table and the log group. Its policy must let IAM
	// policies of this account use it, as the CDK's default does. The policy of an imported key
	// must also allow Amazon EventBridge and CloudWatch Logs.
	// Default: nil, DefenderHubProps.EncryptionKey within a DefenderHub, else AWS managed keys.
	EncryptionKey awskms.IKey
	// PointInTimeRecovery lets you restore the table to any second of the last 35 days. If the table
	// is lost, the correlator finds incidents only from findings that change afterwards.
	PointInTimeRecovery bool
	// StateRemovalPolicy is the table's removal policy.
	// Default: "", awscdk.RemovalPolicy_DESTROY, which deletes the table with the stack.
	StateRemovalPolicy awscdk.RemovalPolicy
	// AlarmTopic is notified when an alarm goes off and when it returns to OK; see
	// DefenderHubProps.AlarmTopic.
	// Default: nil, DefenderHubProps.AlarmTopic within a DefenderHub, else the alarms notify nobody.
	AlarmTopic awssns.ITopic
	// Alarms tune the alarms.
	// Default: nil, nine alarms.
	Alarms *CorrelateAlarmsProps

	// executable is the path of the program, set by compile.
	executable string
}

const (
	defaultCorrelatorBatchSize   = 100
	defaultCorrelatorBatchWindow = 5 * time.Second
	defaultCorrelatorConcurrency = 5

	maxCorrelateAttributes = 10
)

// attributeName matches the names of thing attributes.
// https://docs.aws.amazon.com/iot/latest/apireference/API_AttributePayload.html
var attributeName = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]{1,128}$`)

func (p CorrelateProps) validate() error {
	var f faults
	_, err := p.compiled()
	f.under("", err)
	for i, name := range p.Attributes {
		at := "Attributes" + index(i)
		switch {
		case unresolved(name):
			f.add(at, deployTime, "a name that is known at synthesis: it is deployed in a file")
		case !attributeName.MatchString(name):
			f.add(at, name, "1 to 128 of A-Z a-z 0-9 _ . , @ / : # -")
		case slices.Index(p.Attributes, name) < i:
			f.add(at, name, "each attribute once")
		}
	}
	if n := len(p.Attributes); n > maxCorrelateAttributes {
		f.add("Attributes", n, "at most %d attributes", maxCorrelateAttributes)
	}
	f.number("FleetSize", p.FleetSize, 1, 1_000_000_000, "devices")
	f.minutes("RegistryAge", p.RegistryAge, time.Minute, 24*time.Hour)
	f.batch(p.BatchSize, "events", p.BatchWindow, p.MaxConcurrency)
	f.function(p.Function, p.Prebuilt)
	f.number("MemoryMiB", p.MemoryMiB, 128, 10240, "MiB")
	f.duration("Timeout", p.Timeout, 10*time.Second, 15*time.Minute)
	f.key("EncryptionKey", p.EncryptionKey)
	f.removalPolicy("StateRemovalPolicy", p.StateRemovalPolicy)
	f.topic("AlarmTopic", p.AlarmTopic)
	f.under("Alarms", value(p.Alarms).validate())
	if len(p.Pattern) > 0 {
		f.pattern("Pattern", p.Pattern)
	}
	return f.err()
}

// correlationRule is the kind of a [single]: the name of a rule is unique per account and Region,
// because rule and device identify a composite finding.
const correlationRule = "correlation rule"

// taken reports rules that another construct of the app already has.
func (p CorrelateProps) taken(scope constructs.Construct) error {
	var f faults
	rules, _ := p.compiled()
	for i, r := range rules {
		field := "Rules"
		if len(p.Rules) > 0 {
			field += index(i) + ".Name"
		}
		f.taken(scope, named(correlationRule, r.Name), true, field, r.Name, "another name, or the rules of both in one Correlate")
	}
	f.alarmTopic(scope, "AlarmTopic", p.AlarmTopic)
	return f.err()
}

// validateForwarder reports a forwarder that is missing or does not know the rules.
func (p CorrelateProps) validateForwarder() error {
	var f faults
	switch {
	case p.Forwarder == nil:
		f.add("Forwarder", nil, "the result of NewForwarder with these props as Correlate: it imports the composite findings. NewDefenderHub connects its own")
	case !maps.Equal(p.Forwarder.agreement().rules, p.live()):
		f.add("Forwarder", *p.Forwarder.Node().Path(), "a Forwarder with these props as Correlate: otherwise it ends their composite findings")
	}
	return f.err()
}

// compiles reports whether synthesis must compile the program.
func (p *CorrelateProps) compiles() bool { return p != nil && p.Prebuilt == "" }

// compile sets executable: to Prebuilt, or to the compiled program.
func (p *CorrelateProps) compile() (err error) {
	p.executable, err = functionExecutable(correlatorFunction, value(p.Function).Architecture, p.Prebuilt)
	return err
}

// compiled returns the rules as the function reads them. Its faults have the fields of p.
func (p CorrelateProps) compiled() ([]rulefile.Rule, error) {
	rules := p.Rules
	if len(rules) == 0 {
		rules = correlation.BuiltIn()
	}
	compiled, err := rulefile.Compile(rules, p.FleetSize)
	err = defender.Under("Rules", err)
	for _, fault := range defender.FieldErrors(err) {
		if fault.Code == CodeNoFleetSize {
			fault.Alternatives = append(fault.Alternatives, defender.Alternative{Field: "FleetSize"})
		}
	}
	return compiled, err
}

// live returns what the forwarder must know about the rules before their first composite finding.
func (p CorrelateProps) live() rulefile.LiveRules {
	rules, _ := p.compiled()
	return rulefile.Live(rules)
}

// pattern returns the event pattern of the EventBridge rule.
func (p CorrelateProps) pattern(rules []rulefile.Rule) map[string]any {
	switch {
	case len(p.Pattern) > 0:
		return p.Pattern
	case p.OtherAccounts:
		return rulefile.Pattern(rules, "", "")
	}
	return rulefile.Pattern(rules, *awscdk.Aws_ACCOUNT_ID(), *awscdk.Aws_REGION())
}

// Correlate finds incidents: findings of one device, or of many devices, that together mean more
// than each alone. The forwarder imports one composite finding per incident.
type Correlate interface {
	constructs.Construct
	// Rule sends the events of Security Hub that a rule can use to the queue.
	Rule() awscdk.CfnResource
	// Queue receives the events of Security Hub.
	Queue() awssqs.IQueue
	// DeadLetterQueue has the events that could not be correlated.
	DeadLetterQueue() awssqs.IQueue
	// Function correlates the findings.
	Function() awslambda.IFunction
	// StateTable stores the parts of incidents.
	StateTable() awsdynamodb.ITable
	// Alarms are the enabled alarms.
	Alarms() []awscloudwatch.IAlarm
	// MetricReceived counts events that arrived.
	// Default: the sum over 5 minutes.
	MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricFailed counts events that could not be correlated and are retried.
	// Default: the sum over 5 minutes.
	MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricOpened counts composite findings that became active.
	// Default: the sum over 5 minutes.
	MetricOpened(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricEnded counts composite findings that were archived.
	// Default: the sum over 5 minutes.
	MetricEnded(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
}

type correlate struct {
	constructs.Construct
	events   *findingQueue
	function awslambda.Function
	state    awsdynamodb.Table
	alarms   []awscloudwatch.IAlarm
}

func (c *correlate) Rule() awscdk.CfnResource       { return c.events.rule }
func (c *correlate) Queue() awssqs.IQueue           { return c.events.queue }
func (c *correlate) DeadLetterQueue() awssqs.IQueue { return c.events.deadLetters }
func (c *correlate) Function() awslambda.IFunction  { return c.function }
func (c *correlate) StateTable() awsdynamodb.ITable { return c.state }
func (c *correlate) Alarms() []awscloudwatch.IAlarm { return slices.Clone(c.alarms) }

// NewCorrelate deploys the rule, the queue, the table and the function. It panics with one error
// that lists every fault of props.
func NewCorrelate(scope constructs.Construct, id *string, props *CorrelateProps) Correlate {
	c := &correlate{}
	constructs.NewConstruct_Override(c, scope, id)
	p := value(props)
	must(c, errors.Join(p.validate(), p.validateForwarder(), p.taken(c)))
	must(c, p.compile())
	c.deploy(p)
	return c
}
