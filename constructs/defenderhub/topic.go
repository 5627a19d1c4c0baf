package defenderhub

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
)

// newAlertTopic creates the encrypted, TLS-only topic that a part of Device Defender publishes
// to. If no key is given it creates one, because no AWS service can publish through the AWS
// managed key for Amazon SNS.
func newAlertTopic(scope constructs.Construct, key awskms.IKey, description string, policy awscdk.RemovalPolicy) (awssns.ITopic, awskms.IKey) {
	if key == nil {
		made := awskms.NewKey(scope, new("Key"), &awskms.KeyProps{
			Description:       new("Encrypts notifications of AWS IoT Device Defender"),
			EnableKeyRotation: new(true),
		})
		made.ApplyRemovalPolicy(policy)
		key = made
	}
	topic := awssns.NewTopic(scope, new("Topic"), &awssns.TopicProps{DisplayName: new(description), MasterKey: key})
	topic.ApplyRemovalPolicy(policy)
	tlsOnly := awssns.NewTopicPolicy(topic, new("TLSOnly"), &awssns.TopicPolicyProps{
		Topics: &[]awssns.ITopic{topic}, EnforceSSL: new(true),
	})
	tlsOnly.ApplyRemovalPolicy(policy)
	return topic, key
}
