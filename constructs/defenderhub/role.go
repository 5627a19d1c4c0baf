package defenderhub

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
)

// The services that assume our roles, by the first part of their principal.
const (
	iotService    = "iot"
	lambdaService = "lambda"
	// schedulerService is EventBridge Scheduler.
	schedulerService = "scheduler"
)

// arn returns the ARN of a resource of this account, Region and partition, all known at
// deployment.
func arn(service, resource string) string {
	return fmt.Sprintf("arn:%s:%s:%s:%s:%s", *awscdk.Aws_PARTITION(), service, *awscdk.Aws_REGION(), *awscdk.Aws_ACCOUNT_ID(), resource)
}

// anySource is for AWS Lambda: no AWS page says that it passes the function's ARN when it assumes
// the function's role, so a condition might stop every function.
const anySource = ""

// serviceRole creates a role that a service may assume only for this account's resources: source
// is the last part of their ARN, as a pattern. The statements are inline, so that a role that
// outlives the stack keeps them.
func serviceRole(scope constructs.Construct, id, service, source, description string, statements ...awsiam.PolicyStatement) awsiam.Role {
	conditions := map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": awscdk.Aws_ACCOUNT_ID()}}
	if source != anySource {
		conditions["ArnLike"] = map[string]any{"aws:SourceArn": arn(service, source)}
	}
	props := &awsiam.RoleProps{
		Description: new(description),
		AssumedBy:   awsiam.NewServicePrincipal(new(service+".amazonaws.com"), &awsiam.ServicePrincipalOpts{Conditions: &conditions}),
	}
	if len(statements) > 0 {
		props.InlinePolicies = &map[string]awsiam.PolicyDocument{
			"Inline": awsiam.NewPolicyDocument(&awsiam.PolicyDocumentProps{Statements: &statements}),
		}
	}
	return awsiam.NewRole(scope, new(id), props)
}

// publisherRole creates a role that lets AWS IoT publish to topic. given is the key that the user
// passed for an imported topic.
func publisherRole(scope constructs.Construct, id, source, description string, topic awssns.ITopic, given awskms.IKey) awsiam.Role {
	key := keyOf(topic, topic.MasterKey(), given)
	statements := append([]awsiam.PolicyStatement{allow([]string{"sns:Publish"}, *topic.TopicArn())}, sendWithKey(key)...)
	role := serviceRole(scope, id, iotService, source, description, statements...)
	suppressAliases(role, key)
	noteImported(topic, topic.MasterKey(), *topic.TopicArn(), "sns:Publish", role)
	return role
}

// sendingWithKey are the KMS actions for sending to an encrypted queue or topic.
var sendingWithKey = []string{"kms:Decrypt", "kms:GenerateDataKey"}

// sendWithKey allows sending to queues and topics that key encrypts. It is empty without a key.
func sendWithKey(key awskms.IKey) []awsiam.PolicyStatement {
	if key == nil {
		return nil
	}
	return []awsiam.PolicyStatement{withKey(key, sendingWithKey...)}
}

// useKey allows a function to read and write tables and queues that key encrypts. It is empty without
// a key.
func useKey(key awskms.IKey) []awsiam.PolicyStatement {
	if key == nil {
		return nil
	}
	return []awsiam.PolicyStatement{withKey(key, "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo")}
}

// useKeys is useKey for own, and sendWithKey for the key of another part's queue.
func useKeys(own, other awskms.IKey) []awsiam.PolicyStatement {
	statements := useKey(own)
	if other != nil && (own == nil || *other.KeyArn() != *own.KeyArn()) {
		statements = append(statements, sendWithKey(other)...)
	}
	return statements
}

// allow returns a statement that allows actions on resources.
func allow(actions []string, resources ...string) awsiam.PolicyStatement {
	return awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Actions: texts(actions), Resources: texts(resources)})
}
