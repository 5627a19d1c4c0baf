package mapping_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// stolen returns a composite finding of a live rule.
func stolen() correlation.Composite {
	return correlation.Composite{
		Rule: "stolen-identity", Digest: "abcdefgh", Account: account, Region: "us-east-1", Kind: correlation.Thing, Entity: "pump-7",
		Revision: sent.UnixMilli(), Time: sent.UnixMilli(), State: asff.Active, Severity: correlation.Label(defender.Critical), Parts: 3,
		Related: []asff.RelatedFinding{{ProductARN: "p", ID: "1"}, {ProductARN: "p", ID: "2"}},
		Stages:  []correlation.StageParts{{Name: "an identity used twice", Parts: 2}, {Name: "an unknown address", Parts: 1}},
		Title:   "Identity of a device may be stolen", Description: "A client ID is used twice.", Remedy: "Rotate the certificate.",
		Resources: []asff.Resource{{Type: "AwsIotRegisteredThing", ID: "pump-7", Region: "us-east-1"}, {Type: "Other", ID: "pump-7-gateway"}},
	}
}

func mapComposite(t *testing.T, c correlation.Composite) signal.Signal {
	t.Helper()
	m := mapper("us-east-1")
	m.Rules = correlation.LiveRules{"abcdefgh": true}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Composite(text, mapping.Origin{Sent: sent})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCompositeFinding(t *testing.T) {
	s := mapComposite(t, stolen())
	f := s.Finding
	if f.ID != "defenderhub/correlation/us-east-1/stolen-identity/pump-7" || f.GeneratorID != "defenderhub/correlation/stolen-identity" || f.AWSAccountID != account ||
		f.Title != "Identity of a device may be stolen: pump-7." || f.RecordState != asff.Active || f.FindingProviderFields.Severity.Label != "CRITICAL" {
		t.Errorf("finding %+v", f)
	}
	if want := "A client ID is used twice. Open findings: 3 (an identity used twice 2, an unknown address 1)."; f.Description != want {
		t.Errorf("description %q, want %q", f.Description, want)
	}
	if len(f.FindingProviderFields.RelatedFindings) != 2 || len(f.Resources) != 2 || f.Resources[0].ID != "pump-7" || f.Remediation.Recommendation.Text != "Rotate the certificate." {
		t.Errorf("related %v, resources %v", f.FindingProviderFields.RelatedFindings, f.Resources)
	}
	if want := "map[CorrelationEntity:pump-7 CorrelationMore:1 CorrelationParts:3 CorrelationRule:stolen-identity CorrelationStages:an identity used twice 2, an unknown address 1 ThingName:pump-7]"; fmt.Sprint(f.ProductFields) != want {
		t.Errorf("product fields %v, want %s", f.ProductFields, want)
	}
	if s.Profile != "stolen-identity" || s.Behavior != "abcdefgh" || !s.Removable() {
		t.Errorf("signal %+v", s)
	}
}

func TestVersionsOfACompositeFinding(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*correlation.Composite)
		want   func(before, after signal.Signal) bool
	}{
		{"grows", func(c *correlation.Composite) { c.Parts++; c.Revision++ }, func(a, b signal.Signal) bool {
			return b.Order.Compare(a.Order) > 0 && a.Digest != b.Digest && strings.Contains(b.Finding.Description, "Open findings: 4 (")
		}},
		{"repeats", func(c *correlation.Composite) { c.Revision++ }, func(a, b signal.Signal) bool { return a.Digest == b.Digest }},
		{"sent late", func(c *correlation.Composite) { c.Time += time.Hour.Milliseconds() }, func(a, b signal.Signal) bool { return a.Order == b.Order && b.Time == sent.UnixMilli() }},
		{"ends", func(c *correlation.Composite) {
			c.State, c.End, c.Parts, c.Related = asff.Archived, correlation.WindowPassed, 0, nil
		}, func(_, b signal.Signal) bool {
			return b.Finding.RecordState == asff.Archived && strings.HasSuffix(b.Finding.Description, "Open findings: 0. It ended because the rule's window passed without a new part. Parts may still be active.")
		}},
		{"of a removed rule", func(c *correlation.Composite) { c.Digest = "removed!" }, func(a, b signal.Signal) bool {
			return b.Finding.RecordState == asff.Archived && b.Order.Compare(a.Order) > 0 && strings.Contains(b.Finding.Description, "The rule was removed or changed")
		}},
		{"of another account", func(c *correlation.Composite) { c.Account, c.AtLeast = "111122223333", true }, func(_, b signal.Signal) bool {
			return b.Finding.AWSAccountID == account && strings.HasSuffix(b.Finding.ID, "/pump-7/111122223333/us-east-1") &&
				strings.Contains(b.Finding.Description, "at least 3") && strings.Contains(b.Finding.Description, "They are in account 111122223333, Region us-east-1.")
		}},
		{"of a campaign", func(c *correlation.Composite) {
			c.Kind, c.Entity, c.Key, c.Stages = correlation.Campaign, "", "behavior b", nil
		}, func(_, b signal.Signal) bool {
			return b.Finding.Title == "Identity of a device may be stolen: behavior b." && strings.Contains(b.Finding.Description, "Open devices: 3.") && b.Finding.ProductFields["ThingName"] == ""
		}},
		{"with a hostile name", func(c *correlation.Composite) { c.Entity = "a\u202e\nb" }, func(_, b signal.Signal) bool {
			return strings.HasSuffix(b.Finding.Title, ": a  b.") && strings.HasSuffix(b.Finding.ID, "/a%E2%80%AE%0Ab")
		}},
	} {
		changed := stolen()
		c.change(&changed)
		if before, after := mapComposite(t, stolen()), mapComposite(t, changed); !c.want(before, after) {
			t.Errorf("%s: got %+v\nbefore %+v", c.name, after, before)
		}
	}
	if _, err := mapper("us-east-1").Composite([]byte(`{"source":"correlation"}`), mapping.Origin{Sent: sent}); err == nil {
		t.Error("no error for a message without a rule")
	}
}
