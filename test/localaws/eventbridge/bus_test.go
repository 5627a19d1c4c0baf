package eventbridge

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// inboxes records deliveries by target. Deliveries to the broken target fail.
type inboxes struct {
	got    map[string][]string
	broken string
}

func (i *inboxes) Send(_ context.Context, _ Origin, arn string, body []byte) error {
	if arn == i.broken {
		return errors.New("access denied")
	}
	if i.got == nil {
		i.got = map[string][]string{}
	}
	i.got[arn] = append(i.got[arn], string(body))
	return nil
}

func TestFailedDeliveryGoesToTheDeadLetterQueueOfItsTarget(t *testing.T) {
	inbox := &inboxes{broken: "arn:aws:sns:us-east-1:1:people"}
	bus := &Bus{Send: inbox.Send, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Rules: func() []Rule {
		return []Rule{
			rule(t, "a", `{"EventPattern": {"source": ["aws.securityhub"]}, "Targets": [
				{"Id": "1", "Arn": "arn:aws:sns:us-east-1:1:people", "DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:1:dead"}},
				{"Id": "2", "Arn": "arn:aws:sqs:us-east-1:1:queue"}]}`),
			rule(t, "off", `{"State": "DISABLED", "EventPattern": {"source": ["aws.securityhub"]}, "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:1:off"}]}`),
			rule(t, "other", `{"EventPattern": {"source": ["aws.iot"]}, "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:us-east-1:1:other"}]}`),
		}
	}}
	if err := bus.Put(t.Context(), []byte(`{"source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported", "detail": {}}`)); err != nil {
		t.Fatal(err)
	}
	if len(inbox.got) != 2 || len(inbox.got["arn:aws:sqs:us-east-1:1:dead"]) != 1 || len(inbox.got["arn:aws:sqs:us-east-1:1:queue"]) != 1 {
		t.Errorf("delivered %v, want the dead-letter queue and the other target once each", inbox.got)
	}
}

func TestAnEventWithoutADeadLetterQueueThatWorksIsLost(t *testing.T) {
	const locked = "arn:aws:sqs:us-east-1:1:locked"
	inbox, lost := &inboxes{broken: locked}, []string{}
	bus := &Bus{Send: inbox.Send, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Lost: func(rule string) { lost = append(lost, rule) }, Rules: func() []Rule {
		return []Rule{rule(t, "a", `{"EventPattern": {"source": ["aws.securityhub"]}, "Targets": [{"Id": "1", "Arn": "`+locked+`", "DeadLetterConfig": {"Arn": "`+locked+`"}}]}`)}
	}}
	if err := bus.Put(t.Context(), []byte(`{"source": "aws.securityhub", "detail-type": "x", "detail": {}}`)); err != nil || !slices.Equal(lost, []string{"a"}) {
		t.Errorf("lost events of the rules %q, error %v, want one of a", lost, err)
	}
}

func TestInputTransformer(t *testing.T) {
	event := `{"detail": {"findings": [{"Id": "a/b", "Title": "say \"hi\"", "Severity": {"Normalized": 40}}], "big": 9007199254740993}, "source": "s"}`
	for name, tc := range map[string]struct{ target, want string }{
		"whole event":    {`{}`, event},
		"constant":       {`{"Input": "{\"a\":1}"}`, `{"a":1}`},
		"quoted value":   {`{"InputTransformer": {"InputPathsMap": {"t": "$.detail.findings[0].Id"}, "InputTemplate": "\"It says <t>.\""}}`, `"It says a/b."`},
		"not escaped":    {`{"InputTransformer": {"InputPathsMap": {"t": "$.detail.findings[0].Title"}, "InputTemplate": "\"It says <t>.\""}}`, "error: characters that EventBridge does not escape"},
		"the event":      {`{"InputTransformer": {"InputTemplate": "{\"e\": <aws.events.event.json>}"}}`, "error: <aws.events.event.json> is not in the input paths"},
		"quoted object":  {`{"InputTransformer": {"InputPathsMap": {"t": "$.detail.findings[0].Severity"}, "InputTemplate": "\"It is <t>.\""}}`, "error: only texts between quotes"},
		"rule":           {`{"InputTransformer": {"InputTemplate": "\"<aws.events.rule-arn>\""}}`, "error: <aws.events.rule-arn> is not in the input paths, and the local AWS supports no reserved variables"},
		"number as is":   {`{"InputTransformer": {"InputPathsMap": {"n": "$.detail.big"}, "InputTemplate": "{\"n\": <n>}"}}`, `{"n": 9007199254740993}`},
		"value as JSON":  {`{"InputTransformer": {"InputPathsMap": {"t": "$.detail.findings[0].Id", "n": "$.detail.findings[0].Severity.Normalized"}, "InputTemplate": "{\"t\": <t>, \"n\": <n>}"}}`, `{"t": "a/b", "n": 40}`},
		"missing value":  {`{"InputTransformer": {"InputPathsMap": {"t": "$.detail.nothing[3]"}, "InputTemplate": "{\"t\": <t>, \"s\": \"<t>\"}"}}`, `{"t": null, "s": ""}`},
		"quoted, quoted": {`{"InputTransformer": {"InputPathsMap": {"i": "$.detail.findings[0].Id"}, "InputTemplate": "{\"a\": \"<i>\", \"b\": \"<i>\", \"c\": <i>}"}}`, `{"a": "a/b", "b": "a/b", "c": "a/b"}`},
	} {
		t.Run(name, func(t *testing.T) {
			var target Target
			if err := json.Unmarshal([]byte(tc.target), &target); err != nil {
				t.Fatal(err)
			}
			got, err := target.Body([]byte(event))
			if want, fails := strings.CutPrefix(tc.want, "error: "); fails {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("body %s, error %v; want %s", got, err, tc.want)
				}
				return
			}
			if err != nil || string(got) != tc.want {
				t.Errorf("body %s, error %v; want %s", got, err, tc.want)
			}
		})
	}
}

func TestSecurityHubEventHasTheDocumentedShape(t *testing.T) {
	sample, err := os.ReadFile("testdata/eventbridge-imported.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		ID, Account, Region string
		Time                time.Time
		Detail              struct{ Findings []json.RawMessage }
	}
	if err := json.Unmarshal(sample, &want); err != nil {
		t.Fatal(err)
	}
	got, err := SecurityHubEvent(want.ID, want.Account, want.Region, want.Time, want.Detail.Findings[0])
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := errors.Join(json.Unmarshal(sample, &a), json.Unmarshal(got, &b)); err != nil {
		t.Fatal(err)
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if string(x) != string(y) {
		t.Errorf("event %s\nwant  %s", y, x)
	}
}
