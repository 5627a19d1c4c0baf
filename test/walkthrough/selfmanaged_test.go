package walkthrough

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
)

// TestStreamAndRemoval sends telemetry through Kinesis, with reports on the user's own topic. It
// begins with the experiments of `defenderhub provoke`. Then it removes a behavior, changes the
// transport, and removes the engine. The forwarder stays: it archives the findings that are no
// longer judged, and after a week a finding without new events.
func TestStreamAndRemoval(t *testing.T) {
	t.Parallel()
	ctx, s := begin(t)
	settings := map[string]string{
		"engine": "self-managed", "profile": "demo,starter", "transport": "kinesis", "report-topic": "fleet/+/report",
		"audit-subscription": "off", "enable-security-hub": "true",
	}
	if err := s.deployWith(ctx, settings); err != nil {
		t.Fatal(err)
	}
	if err := s.pass(ctx, time.Second); err != nil {
		t.Fatal(err)
	}
	provoke(ctx, t, s)
	meter, err := s.newDevice(ctx, "meter-2")
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := s.newDevice(ctx, "gateway-5")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.toNextWindow(ctx); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{meter, gateway} {
		if err := d.connect(); err != nil {
			t.Fatal(err)
		}
	}
	if err := meter.publish("data/meter-2", large); err != nil {
		t.Fatal(err)
	}
	if err := gateway.report("fleet/gateway-5/report", report{id: 1, ports: []int{23}}); err != nil {
		t.Fatal(err)
	}
	if err := s.pass(ctx, 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	size := func(state types.RecordState) error {
		return s.expect(ctx, types.SeverityLabelMedium, state, "meter-2", "small-messages")
	}
	telnet := func(state types.RecordState) error {
		return s.expect(ctx, types.SeverityLabelHigh, state, "gateway-5", "no-telnet")
	}
	redeploy := func(change map[string]string) error {
		maps.Copy(settings, change)
		if err := s.deployWith(ctx, settings); err != nil {
			return err
		}
		return s.pass(ctx, time.Hour)
	}
	for _, then := range []func() error{
		func() error { return size(types.RecordStateActive) },
		func() error { return telnet(types.RecordStateActive) },
		func() error { return redeploy(map[string]string{"profile": "starter", "transport": "sqs"}) },
		func() error { return size(types.RecordStateArchived) },
		func() error { return telnet(types.RecordStateActive) },
		func() error { return redeploy(map[string]string{"engine": "none"}) },
		func() error { return telnet(types.RecordStateArchived) },
	} {
		if err := then(); err != nil {
			t.Fatal(err)
		}
	}
	archivesQuietFinding(ctx, t, s)
}

// archivesQuietFinding lets a week pass after a refused connection, whose finding no event clears.
func archivesQuietFinding(ctx context.Context, t *testing.T, s *story) {
	t.Helper()
	valve, err := s.newDevice(ctx, "valve-3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &valve.certificateID, NewStatus: iottypes.CertificateStatusRevoked}); err != nil {
		t.Fatal(err)
	}
	if err := valve.connect(); err == nil {
		t.Fatal("a revoked certificate connects")
	}
	for _, c := range []struct {
		passes time.Duration
		state  types.RecordState
	}{{time.Minute, types.RecordStateActive}, {6 * 24 * time.Hour, types.RecordStateActive}, {26 * time.Hour, types.RecordStateArchived}} {
		if err := s.pass(ctx, c.passes); err != nil {
			t.Fatal(err)
		}
		if err := s.expect(ctx, types.SeverityLabelMedium, c.state, "valve-3", "was refused a connection"); err != nil {
			t.Fatal(err)
		}
	}
}
