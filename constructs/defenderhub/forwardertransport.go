package defenderhub

import (
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// makeQueues creates the queues, each with the visibility timeout that its function needs.
func (f *forwarder) makeQueues(p ForwarderProps) {
	f.deadLetters = newQueue(f, "DeadLetters", p.EncryptionKey, queueOptions{})
	queue := func(id string, timeout, window time.Duration) awssqs.Queue {
		return newQueue(f, id, p.EncryptionKey, queueOptions{visibility: visibility(timeout, window), deadLetter: f.deadLetters})
	}
	timeout, window := or(p.Timeout, defaultTimeout), or(p.BatchWindow, defaultBatchWindow)
	f.queue = queue("Queue", timeout, window)
	f.errorQueue = queue("ErrorQueue", timeout, window)
	if p.AuditTopic != nil {
		f.auditQueue = queue("AuditQueue", or(p.AuditTimeout, defaultAuditTimeout), 0)
	}
}

// subscribe subscribes the queues to Device Defender's topics. It does not use raw message delivery,
// because only the envelope of Amazon SNS names the account and the Region of an alarm.
func (f *forwarder) subscribe(p ForwarderProps) {
	if p.DetectTopic != nil {
		f.subscribeAlarms(p.DetectTopic)
	}
	if p.AuditTopic != nil {
		f.auditSubscription = f.subscribeQueue("Audits", p.AuditTopic, f.auditQueue, p.EncryptionKey)
	}
}

func (f *forwarder) subscribeAlarms(topic awssns.ITopic) {
	id := "Alerts"
	for i := 2; f.Node().TryFindChild(&id) != nil; i++ {
		id = fmt.Sprintf("Alerts%d", i)
	}
	f.subscribeQueue(id, topic, f.queue, f.key)
}

// subscribeQueue replaces the CDK's SqsSubscription, whose key policy does not suit us. With the
// CDK's feature flag the policy names the topic, which is a cycle if the same key encrypts the
// topic. Without the flag the policy has no source condition.
func (f *forwarder) subscribeQueue(id string, topic awssns.ITopic, queue awssqs.Queue, key awskms.IKey) awssns.Subscription {
	sns := []awsiam.IPrincipal{awsiam.NewServicePrincipal(new("sns.amazonaws.com"), nil)}
	added := queue.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &sns, Actions: texts([]string{"sqs:SendMessage"}), Resources: texts([]string{*queue.QueueArn()}),
		Conditions: &map[string]any{"ArnEquals": map[string]any{"aws:SourceArn": topic.TopicArn()}},
	}))
	if key != nil {
		topics := fmt.Sprintf("arn:%s:sns:%s:%s:*", *awscdk.Aws_PARTITION(), *topic.Env().Region, *topic.Env().Account)
		letService(key, "sns.amazonaws.com", "So that Amazon SNS can deliver notifications to the queues that it encrypts", sendingWithKey,
			map[string]any{"ArnLike": map[string]any{"aws:SourceArn": topics}})
	}
	props := &awssns.SubscriptionProps{
		Topic: topic, Protocol: awssns.SubscriptionProtocol_SQS, Endpoint: queue.QueueArn(), DeadLetterQueue: f.deadLetters,
	}
	here, there := *awscdk.Stack_Of(f).Region(), *topic.Env().Region
	if here != there {
		props.Region = &there
	}
	known := !unresolved(here) && !unresolved(there)
	if here != there && known {
		props.DeadLetterQueue = nil
		awscdk.Annotations_Of(topic).AddInfoV2(new("defenderhub:topic-region"), new(fmt.Sprintf(
			"This topic is in %s. Messages that it cannot deliver to %s are lost: Amazon SNS accepts a dead-letter queue only in the topic's Region", there, here)))
	}
	subscription := awssns.NewSubscription(f, new(id), props)
	if here != there && !known && !unresolved(there) {
		f.onlyIn(there, subscription)
	}
	subscription.Node().AddDependency(added.PolicyDependable)
	return subscription
}

// onlyIn makes the dead-letter queue of a subscription conditional: the subscription has it only if
// the stack is deployed in the topic's Region, because Amazon SNS rejects one of another Region.
// https://docs.aws.amazon.com/sns/latest/dg/sns-dead-letter-queues.html
func (f *forwarder) onlyIn(region string, subscription awssns.Subscription) {
	id := "In-" + region
	condition, _ := f.Node().TryFindChild(&id).(awscdk.CfnCondition)
	if condition == nil {
		condition = awscdk.NewCfnCondition(f, &id, &awscdk.CfnConditionProps{Expression: awscdk.Fn_ConditionEquals(awscdk.Aws_REGION(), region)})
	}
	var resource awssns.CfnSubscription
	jsii.UnsafeCast(subscription.Node().DefaultChild(), &resource)
	resource.SetRedrivePolicy(awscdk.Fn_ConditionIf(condition.LogicalId(), resource.RedrivePolicy(), awscdk.Aws_NO_VALUE()))
}

// consumeQueues connects function to queues. The CDK's event source would also allow
// ChangeMessageVisibility, which only some functions need.
func consumeQueues(function awslambda.Function, size int, window time.Duration, concurrency int, queues ...awssqs.Queue) {
	for _, q := range queues {
		consumeQueue(function, q, &awslambda.EventSourceMappingOptions{
			BatchSize: new(float64(size)), MaxBatchingWindow: seconds(window), MaxConcurrency: new(float64(concurrency)),
		})
	}
}

// consumeQueue connects function to queue. Only failed messages of a batch are retried.
//
// The CDK's event source derives the ID of the mapping from the queue's path in the app. If you move
// the stack into a stage, that would be a second mapping of the same queue and function, which Lambda
// rejects.
func consumeQueue(function awslambda.Function, queue awssqs.Queue, options *awslambda.EventSourceMappingOptions) {
	options.EventSourceArn, options.ReportBatchItemFailures = queue.QueueArn(), new(true)
	function.AddEventSourceMapping(new(*queue.Node().Id()+"Source"), options)
}

// consumeAudits passes one audit per invocation to function, because an audit can have thousands of
// findings.
func (f *forwarder) consumeAudits(function awslambda.Function) {
	f.auditQueue.GrantConsumeMessages(function)
	consumeQueue(function, f.auditQueue, &awslambda.EventSourceMappingOptions{BatchSize: new(1.0), MaxConcurrency: new(2.0)})
}

// refresh invokes the function hourly to archive quiet findings, and to import findings again that
// Security Hub would soon delete. The event's time decides which findings are due. The next event
// covers unfinished work, so an event is retried for at most an hour.
//
// The CDK's target would derive the ID of the permission from the function's path in the app, which
// changes if you move the stack into a stage.
func (f *forwarder) refresh() {
	f.function.AddToRolePolicy(allow([]string{"dynamodb:Query"}, *f.ledger.TableArn()+"/index/"+contract.LedgerRefreshIndex))
	f.function.ConfigureAsyncInvoke(&awslambda.EventInvokeConfigOptions{RetryAttempts: new(2.0), MaxEventAge: seconds(refreshInterval)})
	rule := awsevents.NewCfnRule(f, new("Refresh"), &awsevents.CfnRuleProps{
		Description:        new("Archives quiet findings, and refreshes findings that Security Hub would delete"),
		ScheduleExpression: awsevents.Schedule_Rate(seconds(refreshInterval)).ExpressionString(),
		State:              new("ENABLED"),
		Targets: &[]any{&awsevents.CfnRule_TargetProperty{
			Id: new("Function"), Arn: f.function.FunctionArn(),
			InputTransformer: &awsevents.CfnRule_InputTransformerProperty{
				InputPathsMap: map[string]string{"time": "$.time"},
				// EventBridge adds quotes around a string.
				InputTemplate: new(strings.ReplaceAll(contract.RefreshRequest("<time>"), `"<time>"`, "<time>")),
			},
			RetryPolicy: &awsevents.CfnRule_RetryPolicyProperty{MaximumEventAgeInSeconds: new(refreshInterval.Seconds())},
		}},
	})
	f.function.AddPermission(new("Refresh"), &awslambda.Permission{
		Principal: awsiam.NewServicePrincipal(new("events.amazonaws.com"), nil), SourceArn: rule.AttrArn(),
	})
}
