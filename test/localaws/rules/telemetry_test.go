package rules

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// telemetryRules deploys the rules that the behaviors need and returns their names, which are their
// IDs with _ for -.
func telemetryRules(t *testing.T, e *Engine, reportTopic string, behaviors ...defender.Behavior) []string {
	t.Helper()
	compiled, err := engine.Compile("P", behaviors)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range engine.Rules(compiled, reportTopic) {
		sql, err := json.Marshal(r.SQL)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ReplaceAll(r.ID, "-", "_")
		p := payload(t, `{"sql": `+string(sql)+`, "awsIotSqlVersion": "`+iotrule.SQLVersion+`", "actions": [{"kinesis": {"roleArn": "r", "streamName": "`+name+`", "partitionKey": "`+r.PartitionKey+`"}}]}`)
		if err := e.Put(name, p); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func TestConformingMessagesCostTheEvaluationOfOneRule(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	const rule = "oversize"
	if names := telemetryRules(t, e, "", defender.DemoBehaviors()...); !slices.Contains(names, rule) { // less than 8 bytes
		t.Fatalf("rules %v, none is %s", names, rule)
	}
	publish := func(topic, body string) {
		m := message(topic, body)
		m.TraceID, m.NewUUID = "trace", func() string { return "random" }
		e.Publish(t.Context(), m)
	}
	for _, body := range []string{"", "1", "12", "1234567", `{"a":1}`, "\x00\x01", "12345678", "\x00123456789", `{"a": 1}`} {
		publish("data/x", body)
	}
	// The rule must not match the topics of AWS, or Basic Ingest for another rule.
	for _, topic := range []string{"$aws/events/presence/connected/device-1", "$aws/things/device-1/shadow/update", "$aws/rules/other/data/x"} {
		publish(topic, "123456789")
	}
	https := message("data/x", "123456789")
	https.ClientID, https.TraceID, https.NewUUID = "", "", func() string { return "random" }
	e.Publish(t.Context(), https)
	e.Settle()
	if got, want := e.Counters(rule), (Counters{Triggered: 10, Matched: 4, Delivered: 4}); got != want {
		t.Errorf("counters %+v, want %+v", got, want)
	}
	var sizes []int64
	r.deliveries = slices.DeleteFunc(r.deliveries, func(d Delivery) bool { return d.Rule != rule })
	for _, d := range r.deliveries {
		telemetry, err := iotrule.DecodeTelemetry(d.Body, "reports")
		if err != nil {
			t.Fatal(err)
		}
		if telemetry.Kind != iotrule.Oversize || telemetry.ID != "trace" && telemetry.ID != "random" || telemetry.Time != 1_700_000_000_000 {
			t.Errorf("telemetry %+v, want an oversize message with its ID and time", telemetry)
		}
		sizes = append(sizes, telemetry.Bytes)
	}
	if len(sizes) != 4 || sizes[0] != 8 || sizes[1] != 10 || sizes[2] != 8 || sizes[3] != 9 {
		t.Errorf("sizes %v, want those of the long messages", sizes)
	}
	if last := r.deliveries[3]; last.Fields["partitionKey"] != iotrule.NotMQTT || !strings.Contains(string(last.Body), `"id":"random"`) || strings.Contains(string(last.Body), "traceId") {
		t.Errorf("the delivery of a message over HTTPS is %+v, want the partition key %s and a random ID", last, iotrule.NotMQTT)
	}
}

func TestBasicIngestReportsNeedNoFrom(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	names := telemetryRules(t, e, "", defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(22)})
	if len(names) != 1 || names[0] != "reports" {
		t.Fatalf("rules %v, want that of reports", names)
	}
	for _, m := range [][2]string{{"$aws/rules/reports", "no JSON"}, {"$aws/rules/reports/device-1/x", "{}"}, {"reports", "{}"}} {
		published := message(m[0], m[1])
		published.TraceID, published.NewUUID = "trace", func() string { return "random" }
		e.Publish(t.Context(), published)
	}
	e.Settle()
	if got, want := e.Counters("reports"), (Counters{Triggered: 2, Matched: 2, Delivered: 2}); got != want {
		t.Fatalf("counters %+v, want %+v", got, want)
	}
	for i, want := range []struct{ topic, payload string }{{"", "no JSON"}, {"device-1/x", "{}"}} {
		got, err := iotrule.DecodeTelemetry(r.deliveries[i].Body, "reports")
		if err != nil {
			t.Fatal(err)
		}
		if got.Kind != iotrule.DeviceReport || got.Topic != want.topic || string(got.Payload) != want.payload || got.ClientID != "device-1" {
			t.Errorf("telemetry %+v, want %+v", got, want)
		}
	}
}

// The trace ID stays the same if the rules engine sends the message again, so it wins.
func TestPayloadsThatAreNotJSONKeepTheirID(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	names := telemetryRules(t, e, "reports/+",
		defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(22)},
		defender.Behavior{Name: "sent", Criteria: defender.MessagesSent.LessThan(5, defender.Window5m)})
	if !slices.Contains(names, "message") || !slices.Contains(names, "reports") {
		t.Fatalf("rules %v, want those of messages and of reports", names)
	}
	const cbor = "\xa1\x63hed\xa2\x63rid\x01\x61v\x631.0"
	for _, body := range []string{cbor, "", "80", "no JSON"} {
		for _, trace := range []string{"trace", ""} {
			m := message("reports/device-1", body)
			m.TraceID, m.NewUUID = trace, func() string { return "random" }
			e.Publish(t.Context(), m)
		}
	}
	e.Settle()
	for _, rule := range []string{"message", "reports"} {
		var got []string
		for _, d := range r.deliveries {
			if d.Rule != rule {
				continue
			}
			telemetry, err := iotrule.DecodeTelemetry(d.Body, "reports")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, telemetry.ID)
		}
		if want := []string{"trace", "random", "trace", "random", "trace", "random", "trace", "random"}; !slices.Equal(got, want) {
			t.Errorf("rule %s: IDs %v, want %v", rule, got, want)
		}
	}
}

func TestLifecycleEventsArePartitionedByClientID(t *testing.T) {
	r := &recorder{}
	e := New(r.deliver, quiet())
	names := telemetryRules(t, e, "", defender.Behavior{Name: "attempts", Criteria: defender.ConnectionAttempts.LessThan(5, defender.Window5m)})
	event := message("$aws/events/presence/connected/device-1", `{"clientId":"device-1","eventType":"connected"}`)
	event.ClientID, event.Principal, event.SourceIP = "", "", ""
	e.Publish(t.Context(), event)
	e.Settle()
	if len(names) != 1 || len(r.deliveries) != 1 || r.deliveries[0].Fields["partitionKey"] != "device-1" {
		t.Fatalf("the rules %v delivered %+v, want one delivery with the partition key device-1", names, r.deliveries)
	}
	if got, err := iotrule.DecodeTelemetry(r.deliveries[0].Body, "reports"); err != nil || got.Kind != iotrule.LifecycleEvent || string(got.Payload) != string(event.Payload) || got.Forged("device-1") {
		t.Errorf("telemetry %+v, error %v, want the event, not forged", got, err)
	}
	forged := event
	forged.Topic, forged.ClientID = "$aws/rules/"+names[0]+"/"+event.Topic, "attacker"
	e.Publish(t.Context(), forged)
	e.Settle()
	if len(r.deliveries) != 2 {
		t.Fatalf("delivered %+v, want two", r.deliveries)
	}
	if got, err := iotrule.DecodeTelemetry(r.deliveries[1].Body, "reports"); err != nil || got.Topic != event.Topic || !got.Forged("device-1") {
		t.Errorf("telemetry of a forged event %+v, error %v, want it recognized as forged", got, err)
	}
}
