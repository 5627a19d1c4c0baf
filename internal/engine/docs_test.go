package engine

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine/sketch"
)

// docs/detect.md states the constants of the code.
func TestDetectPageNamesMetricsAndBounds(t *testing.T) {
	text, err := os.ReadFile("../../docs/detect.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	wants := []string{
		fmt.Sprintf("%.0f minutes (clocks of AWS's lifecycle events) + the batching window + %.0f minute", ClockSkew.Minutes(), DeliveryMargin.Minutes()),
		fmt.Sprintf("%.0f hours after the last datapoint", SilenceLimit.Hours()),
		fmt.Sprintf("Up to %d events per window are exact", MaxTally-1),
		fmt.Sprintf("at most %d**", StatisticWindows),
		fmt.Sprintf("`SelfManaged.MinDatapoints` (default %d)", DefaultMinDatapoints),
		fmt.Sprintf("**%.0f %% of its value**", sketch.Accuracy*100),
		fmt.Sprintf("the last %d whole days (UTC)", BaselineDays),
		fmt.Sprintf("%d days with datapoints and %d,%03d datapoints in all", MinBaselineDays, MinBaselineDatapoints/1000, MinBaselineDatapoints%1000),
		fmt.Sprintf("%d elements, %d characters each", maxElements, maxElementLength),
		fmt.Sprintf("%d in all profiles together", contract.MaxLiveBehaviors),
		"`" + AgentProfile + "`", "`" + SilentAgent + "`", "`" + UnreadableReports + "`",
	}
	for _, m := range defender.Metrics() {
		wants = append(wants, "`"+m.Info().Name+"`")
	}
	for level, b := range bands {
		wants = append(wants, fmt.Sprintf("%s p%g to p%g and %g", level, b.low, b.high, b.fences))
	}
	for _, want := range wants {
		if !strings.Contains(page, want) {
			t.Errorf("docs/detect.md lacks %q", want)
		}
	}
}
