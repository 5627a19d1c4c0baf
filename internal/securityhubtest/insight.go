package securityhubtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// maxInsights is a quota of the account.
// https://docs.aws.amazon.com/general/latest/gr/sechub.html
const maxInsights = 100

// Insight is a saved filter with an attribute to group by.
type Insight struct {
	ARN     string `json:"InsightArn"`
	Name    string // 1 to 128 characters
	Filters json.RawMessage
	// GroupByAttribute is the name of an attribute of Filters: "ResourceId".
	GroupByAttribute string
}

func (h *Hub) checkInsight(in Insight) error {
	if faults := faultsOf(text(128), any(in.Name)); len(faults) > 0 {
		return invalidInput("Invalid parameter 'Name'. %s.", faults[0])
	}
	filters, err := decodeObject(in.Filters)
	if err != nil {
		return invalidInput("Invalid parameter 'Filters'. It should be object: %v", err)
	}
	if _, err := compileFilters(filters, h.now()); err != nil {
		return err
	}
	if a, ok := attributes[in.GroupByAttribute]; !ok || a.kind != stringFilter {
		return invalidInput("Invalid parameter 'GroupByAttribute'. %q is no attribute to group by.", in.GroupByAttribute)
	}
	return nil
}

// CreateInsight keeps an insight and returns its ARN. in.ARN is ignored.
func (h *Hub) CreateInsight(in Insight) (arn string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.needOn(); err != nil {
		return "", err
	}
	if err := h.checkInsight(in); err != nil {
		return "", err
	}
	if len(h.insights) >= maxInsights {
		return "", limitExceeded("%d insights exist, the quota", maxInsights)
	}
	h.insightsMade++
	in.ARN = h.arn(fmt.Sprintf("insight/%s/custom/00000000-0000-4000-8000-%012d", h.account, h.insightsMade))
	h.insights = append(h.insights, in)
	return in.ARN, nil
}

// UpdateInsight changes what is not empty in change of the insight with its ARN.
func (h *Hub) UpdateInsight(change Insight) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, err := h.insightIndex(change.ARN)
	if err != nil {
		return err
	}
	in := h.insights[i]
	in.Name = cmp.Or(change.Name, in.Name)
	in.GroupByAttribute = cmp.Or(change.GroupByAttribute, in.GroupByAttribute)
	if len(change.Filters) > 0 {
		in.Filters = change.Filters
	}
	if err := h.checkInsight(in); err != nil {
		return err
	}
	h.insights[i] = in
	return nil
}

// DeleteInsight forgets an insight.
func (h *Hub) DeleteInsight(arn string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, err := h.insightIndex(arn)
	if err != nil {
		return err
	}
	h.insights = slices.Delete(h.insights, i, i+1)
	return nil
}

// Insights returns the insights with these ARNs, or all where none is given.
func (h *Hub) Insights(arns ...string) ([]Insight, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.needOn(); err != nil {
		return nil, err
	}
	if len(arns) == 0 {
		return slices.Clone(h.insights), nil
	}
	var found []Insight
	for _, arn := range arns {
		i, err := h.insightIndex(arn)
		if err != nil {
			return nil, err
		}
		found = append(found, h.insights[i])
	}
	return found, nil
}

func (h *Hub) insightIndex(arn string) (int, error) {
	if err := h.needOn(); err != nil {
		return 0, err
	}
	i := slices.IndexFunc(h.insights, func(in Insight) bool { return in.ARN == arn })
	if i < 0 {
		return 0, notFound("Insight %s not found", arn)
	}
	return i, nil
}

type insightResults struct {
	InsightArn, GroupByAttribute string
	ResultValues                 []insightCount
}

type insightCount struct {
	GroupByAttributeValue string
	Count                 int
}

// insightResults counts the findings of an insight: the 100 most frequent values.
func (h *Hub) insightResults(arn string) (insightResults, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, err := h.insightIndex(arn)
	if err != nil {
		return insightResults{}, err
	}
	h.forget()
	in := h.insights[i]
	filters, err := decodeObject(in.Filters)
	if err != nil {
		return insightResults{}, err
	}
	wanted, err := compileFilters(filters, h.now())
	if err != nil {
		return insightResults{}, err
	}
	counts := map[string]int{}
	for _, r := range h.order {
		if !wanted(r.content) {
			continue
		}
		values := map[any]bool{} // a finding counts once for each
		for _, v := range attributes[in.GroupByAttribute].values(r.content) {
			values[v] = true
		}
		for v := range values {
			counts[fmt.Sprint(v)]++
		}
	}
	results := insightResults{in.ARN, in.GroupByAttribute, []insightCount{}}
	for _, value := range slices.Sorted(maps.Keys(counts)) {
		results.ResultValues = append(results.ResultValues, insightCount{value, counts[value]})
	}
	slices.SortStableFunc(results.ResultValues, func(a, b insightCount) int { return b.Count - a.Count })
	results.ResultValues = results.ResultValues[:min(len(results.ResultValues), 100)]
	return results, nil
}
