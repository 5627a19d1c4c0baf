// Package forwarder assembles the function that imports the messages of defenderhub's queues into
// AWS Security Hub as findings. Package internal/contract describes its environment.
package forwarder

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

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/awshttp"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/audit"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/backlog"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/bound"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/delivery"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/importer"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/restate"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/sweep"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

// Clients are the AWS services that the function calls. All are required. Those of Security Hub
// and AWS IoT must not retry by themselves: the function does so, because it knows its deadline
// and which findings failed.
type Clients struct {
	SecurityHub importer.API
	IoT         interface {
		audit.API
		certificate.API
	}
	DynamoDB ledger.DynamoDBAPI
	SQS      handler.SQS
}

// AWS returns the real AWS clients.
func AWS(ctx context.Context) (Clients, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(awshttp.Client(callsAtOnce)))
	if err != nil {
		return Clients{}, fmt.Errorf("load the AWS configuration: %w", err)
	}
	return Clients{
		SecurityHub: securityhub.NewFromConfig(cfg, func(o *securityhub.Options) { o.RetryMaxAttempts = 1 }),
		IoT:         iot.NewFromConfig(cfg, func(o *iot.Options) { o.RetryMaxAttempts = 1 }),
		DynamoDB:    dynamodb.NewFromConfig(cfg),
		SQS:         sqs.NewFromConfig(cfg),
	}, nil
}

// environment is the function's configuration.
type environment struct {
	region, function, table, deadLetters, eventTopic string
	quiet                                            time.Duration
	severities                                       contract.Severities
	live                                             contract.LiveBehaviors
	rules                                            correlation.LiveRules
	clients                                          contract.ClientPattern
	level                                            slog.Level
	detailed                                         bool
}

func readEnvironment(getenv func(string) string) (environment, error) {
	e := environment{
		region: getenv("AWS_REGION"), function: getenv("AWS_LAMBDA_FUNCTION_NAME"),
		table: getenv(contract.EnvLedgerTable), deadLetters: getenv(contract.EnvDeadLetterQueueURL),
		eventTopic: getenv(contract.EnvEventTopic), quiet: contract.DefaultQuietTime, detailed: getenv(contract.EnvDetailedMetrics) == "true",
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
	if e.rules, err = correlation.ParseLiveRules(getenv(contract.EnvLiveRules)); err != nil {
		faults = append(faults, fmt.Errorf("environment variable %s: %w", contract.EnvLiveRules, err))
	}
	if e.clients, err = contract.ParseClientPattern(getenv(contract.EnvClientPattern)); err != nil {
		faults = append(faults, fmt.Errorf("environment variable %s: %w", contract.EnvClientPattern, err))
	}
	if e.level, err = host.LogLevel(getenv); err != nil {
		faults = append(faults, err)
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

// New returns the function's handler, one for all invocations.
func New(aws Clients, on host.Host) (*handler.Handler, error) {
	e, err := readEnvironment(on.Getenv)
	if err != nil {
		return nil, err
	}
	things, err := certificate.New(aws.IoT, certificate.Config{MaxAge: membershipAge, Size: knownClients, Clients: e.clients})
	if err != nil {
		return nil, fmt.Errorf("the cache of certificates: %w", err)
	}
	log := on.Logger(e.level)
	metrics := emf.New(contract.MetricDimensionForwarder, e.function, on.Metrics, on.Now)
	table := ledger.NewDynamoDB(aws.DynamoDB, e.table)
	book := ledger.New(table, e.region, e.quiet)
	hub := aws.SecurityHub
	if e.detailed {
		hub = countingHub{hub, metrics}
	}
	deliver := &delivery.Delivery{Ledger: book, Importer: importer.New(hub, on.Random), Metrics: metrics, Log: log, BySeverity: e.detailed}
	h := &handler.Handler{
		SQS:     aws.SQS,
		Deliver: deliver,
		Audit:   &audit.Auditor{IoT: aws.IoT, Table: table, Findings: book, Deliver: deliver, Region: e.region, Random: on.Random, Log: log},
		Restate: &restate.Restater{Table: table, Findings: book, Deliver: deliver, Region: e.region, Version: version(on), Log: log},
		Sweeper: &sweep.Sweeper{Table: table, Findings: book, Deliver: deliver, Region: e.region, Live: e.live, Rules: e.rules, Log: log},
		Things:  things,
		Bounds:  &bound.Bounds{Table: table, Region: e.region, Now: on.Now},
		Ledger:  book, Metrics: metrics, Log: log, Now: on.Now,
		Region: e.region, EventTopic: e.eventTopic, Severities: e.severities, Live: e.live, Rules: e.rules, DeadLetterQueueURL: e.deadLetters,
	}
	h.Backlog = &backlog.Backlog{Table: table, Ledger: book, Deliver: deliver, Region: e.region, Now: on.Now, Log: log}
	deliver.DeadLetter = h.DeadLetterFinding
	return h, nil
}

// countingHub counts the calls of Security Hub, which has a quota of calls.
type countingHub struct {
	importer.API
	metrics *emf.Metrics
}

func (h countingHub) BatchImportFindings(ctx context.Context, in *securityhub.BatchImportFindingsInput, options ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error) {
	h.metrics.Count(contract.MetricSourceImport, contract.MetricImportCalls, 1)
	return h.API.BatchImportFindings(ctx, in, options...)
}

// version returns a hash of the program and its settings. It is computed once, on first use.
func version(on host.Host) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		hash := sha256.New()
		if err := writeProgram(hash, on.Program); err != nil {
			return "", err
		}
		settings := slices.DeleteFunc(slices.Clone(on.Environ), func(v string) bool { return !strings.HasPrefix(v, contract.EnvPrefix) })
		slices.Sort(settings)
		fmt.Fprintf(hash, "%q", settings) // never fails
		return hex.EncodeToString(hash.Sum(nil)[:16]), nil
	})
}

// writeProgram writes what identifies the program: the running executable, unless the host names
// another.
func writeProgram(w io.Writer, named string) error {
	if named != "" {
		_, err := io.WriteString(w, named)
		return err
	}
	path, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.Open(path)
	if err != nil {
		return err
	}
	defer program.Close()
	_, err = io.Copy(w, program)
	return err
}
