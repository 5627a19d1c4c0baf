package handler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
)

const (
	tamper  = `{"type":"tamper"}`
	cleared = `{"type":"tamper","state":"cleared"}`
)

func TestEverySourceReachesSecurityHub(t *testing.T) {
	r := newRig(t)
	topic := "arn:aws:sns:us-east-1:123456789012:alerts"
	r.must(
		r.message(sample(t, "sns-envelope-in-sqs")),
		r.message(notification(topic, sample(t, "sns-detect-ports"))),
		r.message(sample(t, "sns-detect-cidrs")), // raw message delivery
		r.message(ruleBody(defender.RefusedConnections, "$aws/events/presence/connect_failed/186b5", sample(t, "lifecycle-connect-failed"), nil)),
		r.message(ruleBody(defender.SecurityDisconnects, "$aws/events/presence/disconnected/186b5", sample(t, "lifecycle-disconnected"), nil)),
		r.message(ruleBody(defender.RejectedReports, "$aws/things/myThing/defender/metrics/json/rejected", sample(t, "report-rejected"), nil)),
		r.message(notification(topic, sample(t, "sns-audit-failed-check"))),
		r.device("pump-7", start, tamper),
	)
	r.want(map[string]string{
		"detect/us-east-1/MySecProfile/MessagesPub/dev-IZWB":              "ACTIVE",
		"detect/us-east-1/MySecProfile/ListeningTcp/dev-IZWB":             "ACTIVE",
		"detect/us-east-1/MySecProfile/KnownNetworks/dev-IZWB":            "ACTIVE",
		"refused-connection/us-east-1/186b5/AUTHORIZATION_FAILED":         "ACTIVE",
		"security-disconnect/us-east-1/186b5/CLIENT_INITIATED_DISCONNECT": "ACTIVE",
		"rejected-report/us-east-1/myThing/InvalidPayload":                "ACTIVE",
		"audit/us-east-1/ON_DEMAND_AUDIT_TASK/LOGGING_DISABLED_CHECK":     "ACTIVE",
		"device-event/us-east-1/pump-7/tamper":                            "ACTIVE",
	})
	if received, imported := r.counted(contract.MetricReceived), r.counted(contract.MetricImported); received != 8 || imported != 8 {
		t.Errorf("received %d, imported %d; want 8 each", received, imported)
	}
}

func TestMessageOfAnErrorActionReachesSecurityHub(t *testing.T) {
	r := newRig(t)
	body, err := json.Marshal(map[string]any{"ruleName": "r", "topic": "defenderhub/events/pump-7", "clientId": "pump-7", "base64OriginalPayload": []byte(tamper), "failures": []any{}})
	if err != nil {
		t.Fatal(err)
	}
	r.must(r.message(string(body)))
	r.want(map[string]string{"device-event/us-east-1/pump-7/tamper": "ACTIVE"})
	if f := r.hub.Findings()[0]; !strings.Contains(f.Description, "Principal, source address and time are lost") || !f.UpdatedAt.Equal(start) {
		t.Errorf("description %q, updated %v; want the lost fields named, and the time of the message", f.Description, f.UpdatedAt)
	}
}

func TestClearedEventArchivesItsFinding(t *testing.T) {
	r := newRig(t)
	r.must(r.device("pump-7", start.Add(-2*time.Minute), tamper))
	r.must(r.device("pump-7", start.Add(-time.Minute), cleared))
	r.want(map[string]string{"device-event/us-east-1/pump-7/tamper": "ARCHIVED"})
	if n := r.counted(contract.MetricArchived); n != 1 {
		t.Errorf("%d archived, want one", n)
	}
}

// A program over HTTPS is its role: each of its runs may have a session of its own.
func TestAnotherSessionOfARoleClearsItsEvent(t *testing.T) {
	r := newRig(t)
	for i, event := range []string{tamper, cleared} {
		at := start.Add(time.Duration(i-2) * time.Minute)
		r.must(r.message(ruleBody(defender.DeviceEvents, "defenderhub/events/pump-7", event,
			map[string]any{"clientId": "n/a", "principal": fmt.Sprint("AROAEXAMPLE:session-", i), "time": at.UnixMilli()})))
	}
	r.want(map[string]string{"device-event/us-east-1/principal/AROAEXAMPLE/tamper": "ARCHIVED"})
}

func TestOnlyInvalidMessagesBecomeDeadLetters(t *testing.T) {
	r := newRig(t)
	bad := r.device("pump-7", start, `{"type":"NO SUCH TYPE\n{\"level\":\"forged\"}"}`)
	r.must(bad, r.device("pump-8", start, tamper), r.message("no JSON"), r.message(`{"some":"thing"}`),
		r.message(`{"Type":"SubscriptionConfirmation","TopicArn":"arn:aws:sns:us-east-1:123456789012:t","Message":"confirm"}`))
	r.want(map[string]string{"device-event/us-east-1/pump-8/tamper": "ACTIVE"})
	if len(r.sqs.dead) != 4 {
		t.Fatalf("%d dead letters, want 4", len(r.sqs.dead))
	}
	i := slices.IndexFunc(r.sqs.dead, func(d *sqsSend) bool { return *d.MessageBody == bad.Body })
	if i < 0 {
		t.Fatal("no dead letter has the body of the message")
	}
	a := r.sqs.dead[i].MessageAttributes
	if *a["MessageId"].StringValue != bad.MessageId || *a["Source"].StringValue != "device-event" || *a["Queue"].StringValue != queueARN || !strings.Contains(*a["Reason"].StringValue, "type") {
		t.Errorf("attributes %v", a)
	}
	if n := r.counted(contract.MetricRefused); n != 4 {
		t.Errorf("%d refused, want 4", n)
	}
	for line := range bytes.Lines(r.logs.Bytes()) {
		var entry struct{ Level, Reason string }
		if err := json.Unmarshal(line, &entry); err != nil || entry.Level == "forged" {
			t.Errorf("a message forged the log line %s", line)
		}
	}
}

// AWS IoT's time in an event is precise to 2 minutes only.
func TestRefusedConnectionsAreOrderedByTheRulesEngine(t *testing.T) {
	r := newRig(t)
	r.now = start.Add(time.Minute)
	for i, address := range []string{"192.0.2.1", "192.0.2.2"} {
		seen := start.Add(time.Duration(i) * time.Second).UnixMilli()
		payload := fmt.Sprintf(`{"clientId":"c","timestamp":%d,"connectFailureReason":"AUTHORIZATION_FAILED","sessionIdentifier":"s%d","principalIdentifier":"p","ipAddress":%q}`,
			start.UnixMilli()-int64(i)*60_000, i, address)
		r.must(r.message(ruleBody(defender.RefusedConnections, "$aws/events/presence/connect_failed/c", payload, map[string]any{"time": seen})))
		all := r.hub.Findings()
		if len(all) != 1 || all[0].ProductFields["SourceIp"] != address {
			t.Fatalf("findings %+v, want one with the address %s", all, address)
		}
	}
}

// A client that forges AWS IoT's events through Basic Ingest can write anything instead of times
// and numbers.
func TestReasonsInTheLogAreShort(t *testing.T) {
	r := newRig(t)
	digits := strings.Repeat("1", 100_000)
	for _, value := range []string{digits, `"` + strings.Repeat("x", 100_000) + `"`} {
		for _, field := range []string{"timestamp", "versionNumber", "clientId"} {
			r.must(r.message(ruleBody(defender.RefusedConnections, "$aws/events/presence/connect_failed/c", `{"`+field+`":`+value+`}`, nil)))
		}
	}
	if len(r.sqs.dead) != 5 { // one of the six has a valid client ID
		t.Errorf("%d dead letters, want 5", len(r.sqs.dead))
	}
	for line := range bytes.Lines(r.logs.Bytes()) {
		if len(line) > 3000 {
			t.Errorf("a log line of %d bytes, want at most 3000: %.200s", len(line), line)
		}
	}
}

func TestUnsentDeadLetterIsRetried(t *testing.T) {
	r := newRig(t)
	r.sqs.broken = true
	bad := r.message("no JSON")
	if again := r.handle(context.Background(), bad); !slices.Equal(again, []string{bad.MessageId}) {
		t.Errorf("messages %v are retried", again)
	}
}

func TestSlowQueueDoesNotCostTheWholeBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sqs.takes = time.Second
		var batch []events.SQSMessage
		for range 1000 {
			batch = append(batch, r.message("no JSON"))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		again := r.handle(ctx, batch...)
		if ctx.Err() != nil {
			t.Error("the function ran into its deadline")
		}
		if sent := len(r.sqs.dead); sent == 0 || sent+len(again) != 1000 {
			t.Errorf("%d dead letters and %d retried, want some and 1000 in all", sent, len(again))
		}
	})
}

func TestFailedFindingIsTracedToItsMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.service.Inject(securityhubtest.Fault{FailFinding: func(id string) *securityhubtest.FindingError {
			if strings.Contains(id, "pump-2") {
				return &securityhubtest.FindingError{ID: id, Code: "InternalFailure", Message: "oops"}
			}
			return nil
		}})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r.service.Inject(securityhubtest.Fault{Before: func(securityhubtest.Call) { time.Sleep(time.Second) }})
		again := r.handle(ctx, r.device("pump-1", start, tamper), r.device("pump-2", start, tamper), r.device("pump-3", start, tamper))
		if !slices.Equal(again, []string{"m2"}) {
			t.Errorf("messages %v are retried", again)
		}
		sent := map[string]int{}
		for _, c := range r.service.Calls("BatchImportFindings") {
			for _, id := range c.Findings {
				sent[id]++
			}
		}
		if sent["defenderhub/device-event/us-east-1/pump-1/tamper"] != 1 || sent["defenderhub/device-event/us-east-1/pump-3/tamper"] != 1 {
			t.Errorf("imports by finding: %v, want one each for pump-1 and pump-3", sent)
		}
		if ctx.Err() != nil {
			t.Error("the function ran into its deadline")
		}
		if n := r.counted(contract.MetricFailed); n != 1 {
			t.Errorf("%d failed, want one", n)
		}
	})
}

func TestEveryContributingMessageGetsTheOutcome(t *testing.T) {
	r := newRig(t)
	r.service.Inject(securityhubtest.Fault{Times: 1, Answer: &securityhubtest.Error{Code: "AccessDeniedException", Status: 403, Message: "no"}})
	batch := []events.SQSMessage{
		r.device("pump-1", start.Add(-3*time.Minute), tamper), r.device("pump-1", start.Add(-time.Minute), cleared), r.device("pump-1", start.Add(-2*time.Minute), tamper),
	}
	if again := r.handle(context.Background(), batch...); !slices.Equal(again, []string{"m1", "m2", "m3"}) {
		t.Errorf("messages %v are retried", again)
	}
	r.must(batch...)
	r.want(map[string]string{"device-event/us-east-1/pump-1/tamper": "ARCHIVED"})
	if calls := r.service.Calls(""); len(calls) != 2 || len(calls[1].Findings) != 1 {
		t.Errorf("%d calls, want two, the second with one finding", len(calls))
	}
	if f := r.hub.Findings()[0]; !f.CreatedAt.Equal(start.Add(-3 * time.Minute)) {
		t.Errorf("created %v, want the time of the first event", f.CreatedAt)
	}
}

func TestRetriesGetRarerWhileSecurityHubIsOff(t *testing.T) {
	r := newRig(t)
	if err := r.hub.Disable(); err != nil {
		t.Fatal(err)
	}
	m := r.device("pump-1", start, tamper)
	for count, want := range map[string]int32{"1": 60, "2": 120, "3": 240, "7": 3600, "300": 3600, "": 60} {
		m.Attributes["ApproximateReceiveCount"] = count
		if again := r.handle(context.Background(), m); !slices.Equal(again, []string{m.MessageId}) {
			t.Fatalf("messages %v are retried", again)
		}
		if got := r.sqs.visible[m.ReceiptHandle]; got != want {
			t.Errorf("receive count %s: retried in %d s, want %d", count, got, want)
		}
	}
	if len(r.sqs.dead) > 0 || r.sqs.asked != 1 {
		t.Errorf("%d dead letters, %d calls of GetQueueUrl; want none and one", len(r.sqs.dead), r.sqs.asked)
	}
	if n := r.counted(contract.MetricHubOff); n != 6 || r.counted(contract.MetricFailed) != 0 {
		t.Errorf("HubOff counted %d times, want 6; Failed %d times, want none", n, r.counted(contract.MetricFailed))
	}
	if !strings.Contains(r.logs.String(), "aws securityhub enable-security-hub") {
		t.Errorf("the log does not name the command that enables Security Hub: %s", &r.logs)
	}
	if err := r.hub.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	r.must(m)
	r.want(map[string]string{"device-event/us-east-1/pump-1/tamper": "ACTIVE"})
}

// At the thousandth receive, the queue moves a message to the dead-letter queue without a reason.
func TestLongFailureStaysBelowTheMaximumReceiveCount(t *testing.T) {
	r := newRig(t)
	r.service.Inject(securityhubtest.Fault{Answer: &securityhubtest.Error{Code: "AccessDeniedException", Status: 403, Message: "no"}})
	m := r.device("pump-1", start, tamper)
	receives := 0
	for waited := time.Duration(0); waited < 14*24*time.Hour && receives < 1000; receives++ {
		m.Attributes["ApproximateReceiveCount"] = strconv.Itoa(receives + 1)
		if again := r.handle(context.Background(), m); !slices.Equal(again, []string{m.MessageId}) {
			t.Fatalf("messages %v are retried", again)
		}
		waited += time.Duration(r.sqs.visible[m.ReceiptHandle]) * time.Second
	}
	if receives > 500 {
		t.Errorf("received %d times in the queue's 14 days of retention, want at most 500", receives)
	}
}

func TestUnfinishedAuditIsRetriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.now = time.Now()
		pages := 0
		next := "2"
		r.iot.list = func(*iot.ListAuditFindingsInput) (*iot.ListAuditFindingsOutput, error) {
			if pages++; pages > 1 {
				time.Sleep(time.Minute)
				return nil, &smithy.GenericAPIError{Code: "ThrottlingException", Message: "Rate exceeded"}
			}
			return &iot.ListAuditFindingsOutput{NextToken: &next}, nil
		}
		m := r.message(notification("arn:aws:sns:us-east-1:123456789012:audits", sample(t, "sns-audit")))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if again := r.handle(ctx, m); !slices.Equal(again, []string{m.MessageId}) {
			t.Fatalf("messages %v are retried", again)
		}
		if wait, ok := r.sqs.visible[m.ReceiptHandle]; !ok || wait != 0 {
			t.Errorf("visibility timeout %d (set: %v), want 0", wait, ok)
		}
		r.iot.list = func(*iot.ListAuditFindingsInput) (*iot.ListAuditFindingsOutput, error) {
			return &iot.ListAuditFindingsOutput{Findings: []types.AuditFinding{}}, nil
		}
		r.must(m)
	})
}

func TestAuditOfAnotherAccountIsRefused(t *testing.T) {
	r := newRig(t)
	r.must(r.message(notification("arn:aws:sns:us-east-1:210987654321:audits", strings.Replace(sample(t, "sns-audit"), account, "210987654321", 1))))
	if len(r.sqs.dead) != 1 || !strings.Contains(*r.sqs.dead[0].MessageAttributes["Reason"].StringValue, "210987654321") {
		t.Errorf("%d dead letters, want one that names the other account", len(r.sqs.dead))
	}
}

func TestOtherEventsAreErrors(t *testing.T) {
	for _, event := range []string{`[]`, `{}`, `"x"`, `{"Records":[{"body":1}]}`, `{"defenderhub":"other"}`, `{"defenderhub":"refresh","at":"yesterday"}`} {
		if answer, err := newRig(t).handler.Handle(context.Background(), json.RawMessage(event)); err == nil {
			t.Errorf("event %s: answer %v, want an error", event, answer)
		}
	}
}

func TestEmptyBatchIsAnsweredWithAnEmptyList(t *testing.T) {
	answer, err := newRig(t).handler.Handle(context.Background(), json.RawMessage(`{"Records":[]}`))
	text, _ := json.Marshal(answer)
	if err != nil || string(text) != `{"batchItemFailures":[]}` {
		t.Errorf("answer %s, error %v", text, err)
	}
}

func TestFindingsBelongToTheAccountOfTheQueue(t *testing.T) {
	r := newRig(t)
	m := r.device("pump-1", start, tamper)
	m.EventSourceARN = ""
	ctx := lambdacontext.NewContext(context.Background(), &lambdacontext.LambdaContext{InvokedFunctionArn: "arn:aws:lambda:us-east-1:123456789012:function:forwarder"})
	if again := r.handle(ctx, m); len(again) > 0 {
		t.Errorf("messages %v are retried: %s", again, &r.logs)
	}
	m.MessageId = "no account"
	if again := r.handle(context.Background(), m); !slices.Equal(again, []string{"no account"}) {
		t.Errorf("messages %v are retried", again)
	}
}

func TestReasonsFitIntoMessageAttributes(t *testing.T) {
	r := newRig(t)
	m := r.device("pump-1", start, `{"type":"`+strings.Repeat("\u0001漢", 4000)+`"}`)
	m.MessageId = "a\u202eb" // reverses the text after it when printed
	r.must(m)
	if id := *r.sqs.dead[0].MessageAttributes["MessageId"].StringValue; id != "a b" {
		t.Errorf("message ID %q, want a b", id)
	}
	reason := *r.sqs.dead[0].MessageAttributes["Reason"].StringValue
	if n := len([]rune(reason)); n == 0 || n > 1024 || strings.ContainsAny(reason, "\x01\n") {
		t.Errorf("reason of %d characters, want 1 to 1024 printable ones: %q", n, reason)
	}
}
