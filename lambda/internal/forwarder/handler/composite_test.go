package handler_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/correlation"
)

// composite returns a message of the correlator. Its rule's digest is the name and "-digest".
func (r *rig) composite(rule, thing string, state asff.RecordState, revision time.Time) events.SQSMessage {
	r.t.Helper()
	text, err := json.Marshal(correlation.Composite{
		Rule: rule, Digest: rule + "-digest", Account: account, Region: region, Kind: correlation.Thing, Entity: thing, Title: "t", Remedy: "r",
		Revision: revision.UnixMilli(), Time: start.UnixMilli(), State: state, Severity: correlation.Label(defender.Critical),
		Resources: []asff.Resource{{Type: "AwsIotRegisteredThing", ID: thing}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.message(string(text))
}

// rules deploys these rules, and the behavior large.
func (r *rig) rules(names ...string) {
	r.deploy(live("large"))
	r.sweeper.Rules = correlation.LiveRules{}
	for _, name := range names {
		r.sweeper.Rules[name+"-digest"] = true
	}
	r.handler.Rules = r.sweeper.Rules
}

// stolen and chain are the IDs of the tests' composite findings.
const stolen, chain = "correlation/us-east-1/stolen/pump-7", "correlation/us-east-1/chain/pump-7"

func TestCompositeFindingsFollowTheRevision(t *testing.T) {
	r := newRig(t)
	r.rules("stolen")
	r.must(r.composite("stolen", "pump-7", asff.Archived, start.Add(2)), r.composite("stolen", "pump-7", asff.Active, start.Add(time.Second)))
	r.want(map[string]string{stolen: "ACTIVE"})
	r.must(r.composite("stolen", "pump-7", asff.Archived, start.Add(3*time.Second)))
	r.must(r.composite("stolen", "pump-7", asff.Active, start.Add(2*time.Second)))
	r.want(map[string]string{stolen: "ARCHIVED"})
	r.must(r.composite("stolen", "pump-7", asff.Active, start.Add(4*time.Second)))
	r.want(map[string]string{stolen: "ACTIVE"})
}

// After a deployment, the schedule archives the composite findings of removed rules.
func TestCompositeFindingsOfRemovedRulesAreArchived(t *testing.T) {
	for name, after := range map[string][]string{"removed": {"chain"}, "renamed": {"chain", "stolen-identity"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.rules("stolen", "chain")
			r.must(r.composite("stolen", "pump-7", asff.Active, start), r.composite("chain", "pump-7", asff.Active, start), r.alarm("pump-7", "large"))
			r.refresh(time.Hour)
			r.refresh(time.Hour)
			open := map[string]string{stolen: "ACTIVE", chain: "ACTIVE", "behavior/us-east-1/plant/large/pump-7": "ACTIVE"}
			r.want(open)
			r.rules(after...)
			r.refresh(time.Hour)
			r.refresh(time.Hour)
			open[stolen] = "ARCHIVED"
			r.want(open)
			// A message from before the deployment raises no finding. Once the rule is deployed again, the
			// next message does.
			r.must(r.composite("stolen", "pump-7", asff.Active, r.now))
			r.want(open)
			r.rules("stolen", "chain")
			r.must(r.composite("stolen", "pump-7", asff.Active, r.now.Add(time.Second)))
			open[stolen] = "ACTIVE"
			r.want(open)
		})
	}
}

func TestWithoutCorrelationEveryCompositeFindingIsArchived(t *testing.T) {
	r := newRig(t)
	r.rules("stolen", "chain")
	r.must(r.composite("stolen", "pump-7", asff.Active, start), r.composite("chain", "pump-7", asff.Active, start))
	r.deploy(live("large"))
	r.handler.Rules = nil
	r.refresh(time.Hour)
	r.want(map[string]string{stolen: "ARCHIVED", chain: "ARCHIVED"})
}

// A correlator that has lost its state sends nothing about the composite findings of before. The
// rules are still deployed, so nothing else ends these.
func TestCompositeFindingThatIsNotSentAnyMoreEnds(t *testing.T) {
	r := newRig(t)
	r.rules("stolen", "chain")
	r.must(r.composite("stolen", "pump-7", asff.Active, r.now), r.composite("chain", "pump-7", asff.Active, r.now))
	for range 8 {
		r.must(r.composite("chain", "pump-7", asff.Active, r.now))
		r.refresh(24 * time.Hour)
	}
	r.want(map[string]string{stolen: "ARCHIVED", chain: "ACTIVE"})
	r.must(r.composite("stolen", "pump-7", asff.Active, r.now))
	r.want(map[string]string{stolen: "ACTIVE", chain: "ACTIVE"})
}

// Security Hub accepts a composite finding with everything that one can have.
func TestLargestCompositeFindingIsImported(t *testing.T) {
	r := newRig(t)
	r.rules("stolen")
	c := correlation.Composite{
		Rule: "stolen", Digest: "stolen-digest", Account: account, Region: region, Kind: correlation.Thing, Entity: "pump-7\u202e\x01", Title: strings.Repeat("t", 128), Description: strings.Repeat("d", 512),
		Remedy: strings.Repeat("r", 512), Revision: r.now.UnixMilli(), Time: start.UnixMilli(), State: asff.Active, Severity: correlation.Label(defender.Critical), Parts: 200, AtLeast: true,
	}
	for i := range 10 {
		c.Related = append(c.Related, asff.RelatedFinding{ProductARN: "arn:aws:securityhub:us-east-1::product/aws/guardduty", ID: fmt.Sprint(strings.Repeat("i", 500), i)})
		c.Stages = append(c.Stages, correlation.StageParts{Name: strings.Repeat("s", 64), Parts: i})
	}
	details := map[string]string{}
	for i := range 10 {
		details[fmt.Sprint("key-", i)] = strings.Repeat("\u202e", 60)
	}
	for i := range 40 {
		c.Resources = append(c.Resources, asff.Resource{Type: "Other", ID: fmt.Sprint("resource-", i), Region: region, Details: &asff.ResourceDetails{Other: details}})
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	r.must(r.message(string(text)))
	all := r.hub.Findings()
	if len(all) != 1 || all[0].RecordState != "ACTIVE" || len(all[0].Resources) != 32 || len(all[0].FindingProviderFields.Types) != 1 {
		t.Errorf("findings %+v, want one that is active, with 32 resources", all)
	}
}
