package securityhubtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Quotas per account and Region.
// https://docs.aws.amazon.com/general/latest/gr/sechub.html
const (
	maxInsights = 100
	maxActions  = 50
)

// saved is an object that a customer saves in a hub: an insight or a custom action.
type saved interface{ arn() string }

// onSaved calls f if the hub is enabled, with the list and the index of the object that the path
// names, -1 if it names none.
func onSaved[T saved](kind string, list func(*Hub) *[]T, f func(r *request, all *[]T, i int) (any, error)) func(r *request) (any, error) {
	return func(r *request) (any, error) {
		r.hub.mu.Lock()
		defer r.hub.mu.Unlock()
		if err := r.hub.needOn(); err != nil {
			return nil, err
		}
		all, i := list(r.hub), -1
		if r.arn != "" {
			var err error
			if i, err = indexOf(kind, *all, r.arn); err != nil {
				return nil, err
			}
		}
		return f(r, all, i)
	}
}

func indexOf[T saved](kind string, all []T, arn string) (int, error) {
	i := slices.IndexFunc(all, func(each T) bool { return each.arn() == arn })
	if i < 0 {
		return 0, notFound("%s %s not found", kind, arn)
	}
	return i, nil
}

// getSaved returns all objects in pages. It does not support ARNs.
func getSaved[T saved](member string) func(r *request, all *[]T, i int) (any, error) {
	return func(r *request, all *[]T, _ int) (any, error) {
		var input struct {
			NextToken  string
			MaxResults *int
		}
		if err := r.input(&input); err != nil {
			return nil, err
		}
		return page(r, member, *all, "", input.NextToken, input.MaxResults)
	}
}

func deleteSaved[T saved](member string) func(r *request, all *[]T, i int) (any, error) {
	return func(r *request, all *[]T, i int) (any, error) {
		*all = slices.Delete(*all, i, i+1)
		return map[string]string{member: r.arn}, nil
	}
}

func insights(h *Hub) *[]insight           { return &h.insights }
func actionTargets(h *Hub) *[]actionTarget { return &h.actions }

// insight is a saved filter with an attribute to group by, such as "ResourceId".
type insight struct {
	ARN              string `json:"InsightArn"`
	Name             string // 1 to 128 characters
	Filters          object
	GroupByAttribute string
}

func (in insight) arn() string { return in.ARN }

func (in insight) check() error {
	if faults := faultsOf(text(128), any(in.Name)); len(faults) > 0 {
		return invalidInput("Invalid parameter 'Name'. %s.", faults[0])
	}
	if in.Filters == nil {
		return invalidInput("Invalid parameter 'Filters'. It should be object.")
	}
	if a, ok := attributes[in.GroupByAttribute]; !ok || a.kind != stringFilter {
		return invalidInput("Invalid parameter 'GroupByAttribute'. %q is not an attribute to group by.", in.GroupByAttribute)
	}
	_, err := compileFilters(in.Filters)
	return err
}

func createInsight(r *request, all *[]insight, _ int) (any, error) {
	var in insight
	if err := r.input(&in); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	if len(*all) >= maxInsights {
		return nil, limitExceeded("%d insights exist, which is the quota: delete one", maxInsights)
	}
	r.hub.insightsMade++
	in.ARN = r.hub.arn(fmt.Sprintf("insight/%s/custom/00000000-0000-4000-8000-%012d", r.hub.account, r.hub.insightsMade))
	*all = append(*all, in)
	return map[string]string{"InsightArn": in.ARN}, nil
}

// updateInsight changes the members that the input has.
func updateInsight(r *request, all *[]insight, i int) (any, error) {
	var change insight
	if err := r.input(&change); err != nil {
		return nil, err
	}
	in := (*all)[i]
	in.Name = cmp.Or(change.Name, in.Name)
	in.GroupByAttribute = cmp.Or(change.GroupByAttribute, in.GroupByAttribute)
	if change.Filters != nil {
		in.Filters = change.Filters
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	(*all)[i] = in
	return none, nil
}

type actionTarget struct {
	ARN         string `json:"ActionTargetArn"`
	Name        string // at most 20 characters
	Description string
}

func (a actionTarget) arn() string { return a.ARN }

func (a actionTarget) check(more ...string) error {
	faults := append(more, append(faultsOf(text(20), any(a.Name)), faultsOf(text(0), any(a.Description))...)...)
	if len(faults) > 0 {
		return invalidInput("Invalid parameter. %s.", strings.Join(faults, ", "))
	}
	return nil
}

func createActionTarget(r *request, all *[]actionTarget, _ int) (any, error) {
	var input struct {
		ID                string `json:"Id"`
		Name, Description string
	}
	if err := r.input(&input); err != nil {
		return nil, err
	}
	a := actionTarget{r.hub.arn("action/custom/" + input.ID), input.Name, input.Description}
	if err := a.check(faultsOf(pattern(`^[a-zA-Z0-9]{1,20}$`), any(input.ID))...); err != nil {
		return nil, err
	}
	if _, err := indexOf("", *all, a.ARN); err == nil {
		return nil, conflict("Action with Id: %s already exists", input.ID)
	}
	if len(*all) >= maxActions {
		return nil, limitExceeded("%d custom actions exist, which is the quota: delete one", maxActions)
	}
	*all = append(*all, a)
	return map[string]string{"ActionTargetArn": a.ARN}, nil
}
