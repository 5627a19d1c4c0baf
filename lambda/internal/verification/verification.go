// Package verification copies the verification states that analysts set in Security Hub to the
// violations of AWS IoT Device Defender Detect.
//
// Events arrive late, twice and in any order, and have no time that orders two changes of an
// analyst. So an event only says which finding to read: the state that Security Hub has is copied,
// and read again afterwards. The invocation that writes last has then read the newest state, or
// reads it and writes again.
package verification

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

// IoT is the part of the AWS IoT client that is called.
type IoT interface {
	PutVerificationStateOnViolation(context.Context, *iot.PutVerificationStateOnViolationInput, ...func(*iot.Options)) (*iot.PutVerificationStateOnViolationOutput, error)
}

// SecurityHub is the part of the Security Hub client that is called.
type SecurityHub interface {
	GetFindings(context.Context, *securityhub.GetFindingsInput, ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error)
}

// Clients are the AWS services that the function calls. All are required.
type Clients struct {
	IoT         IoT
	SecurityHub SecurityHub
}

// Handler handles the events of Security Hub.
type Handler struct {
	Clients
	Log *slog.Logger
}

// AWS returns the real AWS clients.
func AWS(ctx context.Context) (Clients, error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return Clients{}, fmt.Errorf("load the AWS configuration: %w", err)
	}
	return Clients{IoT: iot.NewFromConfig(cfg), SecurityHub: securityhub.NewFromConfig(cfg)}, nil
}

// New returns the function's handler. It reads the log level from the environment.
func New(clients Clients, on host.Host) (*Handler, error) {
	level, err := host.LogLevel(on.Getenv)
	if err != nil {
		return nil, err
	}
	return &Handler{Clients: clients, Log: on.Logger(level)}, nil
}

// violationField is the product field with the violation's ID, in findings of Detect's own
// integration and of the forwarder.
const violationField = "ViolationId"

// attempts limits how often an analyst may change a state while it is copied.
const attempts = 5

// violation is a violation with a verified finding, and the messages about it.
type violation struct {
	id string
	// finding is [findingevent.Event.Key], findingID the part that a filter of GetFindings takes.
	finding, findingID string
	// said is the state in the newest event, and order that of the event.
	said  types.VerificationState
	order findingevent.Order
	// first reports that the newest event was not received before.
	first bool
	// copied is what this invocation has written to Detect.
	copied   types.VerificationState
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
	all := map[string]*violation{}
	for _, m := range batch.Records {
		event, err := findingevent.Parse([]byte(m.Body))
		if err != nil {
			h.Log.Error("an event of Security Hub could not be read", "messageId", m.MessageId, "reason", err.Error())
			fail(m.MessageId)
			continue
		}
		id, state, ok := decided(event)
		if !ok {
			continue
		}
		key := id + " " + event.Key()
		v := all[key]
		if v == nil {
			v = &violation{id: id, finding: event.Key(), findingID: event.ID}
			all[key] = v
		}
		if len(v.messages) == 0 || event.Order.Compare(v.order) > 0 {
			v.said, v.order, v.first = state, event.Order, m.Attributes["ApproximateReceiveCount"] == "1"
		}
		v.messages = append(v.messages, m.MessageId)
	}
	var left []*violation
	for _, key := range slices.Sorted(maps.Keys(all)) {
		left = append(left, all[key])
	}
	for range attempts {
		if len(left) == 0 {
			return out, nil
		}
		left = h.pass(ctx, left, fail)
	}
	for _, v := range left {
		h.Log.Warn("verification state was not copied and is retried", "violationId", v.id, "reason", "it changed too often")
		fail(v.messages...)
	}
	return out, nil
}

// pass reads the findings of violations, and copies the states that Detect does not have. It returns
// the violations whose findings must be read again.
func (h *Handler) pass(ctx context.Context, all []*violation, fail func(...string)) (again []*violation) {
	shown, err := h.findings(ctx, all)
	for _, v := range all {
		if err != nil {
			h.Log.Error("verification state was not copied and is retried", "violationId", v.id, "reason", err.Error())
			fail(v.messages...)
			continue
		}
		state := v.said
		if f, ok := shown[v.finding]; ok && f.ProductFields[violationField] == v.id {
			state = types.VerificationState(f.VerificationState)
		}
		if v.first && v.copied == "" && state != v.said {
			// The event is old, or GetFindings does not return the change yet: AWS does not document when.
			h.Log.Info("the verification state is read again later", "violationId", v.id, "event", string(v.said), "finding", string(state))
			fail(v.messages...)
			continue
		}
		if !verified(state) || state == v.copied {
			continue
		}
		switch copied, done := h.put(ctx, v.id, state); {
		case copied:
			v.copied = state
			again = append(again, v)
		case !done:
			fail(v.messages...)
		}
	}
	return again
}

// findings returns the findings of violations as Security Hub has them, by their key.
func (h *Handler) findings(ctx context.Context, all []*violation) (map[string]hubtypes.AwsSecurityFinding, error) {
	var ids []hubtypes.StringFilter
	for _, v := range all {
		ids = append(ids, hubtypes.StringFilter{Comparison: hubtypes.StringFilterComparisonEquals, Value: &v.findingID})
	}
	out, err := h.SecurityHub.GetFindings(ctx, &securityhub.GetFindingsInput{Filters: &hubtypes.AwsSecurityFindingFilters{Id: ids}, MaxResults: aws.Int32(100)})
	if err != nil {
		return nil, fmt.Errorf("GetFindings: %w", err)
	}
	byKey := map[string]hubtypes.AwsSecurityFinding{}
	for _, f := range out.Findings {
		byKey[findingevent.Event{ProductARN: aws.ToString(f.ProductArn), ID: aws.ToString(f.Id)}.Key()] = f
	}
	return byKey, nil
}

// put copies a state, and reports whether Detect has it. If not, done reports whether nothing more
// can be done: otherwise the messages must be retried.
func (h *Handler) put(ctx context.Context, violation string, state types.VerificationState) (copied, done bool) {
	_, err := h.IoT.PutVerificationStateOnViolation(ctx, &iot.PutVerificationStateOnViolationInput{ViolationId: &violation, VerificationState: state})
	var invalid *types.InvalidRequestException
	switch {
	case err == nil:
		h.Log.Info("verification state was copied", "violationId", violation, "state", string(state))
		return true, true
	case errors.As(err, &invalid):
		h.Log.Warn("verification state was not copied: Device Defender does not accept it", "violationId", violation, "reason", err.Error())
		return false, true
	}
	h.Log.Error("verification state was not copied and is retried", "violationId", violation, "reason", err.Error())
	return false, false
}

// decided returns the violation and the state that an analyst set. It returns false for findings
// that are not alarms of Detect, and while nobody has decided.
func decided(e findingevent.Event) (violation string, state types.VerificationState, ok bool) {
	source, known := e.DeviceSource()
	violation, state = e.ProductFields[violationField], types.VerificationState(e.Verification)
	return violation, state, verified(state) && known && source == defender.DetectNotifications && violation != ""
}

// verified reports whether a state is copied. UNKNOWN is the state of every finding that nobody has
// verified.
func verified(state types.VerificationState) bool {
	switch state {
	case types.VerificationStateTruePositive, types.VerificationStateFalsePositive, types.VerificationStateBenignPositive:
		return true
	}
	return false
}
