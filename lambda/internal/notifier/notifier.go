// Package notifier assembles the function that reports changes of findings to people. Package
// internal/contract describes its environment, package internal/notification its settings.
package notifier

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/notification"
	"github.com/defenderhub/defenderhub/lambda/internal/awshttp"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/record"
)

// Clients are the AWS services that the function calls. All are required.
type Clients struct {
	SNS      handler.SNS
	SQS      handler.SQS
	DynamoDB record.DynamoDB
	IoT      registry.API
}

// AWS returns the real AWS clients.
func AWS(ctx context.Context) (Clients, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(awshttp.Client(callsAtOnce)))
	if err != nil {
		return Clients{}, fmt.Errorf("load the AWS configuration: %w", err)
	}
	return Clients{SNS: sns.NewFromConfig(cfg), SQS: sqs.NewFromConfig(cfg), DynamoDB: dynamodb.NewFromConfig(cfg), IoT: iot.NewFromConfig(cfg)}, nil
}

const (
	// callsAtOnce is the number of concurrent calls to one service.
	callsAtOnce = 16
	// knownThings is how many things and groups are cached from the registry.
	knownThings = 10_000
)

// New returns the function's handler, one for all invocations. The settings are in
// [notification.File] in the directory of the environment variable LAMBDA_TASK_ROOT.
func New(aws Clients, on host.Host) (*handler.Handler, error) {
	settings, err := notification.ReadFile(filepath.Join(on.Getenv("LAMBDA_TASK_ROOT"), notification.File))
	if err != nil {
		return nil, err
	}
	h := &handler.Handler{SNS: aws.SNS, SQS: aws.SQS, Config: settings, Now: on.Now, Random: on.Random, Table: record.Table{API: aws.DynamoDB}}
	var faults []error
	for _, variable := range []struct {
		name  string
		value *string
	}{
		{"AWS_REGION", &h.Region}, {contract.EnvNotifyTable, &h.Table.Name}, {contract.EnvNotifyQueueURL, &h.QueueURL},
		{contract.EnvDeadLetterQueueURL, &h.DeadLetterQueueURL}, {contract.EnvPeopleTopic, &h.PeopleTopicARN}, {contract.EnvChatTopic, &h.ChatTopicARN},
	} {
		if *variable.value = on.Getenv(variable.name); *variable.value == "" {
			faults = append(faults, fmt.Errorf("environment variable %s is not set", variable.name))
		}
	}
	level, err := host.LogLevel(on.Getenv)
	faults = append(faults, err)
	if settings.PerMinute < 1 || settings.MembershipMinutes < 1 || len(settings.Filters) == 0 {
		faults = append(faults, errors.New("the settings lack filters, the cap of a minute or the age of memberships"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	things, err := registry.New(aws.IoT, registry.Config{Config: certificate.Config{MaxAge: settings.MembershipAge(), Size: knownThings}, Groups: true})
	if err != nil {
		return nil, fmt.Errorf("the cache of things: %w", err)
	}
	h.Groups = groups{things}
	h.Log = on.Logger(level)
	h.Metrics = emf.New(contract.MetricDimensionNotifier, on.Getenv("AWS_LAMBDA_FUNCTION_NAME"), on.Metrics, on.Now)
	return h, nil
}

type groups struct{ *registry.Registry }

// Groups returns the thing groups of a thing, none for a thing that was deleted.
func (g groups) Groups(ctx context.Context, thing string, at time.Time) ([]string, error) {
	t, err := g.Resolve(ctx, thing, "", at)
	if err == nil && t.Groups == nil {
		t.Groups = []string{}
	}
	return t.Groups, err
}
