package defenderhub

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiot"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskinesis"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// makeTransport creates the queue or stream to which the rules send, and the dead-letter queue.
func (e *selfManaged) makeTransport(p DetectProps) {
	s := *p.SelfManaged
	e.deadLetters = newQueue(e.scope, "DeadLetters", p.EncryptionKey, queueOptions{})
	hidden := visibility(or(s.Timeout, defaultTimeout), or(s.BatchWindow, defaultEvaluatorBatchWindow))
	o := queueOptions{visibility: hidden, deadLetter: e.deadLetters, receives: int(contract.TelemetryRetry / hidden)}
	e.errorQueue = newQueue(e.scope, "ErrorQueue", p.EncryptionKey, o)
	if s.Transport == TransportKinesis {
		e.stream = newStream(e.scope, p)
		return
	}
	e.queue = newQueue(e.scope, "Telemetry", p.EncryptionKey, o)
}

// newStream creates an encrypted stream; Amazon Kinesis accepts only TLS.
// https://docs.aws.amazon.com/general/latest/gr/ak.html
func newStream(scope *detect, p DetectProps) awskinesis.Stream {
	props := &awskinesis.StreamProps{
		Encryption: awskinesis.StreamEncryption_MANAGED, StreamMode: awskinesis.StreamMode_ON_DEMAND, RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	}
	if p.EncryptionKey != nil {
		props.Encryption, props.EncryptionKey = awskinesis.StreamEncryption_KMS, p.EncryptionKey
	}
	if n := p.SelfManaged.Shards; n > 0 {
		props.StreamMode, props.ShardCount = awskinesis.StreamMode_PROVISIONED, new(float64(n))
	}
	stream := awskinesis.NewStream(scope, new("Stream"), props)
	if p.EncryptionKey != nil {
		suppressNag(stream, "AWS::Kinesis::Stream", nagSuppression{
			rule: "AwsSolutions-KDS3", reason: "The user chose this key with the prop EncryptionKey. By default the stream uses the key that AWS manages.",
		})
	}
	return stream
}

// makeRules creates the IoT rules that send the telemetry that the behaviors need.
func (e *selfManaged) makeRules(p DetectProps, rules []iotrule.TelemetryRule) {
	// Like the role of Rules, it depends on no other resource, so that CloudFormation creates it early.
	role := serviceRole(e.scope, "RulesRole", iotService, "rule/*", "Lets AWS IoT rules send telemetry to the evaluator")
	statements := []awsiam.PolicyStatement{allow([]string{"sqs:SendMessage"}, *e.errorQueue.QueueArn())}
	if e.stream != nil {
		statements = append(statements, allow([]string{"kinesis:PutRecord"}, *e.stream.StreamArn()))
	} else {
		statements[0].AddResources(e.queue.QueueArn())
	}
	statements = append(statements, sendWithKey(p.EncryptionKey)...)
	policy := awsiam.NewPolicy(e.scope, new("RulesPolicy"), &awsiam.PolicyProps{Roles: &[]awsiam.IRole{role}, Statements: &statements})
	suppressAliases(policy, p.EncryptionKey)
	for _, r := range rules {
		var action *awsiot.CfnTopicRule_ActionProperty
		if e.stream == nil {
			action = sqsAction(e.queue, role)
		} else {
			action = &awsiot.CfnTopicRule_ActionProperty{Kinesis: &awsiot.CfnTopicRule_KinesisActionProperty{
				StreamName: e.stream.StreamName(), PartitionKey: new(r.PartitionKey), RoleArn: role.RoleArn(),
			}}
		}
		name := ""
		if r.Kind == iotrule.DeviceReport {
			name = p.SelfManaged.ReportsRuleName
			take(e.scope, named(topicRule, name))
		}
		rule := awsiot.NewCfnTopicRule(e.scope, new("Rule-"+r.ID), &awsiot.CfnTopicRuleProps{
			RuleName: orNil(name),
			TopicRulePayload: &awsiot.CfnTopicRule_TopicRulePayloadProperty{
				Description:      new("Telemetry for the self-managed engine of defenderhub: " + r.ID),
				Sql:              new(r.SQL),
				AwsIotSqlVersion: new(iotrule.SQLVersion),
				Actions:          &[]any{action},
				ErrorAction:      sqsAction(e.errorQueue, role),
				RuleDisabled:     false,
			},
		})
		rule.Node().AddDependency(policy)
		e.rules[r.ID] = rule
		if r.Kind == iotrule.DeviceReport {
			e.reportsRule = rule.Ref()
		}
	}
}

// consume connects the evaluator to its queues and its stream. Error actions send to the error queue
// with either transport.
func (e *selfManaged) consume(s SelfManagedProps) {
	size, window := or(s.BatchSize, defaultEvaluatorBatchSize), or(s.BatchWindow, defaultEvaluatorBatchWindow)
	queues := []awssqs.Queue{e.errorQueue}
	if e.stream == nil {
		queues = append(queues, e.queue)
	}
	consumeQueues(e.evaluator, size, window, or(s.MaxConcurrency, defaultEvaluatorConcurrency), queues...)
	if e.stream == nil {
		return
	}
	// The CDK's event source would give the function more permissions than it needs.
	source := awslambda.NewCfnEventSourceMapping(e.scope, new("StreamSource"), &awslambda.CfnEventSourceMappingProps{
		FunctionName: e.evaluator.FunctionName(), EventSourceArn: e.stream.StreamArn(),
		StartingPosition: new("TRIM_HORIZON"), BatchSize: new(float64(size)), MaximumBatchingWindowInSeconds: new(window.Seconds()),
		BisectBatchOnFunctionError: true, FunctionResponseTypes: texts([]string{"ReportBatchItemFailures"}),
		MaximumRecordAgeInSeconds: new(contract.TelemetryRetry.Seconds()),
		DestinationConfig: &awslambda.CfnEventSourceMapping_DestinationConfigProperty{
			OnFailure: &awslambda.CfnEventSourceMapping_OnFailureProperty{Destination: e.deadLetters.QueueArn()},
		},
	})
	source.Node().AddDependency(e.evaluator.Role())
}

// sourcePermissions returns the permissions with which Lambda reads queues and stream for the
// evaluator.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
// https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html
func (e *selfManaged) sourcePermissions() []awsiam.PolicyStatement {
	queues := allow([]string{"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}, *e.errorQueue.QueueArn())
	if e.stream == nil {
		queues.AddResources(e.queue.QueueArn())
		return []awsiam.PolicyStatement{queues}
	}
	return []awsiam.PolicyStatement{
		queues,
		allow([]string{
			"kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords", "kinesis:GetShardIterator", "kinesis:ListShards", "kinesis:SubscribeToShard",
		}, *e.stream.StreamArn()),
		allow([]string{"sqs:SendMessage"}, *e.deadLetters.QueueArn()),
	}
}

// topicOfReports returns the topic to which devices publish their reports.
func (e *selfManaged) topicOfReports(filter string) *string {
	switch {
	case e.reportsRule == nil:
		return nil
	case filter != "":
		return new(filter)
	}
	return new("$aws/rules/" + *e.reportsRule + "/report")
}

// answerPermissions returns the permission to answer unreadable reports. It is empty if there is no
// topic for answers: with Basic Ingest, on AWS's own topics, and if a rule would receive the answer
// as a report.
func answerPermissions(filter string) ([]awsiam.PolicyStatement, []nagSuppression) {
	topic := answerTopic(filter)
	if topic == "" {
		return nil, nil
	}
	return []awsiam.PolicyStatement{allow([]string{"iot:Publish"}, arn("iot", "topic/"+topic))}, []nagSuppression{{
		rule: "AwsSolutions-IAM5", reason: "Any device may send an unreadable report. The function answers on that device's topic below the prop ReportTopic.",
		findings: nagResources("topic/" + topic),
	}}
}

// answerTopic returns the ARN pattern of the topics of answers, "" for none.
func answerTopic(filter string) string {
	return strings.ReplaceAll(answersTo(filter), "+", "*")
}

// answersTo returns the topic filter of answers, "" for none.
func answersTo(filter string) string {
	if filter == "" || strings.HasPrefix(filter, "$") || strings.HasSuffix(filter, "#") {
		return ""
	}
	return filter + "/rejected"
}
