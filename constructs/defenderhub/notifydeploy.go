package defenderhub

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awschatbot"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"

	"github.com/defenderhub/defenderhub/internal/contract"
	rulefile "github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/notification"
)

// deploy creates the topics, the rule, the queues, the table, the function and the schedules. It
// expects valid props, with their executable set.
func (n *notify) deploy(p NotifyProps) {
	config := p.config()
	code, err := codeWithConfig(p.executable, notification.File, "Correlate.Rules", config)
	must(n, err)
	n.topic = n.newTopic("Topic", "Security findings of devices", p.Topic, p.EncryptionKey)
	n.chatTopic = n.newTopic("ChatTopic", "Security findings of devices, for chat", p.ChatTopic, p.EncryptionKey)
	n.subscribe(p)
	timeout, window := or(p.Timeout, defaultTimeout), or(p.BatchWindow, defaultNotifyBatchWindow)
	n.events = newFindingQueue(n, findingQueueOptions{
		description: "Sends the findings that may match a filter to the notifier",
		pattern:     p.pattern(config.Filters), key: p.EncryptionKey, visibility: visibility(timeout, window),
	})
	n.records = newTable(n, "Records", tableOptions{
		partition: contract.NotifyPartitionKey, sort: contract.NotifySortKey, expiry: contract.NotifyExpiry,
		key: p.EncryptionKey, recovery: p.PointInTimeRecovery, removal: p.RecordRemovalPolicy,
		without: "Without its records the notifier reports each open finding once more. PointInTimeRecovery turns backups on.",
	})
	n.records.AddGlobalSecondaryIndex(&awsdynamodb.GlobalSecondaryIndexProps{
		IndexName:      new(contract.NotifyOpenIndex),
		PartitionKey:   attribute(contract.NotifyOpenSeverity, awsdynamodb.AttributeType_STRING),
		SortKey:        attribute(contract.NotifyOpenSince, awsdynamodb.AttributeType_NUMBER),
		ProjectionType: awsdynamodb.ProjectionType_ALL,
	})
	n.function = newGoFunction(n, "Function", goFunction{
		description: "Sends messages about findings of AWS Security Hub", code: code, FunctionProps: value(p.Function),
		timeout: timeout, memoryMiB: or(p.MemoryMiB, defaultMemoryMiB), key: p.EncryptionKey,
		environment: map[string]string{
			contract.EnvNotifyTable:        *n.records.TableName(),
			contract.EnvNotifyQueueURL:     *n.events.queue.QueueUrl(),
			contract.EnvDeadLetterQueueURL: *n.events.deadLetters.QueueUrl(),
			contract.EnvPeopleTopic:        *n.topic.TopicArn(),
			contract.EnvChatTopic:          *n.chatTopic.TopicArn(),
			contract.EnvLogLevel:           value(p.Function).LogLevel.String(),
		},
		// In a flood, an invocation that handles a request for "and N more" also handles events that
		// cause the next request. Lambda would see a loop and drop a batch after 16 rounds, although
		// no request causes another one.
		recursive:  true,
		statements: n.permissions(p), suppressions: append(aliasSuppressions(n, append(n.topicKeys(), p.EncryptionKey)...), nagSuppression{
			rule: "AwsSolutions-IAM5", reason: "Any thing of this account and Region may have findings, and its thing groups are in the message.",
			findings: nagResources("thing/*", "thinggroup/*"),
		}),
	})
	n.function.ConfigureAsyncInvoke(&awslambda.EventInvokeConfigOptions{RetryAttempts: new(2.0), MaxEventAge: seconds(time.Hour)})
	n.events.consume(n.function, or(p.BatchSize, defaultNotifyBatchSize), window, or(p.MaxConcurrency, defaultNotifyConcurrency))
	n.schedule(p)
	n.alarms = n.newAlarms(p)
}

// config returns the content of the file beside the function.
func (p NotifyProps) config() notification.Config {
	rules, _ := p.rules() // validate reports its faults
	c := notification.Config{PerMinute: or(p.PerMinute, defaultPerMinute), Rules: rules, MembershipMinutes: int(or(p.MembershipAge, defaultMembershipAge) / time.Minute)}
	if len(rules) > 0 {
		c.HoldSeconds = int(or(p.Hold, defaultHold) / time.Second)
	}
	if p.Digest != nil {
		c.DigestBelow = rulefile.Label(p.Digest.Below.Or(defaultDigestBelow))
	}
	if !p.NoReminder {
		c.Remind = rulefile.Label(p.Remind.Or(defaultRemind))
	}
	filters := p.Filters
	if len(filters) == 0 {
		filters = make([]NotifyFilter, 1)
	}
	for _, f := range filters {
		made := notification.Filter{
			Severity: rulefile.Label(f.Severity.Or(defaultNotifySeverity)), Products: f.Products, Behaviors: f.Behaviors, ThingGroups: f.ThingGroups,
		}
		for _, s := range f.Sources {
			made.Sources = append(made.Sources, s.String())
		}
		for _, check := range f.Checks {
			made.Checks = append(made.Checks, check.String())
		}
		c.Filters = append(c.Filters, made)
	}
	return c
}

// pattern returns the event pattern of the EventBridge rule.
func (p NotifyProps) pattern(filters []notification.Filter) map[string]any {
	switch {
	case len(p.Pattern) > 0:
		return p.Pattern
	case p.OtherAccounts:
		return notification.Pattern(filters, "", "")
	}
	return notification.Pattern(filters, *awscdk.Aws_ACCOUNT_ID(), *awscdk.Aws_REGION())
}

// newTopic returns the given topic, or creates one. The AWS managed key for Amazon SNS is enough,
// because only the function publishes to the topic.
func (n *notify) newTopic(id, description string, given awssns.ITopic, key awskms.IKey) awssns.ITopic {
	if given != nil {
		return given
	}
	if key == nil {
		key = awskms.Alias_FromAliasName(n, new(id+"Key"), new("alias/aws/sns"))
	}
	return awssns.NewTopic(n, new(id), &awssns.TopicProps{DisplayName: new(description), MasterKey: key, EnforceSSL: new(true)})
}

// permissions returns the function's permissions, except for its log.
func (n *notify) permissions(p NotifyProps) []awsiam.PolicyStatement {
	queue := n.events.consumePermissions()
	queue.AddActions(new("sqs:ChangeMessageVisibility"), new("sqs:SendMessage"))
	table := *n.records.TableArn()
	statements := []awsiam.PolicyStatement{
		queue,
		allow([]string{"sqs:SendMessage"}, *n.events.deadLetters.QueueArn()),
		allow([]string{"dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"}, table),
		allow([]string{"dynamodb:Query"}, table+"/index/"+contract.NotifyOpenIndex),
		allow([]string{"sns:Publish"}, *n.topic.TopicArn(), *n.chatTopic.TopicArn()),
		allow([]string{"iot:DescribeThing", "iot:ListThingGroupsForThing"}, arn("iot", "thing/*")),
		allow([]string{"iot:DescribeThingGroup"}, arn("iot", "thinggroup/*")),
	}
	statements = append(statements, useKey(p.EncryptionKey)...)
	var used []string
	if p.EncryptionKey != nil {
		used = append(used, *p.EncryptionKey.KeyArn())
	}
	for _, key := range n.topicKeys() {
		if !slices.Contains(used, *key.KeyArn()) {
			statements = append(statements, sendWithKey(key)...)
			used = append(used, *key.KeyArn())
		}
	}
	return statements
}

// topicKeys returns the keys of the topics for which the function needs permissions. The policy of
// an AWS managed key already lets the account's roles use it with Amazon SNS.
func (n *notify) topicKeys() []awskms.IKey {
	var keys []awskms.IKey
	for _, topic := range []awssns.ITopic{n.topic, n.chatTopic} {
		if key := topic.MasterKey(); key != nil && managedByAWS(key) == "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// subscribe subscribes the e-mail addresses and the Slack channel.
func (n *notify) subscribe(p NotifyProps) {
	for i, address := range p.Emails {
		id := "Email-" + address
		if unresolved(address) {
			id = fmt.Sprintf("Email%d", i)
		}
		awssns.NewSubscription(n, new(id), &awssns.SubscriptionProps{
			Topic: n.topic, Protocol: awssns.SubscriptionProtocol_EMAIL, Endpoint: new(address), Region: n.topic.Env().Region,
		})
	}
	if p.Slack == nil {
		return
	}
	// The names of configurations are unique per account, not per Region. CloudFormation replaces the
	// configuration of another workspace, and creates the new one first, which needs another name.
	name := *awscdk.Names_UniqueResourceName(n, &awscdk.UniqueResourceNameOptions{MaxLength: new(80.0), Separator: new("-")}) + "-" + p.Slack.WorkspaceID
	// The service assumes this role to run commands that people type in the channel. The guardrail
	// denies all of them; without a guardrail, AdministratorAccess would be the limit. No AWS page
	// says that the service sends its account and configuration when it assumes the role
	// (unverified), so the conditions apply only if it does.
	role := awsiam.NewRole(n, new("ChatRole"), &awsiam.RoleProps{
		Description: new("Lets Amazon Q Developer in chat applications show messages in a Slack channel"),
		AssumedBy: awsiam.NewServicePrincipal(new("chatbot.amazonaws.com"), &awsiam.ServicePrincipalOpts{Conditions: &map[string]any{
			"StringEqualsIfExists": map[string]any{"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID()},
			"ArnLikeIfExists":      map[string]any{"aws:SourceArn": fmt.Sprintf("arn:%s:chatbot::%s:*", *awscdk.Aws_PARTITION(), *awscdk.Aws_ACCOUNT_ID())},
		}}),
	})
	awschatbot.NewCfnSlackChannelConfiguration(n, new("Slack"), &awschatbot.CfnSlackChannelConfigurationProps{
		ConfigurationName: new(name + "-" + *awscdk.Aws_REGION()),
		SlackWorkspaceId:  new(p.Slack.WorkspaceID), SlackChannelId: new(p.Slack.ChannelID),
		IamRoleArn: role.RoleArn(), SnsTopicArns: &[]any{n.chatTopic.TopicArn()},
		GuardrailPolicies: texts([]string{"arn:" + *awscdk.Aws_PARTITION() + ":iam::aws:policy/AWSDenyAll"}),
	})
}

// schedule creates the schedules of the digest and the reminder.
func (n *notify) schedule(p NotifyProps) {
	if p.Digest == nil && p.NoReminder {
		return
	}
	s := newScheduler(n, "Lets EventBridge Scheduler ask for digests and reminders", n.function, n.events.deadLetters, p.EncryptionKey)
	add := func(id, description, expression, request string) {
		s.add(id, schedule{
			description: description, expression: expression, zone: p.TimeZone,
			input: contract.NotifyRequest(request, contract.ScheduledTime), maxAge: time.Hour,
		})
	}
	if p.Digest != nil {
		expression := "cron(0 * * * ? *)"
		if p.Digest.DailyAt != "" {
			expression = daily(p.Digest.DailyAt)
		}
		add("Digest", "Sends the digest of less severe findings", expression, contract.NotifyDigest)
	}
	if !p.NoReminder {
		add("Reminder", "Reminds of severe findings that are still open", daily(or(p.RemindAt, defaultRemindAt)), contract.NotifyRemind)
	}
}

// daily returns the schedule expression for a time of day, such as "08:00".
func daily(at string) string {
	parts := timeOfDay.FindStringSubmatch(at)
	number := func(s string) string {
		if s[0] == '0' {
			return s[1:]
		}
		return s
	}
	return fmt.Sprintf("cron(%s %s * * ? *)", number(parts[2]), number(parts[1]))
}
