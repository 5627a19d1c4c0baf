package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// unknownSource is the source, in metrics, of messages that do not name theirs.
const unknownSource = "unknown"

// read identifies and decodes a message, and refuses an unreadable one.
func (h *Handler) read(ctx context.Context, r events.SQSMessage, sent time.Time) *message {
	m := &message{SQSMessage: r, source: unknownSource}
	mapper, err := h.mapper(ctx, r.EventSourceARN)
	if err != nil {
		m.outcome = outcome.Of(err)
		return m
	}
	m.mapper = mapper
	err = h.route(ctx, m, sent)
	switch {
	case errors.Is(err, certificate.ErrUnresolved):
		m.outcome = outcome.Of(err)
	case err != nil:
		m.outcome = outcome.Outcome{Verdict: outcome.Refused, Reason: err.Error()}
	}
	return m
}

// shape has the fields that distinguish the kinds of messages.
type shape struct {
	// An envelope of Amazon SNS; absent with raw message delivery.
	Type     string `json:"Type"`
	TopicARN string `json:"TopicArn"`
	Message  string `json:"Message"`
	// An envelope of a rule or its error action, a transition, or a composite finding.
	Source, RuleName string
	// An alarm notification of Detect.
	ViolationID, ViolationEventType string
	// A notification of an audit.
	TaskID       string
	AuditDetails json.RawMessage
}

func (h *Handler) route(ctx context.Context, m *message, sent time.Time) error {
	body := []byte(m.Body)
	origin := mapping.Origin{Sent: sent}
	var s shape
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("message is not a JSON object that defenderhub knows: %w", err)
	}
	if s.Type != "" && s.TopicARN != "" {
		if s.Type != "Notification" {
			return fmt.Errorf("message of Amazon SNS is a %s, want a Notification", s.Type)
		}
		origin.Account, origin.Region = place(s.TopicARN)
		body = []byte(s.Message)
		s = shape{}
		if err := json.Unmarshal(body, &s); err != nil {
			return fmt.Errorf("notification does not carry a JSON object: %w", err)
		}
	}
	switch {
	case s.Source == defender.BehaviorTransitions.String():
		m.source = s.Source
		return m.add(m.mapper.Transition(body, origin))
	case s.Source == defender.CorrelatedFindings.String():
		m.source = s.Source
		return m.add(m.mapper.Composite(body, origin))
	case s.Source != "" || s.RuleName != "":
		source, envelope, err := iotrule.Decode(body)
		if err != nil {
			return err
		}
		m.source = source.String()
		if source == defender.DeviceEvents {
			if envelope.Thing, err = h.thing(ctx, m, envelope, sent); err != nil {
				return err
			}
		}
		return m.add(m.mapper.Rule(source, envelope, origin.Sent))
	case s.ViolationID != "" || s.ViolationEventType != "":
		m.source = defender.DetectNotifications.String()
		return m.add(m.mapper.Detect(body, origin))
	case s.TaskID != "" || len(s.AuditDetails) > 0:
		m.source = defender.AuditNotifications.String()
		task, err := m.mapper.AuditTask(body, origin)
		if err != nil {
			return err
		}
		m.task = &task
		return nil
	}
	return fmt.Errorf("message is neither of a rule or the evaluator of defenderhub nor a notification of Device Defender")
}

// thing returns the thing whose additional connection the sender of a device event is. Without
// permission to look it up, a certificate proves none.
func (h *Handler) thing(ctx context.Context, m *message, e iotrule.Envelope, sent time.Time) (string, error) {
	thing, err := h.Things.Join(ctx, e.ClientID, e.Principal, sent)
	if err == nil || certificate.CanRetry(err) {
		return thing, err
	}
	h.Log.Warn("certificate of a further connection was not looked up", "message", m.MessageId, "device", e.ClientID, "again", false, "reason", err.Error())
	return "", nil
}

func (m *message) add(s signal.Signal, err error) error {
	if err == nil {
		m.signals = append(m.signals, s)
	}
	return err
}

// place returns account and Region of an ARN, "" if it has none.
func place(arn string) (account, region string) {
	parts := strings.Split(arn, ":")
	if len(parts) < 6 {
		return "", ""
	}
	return parts[4], parts[3]
}
