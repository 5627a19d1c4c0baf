package mapping_test

import (
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/lambda/internal/mapping"
)

// BenchmarkMapping makes a finding of each kind of message.
func BenchmarkMapping(b *testing.B) {
	m := mapper("us-east-1")
	origin := mapping.Origin{Account: account, Region: "us-east-1", Sent: sent}
	device := envelope(b, defender.DeviceEvents, "defenderhub/events/pump-7", []byte(`{"type":"tamper","details":{"sensor":"lid"}}`), map[string]any{"clientId": "pump-7"})
	refused := envelope(b, defender.RefusedConnections, "$aws/events/presence/connect_failed/186b5", sample(b, "lifecycle-connect-failed"), nil)
	alert := sample(b, "sns-detect")
	policy := auditFindings(b, "list-audit-findings").Findings[0]
	for name, one := range map[string]func() error{
		"device-event":       func() error { _, err := rule(m, device); return err },
		"refused-connection": func() error { _, err := rule(m, refused); return err },
		"detect":             func() error { _, err := m.Detect(alert, origin); return err },
		"audit":              func() error { m.AuditFinding(mapping.AuditTask{ID: "t", Started: 1}, policy); return nil },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := one(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "findings/s")
		})
	}
}
