// Command evaluator is the Lambda function of the self-managed engine. Telemetry from the rules'
// queue or stream makes it judge what devices do; a schedule makes it judge devices that are
// silent.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/defenderhub/defenderhub/lambda/internal/evaluator"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

func main() {
	clients, err := evaluator.AWS(context.Background())
	exitOn(err)
	handler, err := evaluator.New(clients, host.Host{Environ: os.Environ(), Now: time.Now, Metrics: os.Stdout, Log: os.Stderr})
	exitOn(err)
	lambda.Start(handler.Handle)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "evaluator:", err)
		os.Exit(1)
	}
}
