package delivery

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/outcome"
)

// Only active findings are counted by severity, and only on request: each value is a
// metric that costs money.
func TestImportedFindingsAreCountedBySeverityOnRequest(t *testing.T) {
	for _, c := range []struct {
		bySeverity bool
		state      asff.RecordState
		want       bool
	}{{true, asff.Active, true}, {true, asff.Archived, false}, {false, asff.Active, false}} {
		var out strings.Builder
		d := &Delivery{BySeverity: c.bySeverity, Log: slog.New(slog.DiscardHandler), Metrics: emf.New(contract.MetricDimensionForwarder, "f", &out, time.Now)}
		finding := asff.Finding{FindingProviderFields: asff.FindingProviderFields{Severity: asff.FindingSeverity{Label: "HIGH"}}}
		imported := &task{source: defender.DeviceEvents, outcome: outcome.Outcome{Verdict: outcome.Done}, claimed: ledger.Claim{Import: true, Entry: ledger.Entry{State: c.state, Finding: &finding}}}
		imported.release()
		d.count(imported)
		if err := d.Metrics.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), `"Severity":"HIGH"`); got != c.want {
			t.Errorf("%+v: counted by severity: %v; metrics %s", c, got, out.String())
		}
	}
}
