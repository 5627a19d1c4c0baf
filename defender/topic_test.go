package defender_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/defender"
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
		if err := defender.ValidateTopicFilter(c.conforms); err != nil {
			t.Errorf("%s: %v", c.conforms, err)
		}
		if err := defender.ValidateTopicFilter(c.violates); len(defender.FieldErrors(err)) != 1 {
			t.Errorf("%q: got %v, want one fault", c.violates, err)
		}
	}
	if err := defender.ValidateTopicFilter(defender.DefaultEventTopic); err != nil {
		t.Error(err)
	}
}

func TestRuleNamesHaveNoHyphen(t *testing.T) {
	for name, valid := range map[string]bool{"fleet_Reports_1": true, strings.Repeat("r", 128): true, "": false, "fleet-reports": false, strings.Repeat("r", 129): false, "a/b": false} {
		if err := defender.ValidateRuleName(name); (err == nil) != valid {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestNoRuleReadsBasicIngest(t *testing.T) {
	const filter = "$aws/rules/my_rule/events/+"
	if err := defender.ValidateTopicFilter(filter); err != nil {
		t.Error(err)
	}
	wantFault(t, defender.ValidateRuleTopic(filter), "", filter)
	wantFault(t, defender.ValidateRuleTopic("a+"), "", "a+")
	if err := defender.ValidateRuleTopic("$aws/things/+/defender/metrics/+"); err != nil {
		t.Error(err)
	}
}

// TestTopicsThatARuleNeverSeesOrShouldNot gives filters of events and of reports that match
// no message, or those of others.
func TestTopicsThatARuleNeverSeesOrShouldNot(t *testing.T) {
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
		if err := defender.ValidateEventTopic(filter); (err == nil) != allowed.events || err != nil && len(defender.FieldErrors(err)) != 1 {
			t.Errorf("events on %s: %v", filter, err)
		}
		if err := defender.ValidateReportTopic(filter); (err == nil) != allowed.reports || err != nil && len(defender.FieldErrors(err)) != 1 {
			t.Errorf("reports on %s: %v", filter, err)
		}
	}
	for _, s := range defender.RuleSources() {
		if filter := s.Info().TopicFilter; filter != "" && defender.FiltersOverlap(filter, "$aws/things/+/defender/metrics/+") {
			t.Errorf("%s takes reports", filter)
		}
	}
	if err := defender.ValidateEventTopic(defender.DefaultEventTopic); err != nil {
		t.Error(err)
	}
}

func TestOverlaps(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"fleet/+/security", "fleet/+/report", false},
		{"fleet/#", "fleet/+/report", true},
		{"fleet/+/+", "fleet/+/report", true},
		{"fleet/+/report/+", "fleet/+/report", false},
		{"+/a", "b/+", true},
		{"+/a", "b/c", false},
		{"a/#", "a", false},
		{"a/#", "a/+", true},
		{"#", "$aws/events/presence/#", false},
		{"+/events/#", "$aws/events/presence/#", false},
		{"$aws/#", "$aws/events/presence/#", true},
	} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if got := defender.FiltersOverlap(pair[0], pair[1]); got != c.want {
				t.Errorf("%s and %s: %t", pair[0], pair[1], got)
			}
		}
	}
}

// Filters overlap if and only if a topic of a small world matches both.
func TestOverlapsAreTopicsOfBoth(t *testing.T) {
	level := rapid.SampledFrom([]string{"a", "b", "+", "$a"})
	filters := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(level, 1, 3).Draw(t, "levels")
		if rapid.Bool().Draw(t, "rest") {
			levels = append(levels, "#")
		}
		return strings.Join(levels, "/")
	})
	world := []string{""}
	var all []string
	for range 5 {
		var longer []string
		for _, topic := range world {
			for _, l := range []string{"a", "b", "c", "$a"} {
				longer = append(longer, strings.TrimPrefix(topic+"/"+l, "/"))
			}
		}
		world, all = longer, append(all, longer...)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := filters.Draw(t, "a"), filters.Draw(t, "b")
		want := slices.ContainsFunc(all, func(topic string) bool { return defender.TopicMatches(a, topic) && defender.TopicMatches(b, topic) })
		if got := defender.FiltersOverlap(a, b); got != want {
			t.Fatalf("%s and %s: %t", a, b, got)
		}
	})
}

func ExampleValidateTopicFilter() {
	fmt.Println(defender.Under("Rules.EventTopic", defender.ValidateTopicFilter("events/#/late")))
	fmt.Println(defender.Under("Rules.EventTopic", defender.ValidateTopicFilter("a/b/c/d/e/f/g/h/i")))
	// Output:
	// Rules.EventTopic: "events/#/late", want # alone in the last level
	// Rules.EventTopic: "a/b/c/d/e/f/g/h/i", want a topic filter with at most 7 slashes
}

func TestTopicMatching(t *testing.T) {
	for _, c := range []struct {
		filter, matches, misses string
	}{
		{"a/b", "a/b", "a/c"},
		{"a/b", "a/b", "a/b/c"},
		{"a/b", "a/b", "A/b"},
		{"a/+", "a/b", "a"},
		{"a/+", "a/", "a/b/c"},
		{"+/b", "a/b", "$aws/b"},
		{"#", "a/b/c", "$aws/b"},
		{"a/#", "a/", "a"},
		{"a/#", "a/b", "b"},
		{"a/#", "a/b/c", "aa/b"},
		{"a/+/c/#", "a/b/c/d/e", "a/b/d"},
		{"$aws/events/presence/disconnected/+", "$aws/events/presence/disconnected/c", "$aws/events/presence/connected/c"},
		{"$aws/#", "$aws/events/presence", "aws/events"},
	} {
		if !defender.TopicMatches(c.filter, c.matches) {
			t.Errorf("%s does not match %s", c.filter, c.matches)
		}
		if defender.TopicMatches(c.filter, c.misses) {
			t.Errorf("%s matches %s", c.filter, c.misses)
		}
	}
}

func ExampleTopicClaim() {
	fmt.Printf("%q\n", defender.TopicClaim("defenderhub/events/+", "defenderhub/events/pump-7"))
	fmt.Printf("%q\n", defender.TopicClaim("sites/+/events/+", "sites/hamburg/events/pump-7"))
	fmt.Printf("%q\n", defender.TopicClaim("defenderhub/events/#", "defenderhub/events/pump-7"))
	fmt.Printf("%q\n", defender.TopicClaim("defenderhub/events/+", "defenderhub/status/pump-7"))
	// Output:
	// "pump-7"
	// "hamburg"
	// ""
	// ""
}

func topics() *rapid.Generator[[]string] {
	return rapid.SliceOfN(rapid.StringMatching(`[a-z$]{0,3}`), 1, 6)
}

// A filter made from a topic by wildcards matches it, and its first + shows the level
// that stood there.
func TestFiltersOfATopicMatchIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		levels := topics().Filter(func(levels []string) bool { return !strings.HasPrefix(levels[0], "$") }).Draw(t, "levels")
		topic := strings.Join(levels, "/")
		filter := append([]string(nil), levels...)
		claim, first := "", true
		for i := range filter {
			if rapid.Bool().Draw(t, "plus") {
				filter[i] = "+"
				if first {
					claim, first = levels[i], false
				}
			}
		}
		if got := strings.Join(filter, "/"); !defender.TopicMatches(got, topic) || defender.TopicClaim(got, topic) != claim {
			t.Fatalf("%s and %s: claim %q, want %q", got, topic, defender.TopicClaim(got, topic), claim)
		}
		cut := rapid.IntRange(0, len(filter)-1).Draw(t, "cut")
		if got := strings.Join(append(filter[:cut:cut], "#"), "/"); !defender.TopicMatches(got, topic) {
			t.Fatalf("%s does not match %s", got, topic)
		}
	})
}

// Without wildcards only the topic itself matches; a level more or less never does.
func TestFiltersWithoutWildcardsMatchOneTopic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := strings.Join(topics().Draw(t, "a"), "/"), strings.Join(topics().Draw(t, "b"), "/")
		if got := defender.TopicMatches(a, b); got != (a == b) {
			t.Fatalf("%q and %q: %t", a, b, got)
		}
		plus := strings.Repeat("+/", strings.Count(a, "/")) + "+"
		want := strings.Count(a, "/") == strings.Count(b, "/") && !strings.HasPrefix(b, "$")
		if got := defender.TopicMatches(plus, b); got != want {
			t.Fatalf("%q and %q: %t", plus, b, got)
		}
	})
}
