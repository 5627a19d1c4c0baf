// Command evaluator is the Lambda function of the self-managed engine. It judges devices by the
// telemetry from the rules' queue or stream. A schedule makes it judge silent devices.
package main

import (
	"context"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/defenderhub/defenderhub/lambda/internal/evaluator"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

func main() {
	clients, err := evaluator.AWS(context.Background())
	host.ExitOn("evaluator", err)
	handler, err := evaluator.New(clients, host.Host{Environ: os.Environ(), Now: time.Now, Metrics: os.Stdout, Log: os.Stderr})
	host.ExitOn("evaluator", err)
	lambda.Start(handler.Handle)
}
