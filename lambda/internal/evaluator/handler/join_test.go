package handler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
)

// via returns a message that a client sent with a certificate. With a payload, it is a report.
func via(certificate, id, client string, when time.Time, size int64, payload []byte) events.SQSMessage {
	t := iotrule.Telemetry{Kind: iotrule.PublishedMessage, Topic: "t", Time: when.UnixMilli(), ID: id, ClientID: client, Principal: certificate, SourceIP: "10.0.0.1", Bytes: size, Payload: payload}
	if payload != nil {
		t.Kind, t.Bytes = iotrule.DeviceReport, 0
	}
	return sent(id, when, t)
}

// All connections of a thing are one device: they share clears, counts and silence. A client that
// imitates the thing's client IDs is another device.
func TestConnectionsOfOneThingAreOneDevice(t *testing.T) {
	open, shut := ports(1, 23), ports(2, 443)
	few := profile(defender.Behavior{Criteria: defender.MessagesSent.LessThan(4, defender.Window5m)})
	every := profile(defender.Behavior{Criteria: defender.ListeningTCPPorts.InPorts(22, 443)})
	every.ReportsEvery = 10
	const own, other = "cert-pump-7", "cert-pump-8"
	for _, row := range []struct {
		name   string
		config engine.Config
		sent   []events.SQSMessage
		until  float64
		want   string
	}{
		{"the second connection clears", telnet(), []events.SQSMessage{via(own, "1", "pump-7", at(0), 0, open), via(own, "2", "pump-7#2", at(6), 0, shut)}, 16,
			"pump-7 ports in-alarm, pump-7 ports alarm-cleared"},
		{"the first clears what the second raised", telnet(), []events.SQSMessage{via(own, "1", "pump-7#3", at(0), 0, open), via(own, "2", "pump-7", at(6), 0, shut)}, 16,
			"pump-7 ports in-alarm, pump-7 ports alarm-cleared"},
		{"another thing's certificate does not clear", telnet(), []events.SQSMessage{via(own, "1", "pump-7", at(0), 0, open), via(other, "2", "pump-7#2", at(6), 0, shut)}, 16,
			"pump-7 ports in-alarm"},
		{"another thing's certificate raises its own alarm", telnet(), []events.SQSMessage{via(other, "1", "pump-7#2", at(0), 0, open), via(own, "2", "pump-7", at(6), 0, shut)}, 16,
			"pump-7#2 ports in-alarm"},
		{"messages of both connections are counted", few, []events.SQSMessage{via(own, "1", "pump-7", at(1), 8, nil), via(own, "2", "pump-7#2", at(2), 8, nil), via(own, "3", "pump-7", at(3), 8, nil), via(own, "4", "pump-7#2", at(4), 8, nil)}, 12,
			"pump-7 b0 in-alarm"},
		{"messages with another thing's certificate are not counted", few, []events.SQSMessage{via(own, "1", "pump-7", at(1), 8, nil), via(other, "2", "pump-7#2", at(2), 8, nil), via(own, "3", "pump-7", at(3), 8, nil), via(own, "4", "pump-7#2", at(4), 8, nil)}, 12,
			""},
		{"connections that report in turn report regularly", every, []events.SQSMessage{
			via(own, "1", "pump-7", at(0), 0, shut), via(own, "2", "pump-7#2", at(6), 0, ports(3, 443)), via(own, "3", "pump-7#3", at(12), 0, ports(4, 443)), via(own, "4", "pump-7", at(18), 0, ports(5, 443)),
		}, 22, ""},
		{"reports with another thing's certificate do not count", every, []events.SQSMessage{
			via(own, "1", "pump-7", at(0), 0, shut), via(other, "2", "pump-7#2", at(6), 0, ports(3, 443)), via(other, "3", "pump-7#2", at(12), 0, ports(4, 443)),
		}, 20, "pump-7 reports-regularly in-alarm"},
	} {
		r := newRig(t, row.config)
		for _, m := range row.sent {
			r.deliver(m)
		}
		for m := 1.0; m <= row.until; m++ {
			r.close(at(m))
		}
		if got := r.changes(); got != row.want {
			t.Errorf("%s: changes %q, want %q", row.name, got, row.want)
		}
		for _, m := range r.messages() {
			if m.ClientID != m.Thing {
				t.Errorf("%s: message of client ID %s, thing %s; want equal ones", row.name, m.ClientID, m.Thing)
			}
		}
	}
}

// A refused connection counts for the thing only if it used the thing's certificate.
func TestRefusedConnectionCountsByItsCertificate(t *testing.T) {
	refused := func(certificate, client string, when time.Time) events.SQSMessage {
		payload := fmt.Sprintf(`{"clientId":%q,"timestamp":%d,"eventType":"connect_failed","sessionIdentifier":"s","principalIdentifier":%q}`, client, when.UnixMilli(), certificate)
		return sent(certificate+when.String(), when, iotrule.Telemetry{Kind: iotrule.LifecycleEvent, Topic: "$aws/events/presence/connect_failed/" + client, Time: when.UnixMilli(), Payload: []byte(payload)})
	}
	for certificate, want := range map[string]string{"cert-pump-7": "pump-7 b0 in-alarm", "cert-pump-8": "pump-7#2 b0 in-alarm"} {
		r := newRig(t, profile(defender.Behavior{Criteria: defender.AuthorizationFailures.LessThan(2, defender.Window5m)}))
		r.deliver(refused(certificate, "pump-7#2", at(1)), refused(certificate, "pump-7#2", at(2)))
		r.close(at(12))
		if got := r.changes(); got != want {
			t.Errorf("with %s: changes %q, want %q", certificate, got, want)
		}
		if len(r.registry.asked) > 0 && !strings.HasSuffix(r.registry.asked[0], "/") {
			t.Errorf("the refused certificate became the principal: asked for %q", r.registry.asked)
		}
	}
}

// A conforming report of a further connection reads one item and writes none.
func TestConformingReportOfAFurtherConnectionWritesNothing(t *testing.T) {
	r := newRig(t, telnet())
	r.deliver(via("cert-pump-7", "1", "pump-7#2", at(0), 0, ports(1, 443)))
	r.table.took() // the first batch writes progress
	r.now = at(0.5)
	r.deliver(via("cert-pump-7", "2", "pump-7", at(0.5), 0, ports(2, 443)), via("cert-pump-7", "3", "pump-7#2", at(0.5), 0, ports(3, 443)))
	if calls := r.table.took(); len(calls) != 1 || calls["BatchGetItem"] != 1 {
		t.Errorf("calls %v, want one read for the two", calls)
	}
	if len(r.registry.asked) > 0 || len(r.registry.looked) != 2 {
		t.Errorf("asked the registry for %v, and for the certificates of %v; want none and two", r.registry.asked, r.registry.looked)
	}
}

// The lookup of a certificate is retried after a temporary failure. Without permission for the
// lookup, a certificate proves nothing.
func TestCertificateThatIsNotLookedUp(t *testing.T) {
	open, shut := ports(1, 23), ports(2, 443)
	r := newRig(t, telnet())
	r.deliver(via("cert-pump-7", "1", "pump-7", at(0), 0, open))
	r.registry.fails = fmt.Errorf("%w: %w", certificate.ErrUnresolved, throttled)
	if again := r.deliver(via("cert-pump-7", "2", "pump-7#2", at(6), 0, shut)); len(again) != 1 {
		t.Errorf("throttled: messages %v are retried, want one", again)
	}
	r.registry.fails = fmt.Errorf("%w: %w", certificate.ErrUnresolved, denied)
	if again := r.deliver(via("cert-pump-7", "3", "pump-7#2", at(6), 0, shut)); len(again) != 0 {
		t.Errorf("denied: messages %v are retried, want none", again)
	}
	if n := r.counted(contract.MetricUnresolved); n != 2 || !strings.Contains(r.logs.String(), "certificate of a further connection was not looked up") {
		t.Errorf("%d unresolved counted, want 2; log %s", n, &r.logs)
	}
	r.registry.fails = nil
	r.close(at(12))
	if got := r.changes(); got != "pump-7 ports in-alarm" {
		t.Errorf("before the lookup: changes %q, want the alarm alone", got)
	}
	if again := r.deliver(via("cert-pump-7", "2", "pump-7#2", at(12), 0, shut)); len(again) != 0 {
		t.Errorf("messages %v are retried, want none", again)
	}
	r.close(at(20))
	if got := r.changes(); got != "pump-7 ports in-alarm, pump-7 ports alarm-cleared" {
		t.Errorf("after the lookup: changes %q, want the alarm cleared", got)
	}
}
