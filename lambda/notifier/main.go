// Command notifier is the Lambda function that reports changes of findings to people.
package main

import (
	"context"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier"
)

func main() {
	clients, err := notifier.AWS(context.Background())
	host.ExitOn("notifier", err)
	handler, err := notifier.New(clients, host.Host{Environ: os.Environ(), Now: time.Now, Metrics: os.Stdout, Log: os.Stderr})
	host.ExitOn("notifier", err)
	lambda.Start(handler.Handle)
}
