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

// subscribe sends Device Defender's notifications to the queues. It keeps the envelope of Amazon
// SNS, because an alarm itself names neither account nor Region.
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

// subscribeQueue replaces the CDK's SqsSubscription, whose key policy is wrong for us. With the
// CDK's feature flag it names the topic, which is a cycle if the same key encrypts the topic;
// without the flag it has no source condition.
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

// onlyIn keeps the dead-letter queue of a subscription if the topic turns out to be in the
// stack's Region at deployment: Amazon SNS refuses one of another Region.
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
// ChangeMessageVisibility, which only the forwarder needs.
func consumeQueues(function awslambda.Function, size int, window time.Duration, concurrency int, queues ...awssqs.Queue) {
	for _, q := range queues {
		consumeQueue(function, q, &awslambda.EventSourceMappingOptions{
			BatchSize: new(float64(size)), MaxBatchingWindow: seconds(window), MaxConcurrency: new(float64(concurrency)),
		})
	}
}

// consumeQueue connects function to queue. A bad message never makes other messages retry.
//
// The CDK's event source names the mapping by the queue's path from the app on. In a stack that
// moves into a stage that would be a second mapping of the same queue and function, which Lambda
// refuses.
func consumeQueue(function awslambda.Function, queue awssqs.Queue, options *awslambda.EventSourceMappingOptions) {
	options.EventSourceArn, options.ReportBatchItemFailures = queue.QueueArn(), new(true)
	function.AddEventSourceMapping(new(*queue.Node().Id()+"Source"), options)
}

// consumeAudits passes one audit at a time to function: each may have 25,000 findings.
func (f *forwarder) consumeAudits(function awslambda.Function) {
	f.auditQueue.GrantConsumeMessages(function)
	consumeQueue(function, f.auditQueue, &awslambda.EventSourceMappingOptions{BatchSize: new(1.0), MaxConcurrency: new(2.0)})
}

// refresh invokes the function hourly to archive quiet findings, and to import again findings
// that Security Hub would soon delete. The event's own time decides what is due. The next event
// includes everything left undone, so none is retried for longer than an hour.
//
// The CDK's target would name the permission by the function's path from the app on.
func (f *forwarder) refresh() {
	f.function.AddToRolePolicy(allow([]string{"dynamodb:Query"}, *f.ledger.TableArn()+"/index/"+contract.LedgerRefreshIndex))
	f.function.ConfigureAsyncInvoke(&awslambda.EventInvokeConfigOptions{RetryAttempts: new(2.0), MaxEventAge: seconds(refreshInterval)})
	rule := awsevents.NewCfnRule(f, new("Refresh"), &awsevents.CfnRuleProps{
		Description:        new("Archives findings that fell quiet, refreshes those that Security Hub would forget"),
		ScheduleExpression: awsevents.Schedule_Rate(seconds(refreshInterval)).ExpressionString(),
		State:              new("ENABLED"),
		Targets: &[]any{&awsevents.CfnRule_TargetProperty{
			Id: new("Function"), Arn: f.function.FunctionArn(),
			InputTransformer: &awsevents.CfnRule_InputTransformerProperty{
				InputPathsMap: map[string]string{"time": "$.time"},
				// EventBridge adds the quotes around text.
				InputTemplate: new(strings.ReplaceAll(contract.RefreshRequest("<time>"), `"<time>"`, "<time>")),
			},
			RetryPolicy: &awsevents.CfnRule_RetryPolicyProperty{MaximumEventAgeInSeconds: new(refreshInterval.Seconds())},
		}},
	})
	f.function.AddPermission(new("Refresh"), &awslambda.Permission{
		Principal: awsiam.NewServicePrincipal(new("events.amazonaws.com"), nil), SourceArn: rule.AttrArn(),
	})
}
