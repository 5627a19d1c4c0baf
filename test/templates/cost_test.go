package templates

import (
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/bench/cost"
)

// TestCostCountsTheMetricsOfAlarms counts the metrics that the engine's alarms use, because AWS
// charges for each. The cost table has one rule, and an alarm watches a metric for each rule.
func TestCostCountsTheMetricsOfAlarms(t *testing.T) {
	_, tpl := synth(t, "self-managed", selfManaged)
	watched, rules := 0, 0
	for id, r := range tpl.Resources {
		if r.Type == "AWS::CloudWatch::Alarm" && strings.HasPrefix(id, "HubDetect") {
			watched += max(1, strings.Count(toJSON(r.Properties["Metrics"]), `"MetricStat"`))
		}
		if r.Type == "AWS::IoT::TopicRule" && strings.HasPrefix(id, "HubDetect") {
			rules++
		}
	}
	if float64(watched-rules+1) != cost.Defaults.Alarms {
		t.Errorf("alarms watch %d metrics with %d rules, the cost table counts %v with one rule", watched, rules, cost.Defaults.Alarms)
	}
}
