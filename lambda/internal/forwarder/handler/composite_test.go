package handler_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/correlation"
)

// composite is a message of the correlator. Its rule's digest is the name and "-digest".
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

// Within a day of the deployment, the schedule archives what no rule will end.
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
			// A message from before the deployment raises nothing; the rule's return begins anew.
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
