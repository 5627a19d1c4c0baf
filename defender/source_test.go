package defender_test

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
)

func ExampleSource_SQL() {
	for _, s := range defender.RuleSources() {
		fmt.Println(s.SQL(defender.DefaultEventTopic))
	}
	// Output:
	// SELECT 'rejected-report' AS source, topic() AS topic, timestamp() AS time, clientid() AS clientId, encode(*, 'base64') AS payload FROM '$aws/things/+/defender/metrics/+/rejected'
	// SELECT 'security-disconnect' AS source, topic() AS topic, timestamp() AS time, clientid() AS clientId, encode(*, 'base64') AS payload FROM '$aws/events/presence/disconnected/#' WHERE disconnectReason = 'AUTH_ERROR' OR disconnectReason = 'FORBIDDEN_ACCESS' OR disconnectReason = 'DUPLICATE_CLIENTID'
	// SELECT 'refused-connection' AS source, topic() AS topic, timestamp() AS time, clientid() AS clientId, encode(*, 'base64') AS payload FROM '$aws/events/presence/connect_failed/#'
	// SELECT 'device-event' AS source, topic() AS topic, timestamp() AS time, clientid() AS clientId, principal() AS principal, sourceip() AS sourceIp, encode(*, 'base64') AS payload FROM 'defenderhub/events/+'
}

func TestSourcesHaveOneNameEach(t *testing.T) {
	names := map[string]bool{}
	for _, s := range defender.Sources() {
		if got, err := defender.ParseSource(s.String()); got != s || err != nil || names[s.String()] {
			t.Errorf("%s: parsed as %v, %v", s, got, err)
		}
		names[s.String()] = true
	}
	for _, name := range []string{"", "Audit", "Source(0)", "lifecycle"} {
		if s, err := defender.ParseSource(name); err == nil || s.Known() {
			t.Errorf("%q: got %v, want an error", name, s)
		}
	}
	for _, s := range []defender.Source{-1, 0, defender.Source(len(defender.Sources()) + 1)} {
		if s.Known() || s.Info() != (defender.SourceInfo{}) {
			t.Errorf("%v has a row", s)
		}
	}
}

// TestDocumentedSources holds the table of docs/findings.md against that of the code.
func TestDocumentedSources(t *testing.T) {
	text, err := os.ReadFile("../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range defender.Sources() {
		row := s.Info()
		var cells []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "| `"+row.Name+"`") {
				cells = strings.Split(line, " | ")
				break
			}
		}
		if len(cells) != 5 {
			t.Errorf("%s: no row with five cells", s)
			continue
		}
		if s != defender.AuditNotifications && !strings.HasPrefix(cells[2], row.Severity.String()) {
			t.Errorf("%s: severity %q, the code says %s", s, cells[2], row.Severity)
		}
		if quiet := strings.HasPrefix(cells[4], "quiet time"); quiet == row.Clears {
			t.Errorf("%s: ends by %q, the code says that the source clears: %t", s, cells[4], row.Clears)
		}
	}
}

func ExampleParseSource() {
	_, err := defender.ParseSource("lifecycle")
	fmt.Println(err)
	// Output: source "lifecycle", want one of rejected-report, security-disconnect, refused-connection, device-event, audit, detect, behavior
}

func ExampleValidateSources() {
	fmt.Println(defender.Under("Forward", defender.ValidateSources([]defender.Source{defender.DeviceEvents, 0, defender.DeviceEvents})))
	// Output:
	// Forward[1]: "Source(0)", want one of the sources of package defender, such as defender.RejectedReports
	// Forward[2]: "device-event", want each source once
}

func TestSecurityDisconnectsAreAskedForByName(t *testing.T) {
	if err := defender.ValidateSources(defender.Sources()); err != nil {
		t.Error(err)
	}
	where := defender.SecurityDisconnects.Info().Where
	for _, reason := range defender.SecurityDisconnectReasons {
		if !strings.Contains(where, "disconnectReason = '"+reason+"'") {
			t.Errorf("%s is not in %s", reason, where)
		}
	}
	// A chain over a second field would be Undefined, and so not true, where that is missing.
	if n := strings.Count(where, " = "); n != strings.Count(where, "disconnectReason = ") || strings.Contains(where, "AND") {
		t.Errorf("more than one field in %s", where)
	}
}

func TestRuleSourcesHaveValidTopics(t *testing.T) {
	for _, s := range defender.RuleSources() {
		filter := s.Info().TopicFilter
		if filter == "" {
			filter = defender.DefaultEventTopic
		}
		if err := defender.ValidateTopicFilter(filter); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []defender.Source{defender.AuditNotifications, defender.DetectNotifications} {
		if slices.Contains(defender.RuleSources(), s) {
			t.Errorf("%s is brought in by a rule", s)
		}
	}
}

func TestEnvelopesOfTheRules(t *testing.T) {
	payload := base64.StdEncoding.EncodeToString([]byte(`{"type":"tamper"}`))
	source, e, err := defender.DecodeEnvelope([]byte(`{"source":"device-event","topic":"defenderhub/events/pump-7","time":1767225600000,` +
		`"clientId":"pump-7","principal":"0123abcd","sourceIp":"192.0.2.7","payload":"` + payload + `"}`))
	if err != nil || source != defender.DeviceEvents {
		t.Fatalf("got %v, %v", source, err)
	}
	if string(e.Payload) != `{"type":"tamper"}` || e.ClientID != "pump-7" || e.Principal != "0123abcd" || e.SourceIP != "192.0.2.7" || e.Time != 1767225600000 || e.RuleError != "" {
		t.Errorf("got %+v", e)
	}
	// encode(*) of a message without payload is Undefined, so that the field is missing.
	source, e, err = defender.DecodeEnvelope([]byte(`{"source":"rejected-report","topic":"$aws/things/t/defender/metrics/json/rejected","time":1}`))
	if err != nil || source != defender.RejectedReports || e.Payload != nil {
		t.Errorf("got %v, %+v, %v", source, e, err)
	}
}

func TestEnvelopesOfTheErrorAction(t *testing.T) {
	recorded, err := os.ReadFile("testdata/rule-error-action.json")
	if err != nil {
		t.Fatal(err)
	}
	source, e, err := defender.DecodeEnvelope(recorded)
	if err != nil || source != defender.DeviceEvents {
		t.Fatalf("got %v, %v", source, err)
	}
	if e.Topic != "testme/action" || e.ClientID != "iotconsole-1511213971966-0" || e.Time != 0 || e.Principal != "" || e.Source != "device-event" {
		t.Errorf("got %+v", e)
	}
	if want := "{\n \"message\": \"Hello vrom AWS IoT console\"\n}"; strings.Join(strings.Fields(string(e.Payload)), " ") != strings.Join(strings.Fields(want), " ") {
		t.Errorf("payload %q", e.Payload)
	}
	if want := "rule TestAction; SqsAction: text of the service"; e.RuleError != want {
		t.Errorf("got %q, want %q", e.RuleError, want)
	}
}

// After an error action the topic tells the source.
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
		source, e, err := defender.DecodeEnvelope(body)
		if err != nil || source != want || e.Source != want.String() {
			t.Errorf("%s: got %v, %v, want %v", topic, source, err, want)
		}
		if e.ClientID != "c" {
			t.Errorf("%s: client id %q", topic, e.ClientID)
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
		source, _, err := defender.DecodeEnvelope([]byte(body))
		if err == nil || source.Known() || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %q", body, source, err, want)
		}
	}
}

// What a rule selects is what DecodeEnvelope reads: the aliases are its fields.
func TestRulesWriteWhatEnvelopesRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source := rapid.SampledFrom(defender.RuleSources()).Draw(t, "source")
		want := defender.Envelope{
			Source: source.String(), Topic: rapid.StringN(1, 40, -1).Draw(t, "topic"), Time: rapid.Int64Range(1, 1<<50).Draw(t, "time"),
			Payload: rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "payload"), ClientID: "c",
		}
		values := map[string]any{
			"topic()": want.Topic, "timestamp()": want.Time, "encode(*, 'base64')": want.Payload, "'" + want.Source + "'": want.Source,
			"clientid()": "c", "principal()": "p", "sourceip()": "192.0.2.1",
		}
		if source.Info().FromDevice {
			want.Principal, want.SourceIP = "p", "192.0.2.1"
		}
		selected, _, _ := strings.Cut(strings.TrimPrefix(source.SQL("a/+"), "SELECT "), " FROM ")
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
		got, e, err := defender.DecodeEnvelope(body)
		if err != nil || got != source {
			t.Fatalf("%s: got %v, %v", body, got, err)
		}
		if fmt.Sprintf("%+v", e) != fmt.Sprintf("%+v", want) {
			t.Fatalf("%s: got %+v, want %+v", body, e, want)
		}
	})
}

func FuzzDecodeEnvelope(f *testing.F) {
	recorded, err := os.ReadFile("testdata/rule-error-action.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(recorded)
	f.Add([]byte(`{"source":"device-event","topic":"t","time":1,"clientId":"c","payload":"e30="}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		source, e, err := defender.DecodeEnvelope(body)
		if (err == nil) != source.Known() {
			t.Fatalf("%v with %v", source, err)
		}
		if err == nil && (!source.Info().Rule || e.Topic == "" || e.Source != source.String()) {
			t.Fatalf("got %v, %+v", source, e)
		}
	})
}

func TestExceptedDisconnectReasonsAreNotSelected(t *testing.T) {
	sql := defender.SecurityDisconnects.SQL("", "DUPLICATE_CLIENTID")
	if !strings.HasSuffix(sql, " WHERE disconnectReason = 'AUTH_ERROR' OR disconnectReason = 'FORBIDDEN_ACCESS'") {
		t.Error(sql)
	}
	if sql := defender.RefusedConnections.SQL("", "DUPLICATE_CLIENTID"); strings.Contains(sql, "WHERE") {
		t.Error(sql)
	}
}
