package mapping_test

import (
	"encoding/json"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/mapping"
)

// BenchmarkMapping maps each kind of message, and for comparison only decodes it into plain Go
// values, which no mapping could avoid.
func BenchmarkMapping(b *testing.B) {
	m := mapper("us-east-1")
	origin := mapping.Origin{Account: account, Region: "us-east-1", Sent: sent}
	device := envelope(b, defender.DeviceEvents, "defenderhub/events/pump-7", []byte(`{"type":"tamper","details":{"sensor":"lid"}}`), map[string]any{"clientId": "pump-7"})
	refused := envelope(b, defender.RefusedConnections, "$aws/events/presence/connect_failed/186b5", sample(b, "lifecycle-connect-failed"), nil)
	alert := sample(b, "sns-detect")
	policy := auditFindings(b, "list-audit-findings").Findings[0]
	var page struct {
		Findings []json.RawMessage `json:"findings"`
	}
	if err := json.Unmarshal(sample(b, "list-audit-findings"), &page); err != nil {
		b.Fatal(err)
	}
	for _, kind := range []struct {
		name    string
		message []byte
		one     func() error
	}{
		{"device-event", device, func() error { _, err := rule(m, device); return err }},
		{"refused-connection", refused, func() error { _, err := rule(m, refused); return err }},
		{"detect", alert, func() error { _, err := m.Detect(alert, origin); return err }},
		{"audit", page.Findings[0], func() error { m.AuditFinding(mapping.AuditTask{ID: "t", Started: 1}, policy); return nil }},
	} {
		b.Run(kind.name+"/map", func(b *testing.B) { repeat(b, kind.one) })
		b.Run(kind.name+"/decode", func(b *testing.B) {
			repeat(b, func() error { var v any; return json.Unmarshal(kind.message, &v) })
		})
	}
}

func repeat(b *testing.B, one func() error) {
	b.ReportAllocs()
	for b.Loop() {
		if err := one(); err != nil {
			b.Fatal(err)
		}
	}
}
