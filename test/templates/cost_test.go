package templates

import (
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/bench/cost"
)

// TestCostCountsTheMetricsOfAlarms counts the metrics that the engine's alarms use, because AWS
// charges for each.
func TestCostCountsTheMetricsOfAlarms(t *testing.T) {
	_, tpl := synth(t, "self-managed", selfManaged)
	watched := 0
	for id, r := range tpl.Resources {
		if r.Type == "AWS::CloudWatch::Alarm" && strings.HasPrefix(id, "HubDetect") {
			watched += max(1, strings.Count(toJSON(r.Properties["Metrics"]), `"MetricStat"`))
		}
	}
	if float64(watched) != cost.Defaults.Alarms {
		t.Errorf("alarms watch %d metrics, the cost table counts %v", watched, cost.Defaults.Alarms)
	}
}
