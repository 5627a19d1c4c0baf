package handler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/entity"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
)

// task is one piece of work, and how to do it.
type task struct {
	*work
	do func(truth map[string]incident.Part) error
}

// process does all work of a batch. It asks Security Hub once about all findings with a tie, and
// then does their work again. It adds the messages of failed work to failed.
func (h *Handler) process(ctx context.Context, home entity.Home, b *batch, now time.Time, failed *failures) {
	var tasks []task
	for _, w := range sorted(b.shared) {
		tasks = append(tasks, task{w, func(truth map[string]incident.Part) error { return h.visitShared(ctx, home, w, truth, now) }})
	}
	for _, w := range sorted(b.entities) {
		tasks = append(tasks, task{w, func(truth map[string]incident.Part) error { return h.visit(ctx, home, w, truth, now, false) }})
	}
	for _, w := range sorted(b.campaigns) {
		tasks = append(tasks, task{w, func(truth map[string]incident.Part) error { return h.visitCampaign(ctx, home, w, truth, now) }})
	}
	again, tied := h.doAll(tasks, nil, failed)
	if len(again) == 0 {
		return
	}
	truth, err := h.ask(ctx, tied)
	if err != nil {
		for _, t := range again {
			failed.add(err, t.messages()...)
		}
		return
	}
	unsettled, _ := h.doAll(again, truth, failed)
	for _, t := range unsettled {
		failed.add(errTooManyTies, t.messages()...)
	}
}

// sorted returns work in a fixed order.
func sorted(m map[string]*work) []*work {
	all := make([]*work, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[k])
	}
	return all
}

// doAll does tasks and returns those with ties, and the findings that are tied.
func (h *Handler) doAll(tasks []task, truth map[string]incident.Part, failed *failures) (again []task, tied []incident.Part) {
	for i, err := range forEach(tasks, func(t task) error { return t.do(truth) }) {
		var tie tiedError
		switch {
		case errors.As(err, &tie):
			again, tied = append(again, tasks[i]), append(tied, tie...)
		case err != nil:
			failed.add(err, tasks[i].messages()...)
		}
	}
	return again, tied
}

var (
	errTooManyTies = errors.New("more findings with events of equal times than one call of GetFindings returns")
	errBusy        = errors.New("less than a second since the last call of GetFindings")
)

// maxAsked is how many values a filter of GetFindings has.
// https://docs.aws.amazon.com/securityhub/1.0/APIReference/API_AwsSecurityFindingFilters.html
const maxAsked = 20

// ask reads the present state of findings from Security Hub. The state has the times of the tie
// unless Security Hub returns others. An administrator account has findings of other accounts with
// the same IDs, so the filter names the products too, and the answer may have several pages.
func (h *Handler) ask(ctx context.Context, tied []incident.Part) (map[string]incident.Part, error) {
	byKey := map[string]incident.Part{}
	for _, p := range tied {
		if len(byKey) < maxAsked {
			byKey[p.Key()] = p
		}
	}
	if free, err := h.Store.Slot(ctx, h.Now()); err != nil || !free {
		return nil, errors.Join(err, errBusy)
	}
	var filters types.AwsSecurityFindingFilters
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		f := byKey[key].Finding
		filters.Id = withEqual(filters.Id, f.ID)
		filters.ProductArn = withEqual(filters.ProductArn, f.ProductARN)
	}
	var found []types.AwsSecurityFinding
	for pages := securityhub.NewGetFindingsPaginator(h.SecurityHub, &securityhub.GetFindingsInput{Filters: &filters, MaxResults: aws.Int32(100)}); pages.HasMorePages(); {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("GetFindings: %w", err)
		}
		found = append(found, out.Findings...)
	}
	h.count(unknownProduct, contract.MetricTied, len(byKey))
	truth := map[string]incident.Part{}
	for key, p := range byKey { // a finding that Security Hub no longer has, has ended
		p.History = []incident.Mark{{Order: p.Newest().Order, State: incident.Ended, Severity: p.Newest().Severity}}
		truth[key] = p
	}
	for _, f := range found {
		text, err := json.Marshal(f)
		if err != nil {
			return nil, fmt.Errorf("finding of Security Hub: %w", err)
		}
		e, err := findingevent.ParseFinding(text)
		if err != nil {
			return nil, fmt.Errorf("finding of Security Hub: %w", err)
		}
		p, asked := byKey[e.Key()]
		if !asked {
			continue
		}
		if o := p.Newest().Order; e.Order.Updated.Equal(o.Updated) && (e.Order.Processed.IsZero() || e.Order.Processed.Equal(o.Processed)) {
			e.Order = o
		}
		truth[e.Key()] = partOf(e, incident.Entity{}, h.match(e).stages)
	}
	return truth, nil
}

// withEqual adds a value to a filter, unless the filter has it already.
func withEqual(all []types.StringFilter, value string) []types.StringFilter {
	if slices.ContainsFunc(all, func(f types.StringFilter) bool { return *f.Value == value }) {
		return all
	}
	return append(all, types.StringFilter{Comparison: types.StringFilterComparisonEquals, Value: &value})
}
