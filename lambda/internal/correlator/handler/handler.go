// Package handler is the handler of the correlator's function. It reads the events that Security
// Hub sends for each finding, stores the states of findings that a rule can match, and sends
// composite findings to the forwarder's queue.
//
// State and messages are connected by an outbox, as in the evaluator: one conditional write stores
// both, then the messages are sent, then the outbox is emptied. A crash between two steps sends a
// message twice, with the same revision.
package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/entity"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/state"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/invocation"
)

// SQS is the part of the Amazon SQS client that the handler calls.
type SQS interface {
	SendMessage(context.Context, *sqs.SendMessageInput, ...func(*sqs.Options)) (*sqs.SendMessageOutput, error)
}

// SecurityHub is the part of the AWS Security Hub client that the handler calls.
type SecurityHub interface {
	GetFindings(context.Context, *securityhub.GetFindingsInput, ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error)
}

// Clients are the clients of the handler. All are required.
type Clients struct {
	Store       *state.Store
	Entities    *entity.Resolver
	SQS         SQS
	SecurityHub SecurityHub
	Metrics     *emf.Metrics
	Log         *slog.Logger
	// Now is the machine's clock.
	Now            func() time.Time
	IngestQueueURL string
}

// Handler handles the function's events. It is safe for concurrent use.
type Handler struct {
	Clients
	config correlation.Config
	rules  []incident.Rule
	// longest is the longest window of all rules.
	longest time.Duration
}

// New returns the handler for the rules.
func New(config correlation.Config, c Clients) *Handler {
	h := &Handler{Clients: c, config: config, rules: incident.Rules(config.Rules)}
	for _, r := range h.rules {
		h.longest = max(h.longest, r.Window())
	}
	return h
}

const (
	// margin is reserved before the function's deadline for its answer and its metrics.
	margin = 3 * time.Second
	// parallel is how many entities are handled concurrently: they wait for the network.
	parallel = 16
)

// CallsAtOnce is the maximum number of concurrent calls to one service.
const CallsAtOnce = parallel

// Handle handles an event of the SQS queue, or the schedule's request.
func (h *Handler) Handle(ctx context.Context, event json.RawMessage) (any, error) {
	work, cancel := invocation.WithMargin(ctx, margin)
	defer cancel()
	defer func() {
		if err := h.Metrics.Flush(); err != nil {
			h.Log.Error("metrics were not written", "reason", err.Error())
		}
	}()
	home, err := homeOf(ctx)
	if err != nil {
		return nil, err
	}
	var kind struct {
		Records     []json.RawMessage `json:"Records"`
		Defenderhub string            `json:"defenderhub"`
		At          time.Time         `json:"at"`
	}
	if err := json.Unmarshal(event, &kind); err != nil {
		return nil, fmt.Errorf("event is not a JSON object with known fields: %w", err)
	}
	switch {
	case kind.Defenderhub == "correlate":
		if kind.At.IsZero() {
			return nil, errors.New("request to correlate has no time")
		}
		return nil, h.handleDue(work, home, kind.At)
	case len(kind.Records) > 0:
		var batch events.SQSEvent
		if err := json.Unmarshal(event, &batch); err != nil {
			return nil, fmt.Errorf("event of an SQS queue: %w", err)
		}
		return h.fromQueue(work, home, batch.Records), nil
	}
	return nil, fmt.Errorf("event is neither of an SQS queue nor %s", contract.CorrelateRequest)
}

// homeOf returns the account and Region of the function.
func homeOf(ctx context.Context) (entity.Home, error) {
	lc, ok := lambdacontext.FromContext(ctx)
	if !ok {
		return entity.Home{}, errors.New("the invocation has no function ARN")
	}
	function, err := arn.Parse(lc.InvokedFunctionArn)
	if err != nil {
		return entity.Home{}, fmt.Errorf("the invoked function: %w", err)
	}
	return entity.Home{Partition: function.Partition, Account: function.AccountID, Region: function.Region}, nil
}

// forEach calls do with each element of a list, at most parallel at once, and returns the errors by
// index.
func forEach[E any](list []E, do func(E) error) []error {
	var some errgroup.Group
	some.SetLimit(parallel)
	errs := make([]error, len(list))
	for i, e := range list {
		some.Go(func() error {
			errs[i] = do(e)
			return nil
		})
	}
	_ = some.Wait() // none fails
	return errs
}

// count ignores zero counts: each metric costs money once it exists.
func (h *Handler) count(source, metric string, n int) {
	if n != 0 {
		h.Metrics.Count(source, metric, n)
	}
}

// failures are the messages of a batch that must be retried.
type failures struct {
	mu  sync.Mutex
	why map[int]error // by index
}

func (f *failures) add(err error, messages ...int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range messages {
		if f.why[m] == nil {
			f.why[m] = err
		}
	}
}
