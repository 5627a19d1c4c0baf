// Package verification copies the verification states that analysts set in Security Hub to the
// violations of AWS IoT Device Defender Detect.
package verification

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

// API is the part of the AWS IoT client that is called.
type API interface {
	PutVerificationStateOnViolation(context.Context, *iot.PutVerificationStateOnViolationInput, ...func(*iot.Options)) (*iot.PutVerificationStateOnViolationOutput, error)
}

// Handler handles the events of Security Hub.
type Handler struct {
	IoT API
	Log *slog.Logger
}

// AWS returns the client of AWS IoT itself.
func AWS(ctx context.Context) (API, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration: %w", err)
	}
	return iot.NewFromConfig(cfg), nil
}

// New returns the function's handler.
func New(api API, on host.Host) *Handler {
	return &Handler{IoT: api, Log: on.Logger(slog.LevelInfo)}
}

// violationField is the product field with the violation's ID, in findings of Detect's own
// integration and of the forwarder.
const violationField = "ViolationId"

// decision is the latest state of a violation in a batch, and the messages that it settles.
type decision struct {
	state    types.VerificationState
	order    findingevent.Order
	messages []string
}

// Handle copies the states of a batch. A message whose state could not be copied is retried alone.
// A violation that Detect no longer has is logged and not retried.
func (h *Handler) Handle(ctx context.Context, batch events.SQSEvent) (events.SQSEventResponse, error) {
	var out events.SQSEventResponse
	fail := func(messages ...string) {
		for _, id := range messages {
			out.BatchItemFailures = append(out.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: id})
		}
	}
	decisions := map[string]*decision{}
	for _, m := range batch.Records {
		event, err := findingevent.Parse([]byte(m.Body))
		if err != nil {
			h.Log.Error("an event of Security Hub could not be read", "messageId", m.MessageId, "reason", err.Error())
			fail(m.MessageId)
			continue
		}
		violation, state, ok := decided(event)
		if !ok {
			continue
		}
		d := decisions[violation]
		if d == nil {
			d = &decision{}
			decisions[violation] = d
		}
		if len(d.messages) == 0 || event.Order.Compare(d.order) > 0 {
			d.state, d.order = state, event.Order
		}
		d.messages = append(d.messages, m.MessageId)
	}
	for _, violation := range slices.Sorted(maps.Keys(decisions)) {
		if d := decisions[violation]; !h.put(ctx, violation, d.state) {
			fail(d.messages...)
		}
	}
	return out, nil
}

// put copies a state, and reports whether its messages are done: false means that they must be
// retried.
func (h *Handler) put(ctx context.Context, violation string, state types.VerificationState) bool {
	_, err := h.IoT.PutVerificationStateOnViolation(ctx, &iot.PutVerificationStateOnViolationInput{ViolationId: &violation, VerificationState: state})
	var invalid *types.InvalidRequestException
	switch {
	case err == nil:
		h.Log.Info("verification state was copied", "violationId", violation, "state", string(state))
		return true
	case errors.As(err, &invalid):
		h.Log.Warn("verification state was not copied: Device Defender does not accept it", "violationId", violation, "reason", err.Error())
		return true
	}
	h.Log.Error("verification state was not copied and is retried", "violationId", violation, "reason", err.Error())
	return false
}

// decided returns the violation and the state that an analyst set. It returns false for findings
// that are not alarms of Detect, and while nobody has decided.
func decided(e findingevent.Event) (violation string, state types.VerificationState, ok bool) {
	source, known := e.DeviceSource()
	violation, state = e.ProductFields[violationField], types.VerificationState(e.Verification)
	switch state {
	case types.VerificationStateTruePositive, types.VerificationStateFalsePositive, types.VerificationStateBenignPositive:
		return violation, state, known && source == defender.DetectNotifications && violation != ""
	}
	return "", "", false
}
