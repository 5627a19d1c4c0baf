// Command startaudit is the Lambda function of the custom resource
// [contract.StartAuditResourceType]. It starts an on-demand audit after a deployment.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/startaudit"
)

func main() {
	client, err := startaudit.AWS(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "startaudit:", err)
		os.Exit(1)
	}
	starter := startaudit.New(client, host.Host{Environ: os.Environ(), Now: time.Now, Metrics: os.Stdout, Log: os.Stderr})
	lambda.Start(cfn.LambdaWrap(starter.Handle))
}
