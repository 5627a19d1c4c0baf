package doctor

import (
	"context"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// account shows the caller, and reports stacks that are pinned to another account or Region.
func account(ctx context.Context, e *exam) ([]line, error) {
	out, err := e.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, err
	}
	if e.identity, err = arn.Parse(aws.ToString(out.Arn)); err != nil {
		return nil, fmt.Errorf("GetCallerIdentity: %w", err)
	}
	e.identity.AccountID = aws.ToString(out.Account)
	lines := []line{{Status: ok, Finding: fmt.Sprintf("account %s, Region %s, partition %s, as %s", e.identity.AccountID, e.region, e.identity.Partition, aws.ToString(out.Arn))}}
	for _, t := range e.stacks {
		if t.Account != "" && t.Account != e.identity.AccountID {
			lines = append(lines, line{Status: fix, Finding: fmt.Sprintf("the stack %s is pinned to account %s", t.Stack, t.Account), Fix: "use credentials of that account, or remove Env from the StackProps"})
		}
		if t.Region != "" && t.Region != e.region {
			lines = append(lines, line{Status: fix, Finding: fmt.Sprintf("the stack %s is pinned to Region %s", t.Stack, t.Region), Fix: "use --region " + t.Region + ", or remove Env from the StackProps"})
		}
	}
	for _, r := range e.resources("AWS::CloudFormation::Stack") {
		l := line{unknown, "", "the nested stack " + r.Path() + " was not checked", ""}
		if path, ok := r.Metadata["aws:asset:path"].(string); ok {
			l.Fix = "defenderhub doctor --template cdk.out/" + path
		}
		lines = append(lines, l)
	}
	for _, r := range e.resources("AWS::IoT::AccountAuditConfiguration") {
		if id := r.Text("AccountId"); id != "" && id != e.identity.AccountID {
			lines = append(lines, line{Status: fix, Finding: fmt.Sprintf("%s is for account %s: AccountId in the template (%s) doesn't match actual: %s.", r.Path(), id, id, e.identity.AccountID), Fix: "use credentials of that account, or remove Env from the StackProps"})
		}
	}
	return lines, nil
}

// bootstrap reads the version of the CDK's bootstrap stack.
func bootstrap(ctx context.Context, e *exam) ([]line, error) {
	need := 0
	for _, t := range e.stacks {
		need = max(need, t.Bootstrap)
	}
	missing := note
	if need > 0 {
		missing = fix
	}
	out, err := e.cloudformation.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &e.toolkit})
	if noStack(err) {
		return []line{{missing, "", "this account and Region are not bootstrapped for the CDK: there is no stack " + e.toolkit, "make bootstrap, or cdk bootstrap; or --toolkit-stack-name if yours has another name"}}, nil
	}
	if err != nil {
		return nil, err
	}
	for _, o := range out.Stacks[0].Outputs {
		if aws.ToString(o.OutputKey) != "BootstrapVersion" {
			continue
		}
		version, err := strconv.Atoi(aws.ToString(o.OutputValue))
		if err != nil {
			return nil, fmt.Errorf("output BootstrapVersion of the stack %s: %w", e.toolkit, err)
		}
		if version < need {
			return []line{{fix, "", fmt.Sprintf("the bootstrap stack has version %d, the template needs %d", version, need), "make bootstrap, or cdk bootstrap"}}, nil
		}
		return []line{{Status: ok, Finding: fmt.Sprintf("bootstrapped, version %d", version)}}, nil
	}
	return []line{{unknown, "", "the stack " + e.toolkit + " has no output BootstrapVersion", "--toolkit-stack-name NAME, if another stack is yours"}}, nil
}

// leftUnreserved is the number of concurrent executions that AWS keeps unreserved.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
const leftUnreserved = 10

// concurrency compares the concurrency that the template reserves with the account's.
func concurrency(ctx context.Context, e *exam) ([]line, error) {
	out, err := e.lambda.GetAccountSettings(ctx, &lambda.GetAccountSettingsInput{})
	if err != nil {
		return nil, err
	}
	if out.AccountLimit == nil {
		return []line{{Status: unknown, Finding: "AWS Lambda returned no limits"}}, nil
	}
	free, all := int(aws.ToInt32(out.AccountLimit.UnreservedConcurrentExecutions)), int(out.AccountLimit.ConcurrentExecutions)
	reserved := 0
	var who string
	for _, r := range e.resources("AWS::Lambda::Function") {
		n, given := r.Properties["ReservedConcurrentExecutions"].(float64)
		if given && !e.owns(ctx, r) {
			reserved += int(n)
			who = r.Path()
		}
	}
	if reserved > 0 && free-reserved < leftUnreserved {
		return []line{{fix, "", fmt.Sprintf("%s reserves concurrency: of %d unreserved executions the template takes %d, and AWS keeps at least %d", who, free, reserved, leftUnreserved),
			"remove ReservedConcurrentExecutions (defenderhub reserves none: check your aspects), or ask for a higher quota of concurrent executions"}}, nil
	}
	return []line{{Status: ok, Finding: fmt.Sprintf("%d concurrent executions of Lambda functions, %d of them unreserved", all, free)}}, nil
}
