package securityhubtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// maxInsights is a quota per account and Region.
// https://docs.aws.amazon.com/general/latest/gr/sechub.html
const maxInsights = 100

// insight is a saved filter with an attribute to group by, such as "ResourceId".
type insight struct {
	ARN              string `json:"InsightArn"`
	Name             string // 1 to 128 characters
	Filters          object
	GroupByAttribute string
}

// check returns the insight's filter.
func (in insight) check(h *Hub) (match, error) {
	if faults := faultsOf(text(128), any(in.Name)); len(faults) > 0 {
		return nil, invalidInput("Invalid parameter 'Name'. %s.", faults[0])
	}
	if in.Filters == nil {
		return nil, invalidInput("Invalid parameter 'Filters'. It should be object.")
	}
	if a, ok := attributes[in.GroupByAttribute]; !ok || a.kind != stringFilter {
		return nil, invalidInput("Invalid parameter 'GroupByAttribute'. %q is not an attribute to group by.", in.GroupByAttribute)
	}
	return compileFilters(in.Filters, h.now())
}

// onInsights calls f if the hub is enabled, with the index of the insight in the path, or -1 if
// there is none.
func onInsights(f func(r *request, i int) (any, error)) func(r *request) (any, error) {
	return func(r *request) (any, error) {
		r.hub.mu.Lock()
		defer r.hub.mu.Unlock()
		if err := r.hub.needOn(); err != nil {
			return nil, err
		}
		i, err := -1, error(nil)
		if r.arn != "" {
			i, err = r.hub.insightIndex(r.arn)
		}
		if err != nil {
			return nil, err
		}
		return f(r, i)
	}
}

func (h *Hub) insightIndex(arn string) (int, error) {
	i := slices.IndexFunc(h.insights, func(in insight) bool { return in.ARN == arn })
	if i < 0 {
		return 0, notFound("Insight %s not found", arn)
	}
	return i, nil
}

func createInsight(r *request, _ int) (any, error) {
	var in insight
	if err := r.input(&in); err != nil {
		return nil, err
	}
	if _, err := in.check(r.hub); err != nil {
		return nil, err
	}
	if len(r.hub.insights) >= maxInsights {
		return nil, limitExceeded("%d insights exist, the quota", maxInsights)
	}
	r.hub.insightsMade++
	in.ARN = r.hub.arn(fmt.Sprintf("insight/%s/custom/00000000-0000-4000-8000-%012d", r.hub.account, r.hub.insightsMade))
	r.hub.insights = append(r.hub.insights, in)
	return map[string]string{"InsightArn": in.ARN}, nil
}

// updateInsight changes the members that the input has.
func updateInsight(r *request, i int) (any, error) {
	var change insight
	if err := r.input(&change); err != nil {
		return nil, err
	}
	in := r.hub.insights[i]
	in.Name = cmp.Or(change.Name, in.Name)
	in.GroupByAttribute = cmp.Or(change.GroupByAttribute, in.GroupByAttribute)
	if change.Filters != nil {
		in.Filters = change.Filters
	}
	if _, err := in.check(r.hub); err != nil {
		return nil, err
	}
	r.hub.insights[i] = in
	return none, nil
}

func deleteInsight(r *request, i int) (any, error) {
	r.hub.insights = slices.Delete(r.hub.insights, i, i+1)
	return map[string]string{"InsightArn": r.arn}, nil
}

func getInsights(r *request, _ int) (any, error) {
	var input struct {
		InsightArns []string
		NextToken   string
		MaxResults  json.Number
	}
	if err := r.input(&input); err != nil {
		return nil, err
	}
	found := slices.Clone(r.hub.insights)
	if len(input.InsightArns) > 0 {
		found = nil
	}
	for _, arn := range input.InsightArns {
		i, err := r.hub.insightIndex(arn)
		if err != nil {
			return nil, err
		}
		found = append(found, r.hub.insights[i])
	}
	part, next, err := page(r, found, input.NextToken, input.MaxResults.String())
	return struct {
		Insights  []insight
		NextToken string `json:",omitempty"`
	}{part, next}, err
}

// getInsightResults counts the findings of an insight by value and returns the 100 most frequent
// values.
func getInsightResults(r *request, i int) (any, error) {
	type count struct {
		GroupByAttributeValue string
		Count                 int
	}
	r.hub.expire()
	in := r.hub.insights[i]
	wanted, err := in.check(r.hub)
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for _, record := range r.hub.order {
		values := map[string]bool{} // a finding counts once for each value
		for _, v := range attributes[in.GroupByAttribute].values(record.content) {
			values[fmt.Sprint(v)] = wanted(record.content)
		}
		for v, counted := range values {
			if counted {
				counts[v]++
			}
		}
	}
	results := []count{}
	for _, value := range slices.Sorted(maps.Keys(counts)) {
		results = append(results, count{value, counts[value]})
	}
	slices.SortStableFunc(results, func(a, b count) int { return b.Count - a.Count })
	return map[string]any{"InsightResults": map[string]any{
		"InsightArn": in.ARN, "GroupByAttribute": in.GroupByAttribute, "ResultValues": results[:min(len(results), 100)],
	}}, nil
}
