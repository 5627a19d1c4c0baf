package localaws_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/test/localaws"
)

// letters returns the template of a stack in which services send to a queue, directly and through a
// topic. more replaces the policies that allow this, unless it is empty. keyUser is a service that
// may use the key.
func letters(more, keyUser string) *string {
	const policies = `
		"ToQueue": {"Type": "AWS::SQS::QueuePolicy", "Properties": {"Queues": [{"Ref": "Queue"}], "PolicyDocument": {"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Principal": {"Service": ["events.amazonaws.com", "sns.amazonaws.com"]}, "Action": "sqs:SendMessage", "Resource": {"Fn::GetAtt": ["Queue", "Arn"]},
				"Condition": {"ArnLike": {"aws:SourceArn": [{"Fn::GetAtt": ["Rule", "Arn"]}, {"Ref": "Topic"}]}}},
			{"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}]}}},
		"ToTopic": {"Type": "AWS::SNS::TopicPolicy", "Properties": {"Topics": [{"Ref": "Topic"}], "PolicyDocument": {"Version": "2012-10-17", "Statement":
			{"Effect": "Allow", "Principal": {"Service": "cloudwatch.amazonaws.com"}, "Action": "sns:Publish", "Resource": "*", "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}}}}},`
	if more == "" {
		more = policies
	}
	text := fmt.Sprintf(`{"Conditions": {"Here": {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]}, "There": {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-west-2"]}}, "Resources": {%s
		"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "letters", "KmsMasterKeyId": {"Ref": "Key"}}},
		"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "letters", "KmsMasterKeyId": {"Fn::GetAtt": ["Key", "Arn"]}}},
		"Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": {"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Principal": {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}}, "Action": "kms:*", "Resource": "*"},
			{"Effect": "Allow", "Principal": {"Service": %q}, "Action": ["kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*"},
			{"Effect": "Allow", "Principal": {"Service": ["sns.amazonaws.com", "cloudwatch.amazonaws.com"]}, "Action": ["kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*"}]}}},
		"Subscription": {"Type": "AWS::SNS::Subscription", "Properties": {"TopicArn": {"Ref": "Topic"}, "Protocol": "sqs", "Endpoint": {"Fn::GetAtt": ["Queue", "Arn"]}, "RawMessageDelivery": true,
			"RedrivePolicy": {"Fn::If": ["Here", {"deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetters", "Arn"]}}, {"Ref": "AWS::NoValue"}]}}},
		"Other": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "other"}},
		"OtherSubscription": {"Type": "AWS::SNS::Subscription", "Properties": {"TopicArn": {"Ref": "Other"}, "Protocol": "sqs", "Endpoint": {"Fn::GetAtt": ["Queue", "Arn"]},
			"RedrivePolicy": {"Fn::If": ["There", {"deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetters", "Arn"]}}, {"Ref": "AWS::NoValue"}]}}},
		"DeadLetters": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "dead-letters"}},
		"ToDeadLetters": {"Type": "AWS::SQS::QueuePolicy", "Properties": {"Queues": [{"Ref": "DeadLetters"}], "PolicyDocument": {"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*"}]}}},
		"Rule": {"Type": "AWS::Events::Rule", "Properties": {"Name": "letters", "ScheduleExpression": "rate(5 minutes)", "Targets": [{"Id": "queue", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}, "Input": "\"by the rule\""}]}},
		"Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"Namespace": "AWS/SQS", "MetricName": "ApproximateNumberOfMessagesVisible", "Dimensions": [{"Name": "QueueName", "Value": "letters"}],
			"Statistic": "Maximum", "Period": 300, "EvaluationPeriods": 1, "Threshold": 0, "ComparisonOperator": "GreaterThanThreshold", "AlarmActions": [{"Ref": "Topic"}], "OKActions": [{"Ref": "Topic"}]}}
	}}`, more, keyUser)
	return &text
}

// TestServicesNeedTheirPolicies removes the policies that let services send.
func TestServicesNeedTheirPolicies(t *testing.T) {
	t.Parallel()
	ctx, cloud := start(t)
	stacks, queues := cloudformation.NewFromConfig(cloud.Config()), sqs.NewFromConfig(cloud.Config())
	name := "Letters"
	const events = "events.amazonaws.com"
	update := func(resources, keyUser string) {
		t.Helper()
		if _, err := stacks.UpdateStack(ctx, &cloudformation.UpdateStackInput{StackName: &name, TemplateBody: letters(resources, keyUser)}); err != nil {
			t.Fatal(err)
		}
		if status := stackStatus(t, cloud, name); status != "UPDATE_COMPLETE" {
			t.Fatalf("the stack is in %s: %s", status, failures(t, cloud, name))
		}
	}
	if _, err := stacks.CreateStack(ctx, &cloudformation.CreateStackInput{StackName: &name, TemplateBody: letters("", events)}); err != nil {
		t.Fatal(err)
	}
	if status := stackStatus(t, cloud, name); status != "CREATE_COMPLETE" {
		t.Fatalf("the stack is in %s: %s", status, failures(t, cloud, name))
	}
	url := cloud.Endpoint + "/" + cloud.Account + "/letters"
	// A change of another attribute keeps the policy.
	if _, err := queues.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: &url, Attributes: map[string]string{"VisibilityTimeout": "0"}}); err != nil {
		t.Fatal(err)
	}
	arrived := func() string {
		t.Helper()
		if err := cloud.Settle(ctx); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, text := range receiveAll(t, queues, url) {
			if strings.Contains(text, `"NewStateValue"`) {
				text = "by the alarm"
			}
			got = append(got, text)
		}
		slices.Sort(got)
		return strings.Join(slices.Compact(got), ", ")
	}
	topic := "arn:aws:sns:us-east-1:" + cloud.Account + ":letters"
	// A condition decides whether a subscription has a dead-letter queue.
	for of, want := range map[string]bool{"letters": true, "other": false} {
		if got := redrives(t, cloud, of); got != want {
			t.Errorf("the subscription to %s has a dead-letter queue: %v, want %v", of, got, want)
		}
	}
	publish := func() {
		t.Helper()
		text := "by the topic"
		if _, err := sns.NewFromConfig(cloud.Config()).Publish(ctx, &sns.PublishInput{TopicArn: &topic, Message: &text}); err != nil {
			t.Errorf("Amazon SNS refused a message, which it should accept even if it cannot deliver it: %v", err)
		}
	}
	publish()
	cloud.Clock.Step(10 * time.Minute)
	cloud.Clock.Step(10 * time.Minute)
	if got, want := arrived(), `"by the rule", by the alarm, by the topic`; got != want {
		t.Fatalf("with all policies the queue received %q, want %q", got, want)
	}
	if err := cloud.Denied(); err != nil {
		t.Fatal(err)
	}

	// The update deletes the policies, so the topic has Amazon SNS's default policy again.
	update(" ", events)
	attributes, err := queues.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []types.QueueAttributeName{"Policy"}})
	if err != nil || attributes.Attributes["Policy"] != "" {
		t.Errorf("the queue still has the policy %s, error %v", attributes.Attributes["Policy"], err)
	}
	publish()
	cloud.Clock.Step(10 * time.Minute)
	cloud.Clock.Step(10 * time.Minute)
	if got := arrived(); got != "" {
		t.Errorf("without policies the queue received %q", got)
	}
	if got := receiveAll(t, queues, cloud.Endpoint+"/"+cloud.Account+"/dead-letters"); len(got) == 0 || got[0] != "by the topic" {
		t.Errorf("the subscription's dead-letter queue has %q, want the message by the topic", got)
	}
	wantDenied(t, cloud,
		"arn:aws:events:us-east-1:123456789012:rule/letters (events.amazonaws.com) is not authorized to perform: sqs:SendMessage on resource: arn:aws:sqs:us-east-1:123456789012:letters because no resource-based policy",
		topic+" (sns.amazonaws.com) is not authorized to perform: sqs:SendMessage on resource: arn:aws:sqs:us-east-1:123456789012:letters because no resource-based policy")
	if denials := cloud.Permissions.Denials(); len(denials) != 2 {
		t.Errorf("denials %v, want two", denials)
	}

	// The topic's own policy replaces the default policy, which let the alarm publish.
	update(`"ToTopic": {"Type": "AWS::SNS::TopicPolicy", "Properties": {"Topics": [{"Ref": "Topic"}], "PolicyDocument": {"Version": "2012-10-17", "Statement":
		{"Effect": "Deny", "Principal": "*", "Action": "sns:Publish", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}}}},`, events)
	body := "the queue is not empty"
	if _, err := queues.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body}); err != nil {
		t.Fatal(err)
	}
	cloud.Clock.Step(10 * time.Minute)
	cloud.Clock.Step(10 * time.Minute)
	wantDenied(t, cloud, "(cloudwatch.amazonaws.com) is not authorized to perform: sns:Publish on resource: "+topic+" because no resource-based policy")

	// The queue's policy lets the rule send, but the key's policy does not let it encrypt.
	update("", "delivery.logs.amazonaws.com")
	cloud.Clock.Step(10 * time.Minute)
	wantDenied(t, cloud, "(events.amazonaws.com) is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms:us-east-1:123456789012:key/")
}

func wantDenied(t *testing.T, cloud *localaws.Cloud, all ...string) {
	t.Helper()
	denied := strings.Join(cloud.Permissions.Denials(), "\n")
	for _, want := range all {
		if !strings.Contains(denied, want) {
			t.Errorf("the denials are\n%s\nwant %s", denied, want)
		}
	}
}

// redrives reports whether the only subscription to a topic has a dead-letter queue.
func redrives(t *testing.T, cloud *localaws.Cloud, topic string) bool {
	t.Helper()
	client, arn := sns.NewFromConfig(cloud.Config()), "arn:aws:sns:us-east-1:"+cloud.Account+":"+topic
	listed, err := client.ListSubscriptionsByTopic(t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: &arn})
	if err != nil || len(listed.Subscriptions) != 1 {
		t.Fatalf("subscriptions to %s: %+v, %v", topic, listed, err)
	}
	got, err := client.GetSubscriptionAttributes(t.Context(), &sns.GetSubscriptionAttributesInput{SubscriptionArn: listed.Subscriptions[0].SubscriptionArn})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(got.Attributes["RedrivePolicy"], "dead-letters")
}
