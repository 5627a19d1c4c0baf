// Command forwarder is the Lambda function that imports the messages of defenderhub's queues into
// AWS Security Hub as findings. Package internal/contract describes its environment.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/awshttp"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/audit"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/bound"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/delivery"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/importer"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/restate"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/sweep"
)

func main() {
	handler, err := build(context.Background(), os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "forwarder:", err)
		os.Exit(1)
	}
	lambda.Start(handler.Handle)
}

// environment is the function's configuration.
type environment struct {
	region, function, table, deadLetters, eventTopic string
	quiet                                            time.Duration
	severities                                       contract.Severities
	live                                             contract.LiveBehaviors
	clients                                          contract.ClientPattern
	level                                            slog.Level
}

func readEnvironment(getenv func(string) string) (environment, error) {
	e := environment{
		region: getenv("AWS_REGION"), function: getenv("AWS_LAMBDA_FUNCTION_NAME"),
		table: getenv(contract.EnvLedgerTable), deadLetters: getenv(contract.EnvDeadLetterQueueURL),
		eventTopic: getenv(contract.EnvEventTopic), quiet: contract.DefaultQuietTime,
	}
	var faults []error
	for name, value := range map[string]string{"AWS_REGION": e.region, contract.EnvLedgerTable: e.table, contract.EnvDeadLetterQueueURL: e.deadLetters} {
		if value == "" {
			faults = append(faults, fmt.Errorf("environment variable %s is not set", name))
		}
	}
	if e.eventTopic == "" {
		e.eventTopic = iotrule.DefaultEventTopic
	}
	var err error
	if text := getenv(contract.EnvQuietTime); text != "" {
		if e.quiet, err = time.ParseDuration(text); err != nil || e.quiet <= 0 {
			faults = append(faults, fmt.Errorf("environment variable %s is %q, want a duration such as 168h", contract.EnvQuietTime, text))
		}
	}
	if e.severities, err = contract.ParseSeverities(getenv(contract.EnvSeverities)); err != nil {
		faults = append(faults, fmt.Errorf("environment variable %s: %w", contract.EnvSeverities, err))
	}
	if e.live, err = contract.ParseLiveBehaviors(getenv(contract.EnvLiveBehaviors)); err != nil {
		faults = append(faults, fmt.Errorf("environment variable %s: %w", contract.EnvLiveBehaviors, err))
	}
	if e.clients, err = contract.ParseClientPattern(getenv(contract.EnvClientPattern)); err != nil {
		faults = append(faults, fmt.Errorf("environment variable %s: %w", contract.EnvClientPattern, err))
	}
	if text := getenv(contract.EnvLogLevel); text != "" {
		if err := e.level.UnmarshalText([]byte(text)); err != nil {
			faults = append(faults, fmt.Errorf("environment variable %s is %q, want DEBUG, INFO, WARN or ERROR", contract.EnvLogLevel, text))
		}
	}
	return e, errors.Join(faults...)
}

// callsAtOnce is the number of concurrent calls to one service: that of the packages delivery and
// handler.
const callsAtOnce = 16

const (
	// membershipAge is how long a registry lookup of a certificate is cached.
	membershipAge = 15 * time.Minute
	// knownClients is how many clients are cached from the registry.
	knownClients = 10_000
)

// build returns the handler with its clients, for all invocations. The SDK must not retry
// Security Hub and AWS IoT: the function does so itself, because it knows its deadline and which
// findings failed.
func build(ctx context.Context, getenv func(string) string) (*handler.Handler, error) {
	e, err := readEnvironment(getenv)
	if err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(awshttp.Client(callsAtOnce)))
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration: %w", err)
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: e.level}))
	metrics := emf.New(contract.MetricDimensionForwarder, e.function, os.Stdout, time.Now)
	table := ledger.NewDynamoDB(dynamodb.NewFromConfig(cfg), e.table)
	book := ledger.New(table, e.region, e.quiet)
	deliver := &delivery.Delivery{
		Ledger:   book,
		Importer: importer.New(securityhub.NewFromConfig(cfg, func(o *securityhub.Options) { o.RetryMaxAttempts = 1 }), nil),
		Metrics:  metrics,
		Log:      log,
	}
	aws := iot.NewFromConfig(cfg, func(o *iot.Options) { o.RetryMaxAttempts = 1 })
	return &handler.Handler{
		SQS:     sqs.NewFromConfig(cfg),
		Deliver: deliver,
		Audit: &audit.Auditor{
			IoT:   aws,
			Table: table, Findings: book, Deliver: deliver,
			Region: e.region, Log: log,
		},
		Restate: &restate.Restater{Table: table, Findings: book, Deliver: deliver, Region: e.region, Version: version(os.Environ()), Log: log},
		Sweeper: &sweep.Sweeper{Table: table, Findings: book, Deliver: deliver, Region: e.region, Live: e.live, Log: log},
		Things:  registry.NewOwn(aws, registry.Config{MaxAge: membershipAge, Size: knownClients, Clients: e.clients}),
		Bounds:  &bound.Bounds{Table: table, Region: e.region},
		Ledger:  book, Metrics: metrics, Log: log, Now: time.Now,
		Region: e.region, EventTopic: e.eventTopic, Severities: e.severities, Live: e.live, DeadLetterQueueURL: e.deadLetters,
	}, nil
}

// version returns a hash of the program and its settings. It is computed once, on first use.
func version(environ []string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		path, err := os.Executable()
		if err != nil {
			return "", err
		}
		program, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer program.Close()
		hash := sha256.New()
		if _, err := io.Copy(hash, program); err != nil {
			return "", err
		}
		settings := slices.DeleteFunc(slices.Clone(environ), func(v string) bool { return !strings.HasPrefix(v, contract.EnvPrefix) })
		slices.Sort(settings)
		fmt.Fprintf(hash, "%q", settings) // never fails
		return hex.EncodeToString(hash.Sum(nil)[:16]), nil
	})
}
