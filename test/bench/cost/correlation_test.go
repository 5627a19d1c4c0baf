package cost

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// docs/correlate.md has the amounts of the price table.
func TestDocumentedCostOfCorrelation(t *testing.T) {
	text, err := os.ReadFile("../../../docs/correlate.md")
	if err != nil {
		t.Fatal(err)
	}
	rest := Correlation(CorrelationLoad{}).Total()
	more := func(l CorrelationLoad) float64 { // without the metrics, whose price does not depend on the load
		return Correlation(l).Total() - Correlation(CorrelationLoad{Events: 1e-9}).Total()
	}
	for _, row := range []string{
		fmt.Sprintf("| at rest: schedule, idle queue, nine alarms | %.2f |", rest),
		fmt.Sprintf("| the metrics, once events arrive | %.2f |", Correlation(CorrelationLoad{Events: 1e-9}).Total()-rest),
		fmt.Sprintf("| a million events that pass the pattern and that no rule can match | %.2f |", more(CorrelationLoad{Events: 1e6})),
		fmt.Sprintf("| a million events that a rule can match | %.2f |", more(CorrelationLoad{Events: 1e6, Matched: 1e6})),
		fmt.Sprintf("| a million lookups in the registry | %.2f |", more(CorrelationLoad{Events: 1e-9, Lookups: 1e6})),
		fmt.Sprintf("| 1,000 changes of composite findings | %.2f |", more(CorrelationLoad{Events: 1e-9, Changes: 1000})),
		fmt.Sprintf("| a campaign of 1,000 devices, active for a day | %.2f |", more(CorrelationLoad{Events: 1000, Matched: 1000, Changes: 2, Campaigns: 24, Devices: 1000})),
	} {
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/correlate.md lacks the row\n%s", row)
		}
	}
}

func TestEventsThatNoRuleMatchesAreCheap(t *testing.T) {
	unmatched, matched := Correlation(CorrelationLoad{Events: 1e6}), Correlation(CorrelationLoad{Events: 1e6, Matched: 1e6})
	if unmatched.Part(PartWrites) != 0 || unmatched.Part(PartReads) != 0 {
		t.Errorf("the bill of events that no rule matches has reads or writes: %v", unmatched)
	}
	if matched.Total() <= unmatched.Total() {
		t.Errorf("a million matched events cost %.2f, unmatched ones %.2f", matched.Total(), unmatched.Total())
	}
}
