package handler_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/notification"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
)

// imported returns the event of a finding that the forwarder imports.
func imported(t *testing.T, f map[string]any, at time.Time) string {
	t.Helper()
	f["UpdatedAt"], f["CreatedAt"] = at.Format(time.RFC3339Nano), at.Format(time.RFC3339Nano)
	event, err := json.Marshal(map[string]any{
		"source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported", "account": account, "region": region, "time": at.Format(time.RFC3339),
		"detail": map[string]any{"findings": []any{f}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(event)
}

// Each kind of finding that the forwarder makes has a readable message.
func TestEachFindingOfTheForwarderHasAMessage(t *testing.T) {
	files, err := filepath.Glob("../../forwarder/mapping/testdata/findings/*.json")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, error %v; want at least 40", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var signals []struct{ Finding map[string]any }
		if err := json.Unmarshal(text, &signals); err != nil {
			t.Fatal(err)
		}
		for _, s := range signals {
			r := newRig(t, notification.Config{Filters: []notification.Filter{{Severity: correlation.Label(defender.Informational)}}})
			r.send(imported(t, s.Finding, noon))
			r.run(noon.Add(time.Minute))
			fields, _ := s.Finding["ProductFields"].(map[string]any)
			// A check summary that only counts findings has no message.
			if s.Finding["RecordState"] == "ARCHIVED" || fields["CheckRunStatus"] == "COMPLETED_NON_COMPLIANT" {
				if len(r.published) != 0 {
					t.Errorf("%s: people received %q, want no message", file, r.messages())
				}
				continue
			}
			if len(r.published) != 2 || r.count(contract.MetricRefused) > 0 {
				t.Errorf("%s: %d messages, %d refused; want one per topic and none", file, len(r.published), r.count(contract.MetricRefused))
				continue
			}
			about := regexp.MustCompile(`\n(Device|Resource)        ? +\S`)
			body := r.published[0].body
			for _, want := range []string{"What happened   ", "\nSince           ", "\nWhy it matters  ", "\nWhat to do      ", "\nSecurity Hub    https://"} {
				if !strings.Contains(body, want) {
					t.Errorf("%s lacks %q:\n%s", file, want, body)
				}
			}
			if !about.MatchString(body) {
				t.Errorf("%s names neither a device nor a resource:\n%s", file, body)
			}
		}
	}
}

// The composite finding that the forwarder imports covers the parts that the correlator put into it.
func TestCompositeOfTheForwarderCoversItsParts(t *testing.T) {
	composite := correlation.Composite{
		Rule: "chain", Digest: "abcdefgh", Account: account, Region: region, Kind: correlation.Thing, Entity: "pump-7",
		Revision: noon.UnixMilli(), Time: noon.UnixMilli(), State: asff.Active, Severity: correlation.Label(defender.Critical), Parts: 2,
		Related: []asff.RelatedFinding{{ProductARN: product, ID: "defenderhub/behavior/named"}}, Title: "Compromise chain", Description: "d", Remedy: "r",
		Resources: []asff.Resource{{Type: "AwsIotRegisteredThing", ID: "pump-7"}, {Type: "Other", ID: "i-0123"}},
	}
	campaign := composite
	campaign.Rule, campaign.Kind, campaign.Entity, campaign.Key, campaign.Parts, campaign.Related = "storm", correlation.Campaign, "", "behavior loud", 40, nil
	campaign.Resources = []asff.Resource{{Type: "AwsIotRegisteredThing", ID: "pump-1"}}
	m := mapping.Mapper{Account: account, Partition: "aws", Region: region, Rules: correlation.LiveRules{"abcdefgh": true}}
	r := newRig(t, notification.Config{Rules: rules, HoldSeconds: 60})
	for _, c := range []correlation.Composite{composite, campaign} {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.Composite(text, mapping.Origin{Sent: noon})
		if err != nil {
			t.Fatal(err)
		}
		text, err = json.Marshal(s.Finding.Fit())
		if err != nil {
			t.Fatal(err)
		}
		var finding map[string]any
		if err := json.Unmarshal(text, &finding); err != nil {
			t.Fatal(err)
		}
		r.send(imported(t, finding, noon))
	}
	alias := finding{name: "i-0123", behavior: "bytes", severity: "HIGH", at: noon, more: map[string]any{"Resources": []map[string]string{{"Type": "AwsEc2Instance", "Id": "i-0123"}}}}
	named := finding{name: "x", severity: "HIGH", at: noon, more: map[string]any{"Id": "defenderhub/behavior/named"}}
	for _, part := range []finding{{name: "pump-7", severity: "HIGH", at: noon}, alias, named, {name: "pump-4", behavior: "loud", severity: "HIGH", at: noon}} {
		r.send(part.event())
	}
	r.send(finding{name: "pump-1", behavior: "quiet", severity: "HIGH", at: noon}.event()) // on a device of the campaign, with another behavior
	r.run(noon.Add(5 * time.Minute))
	got := strings.Join(sorted(r.messages()), "\n")
	want := "CRITICAL incident, new: Compromise chain: behavior loud.\nCRITICAL incident, new: Compromise chain: pump-7.\nHIGH finding, new: pump-1 violates quiet"
	if got != want || r.count(contract.MetricCovered) != 4 {
		t.Errorf("%d covered, want 4; people received\n%s\nwant\n%s", r.count(contract.MetricCovered), got, want)
	}
	for _, p := range r.published {
		if p.topic == people && strings.Contains(p.subject, "loud") && !strings.Contains(p.body, "40 devices; their findings send no messages of their own") {
			t.Errorf("the message of the campaign does not count its devices:\n%s", p.body)
		}
	}
}
