package topicfilter_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

func TestTopicMatching(t *testing.T) {
	for _, c := range []struct {
		filter, match, other string
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
		if !topicfilter.Matches(c.filter, c.match) {
			t.Errorf("%s does not match %s", c.filter, c.match)
		}
		if topicfilter.Matches(c.filter, c.other) {
			t.Errorf("%s matches %s", c.filter, c.other)
		}
	}
}

func ExampleClaim() {
	fmt.Printf("%q\n", topicfilter.Claim("defenderhub/events/+", "defenderhub/events/pump-7"))
	fmt.Printf("%q\n", topicfilter.Claim("sites/+/events/+", "sites/hamburg/events/pump-7"))
	fmt.Printf("%q\n", topicfilter.Claim("defenderhub/events/#", "defenderhub/events/pump-7"))
	fmt.Printf("%q\n", topicfilter.Claim("defenderhub/events/+", "defenderhub/status/pump-7"))
	// Output:
	// "pump-7"
	// "hamburg"
	// ""
	// ""
}

func topics() *rapid.Generator[[]string] {
	return rapid.SliceOfN(rapid.StringMatching(`[a-z$]{0,3}`), 1, 6)
}

// If wildcards replace levels of a topic, the filter matches the topic. Claim returns the level that the
// first + replaced.
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
		if got := strings.Join(filter, "/"); !topicfilter.Matches(got, topic) || topicfilter.Claim(got, topic) != claim {
			t.Fatalf("%s does not match %s, or has the claim %q, want %q", got, topic, topicfilter.Claim(got, topic), claim)
		}
		cut := rapid.IntRange(0, len(filter)-1).Draw(t, "cut")
		if got := strings.Join(append(filter[:cut:cut], "#"), "/"); !topicfilter.Matches(got, topic) {
			t.Fatalf("%s does not match %s", got, topic)
		}
	})
}

// Without wildcards only the topic itself matches.
func TestFiltersWithoutWildcardsMatchOneTopic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := strings.Join(topics().Draw(t, "a"), "/"), strings.Join(topics().Draw(t, "b"), "/")
		if got := topicfilter.Matches(a, b); got != (a == b) {
			t.Fatalf("%q matches %q: %t, want %t", a, b, got, a == b)
		}
		plus := strings.Repeat("+/", strings.Count(a, "/")) + "+"
		want := strings.Count(a, "/") == strings.Count(b, "/") && !strings.HasPrefix(b, "$")
		if got := topicfilter.Matches(plus, b); got != want {
			t.Fatalf("%q matches %q: %t, want %t", plus, b, got, want)
		}
	})
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
			if got := topicfilter.Overlap(pair[0], pair[1]); got != c.want {
				t.Errorf("%s and %s overlap: %t, want %t", pair[0], pair[1], got, c.want)
			}
		}
	}
}

// Two filters overlap if and only if they have a common topic, of at most five levels.
func TestOverlapMeansACommonTopic(t *testing.T) {
	level := rapid.SampledFrom([]string{"a", "b", "+", "$a"})
	filters := rapid.Custom(func(t *rapid.T) string {
		levels := rapid.SliceOfN(level, 1, 3).Draw(t, "levels")
		if rapid.Bool().Draw(t, "rest") {
			levels = append(levels, "#")
		}
		return strings.Join(levels, "/")
	})
	longest := []string{""}
	var all []string
	for range 5 {
		var longer []string
		for _, topic := range longest {
			for _, l := range []string{"a", "b", "c", "$a"} {
				longer = append(longer, strings.TrimPrefix(topic+"/"+l, "/"))
			}
		}
		longest, all = longer, append(all, longer...)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := filters.Draw(t, "a"), filters.Draw(t, "b")
		want := slices.ContainsFunc(all, func(topic string) bool { return topicfilter.Matches(a, topic) && topicfilter.Matches(b, topic) })
		if got := topicfilter.Overlap(a, b); got != want {
			t.Fatalf("%s and %s overlap: %t, want %t", a, b, got, want)
		}
	})
}
