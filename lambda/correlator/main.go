// Command correlator is the Lambda function that correlates findings. It stores what Security Hub's
// events say about findings. A schedule makes it end composite findings whose window has passed.
package main

import (
	"context"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/defenderhub/defenderhub/lambda/internal/correlator"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

func main() {
	clients, err := correlator.AWS(context.Background())
	host.ExitOn("correlator", err)
	handler, err := correlator.New(clients, host.Host{Environ: os.Environ(), Now: time.Now, Metrics: os.Stdout, Log: os.Stderr})
	host.ExitOn("correlator", err)
	lambda.Start(handler.Handle)
}
