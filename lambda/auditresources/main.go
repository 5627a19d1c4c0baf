// Command auditresources is the Lambda function of the audit's custom resources: it starts an
// on-demand audit after a deployment, or creates an audit suppression.
package main

import (
	"context"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/defenderhub/defenderhub/lambda/internal/auditresources"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

func main() {
	client, err := auditresources.AWS(context.Background())
	host.ExitOn("auditresources", err)
	handle := auditresources.New(client, host.Host{Environ: os.Environ(), Now: time.Now, Metrics: os.Stdout, Log: os.Stderr})
	lambda.Start(cfn.LambdaWrap(handle))
}
