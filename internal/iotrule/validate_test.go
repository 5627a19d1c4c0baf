package iotrule_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

func TestTopicFilterRules(t *testing.T) {
	slashes := func(n int) string { return strings.Repeat("a/", n) + "a" }
	for _, c := range []struct{ conforms, violates string }{
		{"a", ""},
		{strings.Repeat("ä", 128), strings.Repeat("ä", 128) + "b"},
		{slashes(7), slashes(8)},
		{"$aws/things/+/shadow/name/+/update/accepted", "$aws/things/+/shadow/name/+/update/accepted/x"},
		{"$aws/rules/my_rule/" + slashes(7), "$aws/rules/my_rule/" + slashes(8)},
		{"$aws/rules/r/" + strings.Repeat("a", 256), "$aws/rules/r/" + strings.Repeat("a", 257)},
		{"#", "a#"},
		{"a/#", "a/#/b"},
		{"+", "a+"},
		{"+/a/+", "+/a/++"},
		{"a/b c/€", "a'b"},
		{"a//b/", "a\x00b"},
		{"${iot:ClientId}/data", "a\xff"},
		{"share/group/a", "$share/group/a"},
	} {
		if err := iotrule.ValidateFilter(c.conforms); err != nil {
			t.Errorf("%q: got %v, want no error", c.conforms, err)
		}
		if err := iotrule.ValidateFilter(c.violates); len(defender.FieldErrors(err)) != 1 {
			t.Errorf("%q: got %v, want one fault", c.violates, err)
		}
	}
	if err := iotrule.ValidateFilter(iotrule.DefaultEventTopic); err != nil {
		t.Error(err)
	}
}

func TestRuleNamesHaveNoHyphen(t *testing.T) {
	for name, valid := range map[string]bool{"fleet_Reports_1": true, strings.Repeat("r", 128): true, "": false, "fleet-reports": false, strings.Repeat("r", 129): false, "a/b": false} {
		if err := iotrule.ValidateName(name); (err == nil) != valid {
			t.Errorf("%q: error %v, want it valid: %v", name, err, valid)
		}
	}
}

func TestBasicIngestIsNoTopicOfFROM(t *testing.T) {
	const filter = "$aws/rules/my_rule/events/+"
	if err := iotrule.ValidateFilter(filter); err != nil {
		t.Error(err)
	}
	if found := defender.FieldErrors(iotrule.ValidateFrom(filter)); len(found) != 1 || found[0].Value != filter {
		t.Errorf("%s: got %v, want one fault", filter, found)
	}
	if found := defender.FieldErrors(iotrule.ValidateFrom("a+")); len(found) != 1 || found[0].Value != "a+" {
		t.Errorf("a+: got %v, want one fault", found)
	}
	if err := iotrule.ValidateFrom("$aws/things/+/defender/metrics/+"); err != nil {
		t.Error(err)
	}
}

// Some filters match no message in a rule. Others match messages that are no events or reports.
func TestTopicsOfEventsAndReports(t *testing.T) {
	for filter, allowed := range map[string]struct{ events, reports bool }{
		"fleet/+/security":                       {true, true},
		"fleet/#":                                {true, true},
		"+/security/#":                           {true, true},
		"fleet/${iot:ClientId}/security":         {},
		"fleet/${timestamp()}":                   {},
		"$share/group/fleet/+":                   {},
		"$aws/rules/r/fleet":                     {},
		"$other/fleet":                           {},
		"#":                                      {},
		"+/#":                                    {},
		"+/+/+":                                  {},
		"$aws/#":                                 {},
		"$aws/events/presence/#":                 {},
		"$aws/things/+/shadow/update":            {},
		"$aws/things/+/defender/metrics/+":       {false, true},
		"$aws/things/pump-7/defender/metrics/+":  {false, true},
		"$aws/things/+/defender/metrics/json":    {false, true},
		"$aws/things/+/defender/metrics/#":       {},
		"$aws/things/+/defender/metrics/+/+":     {},
		"$aws/things/#":                          {},
		"$aws/things/+/defender/metrics/deflate": {},
	} {
		if err := iotrule.ValidateEventTopic(filter); (err == nil) != allowed.events || err != nil && len(defender.FieldErrors(err)) != 1 {
			t.Errorf("events on %s: error %v, want it allowed: %v", filter, err, allowed.events)
		}
		if err := iotrule.ValidateReportTopic(filter); (err == nil) != allowed.reports || err != nil && len(defender.FieldErrors(err)) != 1 {
			t.Errorf("reports on %s: error %v, want it allowed: %v", filter, err, allowed.reports)
		}
	}
	for _, s := range iotrule.Sources() {
		if filter := iotrule.Of(s).TopicFilter; filter != "" && topicfilter.Overlap(filter, "$aws/things/+/defender/metrics/+") {
			t.Errorf("the filter %s of the source %s matches reports", filter, s)
		}
	}
	if err := iotrule.ValidateEventTopic(iotrule.DefaultEventTopic); err != nil {
		t.Error(err)
	}
}

func ExampleValidateFilter() {
	fmt.Println(defender.Under("Rules.EventTopic", iotrule.ValidateFilter("events/#/late")))
	fmt.Println(defender.Under("Rules.EventTopic", iotrule.ValidateFilter("a/b/c/d/e/f/g/h/i")))
	// Output:
	// Rules.EventTopic: "events/#/late", want # alone in the last level
	// Rules.EventTopic: "a/b/c/d/e/f/g/h/i", want a topic filter with at most 7 slashes
}
