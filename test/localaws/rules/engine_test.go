package rules

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/test/localaws/iotsql"
)

// recorder records deliveries. Those to a target in fail return its error.
type recorder struct {
	deliveries []Delivery
	fail       map[string]error
}

func (r *recorder) deliver(_ context.Context, d Delivery) error {
	if err := r.fail[d.Target()]; err != nil {
		return err
	}
	r.deliveries = append(r.deliveries, d)
	return nil
}

func payload(t *testing.T, text string) types.TopicRulePayload {
	t.Helper()
	var p types.TopicRulePayload
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func message(topic, body string) iotsql.Message {
	return iotsql.Message{
		Topic: topic, ClientID: "device-1", Principal: "c0ffee", SourceIP: "192.0.2.7", AccountID: "123456789012",
		Time: time.UnixMilli(1_700_000_000_000), Payload: []byte(body),
	}
}

// quiet returns a logger that discards everything.
func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

const ingest = "https://sqs.us-east-1.amazonaws.com/123456789012/ingest"
const errorQueue = "https://sqs.us-east-1.amazonaws.com/123456789012/errors"

// deviceEvents returns the product's own rule in the spelling of CloudFormation.
func deviceEvents(t *testing.T) types.TopicRulePayload {
	sql, err := json.Marshal(iotrule.SQL(defender.DeviceEvents, iotrule.DefaultEventTopic))
	if err != nil {
		t.Fatal(err)
	}
	return payload(t, `{"Sql": `+string(sql)+`, "AwsIotSqlVersion": "2016-03-23",
		"Actions": [{"Sqs": {"RoleArn": "arn:aws:iam::123456789012:role/r", "QueueUrl": "`+ingest+`", "UseBase64": false}}],
		"ErrorAction": {"Sqs": {"RoleArn": "arn:aws:iam::123456789012:role/r", "QueueUrl": "`+errorQueue+`"}}}`)
}

func TestRuleDeliversWhatTheForwarderReads(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	if err := e.Put("events", deviceEvents(t)); err != nil {
		t.Fatal(err)
	}
	e.Publish(t.Context(), message("defenderhub/events/device-1", "not JSON \x00"))
	e.Publish(t.Context(), message("elsewhere/device-1", "{}"))
	e.Settle()
	if len(r.deliveries) != 1 || r.deliveries[0].Target() != ingest {
		t.Fatalf("deliveries %+v, want one to the ingest queue", r.deliveries)
	}
	source, envelope, err := iotrule.Decode(r.deliveries[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	if source != defender.DeviceEvents || envelope.ClientID != "device-1" || envelope.Principal != "c0ffee" || string(envelope.Payload) != "not JSON \x00" || envelope.Time != 1_700_000_000_000 {
		t.Errorf("envelope %+v of %s, want the published message", envelope, source)
	}
}

func TestDisabledRuleIsNotTriggered(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	for i, disabled := range []bool{true, false, true} {
		p := deviceEvents(t)
		p.RuleDisabled = &disabled
		if err := e.Put("events", p); err != nil {
			t.Fatal(err)
		}
		e.Publish(t.Context(), message("defenderhub/events/device-1", "{}"))
		e.Publish(t.Context(), message("$aws/rules/events/defenderhub/events/device-1", "{}"))
		e.Settle()
		if want := []int{0, 2, 2}[i]; len(r.deliveries) != want || e.Counters("events").Triggered != want {
			t.Errorf("disabled %v: %d deliveries, triggered %d times, want %d", disabled, len(r.deliveries), e.Counters("events").Triggered, want)
		}
	}
}

func TestFailedActionRunsErrorActionWithOriginalPayload(t *testing.T) {
	r := &recorder{fail: map[string]error{ingest: errors.New("access denied")}}
	e := New(r.deliver, quiet())
	if err := e.Put("events", deviceEvents(t)); err != nil {
		t.Fatal(err)
	}
	e.Publish(t.Context(), message("defenderhub/events/device-1", `{"type":"tamper"}`))
	e.Settle()
	if len(r.deliveries) != 1 || r.deliveries[0].Target() != errorQueue {
		t.Fatalf("deliveries %+v, want one to the error queue", r.deliveries)
	}
	source, envelope, err := iotrule.Decode(r.deliveries[0].Body)
	if err != nil || source != defender.DeviceEvents || envelope.ClientID != "device-1" || envelope.Principal != "" || string(envelope.Payload) != `{"type":"tamper"}` || !strings.Contains(envelope.RuleError, "access denied") {
		t.Errorf("source %s, envelope %+v, error %v, want the original payload and the rule's error", source, envelope, err)
	}
	if got, want := e.Counters("events"), (Counters{Triggered: 1, Matched: 1, Delivered: 1, Failed: 1}); got != want {
		t.Errorf("counters %+v, want %+v", got, want)
	}
}

func TestFalseWhereTriggersButDeliversNothing(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	p := payload(t, `{"sql": "SELECT * FROM 'a/#' WHERE size > 8 OR missing = 1", "awsIotSqlVersion": "2016-03-23",
		"actions": [{"sqs": {"roleArn": "r", "queueUrl": "q"}}]}`)
	if err := e.Put("big", p); err != nil {
		t.Fatal(err)
	}
	e.Publish(t.Context(), message("a/b", `{"size": 9}`)) // Undefined OR true is Undefined
	e.Publish(t.Context(), message("a/b", `{"size": 9, "missing": 0}`))
	e.Settle()
	if got, want := e.Counters("big"), (Counters{Triggered: 2, Matched: 1, Delivered: 1}); got != want {
		t.Errorf("counters %+v, want %+v", got, want)
	}
}

func TestFailedSQLRunsNoActionAndNoErrorAction(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	p := payload(t, `{"sql": "SELECT *, clientid() AS thing FROM 'a'", "awsIotSqlVersion": "2016-03-23",
		"actions": [{"sqs": {"roleArn": "r", "queueUrl": "q"}}], "errorAction": {"sqs": {"roleArn": "r", "queueUrl": "errors"}}}`)
	if err := e.Put("failing", p); err != nil {
		t.Fatal(err)
	}
	e.Publish(t.Context(), message("a", "not JSON"))
	e.Settle()
	if got, want := e.Counters("failing"), (Counters{Triggered: 1, SQLFailed: 1}); got != want || len(r.deliveries) != 0 {
		t.Errorf("counters %+v, deliveries %+v; want %+v and none", got, r.deliveries, want)
	}
}

func TestQueueBodyIsTheOutputOrItsBase64(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	p := payload(t, `{"sql": "SELECT * FROM 'a'", "awsIotSqlVersion": "2016-03-23", "actions": [
		{"sqs": {"roleArn": "r", "queueUrl": "plain"}}, {"sqs": {"roleArn": "r", "queueUrl": "encoded", "useBase64": true}}, {"Sqs": {"RoleArn": "r", "QueueUrl": "stack", "UseBase64": true}}]}`)
	if err := e.Put("raw", p); err != nil {
		t.Fatal(err)
	}
	e.Publish(t.Context(), message("a", "\x00\xff"))
	e.Settle()
	got := map[string]string{}
	for _, d := range r.deliveries {
		got[d.Target()] = string(d.Body)
	}
	if len(got) != 3 || got["plain"] != "\x00\xff" || got["encoded"] != "AP8=" || got["stack"] != "AP8=" {
		t.Errorf("bodies %q, want the output in plain, and its base64 in encoded and stack", got)
	}
}

func TestUnknownRuleOfBasicIngestIsLogged(t *testing.T) {
	var log strings.Builder
	e := New((&recorder{}).deliver, slog.New(slog.NewTextHandler(&log, nil)))
	e.Publish(t.Context(), message("$aws/rules/nobody/x", "{}"))
	e.Settle()
	if !strings.Contains(log.String(), "RuleNotFound") || !strings.Contains(log.String(), "nobody") {
		t.Errorf("logged %s, want RuleNotFound and the rule's name", log.String())
	}
}

func TestTemplatesSeeThePayloadNotTheAliases(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	p := payload(t, `{"sql": "SELECT 'x' AS room FROM 'a'", "awsIotSqlVersion": "2016-03-23",
		"actions": [{"kinesis": {"roleArn": "r", "streamName": "s", "partitionKey": "${clientid()}/${room}"}}]}`)
	if err := e.Put("k", p); err != nil {
		t.Fatal(err)
	}
	e.Publish(t.Context(), message("a", `{"room": "attic"}`))
	e.Settle()
	if got := r.deliveries[0].Fields["partitionKey"]; got != "device-1/attic" {
		t.Errorf("partition key %q, want device-1/attic", got)
	}
}

func TestUnsupportedRulesAreRefused(t *testing.T) {
	const sqs = `[{"sqs": {"roleArn": "r", "queueUrl": "q"}}]`
	for name, tc := range map[string]struct{ rule, payload, want string }{
		"old SQL version":     {"a", `{"sql": "SELECT * FROM 'a'", "actions": ` + sqs + `}`, "2015-10-08"},
		"unknown function":    {"a", `{"sql": "SELECT frobnicate(x) AS y FROM 'a'", "awsIotSqlVersion": "2016-03-23", "actions": ` + sqs + `}`, "frobnicate"},
		"stream without key":  {"a", `{"sql": "SELECT * FROM 'a'", "awsIotSqlVersion": "2016-03-23", "actions": [{"kinesis": {"roleArn": "r", "streamName": "s"}}]}`, "partitionKey"},
		"unknown action":      {"a", `{"sql": "SELECT * FROM 'a'", "awsIotSqlVersion": "2016-03-23", "actions": [{"timestream": {}}]}`, "timestream"},
		"unknown field":       {"a", `{"sql": "SELECT * FROM 'a'", "awsIotSqlVersion": "2016-03-23", "actions": [{"republish": {"roleArn": "r", "topic": "t", "headers": {"contentType": "x"}}}]}`, "headers"},
		"missing field":       {"a", `{"sql": "SELECT * FROM 'a'", "awsIotSqlVersion": "2016-03-23", "actions": [{"sqs": {"roleArn": "r"}}]}`, "queueUrl"},
		"bad template":        {"a", `{"sql": "SELECT * FROM 'a'", "awsIotSqlVersion": "2016-03-23", "actions": [{"republish": {"roleArn": "r", "topic": "x/${nope(}"}}]}`, "topic"},
		"faulty error action": {"a", `{"sql": "SELECT * FROM 'a'", "awsIotSqlVersion": "2016-03-23", "actions": ` + sqs + `, "errorAction": {"s3": {}}}`, "error action"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Check(tc.rule, payload(t, tc.payload))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that names %q", err, tc.want)
			}
		})
	}
}

func TestBasicIngestStartsOnlyTheRuleItNames(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	for _, name := range []string{"one", "two"} {
		p := payload(t, `{"sql": "SELECT topic() AS t FROM 'things/+/report'", "awsIotSqlVersion": "2016-03-23", "actions": [{"sqs": {"roleArn": "r", "queueUrl": "`+name+`"}}]}`)
		if err := e.Put(name, p); err != nil {
			t.Fatal(err)
		}
	}
	e.Publish(t.Context(), message("$aws/rules/two/things/x/report", `{}`))
	e.Settle()
	if len(r.deliveries) != 1 || r.deliveries[0].Rule != "two" || string(r.deliveries[0].Body) != `{"t":"things/x/report"}` {
		t.Errorf("deliveries %+v, want one of rule two, with the topic after the prefix", r.deliveries)
	}
}
