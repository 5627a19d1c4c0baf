package defenderhub

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
)

// topic reports a user's topic to which AWS services cannot publish.
func (f *faults) topic(field string, topic awssns.ITopic) {
	if topic == nil {
		return
	}
	if *topic.Fifo() || strings.HasSuffix(*topic.TopicArn(), ".fifo") {
		f.add(field, "a FIFO topic", "a standard topic: AWS services cannot publish to a FIFO topic")
	}
	if alias := managedByAWS(topic.MasterKey()); alias != "" {
		f.add(field, "a topic encrypted with "+alias, "a topic without a key, or with a customer-managed key as MasterKey: AWS services cannot publish to a topic with a key that AWS manages")
	}
}

// queue reports a user's queue to which AWS IoT cannot send.
func (f *faults) queue(field string, queue awssqs.IQueue) {
	if queue == nil {
		return
	}
	if *queue.Fifo() || strings.HasSuffix(*queue.QueueArn(), ".fifo") {
		f.add(field, "a FIFO queue", "a standard queue: AWS IoT cannot send to a FIFO queue")
	}
	alias := managedByAWS(queue.EncryptionMasterKey())
	if queue.EncryptionType() == awssqs.QueueEncryption_KMS_MANAGED {
		alias = "alias/aws/sqs"
	}
	if alias != "" {
		f.add(field, "a queue encrypted with "+alias, "a queue with awssqs.QueueEncryption_SQS_MANAGED, or with a customer-managed key: AWS IoT cannot send to a queue with a key that AWS manages")
	}
}

// sameARN reports whether two ARNs will be equal at deployment.
func sameARN(scope constructs.IConstruct, a, b *string) bool {
	stack := awscdk.Stack_Of(scope)
	return reflect.DeepEqual(stack.Resolve(*a), stack.Resolve(*b))
}

// keyOf returns the key of a user's topic or queue: its own key if the app knows it, else given, the
// key that the user passed for it. It returns nil if the app knows that there is none.
func keyOf(destination constructs.IConstruct, own, given awskms.IKey) awskms.IKey {
	if own != nil {
		return own
	}
	if *awscdk.Resource_IsOwnedResource(destination) {
		return nil
	}
	return given
}

// noteImported prints the policy statements that an imported topic or queue may need. sender is the
// role that sends to it.
func noteImported(destination constructs.IConstruct, key awskms.IKey, arn, action string, sender awsiam.IRole) {
	if *awscdk.Resource_IsOwnedResource(destination) || key != nil {
		return
	}
	from := func(actions []string, resource string) string {
		return statementText(sender, awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Principals: &[]awsiam.IPrincipal{awsiam.NewArnPrincipal(sender.RoleArn())}, Actions: texts(actions), Resources: texts([]string{resource}),
		}))
	}
	awscdk.Annotations_Of(destination).AddInfoV2(new("defenderhub:imported:"+action), new(fmt.Sprintf(
		"This resource is imported, so its policy and its encryption are not known here. In another account, its policy needs: %s. "+
			"With a customer-managed key, pass the key as EncryptionKey; unless its policy lets IAM policies of this account use it, it needs: %s",
		from([]string{action}, arn), from(sendingWithKey, "*"))))
}

// alarmTopic reports a topic in another Region. Users report that CloudWatch rejects such a topic
// with "Invalid region X specified. Only Y is supported."
func (f *faults) alarmTopic(scope constructs.Construct, field string, topic awssns.ITopic) {
	f.topicHere(scope, field, topic, "an alarm can notify only topics of its own Region")
}

// topicHere reports a topic that is not in scope's Region, with the reason why it must be.
func (f *faults) topicHere(scope constructs.Construct, field string, topic awssns.ITopic, why string) {
	if topic == nil {
		return
	}
	if here, there := *awscdk.Stack_Of(scope).Region(), *topic.Env().Region; here != there && !unresolved(here) && !unresolved(there) {
		f.add(field, "a topic in "+there, "a topic in %s: %s", here, why)
	}
}

// alarmTopicFault returns the fault of alarmTopic for the prop AlarmTopic.
func alarmTopicFault(scope constructs.Construct, topic awssns.ITopic) error {
	var f faults
	f.alarmTopic(scope, "AlarmTopic", topic)
	return f.err()
}

// auditTopic reports a topic of audit results in another Region. The results do not name their
// Region, so the forwarder takes the topic's, and reads findings only of its own.
func (f *faults) auditTopic(scope constructs.Construct, field string, topic awssns.ITopic) {
	f.topicHere(scope, field, topic, "the forwarder reads the findings of audits only in its own Region: deploy one there")
}

// cloudWatch is the service principal of alarms.
const cloudWatch = "cloudwatch.amazonaws.com"

// letAlarmsPublish allows the alarms of scope's account and Region to publish to topic. A topic
// without a policy allows every service of its account; the policy of an imported topic is
// unknown.
// https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
func letAlarmsPublish(scope constructs.Construct, topic awssns.ITopic) {
	conditions := map[string]any{"ArnLike": map[string]any{"aws:SourceArn": arn("cloudwatch", "alarm:*")}}
	withKey := []string{"kms:Decrypt", "kms:GenerateDataKey*"}
	if key := topic.MasterKey(); key != nil {
		letService(key, cloudWatch, "So that alarms reach the topic that it encrypts", withKey, conditions)
	}
	publish := serviceStatement(cloudWatch, []string{"sns:Publish"}, *topic.TopicArn(), conditions)
	if *awscdk.Resource_IsOwnedResource(topic) {
		if topic.Node().TryFindChild(new("Policy")) != nil {
			topic.AddToResourcePolicy(publish)
		}
		return
	}
	text := "This topic is imported, so its policy and its encryption are not known here. Unless it has the policy that Amazon SNS gives a new topic, its policy needs: " +
		statementText(scope, publish)
	if topic.MasterKey() == nil {
		text += ". With a customer-managed key, the key's policy needs: " + statementText(scope, serviceStatement(cloudWatch, withKey, "*", conditions)) +
			". Alarms cannot publish to a topic with the key alias/aws/sns"
	}
	awscdk.Annotations_Of(topic).AddInfoV2(new("defenderhub:imported:cloudwatch"), &text)
}
