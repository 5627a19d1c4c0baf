// Command forwarder is the Lambda function that imports the messages of defenderhub's queues into
// AWS Security Hub as findings.
package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/defenderhub/defenderhub/lambda/internal/forwarder"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

// garbage is the percentage of the live heap that may become garbage before it is collected. The
// live heap has a few MB, so the default of 100 would collect several times per page of an audit.
// The memory limit that the stack sets still holds.
const garbage = 200

func main() {
	debug.SetGCPercent(garbage)
	clients, err := forwarder.AWS(context.Background())
	host.ExitOn("forwarder", err)
	handler, err := forwarder.New(clients, host.Host{Environ: os.Environ(), Now: time.Now, Metrics: os.Stdout, Log: os.Stderr})
	host.ExitOn("forwarder", err)
	lambda.Start(handler.Handle)
}
