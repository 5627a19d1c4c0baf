package simulation

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

func (t things) ListAuditFindings(ctx context.Context, in *iot.ListAuditFindingsInput, _ ...func(*iot.Options)) (*iot.ListAuditFindingsOutput, error) {
	return ask(ctx, t.environment, "IoT", "ListAuditFindings", aws.ToString(in.TaskId)+" "+aws.ToString(in.NextToken), func() (*iot.ListAuditFindingsOutput, error) {
		return &iot.ListAuditFindingsOutput{}, nil
	})
}

func (t things) DescribeAccountAuditConfiguration(ctx context.Context, _ *iot.DescribeAccountAuditConfigurationInput, _ ...func(*iot.Options)) (*iot.DescribeAccountAuditConfigurationOutput, error) {
	return ask(ctx, t.environment, "IoT", "DescribeAccountAuditConfiguration", "", func() (*iot.DescribeAccountAuditConfigurationOutput, error) {
		return &iot.DescribeAccountAuditConfigurationOutput{}, nil
	})
}

func (t things) ListRelatedResourcesForAuditFinding(ctx context.Context, in *iot.ListRelatedResourcesForAuditFindingInput, _ ...func(*iot.Options)) (*iot.ListRelatedResourcesForAuditFindingOutput, error) {
	return ask(ctx, t.environment, "IoT", "ListRelatedResourcesForAuditFinding", aws.ToString(in.FindingId), func() (*iot.ListRelatedResourcesForAuditFindingOutput, error) {
		return &iot.ListRelatedResourcesForAuditFindingOutput{}, nil
	})
}
