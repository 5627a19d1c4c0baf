package iotrule_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// bytesOf evaluates [iotrule.PayloadBytes] as IoT SQL does, with integer division from left to right.
func bytesOf(payload []byte) int {
	encoded := base64.StdEncoding.EncodeToString(payload)
	n := len(encoded) / 4 * 3
	for _, suffix := range []string{"=", "=="} {
		if strings.HasSuffix(encoded, suffix) {
			n--
		}
	}
	return n
}

func TestPayloadSizeIsExact(t *testing.T) {
	for n := range 21 {
		if got := bytesOf(make([]byte, n)); got != n {
			t.Errorf("a payload of %d bytes: got %d", n, got)
		}
	}
	if n := 128 << 10; bytesOf(make([]byte, n)) != n {
		t.Errorf("a payload of %d bytes: got %d", n, bytesOf(make([]byte, n)))
	}
}

// ruleOutput returns the JSON that a rule writes.
func ruleOutput(t testing.TB, telemetry iotrule.Telemetry) []byte {
	t.Helper()
	text, err := json.Marshal(telemetry)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestDecodeTelemetryOfEachKind(t *testing.T) {
	for _, want := range []iotrule.Telemetry{
		{Kind: iotrule.LifecycleEvent, Topic: "$aws/events/presence/connected/a", Time: 5, ClientID: iotrule.NotMQTT, Payload: []byte(`{"clientId":"a"}`)},
		{Kind: iotrule.PublishedMessage, Topic: "t", Time: 5, ID: "i", ClientID: "a", Principal: "p", SourceIP: "10.0.0.1", Bytes: 26},
		{Kind: iotrule.Oversize, Topic: "t", Time: 5, ID: "i", ClientID: iotrule.NotMQTT, Principal: "p", SourceIP: "10.0.0.1", Bytes: 26},
		{Kind: iotrule.DeviceReport, Topic: "t", Time: 5, ID: "i", ClientID: "a", Payload: []byte{0xa1, 0x00}},
	} {
		got, err := iotrule.DecodeTelemetry(ruleOutput(t, want), "reports")
		if err != nil || string(ruleOutput(t, got)) != string(ruleOutput(t, want)) {
			t.Errorf("got %+v, error %v, want %+v", got, err, want)
		}
	}
}

func TestTraceIDWinsOverTheRandomID(t *testing.T) {
	for text, want := range map[string]string{
		`{"kind":"report","topic":"t","traceId":"trace","id":"random"}`:          "trace",
		`{"kind":"message","topic":"t","id":"random","bytes":5}`:                 "random",
		`{"ruleName":"r","topic":"t","cloudwatchTraceId":"e","traceId":"trace"}`: "e",
	} {
		if got, err := iotrule.DecodeTelemetry([]byte(text), "other"); err != nil || got.ID != want {
			t.Errorf("%s: ID %q, error %v, want %s", text, got.ID, err, want)
		}
	}
}

func TestDecodeTelemetryOfAnErrorAction(t *testing.T) {
	sample, err := os.ReadFile("testdata/rule-error-action.json")
	if err != nil {
		t.Fatal(err)
	}
	const trace, client = "7e146a2c-95b5-6caf-98b9-50e3969734c7", "iotconsole-1511213971966-0"
	payload := []byte("{\n  \"message\": \"Hello vrom AWS IoT console\"\n}")
	for _, c := range []struct {
		why, topic, reportsRule string
		want                    iotrule.Telemetry
	}{
		{"a message", "testme/action", "other", iotrule.Telemetry{Kind: iotrule.PublishedMessage, Topic: "testme/action", ID: trace, ClientID: client, Bytes: int64(len(payload))}},
		{"a report", "testme/action", "TestAction", iotrule.Telemetry{Kind: iotrule.DeviceReport, Topic: "testme/action", ID: trace, ClientID: client, Payload: payload}},
		{"an event", "$aws/events/presence/connected/a", "other", iotrule.Telemetry{Kind: iotrule.LifecycleEvent, Topic: "$aws/events/presence/connected/a", ID: trace, ClientID: client, Payload: payload}},
		{"an event of a client id with slashes", "$aws/events/presence/connect_failed/site/a", "other", iotrule.Telemetry{Kind: iotrule.LifecycleEvent, Topic: "$aws/events/presence/connect_failed/site/a", ID: trace, ClientID: client, Payload: payload}},
		{"a report on the topic of an event", "$aws/events/presence/connected/a", "TestAction", iotrule.Telemetry{Kind: iotrule.DeviceReport, Topic: "$aws/events/presence/connected/a", ID: trace, ClientID: client, Payload: payload}},
	} {
		got, err := iotrule.DecodeTelemetry([]byte(strings.Replace(string(sample), "testme/action", c.topic, 1)), c.reportsRule)
		if err != nil || string(ruleOutput(t, got)) != string(ruleOutput(t, c.want)) {
			t.Errorf("%s: got %+v, error %v, want %+v", c.why, got, err, c.want)
		}
	}
}

func TestInvalidTelemetryIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		``:                                 "JSON",
		`[]`:                               "JSON",
		`{}`:                               "neither its kind nor a rule",
		`{"kind":"gossip"}`:                `"gossip"`,
		`{"kind":"report","payload":"?"}`:  "base64",
		`{"kind":"message","bytes":-1}`:    "-1 bytes",
		`{"kind":"message","time":-5}`:     "time -5",
		`{"kind":"message","time":"soon"}`: "time",
	} {
		if _, err := iotrule.DecodeTelemetry([]byte(text), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that names %s", text, err, want)
		}
	}
}

func FuzzDecodeTelemetry(f *testing.F) {
	f.Add(ruleOutput(f, iotrule.Telemetry{Kind: iotrule.DeviceReport, Topic: "t", ID: "i", Payload: []byte("{}")}), "r")
	f.Add([]byte(`{"ruleName":"r","topic":"$aws/events/presence/connected/a","base64OriginalPayload":"e30="}`), "r")
	f.Add([]byte(`{"ruleName":"r","topic":"t","cloudwatchTraceId":"i","clientId":"c"}`), "")
	f.Fuzz(func(t *testing.T, body []byte, rule string) {
		got, err := iotrule.DecodeTelemetry(body, rule)
		if err != nil {
			return
		}
		if !slices.Contains([]iotrule.TelemetryKind{iotrule.LifecycleEvent, iotrule.PublishedMessage, iotrule.Oversize, iotrule.DeviceReport}, got.Kind) || got.Bytes < 0 || got.Time < 0 {
			t.Errorf("%+v has an unknown kind, or a negative number", got)
		}
		for _, d := range engine.MessageDatapoints(got) {
			if d.ID != got.ID || d.Time != got.Time {
				t.Errorf("the datapoint %+v of %+v has another ID or time", d, got)
			}
		}
	})
}
