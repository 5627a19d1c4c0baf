package defenderhub

import (
	"fmt"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// answerTimeout is how long CloudFormation waits for the answer of a custom resource's function. It
// is long enough for Lambda's three attempts. CloudFormation's default is an hour.
const answerTimeout = 10 * time.Minute

// runOnDeploy starts an audit with a custom resource. The function answers CloudFormation itself,
// because the CDK's provider framework would add more functions.
func (a *audit) runOnDeploy(p AuditProps) {
	function := newGoFunction(a, "StartFunction", goFunction{
		description: "Starts a Device Defender audit after a deployment", code: p.code, FunctionProps: value(p.Function),
		timeout: time.Minute, memoryMiB: 128, key: p.EncryptionKey,
		statements: []awsiam.PolicyStatement{allow([]string{"iot:StartOnDemandAuditTask"}, "*")},
		suppressions: []nagSuppression{{
			rule: "AwsSolutions-IAM5", reason: "AWS IoT defines no resource type for starting an audit, so the action cannot name a resource.",
			findings: []string{"Resource::*"},
		}},
	})
	a.startFunction = function
	var names []string
	for _, c := range p.scheduled() {
		names = append(names, c.String())
	}
	a.start = awscdk.NewCustomResource(a, new("Start"), &awscdk.CustomResourceProps{
		ResourceType:   new(contract.StartAuditResourceType),
		ServiceToken:   function.FunctionArn(),
		ServiceTimeout: seconds(answerTimeout),
		Properties: &map[string]any{
			contract.StartAuditChecks: texts(names),
			// A changed threshold must start another audit.
			contract.StartAuditTrigger: fmt.Sprintf("%d/%d days", p.CertificateAgeDays, p.CertificateExpiringDays),
		},
	})
	if a.configuration != nil {
		a.start.Node().AddDependency(a.configuration)
	}
	a.start.Node().AddDependency(dependables(a.suppressions)...)
}
