package securityhubtest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

type query struct {
	Filters    object
	NextToken  string
	MaxResults *int
}

// getFindings answers GetFindings in the order of creation. It does not support SortCriteria.
func getFindings(r *request) (any, error) {
	var q query
	if err := r.input(&q); err != nil {
		return nil, err
	}
	h := r.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.needOn(); err != nil {
		return nil, err
	}
	h.expire()
	wanted, err := compileFilters(q.Filters)
	if err != nil {
		return nil, err
	}
	var found []object
	for _, r := range h.order {
		if wanted(r.content) {
			found = append(found, r.content)
		}
	}
	return page(r, "Findings", found, string(encode(q.Filters)), q.NextToken, q.MaxResults)
}

// page returns the requested page of all, as a member of the output. A token is the index of the
// next page. It is valid only for requests with the same about.
func page[T any](r *request, member string, all []T, about, token string, size *int) (any, error) {
	most, start := MaxFindings, 0
	if size != nil {
		most = *size
	}
	if most < 1 || most > MaxFindings {
		return nil, invalidInput("Invalid parameter 'MaxResults'. %d should be 1 to %d.", most, MaxFindings)
	}
	about = fmt.Sprint(r.call.Operation, r.call.Account, r.call.Region, about)
	if token != "" {
		var err error
		if start, err = openToken(token, about); err != nil {
			return nil, err
		}
	}
	start = min(start, len(all))
	end := min(start+most, len(all))
	answer := object{member: append([]T{}, all[start:end]...)}
	if end < len(all) {
		answer["NextToken"] = sealToken(end, about)
	}
	return answer, nil
}

func sealToken(place int, about string) string {
	sum := sha256.Sum256([]byte(about))
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(sum[:12], uint32(place)))
}

func openToken(token, about string) (int, error) {
	sum := sha256.Sum256([]byte(about))
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(data) != 16 || string(data[:12]) != string(sum[:12]) {
		return 0, invalidInput("Invalid parameter 'NextToken'. It is not from an earlier answer to the same request.")
	}
	return int(binary.BigEndian.Uint32(data[12:])), nil
}

// Limits of a filter.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_GetFindings.html
const (
	maxFilterAttributes = 10
	maxFilterValues     = 20
)

// match reports whether a finding matches a filter.
type match func(f object) bool

// compileFilters validates and compiles AwsSecurityFindingFilters: attributes are joined by AND.
func compileFilters(filters object) (match, error) {
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
		m, err := a.compile(name, values)
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
func (a attribute) compile(name string, values []any) (match, error) {
	comparators := map[filterKind][]string{
		stringFilter: {"EQUALS", "PREFIX", "NOT_EQUALS", "PREFIX_NOT_EQUALS"}, mapFilter: {"EQUALS", "NOT_EQUALS"},
	}[a.kind]
	var wanted, unwanted []func(any) bool
	equals := false
	for _, v := range values {
		o, _ := v.(object)
		if a.kind == dateFilter {
			test, err := dateTest(name, o)
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
		return nil, invalidInput("Invalid parameter 'Filters'. %s combines EQUALS with a negated comparator.", name)
	}
	return func(f object) bool {
		has := a.values(f)
		holds := func(test func(any) bool) bool { return slices.ContainsFunc(has, test) }
		return (len(wanted) == 0 || slices.ContainsFunc(wanted, holds)) && !slices.ContainsFunc(unwanted, holds)
	}, nil
}

// dateTest parses a filter by time. It does not support DateRange.
func dateTest(name string, o object) (func(any) bool, error) {
	start, end := time.Time{}, time.Time{}
	for member, at := range map[string]*time.Time{"Start": &start, "End": &end} {
		s, given := o[member].(string)
		t, ok := parseInstant(s)
		if given && !ok {
			return nil, invalidInput("Invalid parameter 'Filters'. %s.%s %q is not a timestamp.", name, member, s)
		}
		*at = t
	}
	if start.IsZero() && end.IsZero() || o["DateRange"] != nil {
		return nil, invalidInput("Invalid parameter 'Filters'. %s should have Start or End; the local Security Hub does not support DateRange.", name)
	}
	return func(has any) bool {
		s, _ := has.(string)
		t, ok := parseInstant(s)
		return ok && !t.Before(start) && (end.IsZero() || !t.After(end))
	}, nil
}

type filterKind int

const (
	stringFilter filterKind = iota
	dateFilter
	mapFilter
)

// attribute is an attribute of findings by which GetFindings filters.
type attribute struct {
	kind filterKind
	path []string // path in the finding, through all elements of lists
}

// attributes are the supported members of AwsSecurityFindingFilters, with their paths. Without a
// path, the attribute is the finding's member of that name.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_AwsSecurityFindingFilters.html
var attributes = func() map[string]attribute {
	table := map[string]attribute{}
	for kind, names := range map[filterKind]string{
		stringFilter: `AwsAccountId CompanyName Description GeneratorId Id ProductArn ProductName RecordState
			Region SourceUrl Title VerificationState Type=Types ComplianceStatus=Compliance.Status
			FindingProviderFieldsSeverityLabel=FindingProviderFields.Severity.Label
			FindingProviderFieldsTypes=FindingProviderFields.Types NoteText=Note.Text NoteUpdatedBy=Note.UpdatedBy
			RelatedFindingsId=RelatedFindings.Id RelatedFindingsProductArn=RelatedFindings.ProductArn
			ResourceId=Resources.Id ResourcePartition=Resources.Partition ResourceRegion=Resources.Region
			ResourceType=Resources.Type SeverityLabel=Severity.Label WorkflowStatus=Workflow.Status`,
		dateFilter: "CreatedAt FirstObservedAt LastObservedAt UpdatedAt",
		mapFilter: `ProductFields UserDefinedFields ResourceDetailsOther=Resources.Details.Other
			ResourceTags=Resources.Tags`,
	} {
		for _, entry := range strings.Fields(names) {
			name, path, other := strings.Cut(entry, "=")
			if !other {
				path = name
			}
			table[name] = attribute{kind, strings.Split(path, ".")}
		}
	}
	return table
}()

// values returns all values at the attribute's path.
func (a attribute) values(f object) []any { return valuesAt(f, a.path) }

func valuesAt(v any, path []string) []any {
	if elements, ok := v.([]any); ok {
		var all []any
		for _, e := range elements {
			all = append(all, valuesAt(e, path)...)
		}
		return all
	}
	if len(path) == 0 {
		return []any{v}
	}
	if o, ok := v.(object); ok && o[path[0]] != nil {
		return valuesAt(o[path[0]], path[1:])
	}
	return nil
}
