package defenderhub

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiot"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// RulesProps configure [Rules].
type RulesProps struct {
	// Sources are the sources that need a rule, one rule for each: defender.RejectedReports,
	// SecurityDisconnects, RefusedConnections and DeviceEvents. Within a DefenderHub,
	// DefenderHubProps.Forward chooses them.
	// Default: empty, all four.
	Sources []defender.Source
	// EventTopic is the MQTT topic filter on which devices report security events. It has at most
	// 256 bytes and 7 slashes, no variables, at least one level without a wildcard, and must not
	// begin with $. The level at its first + is the device that the sender claims to be. A finding
	// says if that differs from the sender's client ID.
	//
	// The forwarder reads every message on these topics as a device event. Other messages become
	// dead letters, so the filter must not share topics with SelfManagedProps.ReportTopic.
	// Default: "", defenderhub/events/+.
	EventTopic string
	// ExceptDisconnects are disconnect reasons that the rule leaves out: AUTH_ERROR,
	// FORBIDDEN_ACCESS or DUPLICATE_CLIENTID, for example the last one in unstable networks. Active
	// findings of such a reason end after ForwarderProps.QuietTime. To change a reason's severity,
	// set ForwarderProps.DisconnectSeverities instead.
	// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
	// Default: nil, all three reasons are forwarded.
	ExceptDisconnects []string
	// Queue receives the events. It must be a standard queue, unencrypted or encrypted by Amazon
	// SQS or with a customer-managed key.
	// Default: nil, a new queue, encrypted, TLS only, that keeps messages for 14 days.
	Queue awssqs.IQueue
	// ErrorQueue receives the events that AWS IoT could not send to Queue. It must be another
	// queue, so that it still works if Queue fails.
	// Default: nil, a new queue like Queue.
	ErrorQueue awssqs.IQueue
	// EncryptionKey encrypts new queues. It is required if Queue or ErrorQueue is imported and
	// encrypted with a customer-managed key. Its policy must let IAM policies of this account use
	// it, as the CDK's default does.
	// Default: nil, new queues are encrypted with keys that Amazon SQS manages.
	EncryptionKey awskms.IKey
	// AlarmTopic is notified when the alarm goes off and when it returns to OK; see
	// DefenderHubProps.AlarmTopic.
	// Default: nil, DefenderHubProps.AlarmTopic within a DefenderHub, else the alarm notifies nobody.
	AlarmTopic awssns.ITopic
	// ThrottledMessages tunes the alarm that goes off when AWS IoT throttles messages to the rules,
	// because the account has reached its quota of rule evaluations.
	// Default: above 0 messages in 1 of 1 periods.
	ThrottledMessages Alarm
}

func (p RulesProps) validate() error {
	var f faults
	f.sources("Sources", p.Sources)
	for i, s := range p.Sources {
		if s.Known() && !iotrule.Sends(s) {
			f.add("Sources"+index(i), s.String(), "one of RejectedReports, SecurityDisconnects, RefusedConnections and DeviceEvents: the others have no rule")
		}
	}
	if p.EventTopic != "" && !unresolved(p.EventTopic) {
		f.under("EventTopic", iotrule.ValidateEventTopic(p.EventTopic))
	}
	for i, reason := range p.ExceptDisconnects {
		if !slices.Contains(iotrule.SecurityDisconnectReasons, reason) || slices.Index(p.ExceptDisconnects, reason) < i {
			f.add("ExceptDisconnects"+index(i), reason, "each of "+strings.Join(iotrule.SecurityDisconnectReasons, ", ")+" at most once: other reasons are not security events")
		}
	}
	if len(p.ExceptDisconnects) >= len(iotrule.SecurityDisconnectReasons) {
		f.add("ExceptDisconnects", strings.Join(p.ExceptDisconnects, ", "), "at most two reasons: to forward none, leave defender.SecurityDisconnects out of Sources, or of Forward")
	}
	f.queue("Queue", p.Queue)
	f.queue("ErrorQueue", p.ErrorQueue)
	if p.Queue != nil && p.ErrorQueue != nil && sameARN(p.Queue, p.Queue.QueueArn(), p.ErrorQueue.QueueArn()) {
		f.add("ErrorQueue", "the same queue as Queue", "another queue, or nil for a new one: if Queue fails, its error queue must still work")
	}
	f.key("EncryptionKey", p.EncryptionKey)
	f.topic("AlarmTopic", p.AlarmTopic)
	f.alarm("ThrottledMessages", p.ThrottledMessages)
	return f.err()
}

// Rules select security events of AWS IoT Core and send them to a queue.
type Rules interface {
	constructs.Construct
	// Queue receives the events.
	Queue() awssqs.IQueue
	// ErrorQueue receives the events that could not be sent to Queue.
	ErrorQueue() awssqs.IQueue
	// Role lets the rules send to the queues.
	Role() awsiam.IRole
	// Sources returns the sources that have a rule.
	Sources() []defender.Source
	// Rule returns the rule of a source; nil if the source has none.
	Rule(source defender.Source) awscdk.CfnResource
	// RuleName returns the name of a source's rule; nil if the source has none.
	RuleName(source defender.Source) *string
	// Alarms are the enabled alarms.
	Alarms() []awscloudwatch.IAlarm
	// MetricThrottledMessages counts messages to the rules that AWS IoT throttled.
	// Default: the sum over 5 minutes.
	MetricThrottledMessages(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
}

type rules struct {
	constructs.Construct
	queue, errorQueue awssqs.IQueue
	role              awsiam.Role
	sources           []defender.Source
	bySource          map[defender.Source]awscdk.CfnResource
	alarms            []awscloudwatch.IAlarm
}

func (r *rules) Queue() awssqs.IQueue                      { return r.queue }
func (r *rules) ErrorQueue() awssqs.IQueue                 { return r.errorQueue }
func (r *rules) Role() awsiam.IRole                        { return r.role }
func (r *rules) Sources() []defender.Source                { return slices.Clone(r.sources) }
func (r *rules) Rule(s defender.Source) awscdk.CfnResource { return r.bySource[s] }
func (r *rules) Alarms() []awscloudwatch.IAlarm            { return slices.Clone(r.alarms) }

func (r *rules) RuleName(s defender.Source) *string {
	if r.bySource[s] == nil {
		return nil
	}
	return r.bySource[s].Ref()
}

// NewRules creates a rule for each source, and the queues. It panics with one error that lists
// every fault of props.
func NewRules(scope constructs.Construct, id *string, props *RulesProps) Rules {
	r := &rules{bySource: map[defender.Source]awscdk.CfnResource{}}
	constructs.NewConstruct_Override(r, scope, id)
	p := value(props)
	must(r, errors.Join(p.validate(), alarmTopicFault(r, p.AlarmTopic)))

	r.queue, r.errorQueue = p.Queue, p.ErrorQueue
	if r.queue == nil {
		r.queue = newOwnQueue(r, "Queue", p.EncryptionKey)
	}
	if r.errorQueue == nil {
		r.errorQueue = newOwnQueue(r, "ErrorQueue", p.EncryptionKey)
	}
	r.sources = slices.Clone(p.Sources)
	if len(p.Sources) == 0 {
		r.sources = iotrule.Sources()
	}
	// The role depends on no other resource, so that CloudFormation creates it early: AWS IoT
	// rejects a rule whose role is too new.
	r.role = serviceRole(r, "Role", iotService, "rule/*", "Lets AWS IoT rules send security events to Amazon SQS")
	statements := []awsiam.PolicyStatement{allow([]string{"sqs:SendMessage"}, *r.queue.QueueArn(), *r.errorQueue.QueueArn())}
	keys := map[string]awskms.IKey{}
	for _, q := range []awssqs.IQueue{r.queue, r.errorQueue} {
		if key := keyOf(q, q.EncryptionMasterKey(), p.EncryptionKey); key != nil {
			keys[*key.KeyArn()] = key
		}
		noteImported(q, orKey(q.EncryptionMasterKey(), p.EncryptionKey), *q.QueueArn(), "sqs:SendMessage", r.role)
	}
	var used []awskms.IKey
	for _, arn := range slices.Sorted(maps.Keys(keys)) {
		used = append(used, keys[arn])
		statements = append(statements, sendWithKey(keys[arn])...)
	}
	policy := awsiam.NewPolicy(r, new("Policy"), &awsiam.PolicyProps{
		Roles: &[]awsiam.IRole{r.role}, Statements: &statements,
	})
	suppressAliases(policy, used...)
	for _, s := range r.sources {
		r.bySource[s] = r.rule(s, or(p.EventTopic, iotrule.DefaultEventTopic), p.ExceptDisconnects, policy)
	}
	a := newAlarms(r, p.AlarmTopic)
	a.addThrottled(p.ThrottledMessages, r.all())
	r.alarms = a.made
	return r
}

// all returns the rules in the order of their sources.
func (r *rules) all() []awscdk.CfnResource {
	var all []awscdk.CfnResource
	for _, s := range r.sources {
		all = append(all, r.bySource[s])
	}
	return all
}

// newOwnQueue creates a queue for rules that are used without a forwarder.
func newOwnQueue(scope constructs.Construct, id string, key awskms.IKey) awssqs.IQueue {
	queue := newQueue(scope, id, key, queueOptions{})
	suppressNag(queue, "AWS::SQS::Queue", nagSuppression{
		rule: "AwsSolutions-SQS3", reason: "The reader of this queue decides how often it retries an event. Set the prop Queue to use a queue with a dead-letter queue.",
	})
	return queue
}

// rule creates the rule of one source.
func (r *rules) rule(s defender.Source, eventTopic string, exceptDisconnects []string, policy awsiam.Policy) awscdk.CfnResource {
	rule := awsiot.NewCfnTopicRule(r, new(s.String()), &awsiot.CfnTopicRuleProps{
		TopicRulePayload: &awsiot.CfnTopicRule_TopicRulePayloadProperty{
			Description:      new("Security events for AWS Security Hub: " + s.String()),
			Sql:              new(iotrule.SQL(s, eventTopic, exceptDisconnects...)),
			AwsIotSqlVersion: new(iotrule.SQLVersion),
			Actions:          &[]any{sqsAction(r.queue, r.role)},
			ErrorAction:      sqsAction(r.errorQueue, r.role),
			RuleDisabled:     false,
		},
	})
	rule.Node().AddDependency(policy)
	return rule
}

// sqsAction returns a rule's action that sends to queue.
func sqsAction(queue awssqs.IQueue, role awsiam.IRole) *awsiot.CfnTopicRule_ActionProperty {
	return &awsiot.CfnTopicRule_ActionProperty{Sqs: &awsiot.CfnTopicRule_SqsActionProperty{
		QueueUrl: queue.QueueUrl(), RoleArn: role.RoleArn(), UseBase64: false,
	}}
}
