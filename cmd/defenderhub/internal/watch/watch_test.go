package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/findings"
	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
)

// change is a change of a finding. Security Hub has it from at on, counted from the beginning. Its
// UpdatedAt is delay older.
type change struct {
	at, delay       time.Duration
	id, state, flow string
}

type history struct {
	begin   time.Time
	changes []change
	since   []time.Duration // how far before the call each query begins
}

func (h *history) GetFindings(_ context.Context, in *securityhub.GetFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	out := &securityhub.GetFindingsOutput{}
	since, err := time.Parse(time.RFC3339, *in.Filters.UpdatedAt[0].Start)
	if err != nil || in.Filters.ProductArn != nil {
		return out, err
	}
	if len(in.Filters.Id) > 0 {
		h.since = append(h.since, time.Since(since))
	}
	latest := map[string]change{}
	for _, c := range h.changes {
		if time.Since(h.begin) >= c.at {
			latest[c.id] = c
		}
	}
	for _, c := range latest {
		updated := h.begin.Add(c.at - c.delay)
		if updated.Before(since) {
			continue
		}
		at := aws.String(updated.Format(time.RFC3339))
		out.Findings = append(out.Findings, types.AwsSecurityFinding{
			Id: aws.String("defenderhub/" + c.id), ProductArn: aws.String("own"), Title: aws.String(c.id + "\x1b"), RecordState: types.RecordState(c.state),
			CreatedAt: at, UpdatedAt: at, Workflow: &types.Workflow{Status: types.WorkflowStatus(c.flow)},
		})
	}
	return out, nil
}

func TestEachChangeIsPrintedOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		last time.Duration
		want string
	}{
		"from now on":       {0, "b ACTIVE NEW|b ARCHIVED NEW|late ACTIVE NEW|b ARCHIVED RESOLVED"},
		"the last hour too": {time.Hour, "a ACTIVE NEW|b ACTIVE NEW|b ARCHIVED NEW|late ACTIVE NEW|b ARCHIVED RESOLVED"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &history{begin: time.Now(), changes: []change{
					{at: -2 * time.Minute, id: "a", state: "ACTIVE", flow: "NEW"},
					{at: 20 * time.Second, id: "b", state: "ACTIVE", flow: "NEW"},
					{at: 50 * time.Second, id: "b", state: "ARCHIVED", flow: "NEW"},
					{at: 80 * time.Second, delay: time.Minute, id: "late", state: "ACTIVE", flow: "NEW"},
					{at: 95 * time.Second, delay: 45 * time.Second, id: "b", state: "ARCHIVED", flow: "RESOLVED"}, // an analyst's change
				}}
				var out bytes.Buffer
				s := &cli.Session{Out: &out, Err: new(bytes.Buffer), JSON: true}
				if err := watch(t.Context(), s, h, "eu-west-1", hub.Query{}, 10*time.Second, tt.last, 2*time.Minute); err != nil {
					t.Fatal(err)
				}
				var got []string
				for line := range strings.Lines(out.String()) {
					var r findings.Row
					if err := json.Unmarshal([]byte(line), &r); err != nil {
						t.Fatal(err)
					}
					got = append(got, strings.TrimPrefix(r.ID, "defenderhub/")+" "+string(r.State)+" "+r.Workflow)
				}
				if strings.Join(got, "|") != tt.want || strings.Contains(out.String(), "\x1b") {
					t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), tt.want)
				}
			})
		})
	}
}

// Findings of an audit may reach Security Hub an hour after a newer finding. They are printed once,
// and not every query reads the last hours.
func TestLateFindingIsPrintedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &history{begin: time.Now(), changes: []change{
			{at: -3 * time.Hour, id: "old", state: "ACTIVE", flow: "NEW"},
			{at: time.Minute, id: "new", state: "ACTIVE", flow: "NEW"},
			{at: 2 * time.Minute, delay: 51 * time.Minute, id: "late", state: "ACTIVE", flow: "NEW"},
		}}
		var out bytes.Buffer
		s := &cli.Session{Out: &out, Err: new(bytes.Buffer)}
		if err := watch(t.Context(), s, h, "eu-west-1", hub.Query{}, 10*time.Second, 0, 21*time.Minute); err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			got = append(got, strings.Split(strings.TrimSuffix(line, "\n"), "\t")[5])
		}
		if want := `new\x1b late\x1b`; strings.Join(got, " ") != want {
			t.Errorf("printed %s, want %s", strings.Join(got, " "), want)
		}
		wide := 0
		for _, d := range h.since {
			if d > time.Hour {
				wide++
			}
		}
		if wide != 5 || len(h.since) < 100 {
			t.Errorf("%d of %d queries read more than the last hour, want 5 in 21 minutes", wide, len(h.since))
		}
	})
}

func TestCanceledContextEndsWatch(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.DeadlineExceeded)
	s := &cli.Session{Out: new(bytes.Buffer), Err: new(bytes.Buffer)}
	if err := watch(ctx, s, &history{begin: time.Now()}, "eu-west-1", hub.Query{}, time.Hour, 0, 0); err != context.DeadlineExceeded {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
}
