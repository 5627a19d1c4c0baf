package mapping_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/signal"
)

// Restate does not change a finding that was just mapped. It restores all restated fields in a finding
// of an older program.
func TestRestatedFindingIsAsNew(t *testing.T) {
	m, sources := wholeEngine(), map[defender.Source]bool{}
	shared := 0
	for name, signals := range recorded(t) {
		for _, s := range withShared(t, signals) {
			if s.Quiet && s.Finding.ProductFields["SharedFinding"] != "" {
				shared++
			}
			if s.Finding.RecordState != asff.Active {
				continue
			}
			sources[s.Source] = true
			if got := m.Restate(s.Source, s.Profile, s.Behavior, s.Finding); !reflect.DeepEqual(got, s.Finding) {
				t.Errorf("%s is restated as\n%+v\nwant\n%+v", name, got, s.Finding)
			}
			old := s.Finding
			old.Title, old.Remediation = "Old title", nil
			old.FindingProviderFields.Types = []string{"Effects"}
			old.FindingProviderFields.Severity.Label = "INFORMATIONAL"
			if got := m.Restate(s.Source, s.Profile, s.Behavior, old); !reflect.DeepEqual(got, s.Finding) {
				t.Errorf("%s of an older program is restated as\n%+v\nwant\n%+v", name, got, s.Finding)
			}
		}
	}
	if shared < 3 {
		t.Errorf("%d shared findings were restated, want at least one each of events, of refused connections and of a forger", shared)
	}
	for _, s := range defender.Sources() {
		// The correlator writes the texts of its findings, and sends them again when they change.
		if !sources[s] && s != defender.CorrelatedFindings {
			t.Errorf("no active finding of %s was restated", s)
		}
	}
}

// withShared adds the shared findings, which replace signals beyond a bound.
func withShared(t *testing.T, signals []signal.Signal) []signal.Signal {
	t.Helper()
	all := slices.Clone(signals)
	for _, s := range signals {
		if s.Bound != nil && s.Bound.Group != "" && s.Bound.Ends == s.Source.Clears() {
			t.Errorf("%s: its group expires (%v), but its source has an end event (%v)", s.Finding.ID, s.Bound.Ends, s.Source.Clears())
		}
		if s.Bound != nil && s.Bound.Over != nil {
			all = append(all, s.Bound.Over())
		}
	}
	return all
}

// The finding of a further connection is the thing's, also when restated.
func TestEventOfAFurtherConnectionIsTheThings(t *testing.T) {
	m := mapper("us-east-1")
	e := iotrule.Envelope{Topic: "defenderhub/events/pump-7", Time: 1, ClientID: "pump-7#2", Principal: "p", Payload: []byte(`{"type":"tamper"}`)}
	other, err := m.Rule(defender.DeviceEvents, e, sent)
	if err != nil || other.Finding.ID != "defenderhub/device-event/us-east-1/pump-7%232/tamper" || other.Finding.ProductFields["TopicMismatch"] != "pump-7" {
		t.Errorf("without a thing: error %v, ID %s, product fields %v", err, other.Finding.ID, other.Finding.ProductFields)
	}
	e.Thing = "pump-7"
	s, err := m.Rule(defender.DeviceEvents, e, sent)
	f := s.Finding
	if err != nil || f.ID != "defenderhub/device-event/us-east-1/pump-7/tamper" || f.Title != "Device pump-7 reports tamper." ||
		f.ProductFields["TopicMismatch"] != "" || f.ProductFields["ClientId"] != "pump-7#2" || f.ProductFields["ThingName"] != "pump-7" || f.Resources[0].ID != "pump-7" {
		t.Errorf("of the thing: error %v, finding %+v", err, f)
	}
	if got := m.Restate(s.Source, "", "", f); !reflect.DeepEqual(got, f) {
		t.Errorf("restated as %+v, want %+v", got, f)
	}
	e.ClientID, e.Thing = "pump-7", ""
	if s, err := m.Rule(defender.DeviceEvents, e, sent); err != nil || s.Finding.ID != f.ID {
		t.Errorf("of the first connection: error %v, ID %s, want %s", err, s.Finding.ID, f.ID)
	}
}

func TestRestatedSeverity(t *testing.T) {
	all := recorded(t)
	sources := map[defender.Source]defender.Severity{}
	for _, s := range defender.Sources() {
		sources[s] = defender.Critical
	}
	engine := wholeEngine()
	engine.Live.Add("p", "b", defender.Low)
	for name, c := range map[string]struct {
		mapper mapping.Mapper
		want   map[string]string
	}{
		"of the source": {mapping.Mapper{Severities: contract.Severities{Sources: sources}, Live: wholeEngine().Live}, map[string]string{
			"disconnected": "CRITICAL", "connect-failed": "CRITICAL", "report-rejected": "CRITICAL", "audit": "CRITICAL", "check-summary": "CRITICAL",
			"detect": "CRITICAL", "behavior-count": "CRITICAL", "behavior-silent-agent": "HIGH", "device-event": "HIGH",
		}},
		"of the behavior": {engine, map[string]string{"behavior-count": "LOW", "behavior-silent-agent": "HIGH"}},
		"of a behavior by name": {mapping.Mapper{Severities: contract.Severities{Behaviors: map[string]defender.Severity{"b": defender.Informational, "MessagesPub": defender.High}}, Live: engine.Live},
			map[string]string{"behavior-count": "INFORMATIONAL", "detect": "HIGH"}},
	} {
		for of, want := range c.want {
			s := all[of][0]
			if got := c.mapper.Restate(s.Source, s.Profile, s.Behavior, s.Finding).FindingProviderFields.Severity.Label; got != want {
				t.Errorf("severity %s, %s: %s, want %s", name, of, got, want)
			}
		}
	}
}
