// Command auditresources is the Lambda function of the audit's custom resources: it starts an
// on-demand audit after a deployment, or creates an audit suppression.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/startaudit"
	"github.com/defenderhub/defenderhub/lambda/internal/suppression"
)

func main() {
	starts, err := startaudit.AWS(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "auditresources:", err)
		os.Exit(1)
	}
	suppresses, err := suppression.AWS(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "auditresources:", err)
		os.Exit(1)
	}
	on := host.Host{Environ: os.Environ(), Now: time.Now, Metrics: os.Stdout, Log: os.Stderr}
	starter, suppressor := startaudit.New(starts, on), suppression.New(suppresses, on)
	lambda.Start(cfn.LambdaWrap(func(ctx context.Context, event cfn.Event) (string, map[string]any, error) {
		if event.ResourceType == contract.SuppressionResourceType {
			return suppressor.Handle(ctx, event)
		}
		return starter.Handle(ctx, event)
	}))
}
