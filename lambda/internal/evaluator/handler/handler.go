// Package handler is the handler of the self-managed engine's function. It judges devices by the
// telemetry of IoT rules, and once a minute by their silence. The state of devices is in a table;
// alarms go to the forwarder's queue.
//
// Judgments take the time only from the input: the time at which a message was sent, and the time
// in the schedule's request.
package handler

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"golang.org/x/sync/errgroup"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/fleet"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
	"github.com/defenderhub/defenderhub/lambda/internal/invocation"
)

// SQS is the part of the Amazon SQS client that the handler calls.
type SQS interface {
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
}

// IoTData is the part of the AWS IoT data client that the handler calls.
type IoTData interface {
	GetConnection(context.Context, *iotdataplane.GetConnectionInput, ...func(*iotdataplane.Options)) (*iotdataplane.GetConnectionOutput, error)
	Publish(context.Context, *iotdataplane.PublishInput, ...func(*iotdataplane.Options)) (*iotdataplane.PublishOutput, error)
}

// Registry returns the thing of a client; at is when the client sent the message.
type Registry interface {
	Resolve(ctx context.Context, clientID, principal string, at time.Time) (registry.Thing, error)
	// Join returns the thing whose additional connection a client is, "" for none.
	Join(ctx context.Context, clientID, principal string, at time.Time) (string, error)
}

// Clients are the clients of the handler. All are required, except Kinesis if there is no stream.
type Clients struct {
	Store    *state.Store
	Fleet    *fleet.Store
	Registry Registry
	SQS      SQS
	Kinesis  Kinesis
	IoTData  IoTData
	Metrics  *emf.Metrics
	Log      *slog.Logger
	// Now is the machine's clock. It is used only for the transport's lag and the age of
	// generations.
	Now func() time.Time

	IngestQueueURL string
	// TelemetryQueueURL is "" if a stream is used, and TelemetryStream, the stream's name, is ""
	// if a queue is used.
	TelemetryQueueURL, TelemetryStream string
	// ReportsRule is the name of the rule of device reports.
	ReportsRule string
}

// Handler handles the function's events. It is safe for concurrent use.
type Handler struct {
	Clients
	settings  settings
	behaviors behaviors
	lastBeat  lastBeat
	positions positions
	// reportTimes are when devices reported last.
	reportTimes reportTimes
}

// New returns the handler for a configuration, which refers to thing groups by their index in
// groups.
func New(config engine.Config, groups []string, c Clients) (*Handler, error) {
	all, err := config.Compile()
	if err != nil {
		return nil, err
	}
	e, err := newSettings(config, all, groups)
	if err != nil {
		return nil, err
	}
	return &Handler{Clients: c, settings: e, behaviors: behaviors{all: all}}, nil
}

// Handle handles an event of an SQS queue or of a Kinesis stream, or a request to close.
func (h *Handler) Handle(ctx context.Context, event json.RawMessage) (any, error) {
	work, cancel := invocation.WithMargin(ctx, margin)
	defer cancel()
	defer func() {
		if err := h.Metrics.Flush(); err != nil {
			h.Log.Error("metrics were not written", "reason", err.Error())
		}
	}()
	var kind struct {
		Records []struct {
			EventSource string `json:"eventSource"`
		} `json:"Records"`
		Defenderhub string `json:"defenderhub"`
	}
	if err := json.Unmarshal(event, &kind); err != nil {
		return nil, fmt.Errorf("event is not a JSON object: %w", err)
	}
	switch {
	case kind.Defenderhub == "close":
		var request closeRequest
		if err := json.Unmarshal(event, &request); err != nil {
			return nil, fmt.Errorf("request to close: %w", err)
		}
		return nil, h.close(work, request)
	case len(kind.Records) > 0 && kind.Records[0].EventSource == "aws:sqs":
		var batch events.SQSEvent
		if err := json.Unmarshal(event, &batch); err != nil {
			return nil, fmt.Errorf("event of an SQS queue: %w", err)
		}
		return h.fromQueue(work, batch.Records), nil
	case len(kind.Records) > 0 && kind.Records[0].EventSource == "aws:kinesis":
		var batch events.KinesisEvent
		if err := json.Unmarshal(event, &batch); err != nil {
			return nil, fmt.Errorf("event of a Kinesis stream: %w", err)
		}
		return h.fromStream(work, batch.Records), nil
	}
	return nil, fmt.Errorf("event is neither of an SQS queue nor of a Kinesis stream nor %s", contract.CloseRequest(0, 1))
}

// margin is reserved before the function's deadline for its answer and its metrics.
const margin = 3 * time.Second

// parallel is how many things are judged, and answers sent, concurrently: they wait for the
// network.
const parallel = 16

// CallsAtOnce is the maximum number of concurrent calls to one service: the closer's, of all
// shards.
const CallsAtOnce = parallel * parallel

// forEach calls do with each element of a list, at most parallel at once.
func forEach[E any](list []E, do func(E)) {
	var some errgroup.Group
	some.SetLimit(parallel)
	for _, e := range list {
		some.Go(func() error {
			do(e)
			return nil
		})
	}
	_ = some.Wait() // none fails
}

// count ignores zero counts: each metric costs money once it exists.
func (h *Handler) count(source, metric string, n int) {
	if n != 0 {
		h.Metrics.Count(source, metric, n)
	}
}
