package importer

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/internal/asff"
)

// toSDK converts f to the SDK's type. Empty strings become nil: Security Hub refuses them.
func toSDK(f asff.Finding) types.AwsSecurityFinding {
	out := types.AwsSecurityFinding{
		SchemaVersion:   &f.SchemaVersion,
		Id:              &f.ID,
		ProductArn:      &f.ProductARN,
		GeneratorId:     &f.GeneratorID,
		AwsAccountId:    &f.AWSAccountID,
		CompanyName:     optional(f.CompanyName),
		ProductName:     optional(f.ProductName),
		CreatedAt:       aws.String(f.CreatedAt.String()),
		UpdatedAt:       aws.String(f.UpdatedAt.String()),
		FirstObservedAt: optionalTime(f.FirstObservedAt),
		LastObservedAt:  optionalTime(f.LastObservedAt),
		Title:           &f.Title,
		Description:     &f.Description,
		SourceUrl:       optional(f.SourceURL),
		ProductFields:   f.ProductFields,
		RecordState:     types.RecordState(f.RecordState),
		FindingProviderFields: &types.FindingProviderFields{
			Severity: &types.FindingProviderSeverity{
				Label:    types.SeverityLabel(f.FindingProviderFields.Severity.Label),
				Original: optional(f.FindingProviderFields.Severity.Original),
			},
			Types: f.FindingProviderFields.Types,
		},
	}
	for _, r := range f.FindingProviderFields.RelatedFindings {
		out.FindingProviderFields.RelatedFindings = append(out.FindingProviderFields.RelatedFindings, types.RelatedFinding{ProductArn: aws.String(r.ProductARN), Id: aws.String(r.ID)})
	}
	if f.Remediation != nil {
		r := f.Remediation.Recommendation
		out.Remediation = &types.Remediation{Recommendation: &types.Recommendation{Text: optional(r.Text), Url: optional(r.URL)}}
	}
	for _, r := range f.Resources {
		resource := types.Resource{
			Type: aws.String(r.Type), Id: aws.String(r.ID),
			Partition: types.Partition(r.Partition), Region: optional(r.Region),
		}
		if r.Details != nil {
			resource.Details = &types.ResourceDetails{Other: r.Details.Other}
		}
		out.Resources = append(out.Resources, resource)
	}
	return out
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func optionalTime(t asff.Timestamp) *string {
	if t.IsZero() {
		return nil
	}
	return aws.String(t.String())
}
