package securityhubtest

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// Limits of a filter.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_GetFindings.html
const (
	maxFilterAttributes = 10
	maxFilterValues     = 20
)

// match reports whether a finding matches a filter.
type match func(f object) bool

// compileFilters validates and compiles AwsSecurityFindingFilters: attributes are joined by AND.
func compileFilters(filters object, now time.Time) (match, error) {
	if len(filters) > maxFilterAttributes {
		return nil, invalidInput("Invalid parameter 'Filters'. %d attributes, at most %d are allowed.", len(filters), maxFilterAttributes)
	}
	var all []match
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		a, ok := attributes[name]
		if !ok {
			return nil, invalidInput("Invalid parameter 'Filters'. The local Security Hub does not filter by %q.", name)
		}
		values, ok := filters[name].([]any)
		if !ok || len(values) == 0 || len(values) > maxFilterValues {
			return nil, invalidInput("Invalid parameter 'Filters'. %s should be a list of 1 to %d values.", name, maxFilterValues)
		}
		m, err := a.compile(name, values, now)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return func(f object) bool {
		return !slices.ContainsFunc(all, func(m match) bool { return !m(f) })
	}, nil
}

// compile joins the values of one attribute: positive comparisons by OR, negated ones by AND.
// EQUALS excludes negated comparisons; PREFIX can be combined with all. CONTAINS and NOT_CONTAINS
// are for automation rules only.
func (a attribute) compile(name string, values []any, now time.Time) (match, error) {
	comparators := map[filterKind][]string{
		stringFilter: {"EQUALS", "PREFIX", "NOT_EQUALS", "PREFIX_NOT_EQUALS"}, mapFilter: {"EQUALS", "NOT_EQUALS"},
	}[a.kind]
	var wanted, unwanted []func(any) bool
	equals := false
	for _, v := range values {
		o, _ := v.(object)
		if a.kind == dateFilter {
			test, err := dateTest(name, o, now)
			if err != nil {
				return nil, err
			}
			wanted = append(wanted, test)
			continue
		}
		value, _ := o["Value"].(string)
		key, _ := o["Key"].(string)
		comparator, _ := o["Comparison"].(string)
		switch {
		case strings.TrimSpace(value) == "":
			return nil, invalidInput("Invalid parameter 'Filters'. %s.Value should be a text that is not blank.", name)
		case !slices.Contains(comparators, comparator):
			return nil, invalidInput("Invalid parameter 'Filters'. %s.Comparison %q should be one of %s here.", name, comparator, strings.Join(comparators, ", "))
		case a.kind == mapFilter && strings.TrimSpace(key) == "":
			return nil, invalidInput("Invalid parameter 'Filters'. %s.Key should be a text that is not blank.", name)
		}
		test := func(has any) bool {
			if a.kind == mapFilter {
				pairs, _ := has.(object)
				has = pairs[key]
			}
			text, ok := has.(string)
			return ok && (text == value || strings.HasPrefix(comparator, "PREFIX") && strings.HasPrefix(text, value))
		}
		if strings.HasSuffix(comparator, "NOT_EQUALS") {
			unwanted = append(unwanted, test)
		} else {
			wanted = append(wanted, test)
		}
		equals = equals || comparator == "EQUALS"
	}
	if equals && len(unwanted) > 0 {
		return nil, invalidInput("Invalid parameter 'Filters'. %s has EQUALS together with a comparator that negates.", name)
	}
	return func(f object) bool {
		has := a.values(f)
		holds := func(test func(any) bool) bool { return slices.ContainsFunc(has, test) }
		return (len(wanted) == 0 || slices.ContainsFunc(wanted, holds)) && !slices.ContainsFunc(unwanted, holds)
	}, nil
}

func dateTest(name string, o object, now time.Time) (func(any) bool, error) {
	start, end := time.Time{}, time.Time{}
	if span, ok := o["DateRange"].(object); ok {
		n, _ := span["Value"].(json.Number)
		days, err := n.Int64()
		if err != nil || days < 0 || span["Unit"] != "DAYS" || len(o) > 1 {
			return nil, invalidInput("Invalid parameter 'Filters'. %s.DateRange should have a Value and the Unit DAYS, and exclude Start and End.", name)
		}
		edge := now.AddDate(0, 0, -int(days))
		switch span["Comparison"] {
		case nil, "WITHIN":
			start, end = edge, now
		case "OLDER_THAN":
			end = edge
		default:
			return nil, invalidInput("Invalid parameter 'Filters'. %s.DateRange.Comparison should be WITHIN or OLDER_THAN.", name)
		}
	} else {
		for member, at := range map[string]*time.Time{"Start": &start, "End": &end} {
			s, given := o[member].(string)
			t, ok := parseInstant(s)
			if given && !ok {
				return nil, invalidInput("Invalid parameter 'Filters'. %s.%s %q is not a timestamp.", name, member, s)
			}
			*at = t
		}
		if start.IsZero() && end.IsZero() {
			return nil, invalidInput("Invalid parameter 'Filters'. %s should have Start, End or DateRange.", name)
		}
	}
	return func(has any) bool {
		s, _ := has.(string)
		t, ok := parseInstant(s)
		return ok && !t.Before(start) && (end.IsZero() || !t.After(end))
	}, nil
}
