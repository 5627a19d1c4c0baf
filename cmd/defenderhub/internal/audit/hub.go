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
	for {
		if err := r.look(ctx, waiting); err != nil {
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
		// Both AWS's integration and the forwarder write the finding's ID as generator.
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
