package correlation

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

// maxPattern is the maximum length of an event pattern, in characters.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
const maxPattern = 2048

// object is a part of an event pattern.
type object = map[string]any

// Pattern returns the event pattern of Amazon EventBridge for the findings that the rules can
// match. If account or region is "", any matches. A pattern that would be longer than EventBridge
// allows becomes coarser: first without product fields, types and severities, then any finding
// but those of Security Hub's controls, unless a rule names them.
//
// The pattern has no condition on the state of a finding: a part that ends must arrive too. It
// never matches a composite finding.
func Pattern(rules []Rule, account, region string) map[string]any {
	var pattern object
	for _, detail := range []detail{full, sources, anything} {
		pattern = patternOf(rules, account, region, detail)
		if text, _ := json.Marshal(pattern); len(text) <= maxPattern { // cannot fail for strings
			break
		}
	}
	return pattern
}

// detail is how much of the rules a pattern has.
type detail int

const (
	full     detail = iota // all conditions of the rules
	sources                // sources and products
	anything               // any finding, except those of Security Hub's controls
)

func patternOf(rules []Rule, account, region string, d detail) object {
	findings := object{}
	if account != "" {
		findings["AwsAccountId"] = []any{account}
	}
	if region != "" {
		findings["Region"] = []any{region}
	}
	switch all := alternatives(rules, d); len(all) {
	case 0:
		findings["Id"] = []any{""} // without rules nothing matches: no finding has an empty ID
	case 1:
		maps.Copy(findings, all[0])
	default:
		list := make([]any, len(all))
		for i, a := range all {
			list[i] = a
		}
		findings["$or"] = list
	}
	return object{"source": []any{findingevent.Source}, "detail-type": []any{findingevent.DetailType}, "detail": object{"findings": findings}}
}

// alternatives are the conditions of all matchers, each once.
func alternatives(rules []Rule, d detail) []object {
	byText := map[string]object{}
	for _, r := range rules {
		for _, s := range r.Stages {
			for _, m := range s.Match {
				for _, a := range m.alternatives(d) {
					text, _ := json.Marshal(a)
					byText[string(text)] = a
				}
			}
		}
	}
	var all []object
	for _, text := range slices.Sorted(maps.Keys(byText)) {
		if !slices.ContainsFunc(all, func(a object) bool { return covers(a, byText[text]) }) {
			all = slices.DeleteFunc(all, func(a object) bool { return covers(byText[text], a) })
			all = append(all, byText[text])
		}
	}
	return all
}

// covers reports whether every condition of a is one of b, so that a matches whatever b matches.
func covers(a, b object) bool {
	for k, v := range a {
		one, _ := json.Marshal(v)
		other, _ := json.Marshal(b[k])
		if string(one) != string(other) {
			return false
		}
	}
	return true
}

func (m Matcher) alternatives(d detail) []object {
	if d == anything {
		if slices.Contains(m.Products, controls) {
			return []object{product(controls)}
		}
		return []object{others()}
	}
	var all []object
	switch {
	case len(m.Sources) > 0:
		for _, s := range m.Sources {
			own := product(findingevent.DefaultProduct)
			own["Id"] = []any{object{"prefix": "defenderhub/" + s + "/"}}
			list := []object{own}
			switch s {
			case defender.AuditNotifications.String():
				list = append(list, product(findingevent.AuditProduct))
			case defender.DetectNotifications.String():
				list = append(list, product(findingevent.DetectProduct))
			}
			all = append(all, list...)
		}
	case len(m.Products) > 0:
		for _, p := range m.Products {
			a := product(p)
			if p == findingevent.DefaultProduct {
				a["GeneratorId"] = others()["GeneratorId"]
			}
			all = append(all, a)
		}
	default:
		all = []object{others()}
	}
	if d == full {
		for _, a := range all {
			m.narrow(a)
		}
	}
	return all
}

// product is the condition that a finding is of a product.
func product(name string) object {
	suffix := ":product/" + name
	if name == findingevent.DefaultProduct {
		suffix = "/" + findingevent.DefaultProduct
	}
	return object{"ProductArn": []any{object{"suffix": suffix}}}
}

// others is the condition that a finding is neither of a control nor composite.
func others() object {
	return object{
		"ProductArn":  []any{object{"anything-but": object{"suffix": ":product/" + controls}}},
		"GeneratorId": []any{object{"anything-but": object{"prefix": GeneratorPrefix}}},
	}
}

// narrow adds the conditions on product fields, types, generators and severity. Types and severity
// of the provider count too: an analyst who changes the others must not hide the end of a part.
func (m Matcher) narrow(a object) {
	fields := object{}
	add := func(key string, values []string) {
		if len(values) > 0 {
			fields[key] = texts(values)
		}
	}
	add("CheckName", CheckNames(m.Checks))
	add("BehaviorName", m.Behaviors)
	add("MetricName", m.Metrics)
	add("EventType", m.Events)
	if len(fields) > 0 {
		a["ProductFields"] = fields
	}
	if _, set := a["GeneratorId"]; len(m.Generators) > 0 && !set {
		a["GeneratorId"] = prefixes(m.Generators)
	}
	switch {
	case len(m.Types) > 0:
		a["$or"] = []any{object{"Types": prefixes(m.Types)}, object{"FindingProviderFields": object{"Types": prefixes(m.Types)}}}
	case defender.Severity(m.Severity) > defender.Informational && len(m.Sources) == 0:
		var labels []any
		for s := defender.Severity(m.Severity); s <= defender.Critical; s++ {
			labels = append(labels, s.String())
		}
		label := object{"Severity": object{"Label": labels}}
		a["$or"] = []any{label, object{"FindingProviderFields": label}}
	}
}

// CheckNames returns the names of checks, and the older names that findings may have.
func CheckNames(checks []string) []string {
	all := slices.Clone(checks)
	for _, name := range checks {
		if c, err := defender.ParseCheck(name); err == nil && c.Info().OldName != "" {
			all = append(all, c.Info().OldName)
		}
	}
	return all
}

func texts(values []string) []any {
	all := make([]any, len(values))
	for i, v := range values {
		all[i] = v
	}
	return all
}

func prefixes(values []string) []any {
	all := make([]any, len(values))
	for i, v := range values {
		all[i] = object{"prefix": v}
	}
	return all
}
