package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

// toHub waits until Security Hub has all findings that are not suppressed, and sets their states in
// the rows.
func (r run) toHub(ctx context.Context, s *cli.Session, rows []Finding) error {
	waiting := map[string]*Finding{}
	for i, f := range rows {
		if f.Hub != suppressed && f.FindingID != "" {
			waiting[f.FindingID] = &rows[i]
		}
	}
	if r.wait == 0 || len(waiting) == 0 {
		return nil
	}
	s.Say("waiting up to %s for %s in Security Hub; Ctrl-C shows the findings found so far", r.wait, count(len(waiting), "finding"))
	begin, last := time.Now(), time.Now()
	interval := r.poll
	for first := true; ; first = false {
		err := r.look(ctx, waiting)
		if err == nil && len(waiting) > 0 && (first || time.Since(begin) >= r.wait) {
			err = r.earlier(ctx, waiting)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil // the rows have the states that were found before
			}
			return err
		}
		if len(waiting) == 0 {
			s.Say("all findings are in Security Hub after %s", time.Since(begin).Round(time.Second))
			return nil
		}
		if time.Since(begin) >= r.wait {
			break
		}
		if time.Since(last) >= time.Minute {
			last = time.Now()
			s.Say("missing after %[2]s: %[1]s", count(len(waiting), "finding"), time.Since(begin).Round(time.Second))
		}
		if pause(ctx, interval) != nil {
			return nil
		}
		interval = min(interval*2, 30*time.Second) // all callers in the account share the quota
	}
	for _, f := range waiting {
		f.Hub = missing
	}
	return cli.Todo(fmt.Sprintf("missing in Security Hub after %s: %s. defenderhub doctor checks the integration", r.wait, count(len(waiting), "finding")))
}

// look sets the states of findings that Security Hub has, and removes them from waiting.
func (r run) look(ctx context.Context, waiting map[string]*Finding) error {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(waiting)), hub.ValuesPerFilter) {
		var generators []hubtypes.StringFilter
		for _, id := range ids {
			generators = append(generators, hubtypes.StringFilter{Comparison: hubtypes.StringFilterComparisonEquals, Value: aws.String(id)})
		}
		// Both AWS's integration and the forwarder write the finding's ID as generator. Each audit gives
		// its findings new IDs.
		pages := securityhub.NewGetFindingsPaginator(r.hub, &securityhub.GetFindingsInput{
			Filters: &hubtypes.AwsSecurityFindingFilters{GeneratorId: generators}, MaxResults: aws.Int32(100),
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return hub.Explain(err)
			}
			for _, f := range page.Findings {
				if row := waiting[aws.ToString(f.GeneratorId)]; row != nil {
					row.Hub = hubState(f.RecordState)
					delete(waiting, row.FindingID)
				}
			}
		}
	}
	return nil
}

// earlier sets the states of findings that Security Hub has as ACTIVE from an earlier audit, and
// removes them from waiting. They keep that audit's generator: the forwarder does not import an
// unchanged repeat for 30 days. Whether AWS's integration does is not documented.
func (r run) earlier(ctx context.Context, waiting map[string]*Finding) error {
	type identity struct{ check, reason, resource string }
	rows := map[identity]*Finding{}
	checks := map[string]bool{}
	for _, row := range waiting {
		checks[row.Check], checks[current(row.Check)] = true, true
		rows[identity{current(row.Check), row.Reason, row.Resource}] = row
	}
	found, err := hub.Find(ctx, r.hub, r.region, hub.Query{Checks: slices.Sorted(maps.Keys(checks)), State: asff.Active})
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Account != r.account || f.Region != r.region || len(f.Resources) == 0 {
			continue // of a member account, or of another Region that is aggregated here
		}
		resource := f.Resources[0].ID
		if version := f.ProductFields["PolicyVersionId"]; version != "" {
			resource += ":" + version
		}
		if row := rows[identity{current(f.Check), f.ProductFields["ReasonForNonComplianceCode"], resource}]; row != nil {
			row.Hub = hubState(f.RecordState)
			delete(waiting, row.FindingID)
		}
	}
	return nil
}

// current returns the current name of a check, which AWS may have renamed.
func current(check string) string {
	if c, err := defender.ParseCheck(check); err == nil {
		return c.String()
	}
	return check
}
