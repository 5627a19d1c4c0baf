package defender_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
)

func TestResourceOfATarget(t *testing.T) {
	for want, target := range map[string]defender.Target{
		"all/things":              defender.AllThings,
		"all/registered-things":   defender.RegisteredThings,
		"all/unregistered-things": defender.UnregisteredThings,
		"thinggroup/line-4:a_b":   defender.ThingGroup("line-4:a_b"),
	} {
		if got := target.Resource(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if err := target.Validate(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
		group, isGroup := strings.CutPrefix(want, "thinggroup/")
		if !isGroup {
			group = ""
		}
		if got := target.Group(); got != group {
			t.Errorf("%s: group %q, want %q", want, got, group)
		}
	}
	if (defender.Target{}) != defender.AllThings {
		t.Error("the zero value is not AllThings")
	}
}

func TestSecurityProfileRules(t *testing.T) {
	for _, c := range []struct {
		field              string
		value              any
		conforms, violates defender.SecurityProfile
	}{
		{"Name", "my profile", defender.SecurityProfile{}, defender.SecurityProfile{Name: "my profile"}},
		{"Name", strings.Repeat("n", 129), defender.SecurityProfile{Name: strings.Repeat("n", 128)}, defender.SecurityProfile{Name: strings.Repeat("n", 129)}},
		{"Description", "1001 characters", defender.SecurityProfile{Description: strings.Repeat("ä", 1000)}, defender.SecurityProfile{Description: strings.Repeat("ä", 1001)}},
		{"Description", "two\nlines", defender.SecurityProfile{Description: "zwei Wörter!"}, defender.SecurityProfile{Description: "two\nlines"}},
		{"Description", "no\u00a0break", defender.SecurityProfile{}, defender.SecurityProfile{Description: "no\u00a0break"}},
		{"Behaviors[0].Name", nil, defender.SecurityProfile{Behaviors: defender.DemoBehaviors()},
			defender.SecurityProfile{Behaviors: []defender.Behavior{{Criteria: defender.MessageByteSize.LessThan(8)}}}},
		{"Targets[0]", nil, defender.SecurityProfile{Targets: []defender.Target{defender.ThingGroup("g")}}, defender.SecurityProfile{Targets: []defender.Target{defender.ThingGroup("")}}},
		{"Targets[1]", "a/b", defender.SecurityProfile{}, defender.SecurityProfile{Targets: []defender.Target{defender.AllThings, defender.ThingGroup("a/b")}}},
		{"Targets[1]", "thinggroup/g", defender.SecurityProfile{Targets: []defender.Target{defender.ThingGroup("g"), defender.ThingGroup("h")}},
			defender.SecurityProfile{Targets: []defender.Target{defender.ThingGroup("g"), defender.ThingGroup("g")}}},
		{"RetainedMetrics[1]", nil, defender.SecurityProfile{RetainedMetrics: []defender.Metric{defender.MessagesSent}},
			defender.SecurityProfile{RetainedMetrics: []defender.Metric{defender.MessagesSent, nil}}},
		{"RetainedMetrics[2]", "aws:num-messages-sent", defender.SecurityProfile{RetainedMetrics: []defender.Metric{defender.MessagesSent, defender.Disconnects}},
			defender.SecurityProfile{RetainedMetrics: []defender.Metric{defender.MessagesSent, defender.Disconnects, defender.MessagesSent}}},
		{"RetainedMetrics[0]", nil, defender.SecurityProfile{}, defender.SecurityProfile{RetainedMetrics: []defender.Metric{defender.RateMetric{}}}},
		{"RetainedMetrics[0]", "aws:m", defender.SecurityProfile{RetainedMetrics: []defender.Metric{defender.CustomNumber("m")}},
			defender.SecurityProfile{RetainedMetrics: []defender.Metric{defender.CustomNumber("aws:m")}}},
	} {
		if err := c.conforms.Validate(); err != nil {
			t.Errorf("conforming %s: %v", c.field, err)
		}
		wantFault(t, c.violates.Validate(), c.field, c.value)
	}
}

func ExampleSecurityProfile_Validate() {
	fmt.Println(defender.SecurityProfile{
		Name: "line 4", Targets: []defender.Target{defender.ThingGroup("line/4")}, RetainedMetrics: []defender.Metric{nil},
	}.Validate())
	// Output:
	// Name: "line 4", want 1 to 128 of A-Z a-z 0-9 : _ -, or empty for a generated name
	// Targets[0]: "line/4", want a thing group's name: 1 to 128 of A-Z a-z 0-9 : _ -
	// RetainedMetrics[0]: missing, want a metric, such as defender.MessagesSent
}
