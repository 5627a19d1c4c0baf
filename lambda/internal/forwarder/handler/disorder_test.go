package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
)

type sqsSend = sqs.SendMessageInput

// TestOrderAndDuplicatesDoNotChangeTheState splits the same events into batches in two ways,
// with duplicates and Security Hub faults, and compares the final states.
func TestOrderAndDuplicatesDoNotChangeTheState(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		type deviceEvent struct {
			client  string
			minute  int
			payload string
		}
		drawn := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) deviceEvent {
			return deviceEvent{
				rapid.SampledFrom([]string{"pump-1", "pump-2"}).Draw(t, "client"),
				rapid.IntRange(-9, 0).Draw(t, "minute"),
				rapid.SampledFrom([]string{tamper, cleared}).Draw(t, "payload"),
			}
		}), 1, 8).Draw(t, "events")
		run := func(label string) map[string]string {
			r := newRig(outer)
			var queue []events.SQSMessage
			for _, e := range drawn {
				queue = append(queue, r.device(e.client, start.Add(time.Duration(e.minute)*time.Minute), e.payload))
			}
			queue = append(queue, rapid.SliceOfN(rapid.SampledFrom(queue), 0, 4).Draw(t, label+" duplicates")...)
			queue = rapid.Permutation(queue).Draw(t, label+" order")
			faults := rapid.IntRange(0, 5).Draw(t, label+" faults")
			for len(queue) > 0 {
				n := rapid.IntRange(1, min(4, len(queue))).Draw(t, label+" batch")
				batch := slices.Clone(queue[:n])
				queue = queue[n:]
				remove := func() {}
				if faults > 0 {
					faults--
					remove = r.service.Inject(rapid.SampledFrom(faultsOfSecurityHub).Draw(t, label+" fault"))
				}
				again := r.handle(context.Background(), batch...)
				remove()
				for _, m := range batch {
					if slices.Contains(again, m.MessageId) {
						queue = append(queue, m)
					}
				}
			}
			if len(r.sqs.dead) > 0 {
				t.Fatalf("%s: %d dead letters, want none", label, len(r.sqs.dead))
			}
			return r.states()
		}
		a, b := run("first"), run("second")
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Fatalf("states %v and %v differ", a, b)
		}
	})
}

// A clearing event need not repeat the severity.
func TestClearedEventKeepsTheSeverityOfTheFinding(t *testing.T) {
	const severe, clear, low = `{"type":"tamper","severity":"HIGH"}`, `{"type":"tamper","state":"cleared"}`, `{"type":"tamper","state":"cleared","severity":"LOW"}`
	for name, c := range map[string]struct {
		payloads []string // a minute apart
		want     string
	}{
		"without severity":     {[]string{severe, clear, clear}, "HIGH"},
		"with severity":        {[]string{severe, low, low}, "LOW"},
		"severity never given": {[]string{tamper, clear, clear}, "MEDIUM"},
	} {
		for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			for _, size := range []int{1, 2, 3} {
				r := newRig(t)
				var batch []events.SQSMessage
				for _, i := range order {
					batch = append(batch, r.device("pump-1", start.Add(time.Duration(i-9)*time.Minute), c.payloads[i]))
				}
				for b := range slices.Chunk(batch, size) {
					r.must(b...)
				}
				f := r.hub.Findings()[0]
				if f.RecordState != "ARCHIVED" || f.Severity.Label != c.want || f.FindingProviderFields.Severity.Label != c.want {
					t.Errorf("%s, order %v, batches of %d: %s with severity %s, want ARCHIVED with %s", name, order, size, f.RecordState, f.Severity.Label, c.want)
				}
			}
		}
	}
	for want, payloads := range map[string][]string{"MEDIUM": {severe, tamper, clear}, "LOW": {severe, low, clear}} {
		r := newRig(t)
		for i, p := range payloads {
			r.must(r.device("pump-1", start.Add(time.Duration(i-9)*time.Minute), p))
		}
		if got := r.hub.Findings()[0].Severity.Label; got != want {
			t.Errorf("%v: severity %s, want %s of the last event that gives one", payloads, got, want)
		}
	}
}

// faultsOfSecurityHub are faults that end by themselves, or that the test removes after a batch.
var faultsOfSecurityHub = []securityhubtest.Fault{
	{Times: 2, Answer: securityhubtest.Throttled()},
	{Times: 1, Answer: securityhubtest.Unavailable()},
	{Times: 1, LoseAnswer: true},
	{Times: 1, LoseRequest: true},
	{Answer: &securityhubtest.Error{Code: "AccessDeniedException", Status: 403, Message: "no"}},
	{Answer: &securityhubtest.Error{Code: "InvalidAccessException", Status: 401, Message: "off"}},
	{Times: 3, FailFinding: func(id string) *securityhubtest.FindingError {
		if strings.Contains(id, "pump-1") {
			return &securityhubtest.FindingError{ID: id, Code: "InternalFailure", Message: "oops"}
		}
		return nil
	}},
}

func FuzzMessage(f *testing.F) {
	r := newRig(f)
	for _, name := range []string{"sns-envelope-in-sqs", "rule-error-action", "sns-detect", "sns-audit-canceled"} {
		f.Add(sample(f, name))
	}
	f.Add(r.device("pump-1", start, tamper).Body)
	f.Fuzz(func(t *testing.T, body string) {
		r := newRig(t)
		r.iot.list = func(*iot.ListAuditFindingsInput) (*iot.ListAuditFindingsOutput, error) {
			return &iot.ListAuditFindingsOutput{}, nil
		}
		if again := r.handle(context.Background(), r.message(body)); len(again) > 0 {
			t.Errorf("the message is retried forever: %s", &r.logs)
		}
	})
}

func FuzzHandle(f *testing.F) {
	r := newRig(f)
	event, err := json.Marshal(events.SQSEvent{Records: []events.SQSMessage{r.device("pump-1", start, tamper), r.message("no JSON")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(event)
	f.Add([]byte(contract.RefreshRequest("2026-09-15T03:00:00Z")))
	f.Fuzz(func(t *testing.T, event []byte) {
		r := newRig(t)
		r.iot.list = func(*iot.ListAuditFindingsInput) (*iot.ListAuditFindingsOutput, error) {
			return &iot.ListAuditFindingsOutput{}, nil
		}
		answer, err := r.handler.Handle(context.Background(), event)
		if _, ok := answer.(events.SQSEventResponse); !ok && answer != nil || ok && err != nil {
			t.Errorf("answer %v, error %v; want one of both", answer, err)
		}
	})
}
