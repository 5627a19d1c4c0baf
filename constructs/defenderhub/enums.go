package defenderhub

import (
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
)

// The CDK's enumerations are strings in Go. These checks run first, because jsii panics on an
// unknown value without naming the prop.

// removalPolicy reports a policy that the resources of this package do not support.
func (f *faults) removalPolicy(field string, value awscdk.RemovalPolicy) {
	switch value {
	case "", awscdk.RemovalPolicy_DESTROY, awscdk.RemovalPolicy_RETAIN, awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE:
	default:
		f.add(field, string(value), "awscdk.RemovalPolicy_DESTROY, _RETAIN or _RETAIN_ON_UPDATE_OR_DELETE, or empty for the default")
	}
}

// retentions are the retention periods that CloudWatch Logs supports.
// https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
var retentions = []awslogs.RetentionDays{
	awslogs.RetentionDays_ONE_DAY, awslogs.RetentionDays_THREE_DAYS, awslogs.RetentionDays_FIVE_DAYS,
	awslogs.RetentionDays_ONE_WEEK, awslogs.RetentionDays_TWO_WEEKS,
	awslogs.RetentionDays_ONE_MONTH, awslogs.RetentionDays_TWO_MONTHS, awslogs.RetentionDays_THREE_MONTHS, awslogs.RetentionDays_FOUR_MONTHS,
	awslogs.RetentionDays_FIVE_MONTHS, awslogs.RetentionDays_SIX_MONTHS,
	awslogs.RetentionDays_ONE_YEAR, awslogs.RetentionDays_THIRTEEN_MONTHS, awslogs.RetentionDays_EIGHTEEN_MONTHS, awslogs.RetentionDays_TWO_YEARS,
	awslogs.RetentionDays_THREE_YEARS, awslogs.RetentionDays_FIVE_YEARS, awslogs.RetentionDays_SIX_YEARS, awslogs.RetentionDays_SEVEN_YEARS,
	awslogs.RetentionDays_EIGHT_YEARS, awslogs.RetentionDays_NINE_YEARS, awslogs.RetentionDays_TEN_YEARS, awslogs.RetentionDays_INFINITE,
}

// retention reports a retention time that CloudWatch Logs does not support.
func (f *faults) retention(field string, value awslogs.RetentionDays) {
	if value != "" && !slices.Contains(retentions, value) {
		f.add(field, string(value), "one of the constants awslogs.RetentionDays_..., such as awslogs.RetentionDays_ONE_MONTH, or empty for the default")
	}
}

// subnetType reports unknown subnet types, and public subnets, in which a function has no access to
// the internet.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc-internet.html
func (f *faults) subnetType(field string, value awsec2.SubnetType) {
	switch value {
	case "", awsec2.SubnetType_PRIVATE_WITH_EGRESS, awsec2.SubnetType_PRIVATE_WITH_NAT, awsec2.SubnetType_PRIVATE_ISOLATED:
	default:
		f.add(field, string(value), "awsec2.SubnetType_PRIVATE_WITH_EGRESS or _PRIVATE_ISOLATED, or empty for the default: a function in a public subnet has no public address")
	}
}
