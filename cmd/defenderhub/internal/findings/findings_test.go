package findings

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
)

func TestOptionsBecomeAQuery(t *testing.T) {
	q, err := (&Filter{
		devices: []string{"pump-7"}, checks: []string{"LOGGING_DISABLED_CHECK"}, severity: "high", state: "ALL",
	}).Query()
	if err != nil || q.Devices[0] != "pump-7" || q.Checks[0] != "LOGGING_DISABLED_CHECK" || q.Severity != defender.High || q.State != "" {
		t.Errorf("query %+v, error %v, want the device, the check, HIGH and all states", q, err)
	}
	if q, err := (&Filter{state: "active"}).Query(); err != nil || q.State != asff.Active || !q.Since.IsZero() {
		t.Errorf("query %+v, error %v, want the active findings since any time", q, err)
	}
	for _, tt := range []struct {
		filter Filter
		want   string
	}{
		{Filter{state: "all", checks: []string{"SHARED"}}, "--check"},
		{Filter{state: "all", severity: "grave"}, "--severity"},
		{Filter{state: "open"}, "--state is"},
		{Filter{state: "all", devices: []string{""}}, "need a name"},
		{Filter{state: "all", behaviors: []string{""}}, "need a name"},
	} {
		if _, err := tt.filter.Query(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want one that says %q", tt.filter, err, tt.want)
		}
	}
}

// fake has an incident with two parts, and another finding with the ID of a part.
type fake struct{}

func (fake) GetFindings(_ context.Context, in *securityhub.GetFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	at := aws.String("2026-11-30T03:00:00.000Z")
	finding := func(product, id string) types.AwsSecurityFinding {
		return types.AwsSecurityFinding{ProductArn: &product, Id: &id, Title: aws.String("t"), CreatedAt: at, UpdatedAt: at}
	}
	incident := finding("own", "incident")
	incident.RelatedFindings = []types.RelatedFinding{{ProductArn: aws.String("own"), Id: aws.String("a")}, {ProductArn: aws.String("guardduty"), Id: aws.String("b")}}
	out := &securityhub.GetFindingsOutput{}
	for _, f := range []types.AwsSecurityFinding{incident, finding("own", "a"), finding("guardduty", "b"), finding("other", "a"), finding("own", "c")} {
		for _, id := range in.Filters.Id {
			if aws.ToString(id.Value) == aws.ToString(f.Id) {
				out.Findings = append(out.Findings, f)
			}
		}
	}
	return out, nil
}

func TestIncidentIsListedWithItsParts(t *testing.T) {
	rows, err := list(t.Context(), fake{}, "eu-west-1", "incident", hub.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, r.ProductARN+"/"+r.ID)
	}
	if want := "own/incident guardduty/b own/a"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if _, err := list(t.Context(), fake{}, "eu-west-1", "none\x1b", hub.Query{}); err == nil || !strings.Contains(err.Error(), `none\x1b`) {
		t.Errorf("an unknown incident: error %v, want one with the escaped ID", err)
	}
}
