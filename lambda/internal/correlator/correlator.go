// Package correlator assembles the function that correlates findings. Package internal/contract
// describes its environment. Its rules are in a file beside it.
//
// Its role needs these actions, besides those of its event source and its log group:
//
//   - dynamodb:GetItem, dynamodb:PutItem and dynamodb:Query on the state table, and dynamodb:Query on
//     its index contract.StateDueIndex
//   - sqs:SendMessage on the forwarder's queue, and the use of its key
//   - securityhub:GetFindings on the account's hub
//   - iot:DescribeThing and iot:ListThingPrincipals on things; iot:ListPrincipalThings,
//     iot:GetEffectivePolicies on certificates
//   - iot:ListThings, if the configuration names attributes
//   - iot:DescribeRoleAlias on role aliases, if a rule has a shared stage
//
// Without a permission for AWS IoT, an event whose device needs the lookup is retried, and then
// goes to the dead-letter queue. Aliases and shared resources are left out instead.
package correlator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/lambda/internal/awshttp"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/entity"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/state"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

// Clients are the AWS services that the function calls. All are required.
type Clients struct {
	DynamoDB    state.API
	IoT         entity.API
	SQS         handler.SQS
	SecurityHub handler.SecurityHub
}

// AWS returns the real AWS clients.
func AWS(ctx context.Context) (Clients, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(awshttp.Client(handler.CallsAtOnce)))
	if err != nil {
		return Clients{}, fmt.Errorf("load the AWS configuration: %w", err)
	}
	return Clients{
		DynamoDB: dynamodb.NewFromConfig(cfg),
		IoT:      iot.NewFromConfig(cfg),
		SQS:      sqs.NewFromConfig(cfg),
		// A retry would be a second call within the second.
		SecurityHub: securityhub.NewFromConfig(cfg, func(o *securityhub.Options) { o.Retryer = aws.NopRetryer{} }),
	}, nil
}

// environment is the function's configuration.
type environment struct {
	function, table, ingest, file string
	level                         slog.Level
}

func readEnvironment(getenv func(string) string) (environment, error) {
	e := environment{
		function: getenv("AWS_LAMBDA_FUNCTION_NAME"), table: getenv(contract.EnvStateTable), ingest: getenv(contract.EnvIngestQueueURL),
		file: filepath.Join(getenv("LAMBDA_TASK_ROOT"), correlation.File),
	}
	var faults []error
	for _, name := range []string{contract.EnvIngestQueueURL, contract.EnvStateTable} {
		if getenv(name) == "" {
			faults = append(faults, fmt.Errorf("environment variable %s is not set", name))
		}
	}
	level, err := host.LogLevel(getenv)
	e.level = level
	return e, errors.Join(append(faults, err)...)
}

// New returns the function's handler, one for all invocations. The rules are in [correlation.File]
// in the directory of the environment variable LAMBDA_TASK_ROOT.
func New(aws Clients, on host.Host) (*handler.Handler, error) {
	e, err := readEnvironment(on.Getenv)
	if err != nil {
		return nil, err
	}
	rules, err := correlation.ReadFile(e.file)
	if err != nil {
		return nil, err
	}
	clients, err := contract.ParseClientPattern(rules.ClientPattern)
	if err != nil {
		return nil, fmt.Errorf("the correlation rules in %s: clientPattern: %w", e.file, err)
	}
	entities, err := entity.New(aws.IoT, entity.Config{MaxAge: rules.MaxAge(), Size: knownEntities, Attributes: rules.Attributes, Clients: clients})
	if err != nil {
		return nil, fmt.Errorf("the cache of devices: %w", err)
	}
	return handler.New(rules, handler.Clients{
		Store:          state.New(aws.DynamoDB, e.table),
		Entities:       entities,
		SQS:            aws.SQS,
		SecurityHub:    aws.SecurityHub,
		Metrics:        emf.New(contract.MetricDimensionCorrelator, e.function, on.Metrics, on.Now),
		Log:            on.Logger(e.level),
		Now:            on.Now,
		IngestQueueURL: e.ingest,
	}), nil
}

// knownEntities is how many answers of each kind are cached from the registry.
const knownEntities = 5_000
