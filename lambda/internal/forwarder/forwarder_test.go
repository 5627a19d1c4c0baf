package forwarder

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/securityhub"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

func env(values map[string]string) func(string) string { return newHost(values).Getenv }

// newHost returns a host with these environment variables and the required ones.
func newHost(values map[string]string) host.Host {
	all := map[string]string{"AWS_REGION": "eu-west-1", contract.EnvLedgerTable: "ledger", contract.EnvDeadLetterQueueURL: "https://queue/dead"}
	for k, v := range values {
		all[k] = v
	}
	h := host.Host{Now: time.Now, Metrics: io.Discard, Log: io.Discard}
	for k, v := range all {
		h.Environ = append(h.Environ, k+"="+v)
	}
	return h
}

func TestDefaultsNeedOnlyTableAndQueue(t *testing.T) {
	e, err := readEnvironment(env(nil))
	if err != nil || e.eventTopic != iotrule.DefaultEventTopic || e.quiet != contract.DefaultQuietTime || e.level != slog.LevelInfo || len(e.severities.Sources) > 0 {
		t.Errorf("got %+v, error %v", e, err)
	}
}

func TestEnvironmentIsRead(t *testing.T) {
	live := contract.LiveBehaviors{}
	live.Add("p", "b", defender.SeverityDefault)
	e, err := readEnvironment(env(map[string]string{
		contract.EnvEventTopic: "plant/+", contract.EnvQuietTime: "48h0m0s", contract.EnvLogLevel: "WARN",
		contract.EnvSeverities: "rejected-report=HIGH", contract.EnvLiveBehaviors: live.String(), contract.EnvClientPattern: "(.+)-agent",
	}))
	if err != nil || e.clients.Thing("pump-7-agent") != "pump-7" || e.eventTopic != "plant/+" || e.quiet != 48*time.Hour || e.level != slog.LevelWarn || e.severities.Sources[defender.RejectedReports] != defender.High || !e.live.Has("p", "b") || e.live.Has("p", "c") {
		t.Errorf("got %+v, error %v", e, err)
	}
}

func TestEveryFaultOfTheEnvironmentIsNamed(t *testing.T) {
	bad := map[string]string{
		"AWS_REGION": "", contract.EnvLedgerTable: "", contract.EnvDeadLetterQueueURL: "",
		contract.EnvQuietTime: "-1h", contract.EnvLogLevel: "LOUD", contract.EnvLiveBehaviors: "12345", contract.EnvSeverities: "x=y",
		contract.EnvClientPattern: "no capture",
	}
	_, err := readEnvironment(env(bad))
	for name := range bad {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
	}
}

func TestHandlerIsBuiltWithoutCallingAWS(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	clients, err := AWS(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	handler, err := New(clients, newHost(nil))
	if err != nil || handler.Region != "eu-west-1" {
		t.Errorf("handler %+v, error %v", handler, err)
	}
}

// The program and its settings may change a finding's severity or texts, so they change the version.
// The variables that Lambda adds do not.
func TestVersionNamesProgramAndSettings(t *testing.T) {
	name := func(environ ...string) string {
		t.Helper()
		v, err := version(host.Host{Environ: environ})()
		if err != nil || len(v) != 32 {
			t.Fatalf("version %q, %v", v, err)
		}
		return v
	}
	one := name("DEFENDERHUB_A=1", "DEFENDERHUB_B=2", "_X_AMZN_TRACE_ID=1")
	if other := name("DEFENDERHUB_B=2", "_X_AMZN_TRACE_ID=2", "DEFENDERHUB_A=1"); other != one {
		t.Error("the order of settings, or a variable of Lambda, changes the version")
	}
	if name("DEFENDERHUB_A=1", "DEFENDERHUB_B=3") == one || name("DEFENDERHUB_A=1") == one {
		t.Error("other settings have the same version")
	}
	second, err := version(host.Host{Environ: []string{"DEFENDERHUB_A=1"}, Program: "build 2"})()
	third, _ := version(host.Host{Environ: []string{"DEFENDERHUB_A=1"}, Program: "build 3"})()
	if err != nil || second == third || second == name("DEFENDERHUB_A=1") {
		t.Error("another program has the same version")
	}
}

type refusingHub struct{}

func (refusingHub) BatchImportFindings(context.Context, *securityhub.BatchImportFindingsInput, ...func(*securityhub.Options)) (*securityhub.BatchImportFindingsOutput, error) {
	return nil, errors.New("throttled")
}

// Calls that fail count too: they use the quota.
func TestCallsOfSecurityHubAreCounted(t *testing.T) {
	var out strings.Builder
	metrics := emf.New(contract.MetricDimensionForwarder, "f", &out, time.Now)
	for range 2 {
		if _, err := (countingHub{refusingHub{}, metrics}).BatchImportFindings(context.Background(), nil); err == nil {
			t.Fatal("the error is lost")
		}
	}
	if err := metrics.Flush(); err != nil || !strings.Contains(out.String(), `"ImportCalls":2`) {
		t.Errorf("error %v, metrics %s; want two calls", err, out.String())
	}
	for value, want := range map[string]bool{"": false, "true": true, "false": false} {
		if e, err := readEnvironment(env(map[string]string{contract.EnvDetailedMetrics: value})); err != nil || e.detailed != want {
			t.Errorf("detailed metrics %q: read as %v, error %v; want %v", value, e.detailed, err, want)
		}
	}
}
