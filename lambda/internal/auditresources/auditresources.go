// Package auditresources assembles the function of the audit's custom resources: it starts an
// on-demand audit after a deployment, or creates an audit suppression.
package auditresources

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/auditresources/startaudit"
	"github.com/defenderhub/defenderhub/lambda/internal/auditresources/suppression"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/invocation"
)

// API is the part of the AWS IoT client that is called. The client must not retry by itself.
type API interface {
	startaudit.API
	suppression.API
}

// AWS returns the client of AWS IoT itself.
func AWS(ctx context.Context) (API, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration: %w", err)
	}
	return iot.NewFromConfig(cfg, func(o *iot.Options) { o.RetryMaxAttempts = 1 }), nil
}

// margin is reserved before the function's deadline for the answer to CloudFormation.
const margin = 5 * time.Second

// New returns the function's handler. [cfn.LambdaWrap] sends its result to CloudFormation.
func New(api API, on host.Host) cfn.CustomResourceFunction {
	start, suppress := startaudit.New(api, on), suppression.New(api, on)
	return func(ctx context.Context, event cfn.Event) (physicalID string, data map[string]any, err error) {
		ctx, cancel := invocation.WithMargin(ctx, margin)
		defer cancel()
		switch event.ResourceType {
		case contract.StartAuditResourceType:
			return start.Handle(ctx, event)
		case contract.SuppressionResourceType:
			return suppress.Handle(ctx, event)
		}
		return event.PhysicalResourceID, nil, fmt.Errorf("resource type %q, want %s or %s", event.ResourceType, contract.StartAuditResourceType, contract.SuppressionResourceType)
	}
}
