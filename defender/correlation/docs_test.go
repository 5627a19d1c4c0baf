package correlation_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
)

// TestPageHasTheBuiltInRules proves that docs/correlate.md names all that the built-in rules match:
// what matches makes incidents and costs.
func TestPageHasTheBuiltInRules(t *testing.T) {
	page, err := os.ReadFile("../../docs/correlate.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	overview := map[string]string{} // the last cells of each rule
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		rows[line] = true
		if cells := strings.Split(line, " | "); len(cells) == 5 {
			overview[strings.Trim(cells[0], "| `")] = strings.Join(cells[2:], " | ")
		}
	}
	for _, r := range correlation.BuiltIn() {
		r = r.WithDefaults()
		order, window := "any", fmt.Sprint(r.Window.Hours(), " h")
		if r.InOrder {
			order = "in order"
		}
		if days := r.Window / (24 * time.Hour); days > 1 {
			window = fmt.Sprint(int(days), " days")
		}
		if want := fmt.Sprintf("%s | %s | %s |", order, window, r.Severity); overview[r.Name] != want {
			t.Errorf("%s: the page has %q, want %q", r.Name, overview[r.Name], want)
		}
		for _, s := range r.Stages {
			var all []string
			for _, m := range s.Match {
				all = append(all, shown(m))
			}
			if want := fmt.Sprintf("| `%s` | %s | %s |", r.Name, s.Name, strings.Join(all, "; ")); !rows[want] {
				t.Errorf("the page lacks the row\n%s", want)
			}
		}
	}
}

// shown describes a matcher with the names in findings.
func shown(m correlation.Matcher) string {
	var all []string
	add := func(kind string, values []string) {
		if len(values) > 0 {
			all = append(all, kind+" `"+strings.Join(values, "`, `")+"`")
		}
	}
	add("product", m.Products)
	add("source", texts(m.Sources, defender.Source.String))
	add("check", texts(m.Checks, defender.Check.String))
	add("behavior", m.Behaviors)
	add("metric", texts(m.Metrics, name))
	add("not metric", texts(m.ExceptMetrics, name))
	add("event", m.Events)
	add("reason", m.Reasons)
	add("type", m.Types)
	add("generator", m.Generators)
	if m.Severity != 0 {
		all = append(all, m.Severity.String()+" or higher")
	}
	return strings.Join(all, ", ")
}

func name(m defender.Metric) string { return m.Info().Name }

func texts[E any](list []E, text func(E) string) []string {
	all := make([]string, len(list))
	for i, e := range list {
		all[i] = text(e)
	}
	return all
}
