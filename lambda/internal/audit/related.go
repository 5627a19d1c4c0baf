package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/lambda/internal/retry"
)

// mostRelated is how many related resources a finding has room for, beside its own.
const mostRelated = defender.MaxResources - 1

// related are the related resources of a finding. Those of the check of intermediate CAs,
// the device certificates that the CA has issued, AWS lists apart.
// https://docs.aws.amazon.com/iot/latest/apireference/API_ListRelatedResourcesForAuditFinding.html
func (w *work) related(ctx context.Context, f types.AuditFinding) ([]types.RelatedResource, error) {
	if aws.ToString(f.CheckName) != defender.IntermediateCARevoked.String() || f.FindingId == nil || len(f.RelatedResources) > 0 {
		return f.RelatedResources, nil
	}
	backoff := retry.Backoff{First: 200 * time.Millisecond, Longest: 5 * time.Second, Random: w.Random}
	var all []types.RelatedResource
	in := &iot.ListRelatedResourcesForAuditFindingInput{FindingId: f.FindingId, MaxResults: aws.Int32(mostRelated)}
	for failures := 0; len(all) < mostRelated; {
		page, err := w.IoT.ListRelatedResourcesForAuditFinding(ctx, in)
		var gone *types.ResourceNotFoundException
		var invalid *types.InvalidRequestException
		var api smithy.APIError
		switch {
		case err == nil:
			all = append(all, page.RelatedResources...)
			if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
				return all, nil
			}
		case errors.As(err, &gone), errors.As(err, &invalid):
			w.Log.Warn("related resources of an audit finding could not be listed", "findingId", *f.FindingId, "reason", err.Error())
			return all, nil
		case errors.As(err, &api) && denied(api):
			return nil, fmt.Errorf("list the related resources of audit finding %s: %w", *f.FindingId, err)
		default:
			if failures++; !backoff.Wait(ctx, failures) {
				return nil, fmt.Errorf("list the related resources of audit finding %s: no time left after: %w", *f.FindingId, err)
			}
		}
	}
	return all[:mostRelated], nil
}
