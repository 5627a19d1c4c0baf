package engine

import (
	"fmt"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
)

func TestOnlyMessagesReceivedIsUnsupported(t *testing.T) {
	for _, m := range defender.Metrics() {
		var c defender.Criteria
		switch m := m.(type) {
		case defender.SizeMetric:
			c = m.LessThan(1)
		case defender.RateMetric:
			c = m.LessThan(1, defender.Window5m)
		case defender.DurationMetric:
			c = m.LessThan(1)
		case defender.AddressMetric:
			c = m.InCIDRs()
		case defender.PortMetric:
			c = m.InPorts(1)
		}
		err := Support([]defender.Behavior{{Name: "b", Criteria: c}})
		if received := m.Info().Name == defender.MessagesReceived.Info().Name; (err != nil) != received {
			t.Errorf("%s: error %v, want one: %v", m.Info().Name, err, received)
		}
	}
}

func ExampleSupport() {
	err := Support([]defender.Behavior{
		{Name: "fine", Criteria: defender.MessageByteSize.LessThan(8)},
		{Name: "few-received", Criteria: defender.MessagesReceived.LessThan(8, defender.Window5m)},
		{Name: "few-refusals", Criteria: defender.AuthorizationFailures.LessThan(8, defender.Window5m), Dimension: &defender.Dimension{TopicFilters: []string{"a/#"}}},
		{Name: "ingested", Criteria: defender.MessageByteSize.LessThan(8), Dimension: &defender.Dimension{TopicFilters: []string{"a/${iot:ClientId}", "$aws/rules/r/#", "a/${iot:ThingName}"}}},
	})
	fmt.Println(defender.Under("Detect.Behaviors", err))
	// Output:
	// Detect.Behaviors[1].Criteria: "aws:num-messages-received (behavior few-received)", want a metric that some event shows, such as defender.MessagesSent: AWS IoT has no event for messages that a device receives; or DetectProps.Native in an account that has Detect
	// Detect.Behaviors[2].Criteria: "aws:num-authorization-failures (behavior few-refusals)", want no Dimension here: the events of refused connections name no topic; or DetectProps.Native in an account that has Detect
	// Detect.Behaviors[3].Dimension.TopicFilters[1]: "$aws/rules/r/#", want a topic outside Basic Ingest: FROM never matches those
	// Detect.Behaviors[3].Dimension.TopicFilters[2]: "a/${iot:ThingName}", want a filter without variables, which a rule reads as plain text: write + for any client ID
}
