package defenderhub

import (
	"errors"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // so that a zone is valid on every machine

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
	rulefile "github.com/defenderhub/defenderhub/internal/correlation"
)

// NotifyProps configure [Notify]. The zero value publishes messages about findings of devices with
// MEDIUM severity or above to two new topics without subscribers.
type NotifyProps struct {
	// Filters select the findings to report, at most 20. A finding must match one of them. You do
	// not pay for the events of other findings, as far as an event pattern can express the filters.
	// Default: nil, one filter with its defaults.
	Filters []NotifyFilter
	// OtherAccounts also reports findings of the other accounts and Regions that Security Hub
	// shows in an administrator account or a home Region. Their thing groups are not known.
	OtherAccounts bool
	// Pattern replaces the event pattern that is derived from the filters: a JSON object of at most
	// 2048 characters. It is useful to select fewer events, because the filters still apply. It must
	// also select the events with which the selected findings end.
	// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html
	// Default: nil, the findings that match the filters, and the events with which they end.
	Pattern map[string]any
	// Correlate are the props of the [Correlate] that finds incidents. Findings that are parts of an
	// incident then send no message. A DefenderHub sets it from DefenderHubProps.Correlate.
	// Default: nil, there are no incidents.
	Correlate *CorrelateProps
	// Hold is how long the message about a new finding waits for an incident that may contain the
	// finding, in whole seconds from 1 second to 15 minutes. Messages about incidents do not wait.
	// Without Correlate no message waits.
	// Default: 0, which means 1 minute.
	Hold time.Duration

	// PerMinute is the maximum number of messages per minute, 1 to 1000. Messages about CRITICAL
	// findings are counted separately, with the same maximum. All further changes in that minute
	// share one message.
	// Default: 0, which means 20.
	PerMinute int
	// Digest collects the changes of less severe findings in one message.
	// Default: nil, each change has its own message.
	Digest *DigestProps
	// Remind is the minimum severity of the open findings in the daily reminder.
	// Default: SeverityDefault, CRITICAL.
	Remind defender.Severity
	// NoReminder turns off the daily reminder.
	NoReminder bool
	// RemindAt is the time of the daily reminder, such as "08:00".
	// Default: "", 08:00.
	RemindAt string
	// TimeZone is the time zone of RemindAt and Digest.DailyAt, a name of the IANA database such as
	// "Europe/Berlin", or a deploy-time reference to one. All times in messages are UTC.
	// Default: "", UTC.
	TimeZone string
	// MembershipAge is how long a thing's groups from the registry are cached, in whole minutes
	// from 1 minute to 24 hours.
	// Default: 0, which means 15 minutes.
	MembershipAge time.Duration

	// Topic receives the messages as text. It must be a standard topic of the stack's Region. The
	// policy of a customer-managed key must let IAM policies of this account use it.
	// Default: nil, a new topic, encrypted, TLS only.
	Topic awssns.ITopic
	// ChatTopic receives the messages in the schema of Amazon Q Developer in chat applications. The
	// limits of Topic apply. An existing channel configuration can use it: docs/notify.md says how.
	// Default: nil, a new topic, encrypted, TLS only.
	ChatTopic awssns.ITopic
	// Emails are the e-mail addresses that receive the messages, at most 100. The owner of each
	// address must confirm the subscription once.
	// Default: nil, no e-mail.
	Emails []string
	// Slack is the Slack channel that receives the messages.
	// Default: nil, no channel.
	Slack *SlackProps

	// BatchSize is the maximum number of events per invocation, 1 to 10000.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
	// Default: 0, which means 100.
	BatchSize int
	// BatchWindow is how long Lambda waits for a batch to fill, in whole seconds from 1 second to
	// 5 minutes.
	// Default: 0, which means 2 seconds.
	BatchWindow time.Duration
	// MaxConcurrency is the maximum number of concurrent invocations, 2 to 1000.
	// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
	// Default: 0, which means 2.
	MaxConcurrency int

	// Function configures the function. It needs network access to Amazon SNS, Amazon SQS, DynamoDB
	// and AWS IoT.
	// Default: nil, DefenderHubProps.Function within a DefenderHub, else the zero value.
	Function *FunctionProps
	// Prebuilt is the path of a prebuilt lambda/notifier. The settings are deployed in a file beside
	// the program. See ForwarderProps.Prebuilt.
	// Default: "", go build compiles it at synthesis.
	Prebuilt string
	// MemoryMiB is the memory of the function, 128 to 10240 MiB.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
	// Default: 0, which means 256.
	MemoryMiB int
	// Timeout is the timeout of the function, in whole seconds from 10 seconds to 5 minutes. The
	// queue retries an event after BatchWindow and six times Timeout, as AWS advises.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
	// Default: 0, which means 1 minute.
	Timeout time.Duration

	// EncryptionKey encrypts the queues, the table, the log group and the new topics. Its policy
	// must let IAM policies of this account use it, as the CDK's default does. The policy of an
	// imported key must also allow Amazon EventBridge and CloudWatch Logs.
	// Default: nil, DefenderHubProps.EncryptionKey within a DefenderHub, else AWS managed keys.
	EncryptionKey awskms.IKey
	// PointInTimeRecovery lets you restore the table to any second of the last 35 days. If the table
	// is lost, each open finding is reported once more at its next event.
	PointInTimeRecovery bool
	// RecordRemovalPolicy is the table's removal policy.
	// Default: "", awscdk.RemovalPolicy_DESTROY, which deletes the table with the stack.
	RecordRemovalPolicy awscdk.RemovalPolicy
	// AlarmTopic is notified when an alarm goes off and when it returns to OK; see
	// DefenderHubProps.AlarmTopic.
	// Default: nil, DefenderHubProps.AlarmTopic within a DefenderHub, else the alarms notify nobody.
	AlarmTopic awssns.ITopic
	// Alarms tune the alarms.
	// Default: nil, eight alarms.
	Alarms *NotifyAlarmsProps

	// executable is the path of the program, set by compile.
	executable string
}

// NotifyFilter selects findings. All fields that are set must match; one element of a list is
// enough. A field that cannot be evaluated for a finding matches. Products, Sources, Checks and
// Behaviors match every incident.
type NotifyFilter struct {
	// Severity is the minimum severity.
	// Default: SeverityDefault, MEDIUM.
	Severity defender.Severity
	// Products are the parts of ProductArn after "product/", such as "aws/guardduty", at most 20.
	// "default" matches every finding of the account's default product.
	// Default: nil, the findings of defenderhub and of Device Defender's own integration.
	Products []string
	// Sources are defenderhub's sources of findings. AuditNotifications and DetectNotifications
	// also match Device Defender's own integration. A filter has Products or Sources, not both.
	// Default: nil, all sources.
	Sources []defender.Source
	// Checks are audit checks, and Behaviors are names of behaviors, at most 50 each.
	// Default: nil, all findings.
	Checks    []defender.Check
	Behaviors []string
	// ThingGroups are names of thing groups, at most 50. The device must be in one of these groups,
	// or in a descendant of one. The field cannot be evaluated for a device that is not a thing of
	// this account and Region.
	// Default: nil, all devices.
	ThingGroups []string
}

// DigestProps configure a digest. The zero value sends a digest in each hour with a change.
type DigestProps struct {
	// Below is the severity limit: changes of findings below it go into the digest.
	// Default: SeverityDefault, HIGH.
	Below defender.Severity
	// DailyAt is the time of a daily digest, such as "17:30".
	// Default: "", a digest each hour.
	DailyAt string
}

// SlackProps name a Slack channel. Before the deployment, authorize the workspace once in the
// console of Amazon Q Developer in chat applications: docs/notify.md says how.
type SlackProps struct {
	// WorkspaceID is the ID of the workspace, such as "T0123ABCD". It is required.
	WorkspaceID string
	// ChannelID is the ID of the channel, such as "C0123ABCD". It is required.
	ChannelID string
}

const (
	defaultNotifyBatchSize   = 100
	defaultNotifyBatchWindow = 2 * time.Second
	defaultNotifyConcurrency = 2
	defaultHold              = time.Minute
	defaultPerMinute         = 20
	defaultNotifySeverity    = defender.Medium
	defaultDigestBelow       = defender.High
	defaultRemind            = defender.Critical
	defaultRemindAt          = "08:00"

	maxFilters    = 20
	maxFilterList = 50
	maxProducts   = 20
	maxEmails     = 100
)

var (
	timeOfDay   = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])$`)
	productName = regexp.MustCompile(`^(default|[a-zA-Z0-9-]{1,100}/[a-zA-Z0-9-]{1,100})$`)
	// The patterns of the CloudFormation type.
	// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-chatbot-slackchannelconfiguration.html
	slackWorkspace = regexp.MustCompile(`^[0-9A-Z]{1,255}$`)
	slackChannel   = regexp.MustCompile(`^[A-Za-z0-9]{1,256}$`)
)

func (p NotifyProps) validate() error {
	var f faults
	if n := len(p.Filters); n > maxFilters {
		f.add("Filters", n, "at most %d filters", maxFilters)
	}
	for i, filter := range p.Filters {
		f.under("Filters"+index(i), filter.validate())
	}
	if len(p.Pattern) > 0 {
		f.pattern("Pattern", p.Pattern)
	}
	_, err := p.rules()
	f.under("Correlate", err)
	f.duration("Hold", p.Hold, time.Second, 15*time.Minute)
	f.number("PerMinute", p.PerMinute, 1, 1000, "messages")
	if p.Digest != nil {
		f.severity("Digest.Below", p.Digest.Below)
		f.timeOfDay("Digest.DailyAt", p.Digest.DailyAt)
	}
	f.severity("Remind", p.Remind)
	f.timeOfDay("RemindAt", p.RemindAt)
	if p.NoReminder {
		const instead = "leave out NoReminder"
		reminder := defender.Alternative{Field: "NoReminder", Value: "false"}
		f.connected("Remind", p.Remind, instead, reminder)
		f.connected("RemindAt", p.RemindAt, instead, reminder)
	}
	f.timeZone("TimeZone", p.TimeZone)
	f.minutes("MembershipAge", p.MembershipAge, time.Minute, 24*time.Hour)
	f.messageTopic("Topic", p.Topic)
	f.messageTopic("ChatTopic", p.ChatTopic)
	f.under("Emails", validateEmails(p.Emails))
	if p.Slack != nil {
		f.under("Slack", p.Slack.validate())
	}
	f.batch(p.BatchSize, "events", p.BatchWindow, p.MaxConcurrency)
	f.function(p.Function, p.Prebuilt)
	f.number("MemoryMiB", p.MemoryMiB, 128, 10240, "MiB")
	f.duration("Timeout", p.Timeout, 10*time.Second, 5*time.Minute)
	f.key("EncryptionKey", p.EncryptionKey)
	f.removalPolicy("RecordRemovalPolicy", p.RecordRemovalPolicy)
	f.topic("AlarmTopic", p.AlarmTopic)
	f.under("Alarms", value(p.Alarms).validate())
	return f.err()
}

// topicsElsewhere returns the faults of topics in another Region than scope's.
func (p NotifyProps) topicsElsewhere(scope constructs.Construct) error {
	var f faults
	f.alarmTopic(scope, "AlarmTopic", p.AlarmTopic)
	const why = "Amazon SNS accepts a message only in the topic's Region"
	f.topicHere(scope, "Topic", p.Topic, why)
	f.topicHere(scope, "ChatTopic", p.ChatTopic, why)
	return f.err()
}

// rules returns the rules as the function reads them, nil without Correlate.
func (p NotifyProps) rules() ([]rulefile.Rule, error) {
	if p.Correlate == nil {
		return nil, nil
	}
	return p.Correlate.compiled()
}

func (n NotifyFilter) validate() error {
	var f faults
	f.severity("Severity", n.Severity)
	f.sources("Sources", n.Sources)
	f.checks("Checks", n.Checks)
	if len(n.Sources) > 0 && len(n.Products) > 0 {
		f.coded(CodeProductsAndSources, "Products", n.Products, "either Products or Sources: write two filters", defender.Alternative{Field: "Sources", Value: "nil"})
	}
	f.texts("Products", n.Products, maxProducts, productName.MatchString, `such as "aws/guardduty", or "default"`)
	named := func(s string) bool { return s != "" }
	f.texts("Behaviors", n.Behaviors, maxFilterList, named, "a name that is not empty")
	f.texts("ThingGroups", n.ThingGroups, maxFilterList, named, "a name that is not empty")
	if len(n.Checks) > maxFilterList {
		f.add("Checks", len(n.Checks), "at most %d", maxFilterList)
	}
	return f.err()
}

// texts reports invalid, repeated and deploy-time strings of a list, and too many of them.
func (f *faults) texts(field string, list []string, most int, valid func(string) bool, want string) {
	if n := len(list); n > most {
		f.add(field, n, "at most %d", most)
	}
	for i, s := range list {
		switch {
		case unresolved(s):
			f.add(field+index(i), deployTime, "a string that is known at synthesis: it is deployed in a file")
		case !valid(s):
			f.add(field+index(i), s, want)
		case slices.Index(list, s) < i:
			f.add(field+index(i), s, "each element once")
		}
	}
}

func (f *faults) timeOfDay(field, at string) {
	if at != "" && !timeOfDay.MatchString(at) {
		f.add(field, at, `a time from "00:00" to "23:59" that is known at synthesis, or empty for the default`)
	}
}

// timeZone reports a name that the IANA database does not have. The template can hold a reference.
func (f *faults) timeZone(field, name string) {
	if unresolved(name) && !broken(name) {
		return
	}
	// LoadLocation returns UTC for "", and the machine's zone for "Local".
	if _, err := time.LoadLocation(name); err != nil || name == "Local" {
		f.add(field, name, "a name of the IANA database, such as Europe/Berlin, or empty for UTC")
	}
}

// messageTopic reports a FIFO topic. Unlike an AWS service, the function can publish to a topic with
// an AWS managed key.
func (f *faults) messageTopic(field string, topic awssns.ITopic) {
	if topic != nil && (*topic.Fifo() || strings.HasSuffix(*topic.TopicArn(), ".fifo")) {
		f.add(field, "a FIFO topic", "a standard topic: neither mail nor chat can subscribe to a FIFO topic")
	}
}

func validateEmails(list []string) error {
	var f faults
	if n := len(list); n > maxEmails {
		f.add("", n, "at most %d addresses: subscribe a mailing list", maxEmails)
	}
	for i, address := range list {
		if unresolved(address) {
			continue
		}
		parsed, err := mail.ParseAddress(address)
		if err != nil || parsed.Address != address {
			f.add(index(i), address, "an address such as security@example.com, without a name")
		} else if slices.Index(list, address) < i {
			f.add(index(i), address, "each address once")
		}
	}
	return f.err()
}

func (s SlackProps) validate() error {
	var f faults
	for _, c := range []struct {
		field, value string
		pattern      *regexp.Regexp
		want         string
	}{
		{"WorkspaceID", s.WorkspaceID, slackWorkspace, "the ID of a workspace that is authorized in the console, 1 to 255 of A-Z 0-9, such as T0123ABCD"},
		{"ChannelID", s.ChannelID, slackChannel, "the ID of a channel, 1 to 256 of A-Z a-z 0-9, such as C0123ABCD"},
	} {
		switch {
		case c.value == "":
			f.add(c.field, nil, c.want)
		case !unresolved(c.value) && !c.pattern.MatchString(c.value):
			f.add(c.field, c.value, c.want)
		}
	}
	return f.err()
}

// compiles reports whether synthesis must compile the program.
func (p *NotifyProps) compiles() bool { return p != nil && p.Prebuilt == "" }

// compile sets executable: to Prebuilt, or to the compiled program.
func (p *NotifyProps) compile() (err error) {
	p.executable, err = functionExecutable(notifierFunction, value(p.Function).Architecture, p.Prebuilt)
	return err
}

// Notify publishes a message when a finding begins, gets worse or ends.
type Notify interface {
	constructs.Construct
	// Topic receives the messages as text.
	Topic() awssns.ITopic
	// ChatTopic receives the messages in the schema of Amazon Q Developer in chat applications.
	ChatTopic() awssns.ITopic
	// Rule sends the events of Security Hub that may match a filter to the queue.
	Rule() awscdk.CfnResource
	// Queue receives the events of Security Hub.
	Queue() awssqs.IQueue
	// DeadLetterQueue has the events that could not be handled.
	DeadLetterQueue() awssqs.IQueue
	// Function writes the messages.
	Function() awslambda.IFunction
	// RecordTable stores the reported state of each finding.
	RecordTable() awsdynamodb.ITable
	// Alarms are the enabled alarms.
	Alarms() []awscloudwatch.IAlarm
	// MetricReceived counts events that arrived.
	// Default: the sum over 5 minutes.
	MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricSent counts changes that were sent as separate messages.
	// Default: the sum over 5 minutes.
	MetricSent(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricCapped counts changes that exceed NotifyProps.PerMinute and share a message.
	// Default: the sum over 5 minutes.
	MetricCapped(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricDigested counts changes that are in a digest.
	// Default: the sum over 5 minutes.
	MetricDigested(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricCovered counts changes of findings that are parts of an incident.
	// Default: the sum over 5 minutes.
	MetricCovered(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricFiltered counts events that match no filter.
	// Default: the sum over 5 minutes.
	MetricFiltered(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
	// MetricFailed counts events that could not be handled and are retried.
	// Default: the sum over 5 minutes.
	MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric
}

type notify struct {
	constructs.Construct
	topic, chatTopic awssns.ITopic
	events           *findingQueue
	function         awslambda.Function
	records          awsdynamodb.Table
	alarms           []awscloudwatch.IAlarm
}

func (n *notify) Topic() awssns.ITopic            { return n.topic }
func (n *notify) ChatTopic() awssns.ITopic        { return n.chatTopic }
func (n *notify) Rule() awscdk.CfnResource        { return n.events.rule }
func (n *notify) Queue() awssqs.IQueue            { return n.events.queue }
func (n *notify) DeadLetterQueue() awssqs.IQueue  { return n.events.deadLetters }
func (n *notify) Function() awslambda.IFunction   { return n.function }
func (n *notify) RecordTable() awsdynamodb.ITable { return n.records }
func (n *notify) Alarms() []awscloudwatch.IAlarm  { return slices.Clone(n.alarms) }

// NewNotify deploys the topics, the rule, the queue, the table and the function. It panics with one
// error that lists every fault of props.
func NewNotify(scope constructs.Construct, id *string, props *NotifyProps) Notify {
	n := &notify{}
	constructs.NewConstruct_Override(n, scope, id)
	p := value(props)
	must(n, errors.Join(p.validate(), p.topicsElsewhere(n)))
	must(n, p.compile())
	n.deploy(p)
	return n
}
