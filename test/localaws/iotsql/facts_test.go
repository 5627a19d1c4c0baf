package iotsql

import (
	"encoding/base64"
	"strings"
	"testing"
)

// TestRulesSeeTheWholeMessage checks documented properties of messages other than exampleMessage.
func TestRulesSeeTheWholeMessage(t *testing.T) {
	event := exampleMessage(`{"clientId":"c"}`)
	event.Topic, event.ClientID = "$aws/events/presence/connected/C", ""
	report := exampleMessage("\xa1\x63hdr")
	report.Topic = "$aws/things/T/defender/metrics/cbor"
	v6 := exampleMessage(`{}`)
	v6.SourceIP = "2001:db8::7"
	ingest := exampleMessage(`{}`)
	ingest.Topic = "$aws/rules/r/data/x"
	for _, tt := range []struct {
		sql  string
		m    Message
		want string
	}{
		{`SELECT topic(5) AS c, clientId, clientid() AS sender FROM '$aws/events/presence/connected/+'`, event, `{"c":"C","clientId":"c","sender":"n/a"}`},
		{`SELECT topic(3) AS thing, encode(*, 'base64') AS payload, timestamp() AS ts FROM '$aws/things/+/defender/metrics/cbor'`, report,
			`{"thing":"T","payload":"` + base64.StdEncoding.EncodeToString(report.Payload) + `","ts":1481825251155}`},
		{`SELECT sourceip() AS ip FROM 'things/#'`, v6, `{"ip":"2001:db8::7"}`},
		{`SELECT sourceip() AS ip, clientid() AS c, topic(1) AS t`, ingest, `{"ip":"203.0.113.7","c":"device-1","t":"data"}`},
	} {
		if got := evalOn(t, tt.sql, tt.m); got != sorted(tt.want) {
			t.Errorf("%s\ngot  %s\nwant %s", tt.sql, got, tt.want)
		}
	}
}

func TestBase64HasFourCharactersForEachThreeBytes(t *testing.T) {
	s := mustParse(t, `SELECT VALUE length(encode(*, 'base64')) FROM 'x'`)
	for n, want := range []string{"0", "4", "4", "4", "8"} {
		for _, unit := range []string{"\xff", " "} {
			if got := evalStatement(t, s, Message{Payload: []byte(strings.Repeat(unit, n))}); got != want {
				t.Errorf("%d bytes have %s characters, want %s", n, got, want)
			}
		}
	}
	// The payload is encoded unchanged, also if it is JSON.
	if got := evalOn(t, `SELECT VALUE encode(*, 'base64') FROM 'x'`, Message{Payload: []byte("{ \"a\":\t1.0 }")}); got != `"eyAiYSI6CTEuMCB9"` {
		t.Errorf("the encoded JSON is %s, want that of the unchanged payload", got)
	}
}

func TestWhereDoesNotSeeAliases(t *testing.T) {
	s := mustParse(t, `SELECT a AS b FROM 'x' WHERE b = 1`)
	for payload, want := range map[string]bool{`{"a":1}`: false, `{"a":2,"b":1}`: true} {
		if _, matched, err := s.Eval(Message{Payload: []byte(payload)}); err != nil || matched != want {
			t.Errorf("%s: matched %t, error %v; want %t", payload, matched, err, want)
		}
	}
}
