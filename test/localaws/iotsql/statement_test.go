package iotsql

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestDeviceEventsArriveWithTheirSender(t *testing.T) {
	m := exampleMessage(`{"type":"tamper","n":1.0}`)
	m.Topic = "defenderhub/events/door-7"
	s := mustParse(t, `SELECT 'device-event' AS source, topic() AS topic, clientid() AS clientId, principal() AS principal, `+
		`timestamp() AS time, encode(*, 'base64') AS payload FROM 'defenderhub/events/+'`)
	if !s.Matches("hub", m.Topic) || s.Matches("hub", "defenderhub/events/a/b") || s.Matches("hub", "other/events/a") {
		t.Error("FROM does not match exactly the topics of events")
	}
	want := func(payload string) string {
		return `{"source":"device-event","topic":"defenderhub/events/door-7","clientId":"device-1",` +
			`"principal":"ba67293af50bf2506f5f93469686da660c7c844e7b3950bfb16813e0d31e9373","time":1481825251155,` +
			`"payload":"` + base64.StdEncoding.EncodeToString([]byte(payload)) + `"}`
	}
	for _, payload := range []string{`{"type":"tamper","n":1.0}`, "not json \x00\xff", "", "80"} {
		m.Payload = []byte(payload)
		got, matched, err := s.Eval(m)
		if err != nil || !matched || string(got) != sorted(want(payload)) {
			t.Errorf("payload %q\ngot  %s, %t, %v\nwant %s", payload, got, matched, err, want(payload))
		}
	}
}

func TestSecurityDisconnectsAreSelected(t *testing.T) {
	s := mustParse(t, `SELECT *, 'lifecycle' AS source, timestamp() AS time FROM '$aws/events/presence/disconnected/+' `+
		`WHERE disconnectReason = 'AUTH_ERROR' OR disconnectReason = 'FORBIDDEN_ACCESS' OR disconnectReason = 'DUPLICATE_CLIENTID'`)
	if !s.Matches("hub", "$aws/events/presence/disconnected/c1") || s.Matches("hub", "$aws/events/presence/connected/c1") {
		t.Error("FROM does not match exactly the disconnects")
	}
	for reason, want := range map[string]bool{
		"AUTH_ERROR": true, "FORBIDDEN_ACCESS": true, "DUPLICATE_CLIENTID": true,
		"CLIENT_INITIATED_DISCONNECT": false, "": false,
	} {
		m := exampleMessage(fmt.Sprintf(`{"clientId":"c1","disconnectReason":%q}`, reason))
		m.ClientID = ""
		out, matched, err := s.Eval(m)
		if err != nil || matched != want {
			t.Errorf("%s: matched %t, %v, want %t", reason, matched, err, want)
		}
		if matched && string(out) != fmt.Sprintf(`{"clientId":"c1","disconnectReason":%q,"source":"lifecycle","time":1481825251155}`, reason) {
			t.Errorf("%s: output %s, want the event with source and time", reason, out)
		}
	}
	if _, matched, _ := s.Eval(exampleMessage(`{"clientId":"c1"}`)); matched {
		t.Error("an event without a reason matches")
	}
}

func TestMessageSizeFromItsBase64(t *testing.T) {
	s := mustParse(t, `SELECT length(encode(*, 'base64')) / 4 * 3 - cast(endswith(encode(*, 'base64'), '=') AS Int) - `+
		`cast(endswith(encode(*, 'base64'), '==') AS Int) AS bytes FROM '#'`)
	for n := range 20 {
		m := Message{Payload: []byte(strings.Repeat("\xfe", n))}
		if got := evalStatement(t, s, m); got != fmt.Sprintf(`{"bytes":%d}`, n) {
			t.Errorf("%d bytes: got %s", n, got)
		}
	}
	plain := mustParse(t, `SELECT length(encode(*, 'base64')) / 4 * 3 - 2 AS bytes FROM '#' WHERE endswith(encode(*, 'base64'), '==')`)
	if got := evalStatement(t, plain, Message{Payload: []byte("abcd")}); got != `{"bytes":4}` {
		t.Errorf("4 bytes: got %s", got)
	}
}

func evalStatement(t *testing.T, s *Statement, m Message) string {
	t.Helper()
	out, matched, err := s.Eval(m)
	if err != nil || !matched {
		t.Fatalf("matched %t, error %v", matched, err)
	}
	return string(out)
}

func TestSelectedFields(t *testing.T) {
	for _, tt := range []struct{ sql, payload, want string }{
		// Undefined is omitted, Null is kept, keys are sorted.
		{`SELECT b, missing AS m, a, z FROM 'x'`, `{"a":1,"b":2,"z":null}`, `{"b":2,"a":1,"z":null}`},
		{`SELECT a.b.c, a.missing, a.b.c.d AS e FROM 'x'`, `{"a":{"b":{"c":7}}}`, `{"c":7}`},
		{`SELECT missing FROM 'x'`, `{}`, `{}`},
		{`SELECT VALUE missing FROM 'x'`, `{}`, ``},
		{`SELECT * FROM 'x'`, `{"z":10.0,"a":1.50,"m":1e2,"n":-0,"u":"<&>\u00e9"}`, `{"z":10,"a":1.5,"m":100,"n":0,"u":"<&>é"}`},
		{`SELECT *, 2 AS a, 3 AS c FROM 'x'`, `{"a":1,"b":1}`, `{"a":2,"b":1,"c":3}`},
		{`SELECT VALUE * FROM 'x'`, `{"a":[ 1 ]}`, `{"a":[1]}`},
		// Keywords are free in any case, and as keys after a dot and as aliases.
		{`SELECT a.end, a.select AS from, value AS value FROM 'x'`, `{"a":{"end":1,"select":2},"value":3}`, `{"end":1,"from":2,"value":3}`},
		{`SELECT value FROM 'x'`, `{"value":3}`, `{"value":3}`},
		{`SELECT value, value.a FROM 'x'`, `{"value":{"a":1}}`, `{"value":{"a":1},"a":1}`},
		// A hyphen subtracts.
		{`SELECT my-key AS k, 1 AS one FROM 'x'`, `{"my-key":"v"}`, `{"one":1}`},
		// Names are case-sensitive, functions and keywords are not.
		{`sElEcT Color AS a, cOLOR AS b, LENGTH(Color) AS u fRoM 'x' wHeRe nOt FALSE`, `{"Color":"r"}`, `{"a":"r","u":1}`},
	} {
		if got := evalStatement(t, mustParse(t, tt.sql), Message{Topic: "a/b", Payload: []byte(tt.payload)}); got != sorted(tt.want) {
			t.Errorf("%s\ngot  %s\nwant %s", tt.sql, got, tt.want)
		}
	}
}

func TestPayloadThatIsNotJSON(t *testing.T) {
	raw := "\x00\xffraw"
	for _, tt := range []struct{ sql, payload, want string }{
		{`SELECT * FROM 'x'`, raw, raw},
		{`SELECT VALUE * FROM 'x'`, raw, raw},
		{`SELECT * FROM 'x' WHERE timestamp() / 5 * 5 = timestamp()`, raw, raw},
		{`SELECT * FROM 'x'`, `80`, `80`},
		{`SELECT * FROM 'x'`, `"text"`, `"text"`},
		{`SELECT * FROM 'x'`, ``, ``},
		{`SELECT *, clientid() AS c FROM 'x'`, ``, `{"c":"device-1"}`},
		{`SELECT a, isUndefined(a) AS u FROM 'x'`, raw, `{"u":true}`},
		{`SELECT encode(*, 'base64') AS data, topic(3) AS thing FROM 'x'`, raw, `{"data":"AP9yYXc=","thing":"thingOne"}`},
	} {
		if got := evalOn(t, tt.sql, exampleMessage(tt.payload)); got != sorted(tt.want) {
			t.Errorf("%s on %q: %q, want %q", tt.sql, tt.payload, got, tt.want)
		}
	}
	for sql, payload := range map[string]string{
		`SELECT *, 1 AS one FROM 'x'`: raw, `SELECT clientid() AS c, * FROM 'x'`: `80`,
	} {
		if out, _, err := mustParse(t, sql).Eval(exampleMessage(payload)); err == nil {
			t.Errorf("%s on %q: %s, want an error", sql, payload, out)
		}
	}
	if _, matched, _ := mustParse(t, `SELECT * FROM 'x' WHERE device_type = 'thermostat'`).Eval(exampleMessage(raw)); matched {
		t.Error("WHERE found a key in a payload that is not JSON")
	}
}

func TestMessagePropertiesThatAreMissing(t *testing.T) {
	got := evalOn(t, `SELECT clientid() AS c, principal() AS p, sourceip() AS s, traceid() AS t FROM 'x'`, Message{})
	if got != `{"c":"n/a"}` {
		t.Errorf("%s, want only the client id", got)
	}
}

func TestTimestampIsTheRulesEnginesClock(t *testing.T) {
	m := Message{Time: time.Date(2026, 9, 1, 12, 0, 0, 123456789, time.UTC)}
	if got := evalOn(t, `SELECT VALUE timestamp() FROM 'x'`, m); got != "1788264000123" {
		t.Errorf("got %s, want the time in ms", got)
	}
}
