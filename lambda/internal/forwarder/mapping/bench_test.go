package mapping_test

import (
	"encoding/json"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
)

// kind is a kind of message.
type kind struct {
	name    string
	message []byte
	// mapOne maps the message, from its bytes to the signal with its finding. An audit finding is
	// mapped from what the SDK decodes.
	mapOne func() error
}

func kinds(t testing.TB) []kind {
	m := mapper("us-east-1")
	origin := mapping.Origin{Account: account, Region: "us-east-1", Sent: sent}
	device := envelope(t, defender.DeviceEvents, "defenderhub/events/pump-7", []byte(`{"type":"tamper","details":{"sensor":"lid"}}`), map[string]any{"clientId": "pump-7"})
	refused := envelope(t, defender.RefusedConnections, "$aws/events/presence/connect_failed/186b5", sample(t, "lifecycle-connect-failed"), nil)
	alert := sample(t, "sns-detect")
	policy := auditFindings(t, "list-audit-findings").Findings[0]
	var page struct {
		Findings []json.RawMessage `json:"findings"`
	}
	if err := json.Unmarshal(sample(t, "list-audit-findings"), &page); err != nil {
		t.Fatal(err)
	}
	return []kind{
		{"device-event", device, func() error { _, err := rule(m, device); return err }},
		{"refused-connection", refused, func() error { _, err := rule(m, refused); return err }},
		{"detect", alert, func() error { _, err := m.Detect(alert, origin); return err }},
		{"audit", page.Findings[0], func() error { m.AuditFinding(mapping.AuditTask{ID: "t", Started: 1}, policy); return nil }},
	}
}

// BenchmarkMapping maps each kind of message, and for comparison only decodes it into plain Go
// values, which no mapping could avoid.
func BenchmarkMapping(b *testing.B) {
	for _, kind := range kinds(b) {
		b.Run(kind.name+"/map", func(b *testing.B) { repeat(b, kind.mapOne) })
		b.Run(kind.name+"/decode", func(b *testing.B) {
			repeat(b, func() error { var v any; return json.Unmarshal(kind.message, &v) })
		})
	}
}

// TestAllocationsOfAFinding limits the allocations that BenchmarkMapping counts.
func TestAllocationsOfAFinding(t *testing.T) {
	const maxAllocations = 40
	for _, kind := range kinds(t) {
		n := testing.AllocsPerRun(200, func() {
			if err := kind.mapOne(); err != nil {
				t.Fatal(err)
			}
		})
		if n > maxAllocations {
			t.Errorf("%s: %v allocations, want at most %d", kind.name, n, maxAllocations)
		}
	}
}

func repeat(b *testing.B, f func() error) {
	b.ReportAllocs()
	for b.Loop() {
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
}
