// Package evaluator assembles the function of the self-managed engine. Package internal/contract
// describes its environment. Its behaviors are in a file beside it.
package evaluator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/awshttp"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/fleet"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

// Clients are the AWS services that the function calls. All are required.
type Clients struct {
	DynamoDB interface {
		state.API
		fleet.API
	}
	IoT     registry.API
	IoTData handler.IoTData
	SQS     handler.SQS
	Kinesis handler.Kinesis
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
		IoTData:  iotdataplane.NewFromConfig(cfg),
		SQS:      sqs.NewFromConfig(cfg),
		Kinesis:  kinesis.NewFromConfig(cfg),
	}, nil
}

// environment is the function's configuration.
type environment struct {
	function, table, ingest, telemetry, stream, reportsRule, file string
	groups                                                        []string
	memoryMiB                                                     int
	level                                                         slog.Level
}

func readEnvironment(getenv func(string) string) (environment, error) {
	e := environment{
		function: getenv("AWS_LAMBDA_FUNCTION_NAME"), table: getenv(contract.EnvStateTable), ingest: getenv(contract.EnvIngestQueueURL),
		telemetry: getenv(contract.EnvTelemetryQueueURL), stream: getenv(contract.EnvTelemetryStream), reportsRule: getenv(contract.EnvReportsRule),
		file: filepath.Join(getenv("LAMBDA_TASK_ROOT"), contract.ConfigFile),
	}
	var faults []error
	for name, value := range map[string]string{"AWS_REGION": getenv("AWS_REGION"), contract.EnvStateTable: e.table, contract.EnvIngestQueueURL: e.ingest} {
		if value == "" {
			faults = append(faults, fmt.Errorf("environment variable %s is not set", name))
		}
	}
	if names := getenv(contract.EnvThingGroups); names != "" {
		e.groups = strings.Split(names, ",")
	}
	e.memoryMiB, _ = strconv.Atoi(getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")) // Lambda sets it
	level, err := host.LogLevel(getenv)
	e.level = level
	return e, errors.Join(append(faults, err)...)
}

// readConfig reads the behaviors.
func readConfig(file string) (engine.Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return engine.Config{}, fmt.Errorf("the behaviors: %w", err)
	}
	var c engine.Config
	if err := json.Unmarshal(text, &c); err != nil {
		return engine.Config{}, fmt.Errorf("the behaviors in %s: %w", file, err)
	}
	return c, nil
}

// New returns the function's handler, one for all invocations. The behaviors are in
// [contract.ConfigFile] in the directory of the environment variable LAMBDA_TASK_ROOT.
func New(aws Clients, on host.Host) (*handler.Handler, error) {
	e, err := readEnvironment(on.Getenv)
	if err != nil {
		return nil, err
	}
	behaviors, err := readConfig(e.file)
	if err != nil {
		return nil, err
	}
	clients, err := contract.ParseClientPattern(behaviors.ClientPattern)
	if err != nil {
		return nil, fmt.Errorf("the behaviors in %s: clientPattern: %w", e.file, err)
	}
	log := on.Logger(e.level)
	population, err := fleet.New(aws.DynamoDB, fleet.Config{
		Table: e.table, Lateness: engine.Lateness(time.Duration(behaviors.BatchSeconds) * time.Second),
		MinDatapoints: behaviors.MinDatapoints, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("the fleet's store: %w", err)
	}
	things, err := registry.New(aws.IoT, registry.Config{
		Config: certificate.Config{MaxAge: time.Duration(behaviors.MembershipMinutes) * time.Minute, Size: knownThings(e.memoryMiB), Clients: clients},
		Groups: len(e.groups) > 0,
	})
	if err != nil {
		return nil, fmt.Errorf("the cache of things: %w", err)
	}
	return handler.New(behaviors, e.groups, handler.Clients{
		Store:          state.New(aws.DynamoDB, e.table, on.Random),
		Fleet:          population,
		Registry:       things,
		SQS:            aws.SQS,
		Kinesis:        aws.Kinesis,
		IoTData:        aws.IoTData,
		Metrics:        emf.New(contract.MetricDimensionEvaluator, e.function, on.Metrics, on.Now),
		Log:            log,
		Now:            on.Now,
		IngestQueueURL: e.ingest, TelemetryQueueURL: e.telemetry, TelemetryStream: e.stream, ReportsRule: e.reportsRule,
	})
}

const (
	// leastThings are cached from the registry with up to smallMiB of memory, the constructs' default.
	leastThings, smallMiB = 10_000, 256
	// thingsPerMiB are cached more for each further MiB. They take about an eighth of it, and less
	// than GOMEMLIMIT allows even if all things have the longest names and the most groups, as long
	// as things share their groups: a test of package registry measures them.
	thingsPerMiB = 256
)

// knownThings returns how many things are cached from the registry in a function with that much
// memory.
func knownThings(memoryMiB int) int { return leastThings + thingsPerMiB*max(0, memoryMiB-smallMiB) }
