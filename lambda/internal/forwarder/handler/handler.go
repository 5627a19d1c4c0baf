// Package handler is the forwarder's handler. It reads the messages of the queues and the
// schedule's requests, and returns a result for each message.
package handler

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/backlog"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/bound"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/delivery"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
	"github.com/defenderhub/defenderhub/lambda/internal/invocation"
)

// SQS is the part of the Amazon SQS client that the handler calls.
type SQS interface {
	SendMessage(context.Context, *sqs.SendMessageInput, ...func(*sqs.Options)) (*sqs.SendMessageOutput, error)
	ChangeMessageVisibility(context.Context, *sqs.ChangeMessageVisibilityInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityOutput, error)
	GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
}

// Deliverer delivers signals to Security Hub.
type Deliverer interface {
	DeliverOrLeave(context.Context, time.Time, []signal.Signal, delivery.Leaver) map[string]outcome.Outcome
	Refresh(context.Context, time.Time, []ledger.Entry) map[string]outcome.Outcome
}

// Auditor forwards audit tasks.
type Auditor interface {
	Process(context.Context, time.Time, mapping.Mapper, mapping.AuditTask) outcome.Outcome
}

// Due returns what is due in the ledger.
type Due interface {
	Due(ctx context.Context, now time.Time, each func([]ledger.Entry) error) error
}

// Sweeper archives the findings of behaviors that are no longer judged.
type Sweeper interface {
	Announce(context.Context, time.Time) error
	Sweep(context.Context, time.Time) (archived int, err error)
	Archive(context.Context, time.Time, []ledger.Entry) (rest []ledger.Entry, archived int, err error)
}

// Things returns the thing whose additional connection a client is, "" for none.
type Things interface {
	Join(ctx context.Context, clientID, principal string, at time.Time) (string, error)
}

// Restater applies a deployment's changes to active findings.
type Restater interface {
	Run(context.Context, time.Time, ledger.Restate) (done int, err error)
}

// Handler handles the function's events. It is safe for concurrent use.
type Handler struct {
	SQS     SQS
	Deliver Deliverer
	Audit   Auditor
	Ledger  Due
	Sweeper Sweeper
	Bounds  *bound.Bounds
	Backlog *backlog.Backlog
	Things  Things
	Restate Restater
	Metrics *emf.Metrics
	Log     *slog.Logger
	// Now is the machine's clock; see [Handler.at].
	Now func() time.Time

	Region             string
	EventTopic         string
	Severities         contract.Severities
	Live               contract.LiveBehaviors
	Rules              correlation.LiveRules
	DeadLetterQueueURL string

	queueURLs sync.Map // by ARN
}

// Handle handles an event of an SQS queue, or the schedule's refresh.
func (h *Handler) Handle(ctx context.Context, event json.RawMessage) (any, error) {
	work, cancel := invocation.WithMargin(ctx, margin)
	defer cancel()
	defer func() {
		if err := h.Metrics.Flush(); err != nil {
			h.Log.Error("metrics were not written", "reason", err.Error())
		}
	}()
	var kind struct {
		Records     []json.RawMessage `json:"Records"`
		Defenderhub string            `json:"defenderhub"`
		At          time.Time         `json:"at"`
	}
	if err := json.Unmarshal(event, &kind); err != nil {
		return nil, fmt.Errorf("event is not a JSON object with known fields: %w", err)
	}
	if kind.Defenderhub == "refresh" {
		return nil, h.refresh(work, h.at(kind.At))
	}
	if kind.Records == nil {
		return nil, fmt.Errorf("event is neither of an SQS queue nor %s", contract.RefreshRequest("TIME"))
	}
	var batch events.SQSEvent
	if err := json.Unmarshal(event, &batch); err != nil {
		return nil, fmt.Errorf("event is not of an SQS queue: %w", err)
	}
	return h.batch(ctx, work, batch.Records), nil
}

// at returns the invocation's time: the latest of the machine's clock and the times in the event,
// which are AWS's. So AWS's times are never in the future, even if the machine's clock is behind.
func (h *Handler) at(said ...time.Time) time.Time {
	now := h.Now()
	for _, t := range said {
		if t.After(now) {
			now = t
		}
	}
	return now
}

// margin is reserved before the function's deadline for confirming claims, returning messages and
// sending dead letters.
const margin = 5 * time.Second

// mapper returns the mapper for the account of the queue, which is the function's own. The
// function's ARN is used if a message names no queue.
func (h *Handler) mapper(ctx context.Context, queueARN string) (mapping.Mapper, error) {
	arn := queueARN
	if arn == "" {
		if lc, ok := lambdacontext.FromContext(ctx); ok {
			arn = lc.InvokedFunctionArn
		}
	}
	parts := strings.Split(arn, ":")
	if len(parts) < 6 || parts[0] != "arn" || parts[1] == "" || parts[4] == "" {
		return mapping.Mapper{}, fmt.Errorf("no account in the ARN %q of queue or function", arn)
	}
	m := h.settings()
	m.Account, m.Partition = parts[4], parts[1]
	return m, nil
}

// settings returns a mapper without an account.
func (h *Handler) settings() mapping.Mapper {
	return mapping.Mapper{Region: h.Region, EventTopic: h.EventTopic, Severities: h.Severities, Live: h.Live, Rules: h.Rules}
}

// restate returns an active finding as the deployed program writes it.
func (h *Handler) restate(e ledger.Entry) asff.Finding {
	return h.settings().Restate(e.Source, e.Profile, e.Behavior, *e.Finding)
}

// refresh does everything that is due. It imports active findings again before Security Hub deletes
// them, archives findings that are quiet or no longer judged, and imports unconfirmed claims,
// except those of a backlog that another invocation drains. After a deployment it applies its
// changes to active findings.
//
// A run that ends early after some progress succeeds, because the next run resumes. A run without
// progress fails, however little time it had.
func (h *Handler) refresh(ctx context.Context, now time.Time) error {
	left, reason := 0, ""
	done, swept := h.Sweeper.Sweep(ctx, now)
	drained := sync.OnceValue(func() bool { return h.Backlog.Drained(ctx, now) })
	err := h.Ledger.Due(ctx, now, func(entries []ledger.Entry) error {
		entries = slices.DeleteFunc(entries, func(e ledger.Entry) bool { return e.Left() && drained() })
		entries, archived, err := h.Sweeper.Archive(ctx, now, entries)
		done += archived
		if err != nil {
			return err
		}
		for _, o := range h.Deliver.Refresh(ctx, now, entries) {
			switch o.Verdict {
			case outcome.HubOff:
				return o
			case outcome.Retry:
				left++
				reason = cmp.Or(reason, o.Reason)
			default: // Security Hub has answered, and the result is in the ledger
				done++
			}
		}
		return ctx.Err()
	})
	err = errors.Join(swept, err)
	if err == nil {
		var n int
		n, err = h.Restate.Run(ctx, now, h.restate)
		done += n
	}
	if errors.Is(err, outcome.HubOff) {
		h.Log.Error(hubOffAdvice, "region", h.Region)
		return nil
	}
	h.Log.Info("refreshed", "done", done, "left", left)
	switch {
	case err == nil && done == 0 && left > 0:
		return fmt.Errorf("none of the %d findings that are due was brought up to date; the first: %s", left, reason)
	case errors.Is(err, context.DeadlineExceeded) && done > 0:
		return nil // the next run resumes
	}
	return err
}

const hubOffAdvice = "Security Hub is not enabled in this account and Region: messages are kept and tried again; enable it with: aws securityhub enable-security-hub --no-enable-default-standards"
