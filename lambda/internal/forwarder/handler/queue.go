package handler

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/aws/aws-lambda-go/events"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
	"github.com/defenderhub/defenderhub/lambda/internal/sqstext"
)

// deadLetter sends a message to the dead-letter queue, with the reason.
func (h *Handler) deadLetter(ctx context.Context, m *message) error {
	attributes := map[string]types.MessageAttributeValue{}
	for name, value := range map[string]string{
		"Reason":    m.outcome.Reason,
		"Source":    m.source,
		"MessageId": m.MessageId,
		"Queue":     m.EventSourceARN,
	} {
		if value = legible(value); value != "" {
			attributes[name] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
		}
	}
	_, err := h.SQS.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl: &h.DeadLetterQueueURL, MessageBody: &m.Body, MessageAttributes: attributes,
	})
	return err
}

// DeadLetterFinding sends a finding to the dead-letter queue that Security Hub refused after its
// message was finished.
func (h *Handler) DeadLetterFinding(ctx context.Context, e ledger.Entry, reason string) error {
	body := "{}"
	if e.Finding != nil {
		body = sqstext.Accepted.Replace(string(e.Finding.AppendJSON(nil)))
	}
	m := &message{SQSMessage: events.SQSMessage{MessageId: e.ID, Body: body}, source: e.Source.String(), outcome: outcome.Outcome{Verdict: outcome.Refused, Reason: reason}}
	if err := h.deadLetter(ctx, m); err != nil {
		return fmt.Errorf("send the finding to the dead-letter queue: %w", err)
	}
	h.Metrics.Count(m.source, contract.MetricRefused, 1)
	h.Log.Warn("finding can never be imported and was sent to the dead-letter queue", "findingId", e.ID, "source", m.source, "reason", legible(reason))
	return nil
}

// legible returns text that is valid in an attribute of Amazon SQS and safe in a log line, since
// a device may have written it: at most 1,024 printable characters.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func legible(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?")))
	if runes := []rune(s); len(runes) > 1024 {
		s = string(runes[:1024])
	}
	return s
}

// returnIn makes an unfinished message visible again after a time. If that fails, the queue's own
// visibility timeout applies.
func (h *Handler) returnIn(ctx context.Context, m *message, wait time.Duration) {
	url, err := h.queueURL(ctx, m.EventSourceARN)
	if err == nil {
		_, err = h.SQS.ChangeMessageVisibility(ctx, &sqs.ChangeMessageVisibilityInput{
			QueueUrl: &url, ReceiptHandle: &m.ReceiptHandle, VisibilityTimeout: int32(wait / time.Second),
		})
	}
	if err != nil {
		h.Log.Warn("visibility timeout of a message was not changed: it is received again after the queue's own", "messageId", m.MessageId, "reason", err.Error())
	}
}

// queueURL looks each queue up once.
func (h *Handler) queueURL(ctx context.Context, arn string) (string, error) {
	if url, ok := h.queueURLs.Load(arn); ok {
		return url.(string), nil
	}
	parts := strings.Split(arn, ":")
	if len(parts) != 6 {
		return "", fmt.Errorf("%q is not the ARN of a queue", arn)
	}
	out, err := h.SQS.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &parts[5], QueueOwnerAWSAccountId: &parts[4]})
	if err != nil {
		return "", err
	}
	url := aws.ToString(out.QueueUrl)
	h.queueURLs.Store(arn, url)
	return url, nil
}
