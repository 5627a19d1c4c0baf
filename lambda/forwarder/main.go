// Command forwarder is the Lambda function that imports the messages of defenderhub's queues into
// AWS Security Hub as findings.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

func main() {
	clients, err := forwarder.AWS(context.Background())
	exitOn(err)
	handler, err := forwarder.New(clients, host.Host{Environ: os.Environ(), Now: time.Now, Metrics: os.Stdout, Log: os.Stderr})
	exitOn(err)
	lambda.Start(handler.Handle)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "forwarder:", err)
		os.Exit(1)
	}
}
