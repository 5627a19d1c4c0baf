package securityhubtest

import (
	"encoding/json"
	"maps"
	"net/netip"
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

// A match says whether a finding is wanted.
type match func(f object) bool

// compileFilters checks and compiles AwsSecurityFindingFilters: attributes are joined
// by AND.
func compileFilters(filters object, now time.Time) (match, error) {
	if len(filters) > maxFilterAttributes {
		return nil, invalidInput("Invalid parameter 'Filters'. %d attributes, at most %d are allowed.", len(filters), maxFilterAttributes)
	}
	var all []match
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		a, ok := attributes[name]
		if !ok || a.kind == unsupportedFilter {
			return nil, invalidInput("Invalid parameter 'Filters'. %q is not supported.", name)
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

// compile joins the values of one attribute.
func (a attribute) compile(name string, values []any, now time.Time) (match, error) {
	switch a.kind {
	case stringFilter:
		return a.compileStrings(name, values)
	case mapFilter:
		return a.compilePairs(name, values)
	}
	var any []match
	for _, v := range values {
		o, _ := v.(object)
		test, err := a.test(name, o, now)
		if err != nil {
			return nil, err
		}
		any = append(any, func(f object) bool { return slices.ContainsFunc(a.values(f), test) })
	}
	return anyOf(any), nil
}

func anyOf(matches []match) match {
	return func(f object) bool {
		return slices.ContainsFunc(matches, func(m match) bool { return m(f) })
	}
}

// comparison splits a StringFilter or MapFilter into the value and its comparator.
func comparison(name string, v any, allowed ...string) (o object, value, comparator string, err error) {
	o, _ = v.(object)
	value, _ = o["Value"].(string)
	comparator, _ = o["Comparison"].(string)
	if strings.TrimSpace(value) == "" {
		return nil, "", "", invalidInput("Invalid parameter 'Filters'. %s.Value should be a text that is not blank.", name)
	}
	if !slices.Contains(allowed, comparator) {
		return nil, "", "", invalidInput("Invalid parameter 'Filters'. %s.Comparison %q should be one of %s here.",
			name, comparator, strings.Join(allowed, ", "))
	}
	return o, value, comparator, nil
}

// compileStrings: EQUALS and PREFIX are joined by OR, NOT_EQUALS and
// PREFIX_NOT_EQUALS by AND, and PREFIX goes with both. CONTAINS and NOT_CONTAINS are
// for automation rules only.
func (a attribute) compileStrings(name string, values []any) (match, error) {
	var wanted, unwanted []func(any) bool
	seen := map[string]bool{}
	for _, v := range values {
		_, value, comparator, err := comparison(name, v, "EQUALS", "PREFIX", "NOT_EQUALS", "PREFIX_NOT_EQUALS")
		if err != nil {
			return nil, err
		}
		seen[comparator] = true
		equal := func(has any) bool { return has == value }
		prefix := func(has any) bool { s, ok := has.(string); return ok && strings.HasPrefix(s, value) }
		switch comparator {
		case "EQUALS":
			wanted = append(wanted, equal)
		case "PREFIX":
			wanted = append(wanted, prefix)
		case "NOT_EQUALS":
			unwanted = append(unwanted, equal)
		case "PREFIX_NOT_EQUALS":
			unwanted = append(unwanted, prefix)
		}
	}
	if seen["EQUALS"] && len(unwanted) > 0 {
		return nil, invalidInput("Invalid parameter 'Filters'. %s has EQUALS together with NOT_EQUALS or PREFIX_NOT_EQUALS.", name)
	}
	return wantedOnly(a.values, wanted, unwanted), nil
}

// compilePairs: EQUALS is joined by OR, NOT_EQUALS by AND, and they exclude each other.
func (a attribute) compilePairs(name string, values []any) (match, error) {
	var wanted, unwanted []func(any) bool
	for _, v := range values {
		o, value, comparator, err := comparison(name, v, "EQUALS", "NOT_EQUALS")
		if err != nil {
			return nil, err
		}
		key, _ := o["Key"].(string)
		if strings.TrimSpace(key) == "" {
			return nil, invalidInput("Invalid parameter 'Filters'. %s.Key should be a text that is not blank.", name)
		}
		equal := func(has any) bool { pairs, ok := has.(object); return ok && pairs[key] == value }
		if comparator == "EQUALS" {
			wanted = append(wanted, equal)
		} else {
			unwanted = append(unwanted, equal)
		}
	}
	if len(wanted) > 0 && len(unwanted) > 0 {
		return nil, invalidInput("Invalid parameter 'Filters'. %s has EQUALS together with NOT_EQUALS.", name)
	}
	return wantedOnly(a.values, wanted, unwanted), nil
}

// wantedOnly: one of wanted holds for some value, if there are any, and none of unwanted.
func wantedOnly(values func(object) []any, wanted, unwanted []func(any) bool) match {
	holds := func(has []any) func(func(any) bool) bool {
		return func(test func(any) bool) bool { return slices.ContainsFunc(has, test) }
	}
	return func(f object) bool {
		has := values(f)
		return (len(wanted) == 0 || slices.ContainsFunc(wanted, holds(has))) &&
			!slices.ContainsFunc(unwanted, holds(has))
	}
}

// test compiles one value of the kinds that are joined by OR.
func (a attribute) test(name string, o object, now time.Time) (func(any) bool, error) {
	switch a.kind {
	case numberFilter:
		return numberTest(name, o)
	case dateFilter:
		return dateTest(name, o, now)
	case ipFilter:
		cidr, _ := o["Cidr"].(string)
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, invalidInput("Invalid parameter 'Filters'. %s.Cidr %q is no CIDR.", name, cidr)
		}
		return func(has any) bool {
			s, _ := has.(string)
			address, err := netip.ParseAddr(s)
			return err == nil && prefix.Contains(address)
		}, nil
	default: // booleanFilter
		value, ok := o["Value"].(bool)
		if !ok {
			return nil, invalidInput("Invalid parameter 'Filters'. %s.Value should be boolean.", name)
		}
		return func(has any) bool { return has == value }, nil
	}
}

func numberTest(name string, o object) (func(any) bool, error) {
	compare := map[string]func(a, b float64) bool{
		"Gte": func(a, b float64) bool { return a >= b },
		"Lte": func(a, b float64) bool { return a <= b },
		"Eq":  func(a, b float64) bool { return a == b },
		"Gt":  func(a, b float64) bool { return a > b },
		"Lt":  func(a, b float64) bool { return a < b },
	}
	bounds := map[string]float64{}
	for comparator, v := range o {
		n, _ := v.(json.Number)
		bound, err := n.Float64()
		if compare[comparator] == nil || err != nil {
			return nil, invalidInput("Invalid parameter 'Filters'. %s.%s is no number filter.", name, comparator)
		}
		bounds[comparator] = bound
	}
	if len(bounds) == 0 {
		return nil, invalidInput("Invalid parameter 'Filters'. %s should have Gte, Lte, Eq, Gt or Lt.", name)
	}
	return func(has any) bool {
		n, _ := has.(json.Number)
		value, err := n.Float64()
		for comparator, bound := range bounds {
			if err != nil || !compare[comparator](value, bound) {
				return false
			}
		}
		return true
	}, nil
}

func dateTest(name string, o object, now time.Time) (func(any) bool, error) {
	start, end := time.Time{}, time.Time{}
	if span, ok := o["DateRange"].(object); ok {
		n, _ := span["Value"].(json.Number)
		days, err := n.Int64()
		if err != nil || days < 0 || span["Unit"] != "DAYS" || len(o) > 1 {
			return nil, invalidInput("Invalid parameter 'Filters'. %s.DateRange should have a Value and the Unit DAYS, and stand alone.", name)
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
				return nil, invalidInput("Invalid parameter 'Filters'. %s.%s %q is no timestamp.", name, member, s)
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
