// Command verification is the Lambda function that copies the verification states that analysts
// set in Security Hub to the alarms of Device Defender Detect.
package main

import (
	"context"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/verification"
)

func main() {
	clients, err := verification.AWS(context.Background())
	host.ExitOn("verification", err)
	handler, err := verification.New(clients, host.Host{Environ: os.Environ(), Now: time.Now, Metrics: os.Stdout, Log: os.Stderr})
	host.ExitOn("verification", err)
	lambda.Start(handler.Handle)
}
