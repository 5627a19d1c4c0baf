package verification_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/lambda/internal/verification"
)

// fakeIoT keeps the states that it receives, and fails for the violations of errs.
type fakeIoT struct {
	states map[string]string
	errs   map[string]error
}

func (f *fakeIoT) PutVerificationStateOnViolation(_ context.Context, in *iot.PutVerificationStateOnViolationInput, _ ...func(*iot.Options)) (*iot.PutVerificationStateOnViolationOutput, error) {
	if err := f.errs[*in.ViolationId]; err != nil {
		return nil, err
	}
	f.states[*in.ViolationId] = string(in.VerificationState)
	return &iot.PutVerificationStateOnViolationOutput{}, nil
}

const (
	native = "arn:aws:securityhub:us-east-1::product/aws/iot-device-defender-detect"
	ours   = "arn:aws:securityhub:us-east-1:123456789012:product/123456789012/default"
)

// message returns an event of Security Hub about a finding, at a minute after ten.
func message(id, product, findingID, violation, state string, minute int) events.SQSMessage {
	at := fmt.Sprintf("2026-12-01T10:%02d:00Z", minute)
	finding := map[string]any{
		"ProductArn": product, "Id": findingID, "AwsAccountId": "123456789012", "Region": "us-east-1", "UpdatedAt": "2026-12-01T09:00:00Z", "ProcessedAt": at,
		"VerificationState": state, "ProductFields": map[string]string{"ViolationId": violation},
	}
	body, _ := json.Marshal(map[string]any{
		"source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported", "account": "123456789012", "region": "us-east-1", "time": at,
		"detail": map[string]any{"findings": []any{finding}},
	})
	return events.SQSMessage{MessageId: id, Body: string(body)}
}

func handle(t *testing.T, f *fakeIoT, messages ...events.SQSMessage) (failed []string) {
	t.Helper()
	f.states = map[string]string{}
	h := &verification.Handler{IoT: f, Log: slog.New(slog.DiscardHandler)}
	out, err := h.Handle(context.Background(), events.SQSEvent{Records: messages})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range out.BatchItemFailures {
		failed = append(failed, r.ItemIdentifier)
	}
	return failed
}

func TestStatesOfAlarmsAreCopied(t *testing.T) {
	f := &fakeIoT{}
	failed := handle(t, f,
		message("1", native, "v1", "v1", "FALSE_POSITIVE", 1),
		message("2", ours, "defenderhub/detect/us-east-1/p/b/pump-7", "v2", "BENIGN_POSITIVE", 1),
		message("3", native, "v3", "v3", "TRUE_POSITIVE", 1),
		message("4", native, "v4", "v4", "UNKNOWN", 1),
		message("5", native, "v5", "", "FALSE_POSITIVE", 1),
		message("6", ours, "defenderhub/behavior/us-east-1/p/b/pump-7", "v6", "FALSE_POSITIVE", 1),
		message("7", "arn:aws:securityhub:us-east-1::product/aws/guardduty", "v7", "v7", "FALSE_POSITIVE", 1),
		message("8", native, "v8", "v8", "UNHEARD_OF", 1))
	if want := map[string]string{"v1": "FALSE_POSITIVE", "v2": "BENIGN_POSITIVE", "v3": "TRUE_POSITIVE"}; !maps.Equal(f.states, want) || failed != nil {
		t.Errorf("copied %v, failed %v; want %v and no failure", f.states, failed, want)
	}
}

// The order in a batch does not matter: the later state wins.
func TestTheLatestStateOfABatchWins(t *testing.T) {
	first, last := message("1", native, "v", "v", "TRUE_POSITIVE", 1), message("2", native, "v", "v", "FALSE_POSITIVE", 2)
	for _, batch := range [][]events.SQSMessage{{first, last}, {last, first}, {last, first, last}} {
		f := &fakeIoT{}
		if handle(t, f, batch...); f.states["v"] != "FALSE_POSITIVE" {
			t.Errorf("copied %v, want FALSE_POSITIVE", f.states)
		}
	}
}

func TestPermanentFailuresAreNotRetried(t *testing.T) {
	f := &fakeIoT{errs: map[string]error{"gone": &types.InvalidRequestException{}, "busy": &types.ThrottlingException{}, "down": errors.New("no route")}}
	failed := handle(t, f,
		message("1", native, "gone", "gone", "FALSE_POSITIVE", 1), message("2", native, "busy", "busy", "FALSE_POSITIVE", 1),
		message("3", native, "down", "down", "FALSE_POSITIVE", 1), message("4", native, "down", "down", "TRUE_POSITIVE", 2),
		message("5", native, "fine", "fine", "FALSE_POSITIVE", 1), events.SQSMessage{MessageId: "6", Body: "no JSON"})
	slices.Sort(failed)
	if want := []string{"2", "3", "4", "6"}; !slices.Equal(failed, want) || f.states["fine"] == "" {
		t.Errorf("failed %v, want %v; copied %v", failed, want, f.states)
	}
}
