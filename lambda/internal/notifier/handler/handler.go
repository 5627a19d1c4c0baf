// Package handler is the notifier's handler. It reads the events of its queue and the requests of
// schedules, and publishes one message per change that matters.
package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/notification"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/invocation"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/record"
)

// SNS is the part of the Amazon SNS client that the handler calls.
type SNS interface {
	Publish(context.Context, *sns.PublishInput, ...func(*sns.Options)) (*sns.PublishOutput, error)
}

// SQS is the part of the Amazon SQS client that the handler calls.
type SQS interface {
	SendMessage(context.Context, *sqs.SendMessageInput, ...func(*sqs.Options)) (*sqs.SendMessageOutput, error)
	ChangeMessageVisibility(context.Context, *sqs.ChangeMessageVisibilityInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityOutput, error)
}

// Groups returns the thing groups of a thing of this account and Region, with their ancestors.
type Groups interface {
	Groups(ctx context.Context, thing string, at time.Time) ([]string, error)
}

// Handler handles the function's events. It is safe for concurrent use.
type Handler struct {
	SNS     SNS
	SQS     SQS
	Groups  Groups
	Table   record.Table
	Config  notification.Config
	Metrics *emf.Metrics
	Log     *slog.Logger
	// Now is the machine's clock.
	Now func() time.Time
	// Random returns a number in [0, n), for the waits between attempts; nil means math/rand/v2.
	Random func(n int64) int64

	Region                       string
	QueueURL, DeadLetterQueueURL string
	PeopleTopicARN, ChatTopicARN string

	// claims counts the lists that this machine has tried to send.
	claims atomic.Int64
}

// margin is reserved before the function's deadline for records of what was published.
const margin = 5 * time.Second

// request is a request of a schedule, or of the notifier to itself.
type request struct {
	Kind string    `json:"defenderhub"`
	At   time.Time `json:"at"`
}

// Handle handles an event of the queue, or a schedule's request.
func (h *Handler) Handle(ctx context.Context, event json.RawMessage) (any, error) {
	work, cancel := invocation.WithMargin(ctx, margin)
	defer cancel()
	defer func() {
		if err := h.Metrics.Flush(); err != nil {
			h.Log.Error("metrics were not written", "reason", err.Error())
		}
	}()
	var kind struct {
		Records []json.RawMessage `json:"Records"`
		request
	}
	if err := json.Unmarshal(event, &kind); err != nil {
		return nil, fmt.Errorf("event is not a JSON object with known fields: %w", err)
	}
	switch {
	case kind.Kind == contract.NotifyDigest:
		return nil, h.digest(work, kind.At)
	case kind.Kind == contract.NotifyRemind:
		return nil, h.remind(work, kind.At)
	case kind.Records == nil:
		return nil, errors.New("event is neither of an SQS queue nor a request for a digest or a reminder")
	}
	var batch events.SQSEvent
	if err := json.Unmarshal(event, &batch); err != nil {
		return nil, fmt.Errorf("event is not of an SQS queue: %w", err)
	}
	return h.batch(ctx, work, batch.Records), nil
}
