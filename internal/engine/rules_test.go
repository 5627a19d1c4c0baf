package engine

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

const (
	selectMessage = "SELECT 'message' AS kind, topic() AS topic, timestamp() AS time, traceid() AS traceId, newuuid() AS id, clientid() AS clientId, principal() AS principal, sourceip() AS sourceIp, (SIZE) AS bytes FROM "
	selectReport  = "SELECT 'report' AS kind, topic() AS topic, timestamp() AS time, traceid() AS traceId, newuuid() AS id, clientid() AS clientId, principal() AS principal, sourceip() AS sourceIp, encode(*, 'base64') AS payload"
	lifecycleSQL  = "SELECT 'lifecycle' AS kind, topic() AS topic, timestamp() AS time, clientid() AS clientId, encode(*, 'base64') AS payload FROM '$aws/events/presence/#'"
)

var selectOversize = strings.Replace(selectMessage, "'message'", "'oversize'", 1)

func in(topics ...string) *defender.Dimension { return &defender.Dimension{TopicFilters: topics} }

func notIn(topics ...string) *defender.Dimension {
	return &defender.Dimension{TopicFilters: topics, NotIn: true}
}

func TestRulesFollowTheBehaviors(t *testing.T) {
	small, sent := defender.MessageByteSize.LessThan(8), defender.MessagesSent.LessThan(9, defender.Window5m)
	address := defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"))
	type rows = [][2]string // id and SQL
	for name, c := range map[string]struct {
		behaviors   []defender.Behavior
		reportTopic string
		want        rows
	}{
		"no behaviors": {},
		"sizes": {
			behaviors: []defender.Behavior{{Criteria: small}, {Criteria: defender.MessageByteSize.GreaterThan(2)}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"oversize", selectOversize + "'#' WHERE (SIZE) >= 8 OR (SIZE) <= 2"}},
		},
		"a dimension has its own rule with its own bound": {
			behaviors: []defender.Behavior{{Criteria: defender.MessageByteSize.LessThan(1000)}, {Criteria: small, Dimension: in("plant/${iot:ClientId}/state")}},
			want: rows{
				{"lifecycle", lifecycleSQL},
				{"oversize", selectOversize + "'#' WHERE (SIZE) >= 1000"},
				{"oversize-*", selectOversize + "'plant/+/state' WHERE (SIZE) >= 8"},
			},
		},
		"NOT_IN needs all topics": {
			behaviors: []defender.Behavior{{Criteria: small, Dimension: notIn("plant/${iot:ClientId}")}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"oversize", selectOversize + "'#' WHERE (SIZE) >= 8"}},
		},
		"a rule for all messages replaces those for oversize ones": {
			behaviors: []defender.Behavior{{Criteria: small, Dimension: in("a/b")}, {Criteria: sent}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"message", selectMessage + "'#'"}},
		},
		"but not on reserved topics": {
			behaviors: []defender.Behavior{{Criteria: small, Dimension: in("$aws/things/+/shadow/update")}, {Criteria: sent}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"message", selectMessage + "'#'"}, {"oversize-*", selectOversize + "'$aws/things/+/shadow/update' WHERE (SIZE) >= 8"}},
		},
		"a wider filter replaces a narrower one": {
			behaviors: []defender.Behavior{{Criteria: sent, Dimension: in("a/+", "a/b", "c")}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"message-*", selectMessage + "'a/+'"}, {"message-*", selectMessage + "'c'"}},
		},
		"sums need every message": {
			behaviors: []defender.Behavior{{Criteria: defender.MessageByteSize.LessThanPercentile(defender.P90, defender.Window5m)}},
			want:      rows{{"lifecycle", lifecycleSQL}, {"message", selectMessage + "'#'"}},
		},
		"addresses need lifecycle events": {
			behaviors: []defender.Behavior{{Criteria: address}},
			want:      rows{{"lifecycle", lifecycleSQL}},
		},
		"addresses in a dimension need its messages": {
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
			got = append(got, [2]string{id, strings.ReplaceAll(r.SQL, iotrule.PayloadBytes, "(SIZE)")})
			if key := map[bool]string{true: "${clientId}", false: "${clientid()}"}[r.Kind == iotrule.LifecycleEvent]; r.PartitionKey != key {
				t.Errorf("%s: %s has the partition key %s, want %s", name, r.ID, r.PartitionKey, key)
			}
		}
		if want = c.want; !slices.Equal(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestRulesOfADeploymentHaveDifferentIDs(t *testing.T) {
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
			t.Errorf("two rules have the ID %s", r.ID)
		}
		seen[r.ID] = true
	}
	if len(seen) != 7 {
		t.Errorf("rules %v, want 7", seen)
	}
}

func TestCovers(t *testing.T) {
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

// An oversize rule does not send all messages, so their number is unknown.
func TestOversizeMessagesAreNotCounted(t *testing.T) {
	e := evaluator(t,
		defender.Behavior{Name: "small", Criteria: defender.MessageByteSize.LessThan(8)},
		defender.Behavior{Name: "sum", Criteria: defender.MessageByteSize.LessThanEqualsPercentile(defender.P90, defender.Window5m)},
		defender.Behavior{Name: "few", Criteria: defender.MessagesSent.LessThan(1, defender.Window5m)},
		defender.Behavior{Name: "home", Criteria: defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")), Dimension: in("#")})
	for kind, want := range map[iotrule.TelemetryKind][]string{iotrule.Oversize: {"small"}, iotrule.PublishedMessage: {"few", "home", "small", "sum"}} {
		m := iotrule.Telemetry{Kind: kind, Topic: "t", Time: start.UnixMilli(), ID: "1", ClientID: "thing", SourceIP: "192.0.2.1", Bytes: 60}
		r := e.Step("thing", State{}, MessageDatapoints(m), start)
		r = e.Step("thing", r.State, nil, start.Add(time.Hour))
		var got []string
		for _, tr := range r.Transitions {
			if tr.Change == InAlarm {
				got = append(got, tr.Behavior.Name)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("a message of kind %s raises alarms of %v, want %v", kind, got, want)
		}
	}
}

// A connection has no topic, so no dimension includes it.
func TestAddressOfAConnectionIsJudgedWithoutDimension(t *testing.T) {
	b := behavior(defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8")))
	connect := Lifecycle{ClientID: "thing", Timestamp: start.UnixMilli(), EventType: "connected", Session: "s", IPAddress: "192.0.2.1"}.Datapoints()
	for _, c := range []struct {
		dimension *defender.Dimension
		judged    int
	}{{nil, 1}, {in("a"), 0}, {notIn("a"), 0}} {
		b.Dimension = c.dimension
		if r := evaluator(t, b).Step("thing", State{}, connect, start); r.Stats.Judged != c.judged {
			t.Errorf("dimension %v: %d datapoints judged, want %d", c.dimension, r.Stats.Judged, c.judged)
		}
	}
}

func TestConditionOfAnOversizeRule(t *testing.T) {
	size := func(name string, c defender.Criteria) defender.Behavior {
		return defender.Behavior{Name: name, Criteria: c}
	}
	for _, row := range []struct {
		behaviors []defender.Behavior
		want      string
	}{
		{defender.DemoBehaviors(), "(SIZE) >= 8"},
		{[]defender.Behavior{size("a", defender.MessageByteSize.LessThanEquals(8)), size("b", defender.MessageByteSize.GreaterThan(2))}, "(SIZE) > 8 OR (SIZE) <= 2"},
		{[]defender.Behavior{size("a", defender.MessageByteSize.GreaterThanEquals(2)), size("b", defender.ListeningTCPPorts.InPorts(1))}, "(SIZE) < 2"},
		{[]defender.Behavior{
			size("a", defender.MessageByteSize.LessThan(90)), size("b", defender.MessageByteSize.GreaterThan(2)), size("c", defender.MessageByteSize.LessThan(8)),
			size("d", defender.MessageByteSize.GreaterThan(5)), size("e", defender.MessageByteSize.LessThan(10)), size("f", defender.MessageByteSize.GreaterThan(1)),
		}, "(SIZE) >= 8 OR (SIZE) <= 5"},
		{[]defender.Behavior{size("a", defender.MessageByteSize.LessThanPercentile(defender.P90, defender.Window5m))}, ""},
	} {
		compiled, err := Compile("P", row.behaviors)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(iotrule.ViolatesSize(sizeBounds(compiled, "#")), iotrule.PayloadBytes, "(SIZE)"); got != row.want {
			t.Errorf("%+v: got the condition %q, want %q", row.behaviors, got, row.want)
		}
	}
}
