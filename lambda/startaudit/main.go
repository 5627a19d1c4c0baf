// Command startaudit is the Lambda function of the custom resource
// [contract.StartAuditResourceType]. It starts an on-demand audit after a deployment.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/lambda/internal/startaudit"
)

func main() {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "startaudit: load the AWS configuration:", err)
		os.Exit(1)
	}
	starter := &startaudit.Starter{
		IoT: iot.NewFromConfig(cfg, func(o *iot.Options) { o.RetryMaxAttempts = 1 }),
		Log: slog.New(slog.NewJSONHandler(os.Stderr, nil)),
	}
	lambda.Start(cfn.LambdaWrap(starter.Handle))
}
