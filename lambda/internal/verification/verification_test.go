package verification_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
	"github.com/defenderhub/defenderhub/lambda/internal/verification"
)

// fakeIoT keeps the states that it receives, and fails for the violations of errs. It is also a
// Security Hub with the findings of shown.
type fakeIoT struct {
	states map[string]string
	errs   map[string]error
	// shown are the states of the findings of Detect's own integration whose ID is that of their
	// violation. The first of several is returned first.
	shown map[string][]string
	reads int
	// off is the error of GetFindings.
	off error
}

func (f *fakeIoT) GetFindings(_ context.Context, in *securityhub.GetFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	f.reads++
	out := &securityhub.GetFindingsOutput{}
	for _, filter := range in.Filters.Id {
		states := f.shown[*filter.Value]
		if len(states) == 0 {
			continue
		}
		out.Findings = append(out.Findings, hubtypes.AwsSecurityFinding{
			Id: filter.Value, ProductArn: aws.String(native), VerificationState: hubtypes.VerificationState(states[0]), ProductFields: map[string]string{"ViolationId": *filter.Value},
		})
		if len(states) > 1 {
			f.shown[*filter.Value] = states[1:]
		}
	}
	return out, f.off
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
	h := &verification.Handler{Clients: verification.Clients{IoT: f, SecurityHub: f}, Log: slog.New(slog.DiscardHandler)}
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

// An event that was retried is older than what Security Hub has by now.
func TestTheStateOfTheFindingIsCopied(t *testing.T) {
	f := &fakeIoT{shown: map[string][]string{"v": {"TRUE_POSITIVE"}, "w": {"UNKNOWN"}}}
	failed := handle(t, f, message("1", native, "v", "v", "FALSE_POSITIVE", 1), message("2", native, "w", "w", "FALSE_POSITIVE", 1))
	if want := map[string]string{"v": "TRUE_POSITIVE"}; !maps.Equal(f.states, want) || failed != nil || f.reads != 2 {
		t.Errorf("copied %v after %d reads, failed %v; want %v after 2 reads and no failure", f.states, f.reads, failed, want)
	}
}

// AWS does not document that GetFindings returns an update at once, so an event that says something
// else is retried once.
func TestAnEventIsRetriedOnceIfTheFindingDiffers(t *testing.T) {
	for receives, want := range map[string][]string{"1": {"1"}, "2": nil} {
		for _, shown := range []string{"TRUE_POSITIVE", "UNKNOWN"} {
			f := &fakeIoT{shown: map[string][]string{"v": {shown}}}
			m := message("1", native, "v", "v", "FALSE_POSITIVE", 1)
			m.Attributes = map[string]string{"ApproximateReceiveCount": receives}
			failed := handle(t, f, m)
			if copied := receives == "2" && shown != "UNKNOWN"; !slices.Equal(failed, want) || (f.states["v"] == shown) != copied || len(f.states) > 1 {
				t.Errorf("received %s times, finding %s: copied %v, failed %v; want failed %v", receives, shown, f.states, failed, want)
			}
		}
	}
}

// Another invocation may copy a newer state while this one copies an older state: the last one to
// write must have read the newest.
func TestStateThatChangesMeanwhileIsCopiedToo(t *testing.T) {
	f := &fakeIoT{shown: map[string][]string{"v": {"FALSE_POSITIVE", "TRUE_POSITIVE", "BENIGN_POSITIVE"}}}
	if failed := handle(t, f, message("1", native, "v", "v", "FALSE_POSITIVE", 1)); f.states["v"] != "BENIGN_POSITIVE" || failed != nil {
		t.Errorf("copied %v, failed %v; want BENIGN_POSITIVE and no failure", f.states, failed)
	}
	f.shown["v"] = []string{"FALSE_POSITIVE", "TRUE_POSITIVE", "FALSE_POSITIVE", "TRUE_POSITIVE", "FALSE_POSITIVE", "TRUE_POSITIVE"}
	if failed := handle(t, f, message("1", native, "v", "v", "FALSE_POSITIVE", 1)); !slices.Equal(failed, []string{"1"}) {
		t.Errorf("failed %v, want a retry of a state that changes all the time", failed)
	}
}

func TestWithoutSecurityHubNothingIsCopied(t *testing.T) {
	f := &fakeIoT{off: errors.New("throttled")}
	if failed := handle(t, f, message("1", native, "v", "v", "FALSE_POSITIVE", 1)); !slices.Equal(failed, []string{"1"}) || len(f.states) > 0 {
		t.Errorf("copied %v, failed %v; want nothing copied and message 1 failed", f.states, failed)
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

func TestLogLevelIsThatOfTheEnvironment(t *testing.T) {
	for level, want := range map[string]slog.Level{"": slog.LevelInfo, "ERROR": slog.LevelError} {
		h, err := verification.New(verification.Clients{}, host.Host{Environ: []string{contract.EnvLogLevel + "=" + level}, Log: io.Discard})
		if err != nil || h.Log.Enabled(t.Context(), want-1) || !h.Log.Enabled(t.Context(), want) {
			t.Errorf("level %q: error %v, want %s", level, err, want)
		}
	}
	if _, err := verification.New(verification.Clients{}, host.Host{Environ: []string{contract.EnvLogLevel + "=LOUD"}}); err == nil {
		t.Error("the level LOUD is accepted")
	}
}
