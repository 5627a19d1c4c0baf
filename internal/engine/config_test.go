package engine

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

func TestConfigSurvivesJSON(t *testing.T) {
	want := Config{
		Profiles: []ProfileConfig{{Name: "plant", Targets: []string{"thinggroup/0"}, Behaviors: []defender.Behavior{
			{Name: "size", Criteria: defender.MessageByteSize.LessThan(8), Dimension: notIn("a/${iot:ClientId}"), Severity: defender.High},
			{Name: "rate", Criteria: defender.MessagesSent.GreaterThanEquals(1, defender.Window15m), ToAlarm: 2, ToClear: 3, Dimension: in("b/+")},
			{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443)},
			{Name: "networks", Criteria: defender.SourceIPAddress.NotInCIDRs(netip.MustParsePrefix("10.0.0.0/8"))},
			{Name: "away", Criteria: defender.DisconnectDuration.LessThan(10)},
			{Name: "usual", Criteria: defender.AllBytesIn.Learned(defender.LowConfidence)},
			{Name: "p90", Criteria: defender.AllBytesOut.LessThanPercentile(defender.P90, defender.Window1h)},
			{Name: "heat", Criteria: defender.CustomNumber("heat").LessThan(80.5, defender.Window5m)},
			{Name: "users", Criteria: defender.CustomStringList("users").In("root", "pump")},
			{Name: "codes", Criteria: defender.CustomNumberList("codes").NotIn(1, 2.5)},
			{Name: "peers", Criteria: defender.CustomIPAddressList("peers").InCIDRs(netip.MustParsePrefix("2001:db8::/32"))},
		}}},
		ReportSeconds: 60, ConfirmTraffic: true, ReportsEvery: 15, ReportsSeverity: "LOW", Reports: true, ReportTopic: "reports/+", BatchSeconds: 60, MinDatapoints: 30, MembershipMinutes: 10,
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Config
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	before, err := want.Compile()
	if err != nil {
		t.Fatal(err)
	}
	read, err := got.Compile()
	if err != nil || len(read) != len(before) || len(read) != 13 {
		t.Fatalf("%d behaviors, error %v, want 13, as in the written config: %d", len(read), err, len(before))
	}
	for i, c := range read {
		if b := before[i]; c.key != b.key || c.form != b.form || c.kind != b.kind ||
			c.Behavior.Severity != b.Behavior.Severity || c.Behavior.DatapointsToAlarm() != b.Behavior.DatapointsToAlarm() || c.Behavior.DatapointsToClear() != b.Behavior.DatapointsToClear() {
			t.Errorf("%+v is read as %+v", b, c)
		}
	}
	got.Profiles, want.Profiles = nil, nil
	if again, _ := json.Marshal(got); string(again) != string(mustJSON(t, want)) {
		t.Errorf("the other settings are read as %s, want %s", again, mustJSON(t, want))
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestBehaviorsAboutReports(t *testing.T) {
	for _, c := range []struct {
		config  Config
		want    []string
		reports bool
	}{
		{Config{}, nil, false},
		{Config{Reports: true}, []string{"device-agent/reports-readable"}, true},
		{Config{ReportsEvery: 10}, []string{"device-agent/reports-regularly"}, true},
		{Config{ReportsEvery: 10, Reports: true, ReportsSeverity: "HIGH"}, []string{"device-agent/reports-regularly", "device-agent/reports-readable"}, true},
		{Config{Profiles: []ProfileConfig{{Name: "p", Behaviors: defender.DemoBehaviors()}}}, []string{"p/small-messages"}, false},
	} {
		all, err := c.config.Compile()
		var got []string
		for _, b := range all {
			got = append(got, b.key)
			if want := c.config.ReportsSeverity; want != "" && b.Behavior.Severity.String() != want {
				t.Errorf("%s has severity %s, want %s", b.key, b.Behavior.Severity, want)
			}
		}
		if err != nil || !slices.Equal(got, c.want) || NeedsReports(all) != c.reports {
			t.Errorf("%+v: behaviors %v, needs reports %v, error %v; want %v, %v", c.config, got, NeedsReports(all), err, c.want, c.reports)
		}
		live, err := c.config.Live()
		if err != nil || len(live) != len(c.want) {
			t.Errorf("%+v: %d live behaviors, error %v, want %d", c.config, len(live), err, len(c.want))
		}
	}
}

func TestCompileReportsAllFaultsOfTheConfig(t *testing.T) {
	many := make([]defender.Behavior, contract.MaxLiveBehaviors+1)
	for i := range many {
		many[i] = defender.DemoBehaviors()[0]
	}
	_, err := Config{ReportsSeverity: "LOUD", Profiles: []ProfileConfig{
		{Name: "twice"}, {Name: "twice"}, {Name: AgentProfile},
		{Name: "unsupported", Behaviors: []defender.Behavior{{Name: "few-received", Criteria: defender.MessagesReceived.LessThan(1, defender.Window5m)}}},
		{Name: "big", Behaviors: many},
	}}.Compile()
	for _, want := range []string{"twice", AgentProfile, "LOUD", "few-received", "301 behaviors"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error %v does not name %s", err, want)
		}
	}
}

func TestTargetsOfProfiles(t *testing.T) {
	c := Config{Profiles: []ProfileConfig{{Name: "a", Targets: []string{"thinggroup/1", "all/registered-things"}}, {Name: "b", Targets: []string{"thinggroup/1"}}}}
	for profile, want := range map[string][]string{
		"a": {"thinggroup/1", "all/registered-things"}, "b": {"thinggroup/1"}, AgentProfile: {"all/registered-things", "thinggroup/1"},
	} {
		if got := c.Targets(profile); !slices.Equal(got, want) {
			t.Errorf("%s has the targets %v, want %v", profile, got, want)
		}
	}
	c.Profiles = append(c.Profiles, ProfileConfig{Name: "c", Targets: []string{"thinggroup/0", "all/things"}})
	for _, profile := range []string{"c", AgentProfile} {
		if got := c.Targets(profile); got != nil {
			t.Errorf("%s has the targets %v, want nil for all things", profile, got)
		}
	}
	if got := (Config{}).Targets(AgentProfile); got != nil {
		t.Errorf("without profiles %s has the targets %v, want nil for all things", AgentProfile, got)
	}
}
