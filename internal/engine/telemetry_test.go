package engine

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

const (
	selectMessage = "SELECT 'message' AS kind, topic() AS topic, timestamp() AS time, get_or_default(traceid(), newuuid()) AS id, clientid() AS clientId, principal() AS principal, sourceip() AS sourceIp, (SIZE) AS bytes FROM "
	selectReport  = "SELECT 'report' AS kind, topic() AS topic, timestamp() AS time, get_or_default(traceid(), newuuid()) AS id, clientid() AS clientId, principal() AS principal, sourceip() AS sourceIp, encode(*, 'base64') AS payload"
	lifecycleSQL  = "SELECT 'lifecycle' AS kind, topic() AS topic, timestamp() AS time, clientid() AS clientId, encode(*, 'base64') AS payload FROM '$aws/events/presence/#'"
)

var selectOversize = strings.Replace(selectMessage, "'message'", "'oversize'", 1)

func in(topics ...string) *defender.Dimension { return &defender.Dimension{TopicFilters: topics} }

func notIn(topics ...string) *defender.Dimension {
	return &defender.Dimension{TopicFilters: topics, NotIn: true}
}

func TestRulesBringWhatBehaviorsNeed(t *testing.T) {
	small, sent := defender.MessageByteSize.LessThan(8), defender.MessagesSent.LessThan(9, defender.Window5m)
	address := defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"))
	type rows = [][2]string // id and SQL
	for name, c := range map[string]struct {
		behaviors   []defender.Behavior
		reportTopic string
		want        rows
	}{
		"nothing": {},
		"sizes": {
			behaviors: []defender.Behavior{{Criteria: small}, {Criteria: defender.MessageByteSize.GreaterThan(2)}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"oversize", selectOversize + "'#' WHERE (SIZE) >= 8 OR (SIZE) <= 2"}},
		},
		"the rule of a topic lets through what breaks the behaviors of that topic": {
			behaviors: []defender.Behavior{{Criteria: defender.MessageByteSize.LessThan(1000)}, {Criteria: small, Dimension: in("plant/${iot:ClientId}/state")}},
			want: rows{
				{"lifecycle", lifecycleSQL},
				{"oversize", selectOversize + "'#' WHERE (SIZE) >= 1000"},
				{"oversize-*", selectOversize + "'plant/+/state' WHERE (SIZE) >= 8"},
			},
		},
		"a dimension turned around asks for all topics": {
			behaviors: []defender.Behavior{{Criteria: small, Dimension: notIn("plant/${iot:ClientId}")}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"oversize", selectOversize + "'#' WHERE (SIZE) >= 8"}},
		},
		"all messages hold the oversize ones": {
			behaviors: []defender.Behavior{{Criteria: small, Dimension: in("a/b")}, {Criteria: sent}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"message", selectMessage + "'#'"}},
		},
		"but not those of reserved topics": {
			behaviors: []defender.Behavior{{Criteria: small, Dimension: in("$aws/things/+/shadow/update")}, {Criteria: sent}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"message", selectMessage + "'#'"}, {"oversize-*", selectOversize + "'$aws/things/+/shadow/update' WHERE (SIZE) >= 8"}},
		},
		"a wider filter brings the messages of a narrower one": {
			behaviors: []defender.Behavior{{Criteria: sent, Dimension: in("a/+", "a/b", "c")}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"message-*", selectMessage + "'a/+'"}, {"message-*", selectMessage + "'c'"}},
		},
		"sums need every message": {
			behaviors: []defender.Behavior{{Criteria: defender.MessageByteSize.Statistical(iotapi.LessThan, defender.P90, defender.Window5m)}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"message", selectMessage + "'#'"}},
		},
		"addresses come with connections": {
			behaviors: []defender.Behavior{{Criteria: address}},
			want:      rows{{"lifecycle", lifecycleSQL}},
		},
		"on some topics with their messages alone": {
			behaviors: []defender.Behavior{{Criteria: address, Dimension: in("a")}},
			want:      rows{{"message-*", selectMessage + "'a'"}},
		},
		"sessions": {
			behaviors: []defender.Behavior{{Criteria: defender.DisconnectDuration.LessThan(10)}, {Criteria: defender.AuthorizationFailures.LessThan(3, defender.Window15m)}},
			want:      rows{{"lifecycle", lifecycleSQL}},
		},
		"reports by Basic Ingest": {
			behaviors: []defender.Behavior{{Criteria: defender.ListeningTCPPorts.InPorts(443)}},
			want:      rows{{"reports", selectReport}},
		},
		"reports on a topic": {
			behaviors:   []defender.Behavior{{Criteria: defender.CustomNumber("temperature").LessThan(80, defender.Window5m)}},
			reportTopic: "reports/+",
			want:        rows{{"reports", selectReport + " FROM 'reports/+'"}},
		},
	} {
		for i := range c.behaviors {
			c.behaviors[i].Name = string(rune('a' + i))
		}
		compiled, err := Compile("P", c.behaviors)
		if err != nil {
			t.Fatal(err)
		}
		var got, want rows
		for _, r := range Rules(compiled, c.reportTopic) {
			id, hashed, _ := strings.Cut(r.ID, "-")
			if hashed != "" {
				id += "-*"
			}
			got = append(got, [2]string{id, strings.ReplaceAll(r.SQL, PayloadBytes, "(SIZE)")})
			if key := map[bool]string{true: "${clientId}", false: "${clientid()}"}[r.Kind == LifecycleEvent]; r.PartitionKey != key {
				t.Errorf("%s: %s has the partition key %s, want %s", name, r.ID, r.PartitionKey, key)
			}
		}
		if want = c.want; !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestRulesOfADeploymentAreTold(t *testing.T) {
	compiled, err := Compile("P", []defender.Behavior{
		{Name: "a", Criteria: defender.MessageByteSize.LessThan(8), Dimension: in("a", "b", "c/+", "d/#")},
		{Name: "b", Criteria: defender.MessagesSent.LessThan(8, defender.Window5m), Dimension: in("e", "f")},
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range Rules(compiled, "") {
		if seen[r.ID] {
			t.Errorf("%s is the id of two rules", r.ID)
		}
		seen[r.ID] = true
	}
	if len(seen) != 7 {
		t.Errorf("rules %v", seen)
	}
}

func TestFilterThatCoversAnother(t *testing.T) {
	for _, c := range []struct {
		wide, narrow string
		want         bool
	}{
		{"#", "a/b", true}, {"#", "a/#", true}, {"#", "$aws/a", false}, {"+/a", "$aws/a", false}, {"$aws/#", "$aws/+/a", true},
		{"a/+", "a/b", true}, {"a/+", "a/+", true}, {"a/b", "a/+", false}, {"a/+", "a/#", false}, {"a/+", "a/b/c", false},
		{"a/#", "a/+/c", true}, {"a/#", "a", false}, {"a/#", "a/#", true}, {"a", "a/#", false}, {"+/b", "a/+", false},
	} {
		if got := covers(c.wide, c.narrow); got != c.want {
			t.Errorf("%s covers %s: %v, want %v", c.wide, c.narrow, got, c.want)
		}
	}
}

func TestScreenedMessagesAreNotCounted(t *testing.T) {
	e := evaluator(t,
		defender.Behavior{Name: "small", Criteria: defender.MessageByteSize.LessThan(8)},
		defender.Behavior{Name: "sum", Criteria: defender.MessageByteSize.Statistical(iotapi.LessThanEquals, defender.P90, defender.Window5m)},
		defender.Behavior{Name: "few", Criteria: defender.MessagesSent.LessThan(1, defender.Window5m)},
		defender.Behavior{Name: "home", Criteria: defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")), Dimension: in("#")})
	for kind, want := range map[Kind][]string{Oversize: {"small"}, PublishedMessage: {"few", "home", "small", "sum"}} {
		m := Telemetry{Kind: kind, Topic: "t", Time: start.UnixMilli(), ID: "1", ClientID: "thing", SourceIP: "192.0.2.1", Bytes: 60}
		r := e.Step("thing", State{}, m.Datapoints(), start)
		r = e.Step("thing", r.State, nil, start.Add(time.Hour))
		var got []string
		for _, tr := range r.Transitions {
			if tr.Change == InAlarm {
				got = append(got, tr.Behavior.Name)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s alarms %v, want %v", kind, got, want)
		}
	}
}

func TestConnectionIsNoMessageOutsideOfADimension(t *testing.T) {
	b := behavior(defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")))
	connect := Lifecycle{ClientID: "thing", Timestamp: start.UnixMilli(), EventType: "connected", Session: "s", IPAddress: "192.0.2.1"}.Datapoints()
	for _, c := range []struct {
		dimension *defender.Dimension
		judged    int
	}{{nil, 1}, {in("a"), 0}, {notIn("a"), 0}} {
		b.Dimension = c.dimension
		if r := evaluator(t, b).Step("thing", State{}, connect, start); r.Stats.Judged != c.judged {
			t.Errorf("dimension %v: %d judged, want %d", c.dimension, r.Stats.Judged, c.judged)
		}
	}
}

// ruleOutput is what a rule of this kind writes.
func ruleOutput(t testing.TB, telemetry Telemetry) []byte {
	t.Helper()
	text, err := json.Marshal(telemetry)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTelemetryIsRead(t *testing.T) {
	for _, want := range []Telemetry{
		{Kind: LifecycleEvent, Topic: "$aws/events/presence/connected/a", Time: 5, ClientID: iotrule.NotMQTT, Payload: []byte(`{"clientId":"a"}`)},
		{Kind: PublishedMessage, Topic: "t", Time: 5, ID: "i", ClientID: "a", Principal: "p", SourceIP: "10.0.0.1", Bytes: 26},
		{Kind: Oversize, Topic: "t", Time: 5, ID: "i", ClientID: iotrule.NotMQTT, Principal: "p", SourceIP: "10.0.0.1", Bytes: 26},
		{Kind: DeviceReport, Topic: "t", Time: 5, ID: "i", ClientID: "a", Payload: []byte{0xa1, 0x00}},
	} {
		got, err := DecodeTelemetry(ruleOutput(t, want), "reports")
		if err != nil || string(ruleOutput(t, got)) != string(ruleOutput(t, want)) {
			t.Errorf("got %+v, want %+v (%v)", got, want, err)
		}
	}
}

func TestErrorActionIsRead(t *testing.T) {
	sample, err := os.ReadFile("../iotrule/testdata/rule-error-action.json")
	if err != nil {
		t.Fatal(err)
	}
	const trace, client = "7e146a2c-95b5-6caf-98b9-50e3969734c7", "iotconsole-1511213971966-0"
	payload := []byte("{\n  \"message\": \"Hello vrom AWS IoT console\"\n}")
	for _, c := range []struct {
		why, topic, reportsRule string
		want                    Telemetry
	}{
		{"a message", "testme/action", "other", Telemetry{Kind: PublishedMessage, Topic: "testme/action", ID: trace, ClientID: client, Bytes: int64(len(payload))}},
		{"a report", "testme/action", "TestAction", Telemetry{Kind: DeviceReport, Topic: "testme/action", ID: trace, ClientID: client, Payload: payload}},
		{"an event", "$aws/events/presence/connected/a", "other", Telemetry{Kind: LifecycleEvent, Topic: "$aws/events/presence/connected/a", ID: trace, ClientID: client, Payload: payload}},
		{"an event of a client id with slashes", "$aws/events/presence/connect_failed/site/a", "other", Telemetry{Kind: LifecycleEvent, Topic: "$aws/events/presence/connect_failed/site/a", ID: trace, ClientID: client, Payload: payload}},
		{"a report that calls itself an event", "$aws/events/presence/connected/a", "TestAction", Telemetry{Kind: DeviceReport, Topic: "$aws/events/presence/connected/a", ID: trace, ClientID: client, Payload: payload}},
	} {
		got, err := DecodeTelemetry([]byte(strings.Replace(string(sample), "testme/action", c.topic, 1)), c.reportsRule)
		if err != nil || string(ruleOutput(t, got)) != string(ruleOutput(t, c.want)) {
			t.Errorf("%s: got %+v, want %+v (%v)", c.why, got, c.want, err)
		}
	}
}

func TestWhatNoRuleWroteIsRefused(t *testing.T) {
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
		if _, err := DecodeTelemetry([]byte(text), ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that names %s", text, err, want)
		}
	}
}

func FuzzDecodeTelemetry(f *testing.F) {
	f.Add(ruleOutput(f, Telemetry{Kind: DeviceReport, Topic: "t", ID: "i", Payload: []byte("{}")}), "r")
	f.Add([]byte(`{"ruleName":"r","topic":"$aws/events/presence/connected/a","base64OriginalPayload":"e30="}`), "r")
	f.Add([]byte(`{"ruleName":"r","topic":"t","cloudwatchTraceId":"i","clientId":"c"}`), "")
	f.Fuzz(func(t *testing.T, body []byte, rule string) {
		got, err := DecodeTelemetry(body, rule)
		if err != nil {
			return
		}
		if !slices.Contains([]Kind{LifecycleEvent, PublishedMessage, Oversize, DeviceReport}, got.Kind) || got.Bytes < 0 || got.Time < 0 {
			t.Errorf("%+v", got)
		}
		for _, d := range got.Datapoints() {
			if d.ID != got.ID || d.Time != got.Time {
				t.Errorf("%+v of %+v", d, got)
			}
		}
	})
}
