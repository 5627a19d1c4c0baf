package offline

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
)

func TestFieldsOfBehaviorsAreKnown(t *testing.T) {
	all := append(defender.DemoBehaviors(), defender.StarterBehaviors()...)
	all = append(all,
		defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(22), ToAlarm: 2, ToClear: 3, Severity: defender.High, SuppressAlerts: true},
		defender.Behavior{Name: "networks", Criteria: defender.SourceIPAddress.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"))},
		defender.Behavior{Name: "percentile", Criteria: defender.MessagesSent.GreaterThanPercentile(defender.P90, defender.Window5m), Dimension: &defender.Dimension{TopicFilters: []string{"a/+"}, NotIn: true}},
		defender.Behavior{Name: "number", Criteria: defender.CustomNumber("heat").GreaterThan(1.5, defender.Window5m)},
		defender.Behavior{Name: "learned", Criteria: defender.MessagesSent.Learned(defender.HighConfidence)})
	for _, b := range all {
		text, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckFields([]json.RawMessage{text}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		`{"name": "a", "dimension": {}}`:                                                        `behaviors[1]: unknown field "dimension"`,
		`{"name": "a", "criteria": {"consecutiveDatapoints": 3}}`:                               `unknown field "consecutiveDatapoints"`,
		`{"name": "a", "criteria": {"value": {"count": 8, "port": 1}}}`:                         `unknown field "port"`,
		`{"name": "a", "metricDimension": {"topicFilter": ["a"]}}`:                              `unknown field "topicFilter"`,
		`{"name": "a", "metricDimension": {"dimensionName": "night", "operator": "NOT_IN"}}`:    "behaviors[1].metricDimension: topicFilters are missing",
		`{"name": "a", "metricDimension": {"topicFilters": ["night/#"], "operator": "not_in"}}`: `behaviors[1].metricDimension.operator is "not_in", want IN or NOT_IN`,
		`1`: "cannot unmarshal number",
	} {
		if err := CheckFields([]json.RawMessage{[]byte(`{"exportMetric": true}`), []byte(text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one that says %s", text, err, want)
		}
	}
}
