// Command emptyfunction is a Lambda function that does nothing, the baseline for the forwarder.
package main

import (
	"context"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() { lambda.Start(func(context.Context) error { return nil }) }
