package correlation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/correlation"
)

func alarms() correlation.Stage {
	return correlation.Stage{Name: "alarms", Match: []correlation.Matcher{{Sources: []defender.Source{defender.BehaviorTransitions}}}}
}

func TestFaultsOfARule(t *testing.T) {
	matcher := func(change func(*correlation.Matcher)) func(*correlation.Rule) {
		return func(r *correlation.Rule) {
			m := correlation.Matcher{}
			change(&m)
			r.Stages[0].Match = []correlation.Matcher{m}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*correlation.Rule)
		want   []string // fields
	}{
		{"none", func(*correlation.Rule) {}, nil},
		{"no name", func(r *correlation.Rule) { r.Name = "" }, []string{"Name"}},
		{"title, description and remedy", func(r *correlation.Rule) {
			r.Title, r.Description, r.Remedy = strings.Repeat("x", 129), "a\x00", "\u202e"
		}, []string{"Title", "Description", "Remedy"}},
		{"no stages", func(r *correlation.Rule) { r.Stages = nil }, []string{"Stages"}},
		{"a stage without name and matchers", func(r *correlation.Rule) { r.Stages = []correlation.Stage{{}} }, []string{"Stages[0].Name", "Stages[0].Match"}},
		{"equal stages", func(r *correlation.Rule) { r.Stages = append(r.Stages, alarms()) }, []string{"Stages[1].Name"}},
		{"window", func(r *correlation.Rule) { r.Window = 31 * 24 * time.Hour }, []string{"Window"}},
		{"severity", func(r *correlation.Rule) { r.Severity = 9 }, []string{"Severity"}},
		{"products", func(r *correlation.Rule) { r.DistinctProducts = -1 }, []string{"DistinctProducts"}},
		{"at least", func(r *correlation.Rule) { r.Stages[0].AtLeast = 101 }, []string{"Stages[0].AtLeast"}},
		{"only a shared stage", func(r *correlation.Rule) { r.Stages[0].Shared = true }, []string{"Stages"}},
		{"shared in order", func(r *correlation.Rule) {
			s := alarms()
			s.Name, s.Shared, r.InOrder = "shared", true, true
			r.Stages = append(r.Stages, s)
		}, []string{"Stages[1].Shared"}},
		{"spread", func(r *correlation.Rule) { r.Spread = correlation.Spread{Devices: 1, Share: 1.5} }, []string{"Spread.Devices", "Spread.Share"}},
		{"spread of stages", func(r *correlation.Rule) {
			s := alarms()
			s.Name, s.AtLeast = "more", 2
			r.Spread, r.Stages, r.DistinctProducts = correlation.Spread{Devices: 2}, append(r.Stages, s), 2
		}, []string{"Stages", "Stages[1].AtLeast", "DistinctProducts"}},
		{"empty matcher", matcher(func(*correlation.Matcher) {}), []string{"Stages[0].Match[0]"}},
		{"unknown values", matcher(func(m *correlation.Matcher) {
			m.Sources, m.Checks, m.Metrics = []defender.Source{99}, []defender.Check{99}, []defender.Metric{nil}
		}), []string{"Stages[0].Match[0].Sources[0]", "Stages[0].Match[0].Checks[0]", "Stages[0].Match[0].Metrics[0]", "Stages[0].Match[0].Sources"}},
		{"composite finding", matcher(func(m *correlation.Matcher) { m.Sources = []defender.Source{defender.CorrelatedFindings} }), []string{"Stages[0].Match[0].Sources[0]"}},
		{"fields of two sources", matcher(func(m *correlation.Matcher) { m.Events, m.Behaviors = []string{"tamper"}, []string{"b"} }), []string{"Stages[0].Match[0].Sources"}},
		{"device fields of another product", matcher(func(m *correlation.Matcher) { m.Products, m.Behaviors = []string{"aws/guardduty"}, []string{"b"} }), []string{"Stages[0].Match[0].Products"}},
		{"product", matcher(func(m *correlation.Matcher) { m.Products = []string{"GuardDuty", "", "aws/x"} }), []string{"Stages[0].Match[0].Products[1]", "Stages[0].Match[0].Products[0]"}},
		{"repeated", matcher(func(m *correlation.Matcher) { m.Types = []string{"a", "a"} }), []string{"Stages[0].Match[0].Types[1]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := correlation.Rule{Name: "rule", Stages: []correlation.Stage{alarms()}}
			c.change(&r)
			err := r.Validate()
			var got []string
			for _, f := range defender.FieldErrors(err) {
				got = append(got, f.Field)
			}
			if strings.Join(got, " ") != strings.Join(c.want, " ") {
				t.Errorf("faults of %v, want %v: %v", got, c.want, err)
			}
		})
	}
}

func TestBuiltInRulesAreValid(t *testing.T) {
	names := map[string]bool{}
	for _, r := range append(correlation.BuiltIn(), awsRules()...) {
		if err := r.Validate(); err != nil || names[r.Name] {
			t.Errorf("%s is invalid or its name is repeated: %v", r.Name, err)
		}
		names[r.Name] = true
	}
}
