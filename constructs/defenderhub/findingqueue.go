package defenderhub

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
)

// maxPattern is the maximum size of an event pattern, in characters.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
const maxPattern = 2048

// findingQueue is a queue that receives the events of Security Hub that match an EventBridge rule.
type findingQueue struct {
	rule               awsevents.CfnRule
	queue, deadLetters awssqs.Queue
}

// findingQueueOptions configure a findingQueue.
type findingQueueOptions struct {
	description string
	// pattern is the event pattern, a JSON object.
	pattern map[string]any
	key     awskms.IKey
	// visibility, delay and receives are those of queueOptions.
	visibility, delay time.Duration
	receives          int
}

// newFindingQueue creates the rule and the queues in scope. The queues' policies
// let only the rule send; roles of this account may have a permission of their own.
func newFindingQueue(scope constructs.Construct, o findingQueueOptions) *findingQueue {
	q := &findingQueue{deadLetters: newQueue(scope, "DeadLetters", o.key, queueOptions{})}
	q.queue = newQueue(scope, "Queue", o.key, queueOptions{
		visibility: o.visibility, delay: o.delay, deadLetter: q.deadLetters, receives: o.receives,
	})
	q.rule = awsevents.NewCfnRule(scope, new("Rule"), &awsevents.CfnRuleProps{
		Description: new(o.description), EventPattern: o.pattern, State: new("ENABLED"),
		Targets: &[]any{&awsevents.CfnRule_TargetProperty{
			Id: new("Queue"), Arn: q.queue.QueueArn(),
			DeadLetterConfig: &awsevents.CfnRule_DeadLetterConfigProperty{Arn: q.deadLetters.QueueArn()},
		}},
	})
	for _, queue := range []awssqs.Queue{q.queue, q.deadLetters} {
		letRuleSend(queue, q.rule)
	}
	if o.key != nil {
		// EventBridge's requests to AWS KMS have no source. A condition on the source would drop
		// every event without an error.
		letService(o.key, "events.amazonaws.com", "So that Amazon EventBridge can send to the queues that it encrypts", sendingWithKey, map[string]any{})
	}
	return q
}

// lost returns the metric of events that EventBridge could send neither to the queue nor to the
// dead-letter queue.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
func (q *findingQueue) lost() awscloudwatch.IMetric {
	return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
		Namespace: new("AWS/Events"), MetricName: new("InvocationsFailedToBeSentToDlq"),
		DimensionsMap: &map[string]*string{"RuleName": q.rule.Ref()}, Statistic: new("Sum"), Period: seconds(alarmPeriod),
	})
}

// lostEvents describes the alarm on lost. One key encrypts both queues, so its policy is the usual
// cause.
const lostEvents = "EventBridge could deliver events neither to the queue nor to the dead-letter queue, and they are lost. Let events.amazonaws.com use the key that encrypts both queues, and check their policies"

// letRuleSend lets an EventBridge rule send to a queue.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
func letRuleSend(queue awssqs.Queue, rule awsevents.CfnRule) {
	queue.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(new("events.amazonaws.com"), nil)},
		Actions:    texts([]string{"sqs:SendMessage"}), Resources: texts([]string{*queue.QueueArn()}),
		Conditions: &map[string]any{"ArnEquals": map[string]any{"aws:SourceArn": rule.AttrArn()}},
	}))
}

// consume connects function to the queue, as consumeQueues does.
func (q *findingQueue) consume(function awslambda.Function, size int, window time.Duration, concurrency int) {
	consumeQueues(function, size, window, concurrency, q.queue)
}

// consumePermissions returns the permissions with which Lambda reads the queue for the function.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
func (q *findingQueue) consumePermissions() awsiam.PolicyStatement {
	return allow([]string{"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}, *q.queue.QueueArn())
}

// pattern reports an event pattern that is not JSON, or too large for EventBridge.
func (f *faults) pattern(field string, pattern map[string]any) {
	text, err := json.Marshal(pattern)
	switch {
	case err != nil:
		f.add(field, "a pattern that is not JSON", fmt.Sprintf("an event pattern that JSON can encode: %v", err))
	case len(text) > maxPattern:
		f.add(field, fmt.Sprintf("a pattern of %d characters", len(text)), "at most %d characters as JSON", maxPattern)
	}
}
