package audit

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// mostRelated is how many related resources a finding has room for, beside its own.
const mostRelated = asff.MaxResources - 1

// related returns the related resources of a finding. For the check of intermediate CAs, AWS
// lists the device certificates that the CA has issued in a separate operation.
// https://docs.aws.amazon.com/iot/latest/apireference/API_ListRelatedResourcesForAuditFinding.html
func (w *work) related(ctx context.Context, f types.AuditFinding) ([]types.RelatedResource, error) {
	if aws.ToString(f.CheckName) != defender.IntermediateCARevoked.String() || f.FindingId == nil || len(f.RelatedResources) > 0 {
		return f.RelatedResources, nil
	}
	var all []types.RelatedResource
	in := &iot.ListRelatedResourcesForAuditFindingInput{FindingId: f.FindingId, MaxResults: aws.Int32(mostRelated)}
	for len(all) < mostRelated {
		var page *iot.ListRelatedResourcesForAuditFindingOutput
		err := w.call(ctx, func() (err error) { page, err = w.IoT.ListRelatedResourcesForAuditFinding(ctx, in); return err })
		if invalid(err) {
			w.Log.Warn("related resources of an audit finding could not be listed", "findingId", *f.FindingId, "reason", err.Error())
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list the related resources of audit finding %s: %w", *f.FindingId, err)
		}
		all = append(all, page.RelatedResources...)
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
	return all[:mostRelated], nil
}
