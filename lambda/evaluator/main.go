// Command evaluator is the Lambda function of the self-managed engine. Telemetry from the rules'
// queue or stream makes it judge what devices do; a schedule makes it judge devices that are
// silent. Package internal/contract describes its environment. Its behaviors are in a file beside
// it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/awshttp"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/fleet"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
)

func main() {
	handler, err := build(context.Background(), os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "evaluator:", err)
		os.Exit(1)
	}
	lambda.Start(handler.Handle)
}

// environment is the function's configuration.
type environment struct {
	function, table, ingest, telemetry, stream, reportsRule, file string
	groups                                                        []string
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
	if text := getenv(contract.EnvLogLevel); text != "" {
		if err := e.level.UnmarshalText([]byte(text)); err != nil {
			faults = append(faults, fmt.Errorf("environment variable %s is %q, want DEBUG, INFO, WARN or ERROR", contract.EnvLogLevel, text))
		}
	}
	return e, errors.Join(faults...)
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

// build returns the handler with its clients, for all invocations.
func build(ctx context.Context, getenv func(string) string) (*handler.Handler, error) {
	e, err := readEnvironment(getenv)
	if err != nil {
		return nil, err
	}
	behaviors, err := readConfig(e.file)
	if err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(awshttp.Client(handler.CallsAtOnce)))
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration: %w", err)
	}
	clients, err := contract.ParseClientPattern(behaviors.ClientPattern)
	if err != nil {
		return nil, fmt.Errorf("the behaviors in %s: clientPattern: %w", e.file, err)
	}
	table := dynamodb.NewFromConfig(cfg)
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: e.level}))
	population, err := fleet.New(table, fleet.Config{
		Table: e.table, Lateness: engine.Lateness(time.Duration(behaviors.BatchSeconds) * time.Second),
		MinDatapoints: behaviors.MinDatapoints, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("the fleet's store: %w", err)
	}
	return handler.New(behaviors, e.groups, handler.Clients{
		Store:          handler.NewStore(table, e.table),
		Fleet:          population,
		Registry:       registry.NewOwn(iot.NewFromConfig(cfg), registry.Config{Groups: len(e.groups) > 0, MaxAge: time.Duration(behaviors.MembershipMinutes) * time.Minute, Size: knownThings, Clients: clients}),
		SQS:            sqs.NewFromConfig(cfg),
		Kinesis:        kinesis.NewFromConfig(cfg),
		IoTData:        iotdataplane.NewFromConfig(cfg),
		Metrics:        emf.New(contract.MetricDimensionEvaluator, e.function, os.Stdout, time.Now),
		Log:            log,
		Now:            time.Now,
		IngestQueueURL: e.ingest, TelemetryQueueURL: e.telemetry, TelemetryStream: e.stream, ReportsRule: e.reportsRule,
	})
}

// knownThings is how many things are cached from the registry.
const knownThings = 10_000
