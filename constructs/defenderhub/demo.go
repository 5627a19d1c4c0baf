package defenderhub

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiot"
	"github.com/aws/constructs-go/constructs/v10"
)

// newDemoPolicy makes the IoT policy of AWS's first experiment, which the check
// IOT_POLICY_OVERLY_PERMISSIVE_CHECK finds. It is attached to nothing.
func newDemoPolicy(scope constructs.Construct) {
	awsiot.NewCfnPolicy(scope, new("OverlyPermissivePolicy"), &awsiot.CfnPolicyProps{
		PolicyDocument: map[string]any{
			"Version":   "2012-10-17",
			"Statement": []any{map[string]any{"Effect": "Allow", "Action": "*", "Resource": "*"}},
		},
	})
}
