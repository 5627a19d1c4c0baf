package iotrule_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

func ExampleSQL() {
	for _, s := range iotrule.Sources() {
		fmt.Println(iotrule.SQL(s, iotrule.DefaultEventTopic))
	}
	// Output:
	// SELECT 'rejected-report' AS source, topic() AS topic, timestamp() AS time, clientid() AS clientId, encode(*, 'base64') AS payload FROM '$aws/things/+/defender/metrics/+/rejected'
	// SELECT 'security-disconnect' AS source, topic() AS topic, timestamp() AS time, clientid() AS clientId, encode(*, 'base64') AS payload FROM '$aws/events/presence/disconnected/#' WHERE disconnectReason = 'AUTH_ERROR' OR disconnectReason = 'FORBIDDEN_ACCESS' OR disconnectReason = 'DUPLICATE_CLIENTID'
	// SELECT 'refused-connection' AS source, topic() AS topic, timestamp() AS time, clientid() AS clientId, encode(*, 'base64') AS payload FROM '$aws/events/presence/connect_failed/#'
	// SELECT 'device-event' AS source, topic() AS topic, timestamp() AS time, clientid() AS clientId, principal() AS principal, sourceip() AS sourceIp, encode(*, 'base64') AS payload FROM 'defenderhub/events/+'
}

func TestSecurityDisconnectsAreSelectedByReason(t *testing.T) {
	where := iotrule.Of(defender.SecurityDisconnects).Where
	for _, reason := range iotrule.SecurityDisconnectReasons {
		if !strings.Contains(where, "disconnectReason = '"+reason+"'") {
			t.Errorf("%s is not in %s", reason, where)
		}
	}
	// If a message lacks one field, IoT SQL evaluates the whole condition to Undefined.
	if n := strings.Count(where, " = "); n != strings.Count(where, "disconnectReason = ") || strings.Contains(where, "AND") {
		t.Errorf("the condition %s uses more than one field", where)
	}
}

func TestRuleSourcesHaveValidTopics(t *testing.T) {
	for _, s := range iotrule.Sources() {
		filter := iotrule.Of(s).TopicFilter
		if filter == "" {
			filter = iotrule.DefaultEventTopic
		}
		if err := iotrule.ValidateFilter(filter); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []defender.Source{defender.AuditNotifications, defender.DetectNotifications} {
		if slices.Contains(iotrule.Sources(), s) {
			t.Errorf("%s has a rule", s)
		}
	}
}

func TestDecodeReadsTheJSONOfARule(t *testing.T) {
	payload := base64.StdEncoding.EncodeToString([]byte(`{"type":"tamper"}`))
	source, e, err := iotrule.Decode([]byte(`{"source":"device-event","topic":"defenderhub/events/pump-7","time":1767225600000,` +
		`"clientId":"pump-7","principal":"0123abcd","sourceIp":"192.0.2.7","payload":"` + payload + `"}`))
	if err != nil || source != defender.DeviceEvents {
		t.Fatalf("got %v, error %v, want a device event", source, err)
	}
	if string(e.Payload) != `{"type":"tamper"}` || e.ClientID != "pump-7" || e.Principal != "0123abcd" || e.SourceIP != "192.0.2.7" || e.Time != 1767225600000 || e.RuleError != "" {
		t.Errorf("got %+v, want the fields of the JSON", e)
	}
	// encode(*) of a message without payload is Undefined, so the field is missing.
	source, e, err = iotrule.Decode([]byte(`{"source":"rejected-report","topic":"$aws/things/t/defender/metrics/json/rejected","time":1}`))
	if err != nil || source != defender.RejectedReports || e.Payload != nil {
		t.Errorf("without payload: got %v, %+v, error %v, want a rejected report", source, e, err)
	}
}

func TestDecodeReadsTheJSONOfAnErrorAction(t *testing.T) {
	recorded, err := os.ReadFile("testdata/rule-error-action.json")
	if err != nil {
		t.Fatal(err)
	}
	source, e, err := iotrule.Decode(recorded)
	if err != nil || source != defender.DeviceEvents {
		t.Fatalf("got %v, error %v, want a device event", source, err)
	}
	if e.Topic != "testme/action" || e.ClientID != "iotconsole-1511213971966-0" || e.Time != 0 || e.Principal != "" || e.Source != "device-event" {
		t.Errorf("got %+v, want the topic and the client ID of the recorded message alone", e)
	}
	if want := "{\n \"message\": \"Hello vrom AWS IoT console\"\n}"; strings.Join(strings.Fields(string(e.Payload)), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("payload %q, want %q", e.Payload, want)
	}
	if want := "rule TestAction; SqsAction: text of the service"; e.RuleError != want {
		t.Errorf("rule error %q, want %q", e.RuleError, want)
	}
}

// The topic of an error action's message identifies the source.
func TestErrorActionsKeepTheirSource(t *testing.T) {
	for topic, want := range map[string]defender.Source{
		"$aws/things/t/defender/metrics/json/rejected":  defender.RejectedReports,
		"$aws/things/t/defender/metrics/cbor/rejected":  defender.RejectedReports,
		"$aws/events/presence/disconnected/pump-7":      defender.SecurityDisconnects,
		"$aws/events/presence/connect_failed/pump-7":    defender.RefusedConnections,
		"defenderhub/events/pump-7":                     defender.DeviceEvents,
		"sites/hamburg/events":                          defender.DeviceEvents,
		"things/t/defender/metrics/json/rejected/$aws/": defender.DeviceEvents,
	} {
		body, _ := json.Marshal(map[string]any{"ruleName": "r", "topic": topic, "clientId": "c", "base64OriginalPayload": []byte("x")})
		source, e, err := iotrule.Decode(body)
		if err != nil || source != want || e.Source != want.String() {
			t.Errorf("%s: got %v, error %v, want %v", topic, source, err, want)
		}
		if e.ClientID != "c" {
			t.Errorf("%s: client ID %q, want c", topic, e.ClientID)
		}
	}
}

func TestMessagesThatNoRuleWrote(t *testing.T) {
	for body, want := range map[string]string{
		``:                               "is not the JSON of a rule",
		`[]`:                             "is not the JSON of a rule",
		`{}`:                             "names no topic",
		`{"source":"device-event"}`:      "names no topic",
		`{"topic":"t"}`:                  "names neither a source nor a rule",
		`{"source":"x","topic":"t"}`:     `source "x", want one of`,
		`{"source":"audit","topic":"t"}`: `source "audit" does not come from a rule`,
		`{"source":"device-event","topic":"t","payload":"!"}`:        "is not the JSON of a rule",
		`{"source":"device-event","topic":"t","time":"now"}`:         "is not the JSON of a rule",
		`{"ruleName":"r","topic":"t","base64OriginalPayload":"%%%"}`: "is not the JSON of an error action",
	} {
		source, _, err := iotrule.Decode([]byte(body))
		if err == nil || source.Known() || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, error %v, want one that says %q", body, source, err, want)
		}
	}
}

// Decode reads the fields that a rule selects.
func TestDecodeReadsTheFieldsOfTheSQL(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source := rapid.SampledFrom(iotrule.Sources()).Draw(t, "source")
		want := iotrule.Envelope{
			Source: source.String(), Topic: rapid.StringN(1, 40, -1).Draw(t, "topic"), Time: rapid.Int64Range(1, 1<<50).Draw(t, "time"),
			Payload: rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "payload"), ClientID: "c",
		}
		values := map[string]any{
			"topic()": want.Topic, "timestamp()": want.Time, "encode(*, 'base64')": want.Payload, "'" + want.Source + "'": want.Source,
			"clientid()": "c", "principal()": "p", "sourceip()": "192.0.2.1",
		}
		if iotrule.Of(source).FromDevice {
			want.Principal, want.SourceIP = "p", "192.0.2.1"
		}
		selected, _, _ := strings.Cut(strings.TrimPrefix(iotrule.SQL(source, "a/+"), "SELECT "), " FROM ")
		row := map[string]any{}
		for expression, value := range values {
			if _, rest, found := strings.Cut(selected, expression+" AS "); found {
				alias, _, _ := strings.Cut(rest, ",")
				row[alias] = value
			}
		}
		body, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		got, e, err := iotrule.Decode(body)
		if err != nil || got != source {
			t.Fatalf("%s: got %v, error %v, want %v", body, got, err, source)
		}
		if fmt.Sprintf("%+v", e) != fmt.Sprintf("%+v", want) {
			t.Fatalf("%s: got %+v, want %+v", body, e, want)
		}
	})
}

func FuzzDecode(f *testing.F) {
	recorded, err := os.ReadFile("testdata/rule-error-action.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(recorded)
	f.Add([]byte(`{"source":"device-event","topic":"t","time":1,"clientId":"c","payload":"e30="}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		source, e, err := iotrule.Decode(body)
		if (err == nil) != source.Known() {
			t.Fatalf("source %v with the error %v", source, err)
		}
		if err == nil && (!iotrule.Sends(source) || e.Topic == "" || e.Source != source.String()) {
			t.Fatalf("source %v, %+v: want a source of a rule, and a topic", source, e)
		}
	})
}

func TestExceptedDisconnectReasonsAreNotSelected(t *testing.T) {
	const want = " WHERE disconnectReason = 'AUTH_ERROR' OR disconnectReason = 'FORBIDDEN_ACCESS'"
	if sql := iotrule.SQL(defender.SecurityDisconnects, "", "DUPLICATE_CLIENTID"); !strings.HasSuffix(sql, want) {
		t.Errorf("got %s, want%s at the end", sql, want)
	}
	if sql := iotrule.SQL(defender.RefusedConnections, "", "DUPLICATE_CLIENTID"); strings.Contains(sql, "WHERE") {
		t.Errorf("got %s, want no condition for another source", sql)
	}
}
