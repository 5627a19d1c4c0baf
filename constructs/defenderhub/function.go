package defenderhub

import (
	"log/slog"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/gobuild"
)

// Architecture is the processor of a Lambda function.
type Architecture int

const (
	// ARM64 is AWS Graviton, which costs less.
	ARM64 Architecture = iota
	// AMD64 is x86-64, for Regions without Graviton and to run the functions on an x86-64 machine.
	AMD64
)

// goarch returns the value of GOARCH, "" for an unknown architecture.
func (a Architecture) goarch() string {
	return map[Architecture]string{ARM64: "arm64", AMD64: "amd64"}[a]
}

func (a Architecture) lambda() awslambda.Architecture {
	if a == AMD64 {
		return awslambda.Architecture_X86_64()
	}
	return awslambda.Architecture_ARM_64()
}

func (a Architecture) validate() error {
	if a.goarch() == "" {
		return &defender.FieldError{Value: int(a), Want: "ARM64 or AMD64"}
	}
	return nil
}

// FunctionProps configure Lambda functions. DefenderHubProps.Function applies to all functions. The
// Function of a part replaces it as a whole for the functions of that part.
type FunctionProps struct {
	// Architecture is the processor of the functions.
	// Default: ARM64.
	Architecture Architecture
	// LogLevel is the lowest level that is logged: slog.LevelDebug, LevelInfo, LevelWarn or
	// LevelError.
	// Default: slog.LevelInfo.
	LogLevel slog.Level
	// LogRetention is how long logs are kept.
	// Default: "", awslogs.RetentionDays_THREE_MONTHS.
	LogRetention awslogs.RetentionDays
	// Tracing sends traces to AWS X-Ray.
	Tracing bool
	// VPC is the network of the functions. They need NAT or VPC endpoints for the services that
	// docs/regions.md lists for each of them.
	// Default: nil, Lambda's own network.
	VPC awsec2.IVpc
	// VPCSubnets are the subnets of VPC.
	// Default: nil, private subnets.
	VPCSubnets *awsec2.SubnetSelection
	// SecurityGroups are the security groups of the functions in VPC.
	// Default: empty, a new security group for each function, which allows all outgoing traffic.
	SecurityGroups []awsec2.ISecurityGroup
}

func (p FunctionProps) validate() error {
	var f faults
	f.under("Architecture", p.Architecture.validate())
	f.under("LogLevel", validateLogLevel(p.LogLevel))
	f.retention("LogRetention", p.LogRetention)
	f.network(p.VPC, p.VPCSubnets, p.SecurityGroups)
	return f.err()
}

// goFunction configures a function of this package.
type goFunction struct {
	FunctionProps
	description string
	code        awslambda.Code
	timeout     time.Duration
	memoryMiB   int
	environment map[string]string
	key         awskms.IKey
	// recursive keeps Lambda from stopping a function that sends to its own queue.
	recursive    bool
	statements   []awsiam.PolicyStatement
	suppressions []nagSuppression
}

// newGoFunction creates a function with its own log group and role. The role may write only to
// that log group, unlike with the AWS managed policy.
func newGoFunction(scope constructs.Construct, id string, g goFunction) awslambda.Function {
	logs := awslogs.NewLogGroup(scope, new(id+"Logs"), &awslogs.LogGroupProps{
		Retention: or(g.LogRetention, awslogs.RetentionDays_THREE_MONTHS), RemovalPolicy: awscdk.RemovalPolicy_DESTROY, EncryptionKey: g.key,
	})
	if g.key != nil {
		allowLogs(g.key)
	}
	role := serviceRole(scope, id+"Role", lambdaService, anySource, g.description)
	role.AddToPolicy(allow([]string{"logs:CreateLogStream", "logs:PutLogEvents"}, *logs.LogGroupArn()))
	for _, s := range g.statements {
		role.AddToPolicy(s)
	}
	suppressions := g.suppressions
	props := &awslambda.FunctionProps{
		Description:  new(g.description),
		Code:         g.code,
		Handler:      new(gobuild.Bootstrap),
		Runtime:      awslambda.Runtime_PROVIDED_AL2023(),
		Architecture: g.Architecture.lambda(),
		Timeout:      seconds(g.timeout),
		MemorySize:   new(float64(g.memoryMiB)),
		Environment:  environment(g.environment, g.memoryMiB),
		LogGroup:     logs,
		Role:         role,
	}
	if g.recursive {
		props.RecursiveLoop = awslambda.RecursiveLoop_ALLOW
	}
	if g.Tracing {
		props.Tracing = awslambda.Tracing_ACTIVE
		suppressions = append(suppressions, nagSuppression{
			rule: "AwsSolutions-IAM5", reason: "AWS X-Ray defines no resource type for traces.", findings: []string{"Resource::*"},
		})
	}
	if g.VPC != nil {
		props.Vpc, props.VpcSubnets = g.VPC, g.VPCSubnets
		if len(g.SecurityGroups) > 0 {
			props.SecurityGroups = &g.SecurityGroups
		}
		for _, statement := range networkPermissions() {
			role.AddToPolicy(statement)
		}
		suppressions = append(suppressions, nagSuppression{
			rule: "AwsSolutions-IAM5", reason: "Lambda creates network interfaces whose names are not known in advance. Another statement denies the same actions to the function's own code.",
			findings: []string{"Resource::*"},
		})
	}
	function := awslambda.NewFunction(scope, new(id), props)
	if suppressions != nil {
		suppressNag(role, "AWS::IAM::Policy", suppressions...)
	}
	return function
}

// networkPermissions lets Lambda create the network interfaces of a function in a VPC, but denies it
// to the function's own code: only requests of that code have a source function. The AWS managed
// policy would allow both, and also writing to any log group.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
// https://docs.aws.amazon.com/lambda/latest/dg/permissions-source-function-arn.html
func networkPermissions() []awsiam.PolicyStatement {
	actions := []string{
		"ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
		"ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
	}
	return []awsiam.PolicyStatement{allow(actions, "*"), awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Effect: awsiam.Effect_DENY, Actions: texts(actions), Resources: texts([]string{"*"}),
		Conditions: &map[string]any{"ArnLike": map[string]any{"lambda:SourceFunctionArn": arn("lambda", "function:*")}},
	})}
}

// environment adds the Go runtime's memory limit. Without it the heap may double before garbage
// collection, and Lambda kills a function that exceeds its memory.
func environment(values map[string]string, memoryMiB int) *map[string]*string {
	out := map[string]*string{"GOMEMLIMIT": new(contract.MemoryLimit(memoryMiB))}
	for k, v := range values {
		if broken(v) {
			panic(&defender.FieldError{Field: k, Value: deployTime, Want: "an unchanged string or number of the CDK: CloudFormation could not resolve this one"})
		}
		out[k] = new(v)
	}
	return &out
}

// allowLogs lets CloudWatch Logs encrypt the log groups of this account and Region.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html
func allowLogs(key awskms.IKey) {
	letService(key, "logs."+*awscdk.Aws_REGION()+"."+*awscdk.Aws_URL_SUFFIX(), "So that CloudWatch Logs can encrypt the functions' log groups, without which the deployment fails",
		[]string{"kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"},
		map[string]any{"ArnLike": map[string]any{"kms:EncryptionContext:aws:logs:arn": arn("logs", "log-group:*")}})
}
