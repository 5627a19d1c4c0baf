package evaluator

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

func env(values map[string]string) func(string) string { return newHost(values).Getenv }

// newHost returns a host with these environment variables and the required ones.
func newHost(values map[string]string) host.Host {
	all := map[string]string{"AWS_REGION": "eu-west-1", contract.EnvStateTable: "state", contract.EnvIngestQueueURL: "https://queue/ingest"}
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
	if err != nil || e.telemetry != "" || e.groups != nil || e.level != slog.LevelInfo || e.file != contract.ConfigFile {
		t.Errorf("got %+v, error %v", e, err)
	}
}

func TestEnvironmentIsRead(t *testing.T) {
	e, err := readEnvironment(env(map[string]string{
		contract.EnvTelemetryQueueURL: "https://queue/telemetry", contract.EnvReportsRule: "Reports", contract.EnvThingGroups: "east,west",
		contract.EnvTelemetryStream: "telemetry", contract.EnvLogLevel: "WARN", "LAMBDA_TASK_ROOT": "/var/task", "AWS_LAMBDA_FUNCTION_NAME": "f",
	}))
	if err != nil || e.telemetry != "https://queue/telemetry" || e.stream != "telemetry" || e.reportsRule != "Reports" || !slices.Equal(e.groups, []string{"east", "west"}) ||
		e.level != slog.LevelWarn || e.file != "/var/task/behaviors.json" || e.function != "f" {
		t.Errorf("got %+v, error %v", e, err)
	}
}

func TestEveryFaultOfTheEnvironmentIsNamed(t *testing.T) {
	bad := map[string]string{"AWS_REGION": "", contract.EnvStateTable: "", contract.EnvIngestQueueURL: "", contract.EnvLogLevel: "LOUD"}
	_, err := readEnvironment(env(bad))
	for name := range bad {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
	}
}

// root returns a directory with the behaviors.
func root(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, contract.ConfigFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestHandlerIsBuiltWithoutCallingAWS(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	config, err := json.Marshal(engine.Config{BatchSeconds: 10, MembershipMinutes: 10, Profiles: []engine.ProfileConfig{
		{Name: "plant", Behaviors: defender.DemoBehaviors(), Targets: []string{"thinggroup/0"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	clients, err := AWS(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	handler, err := New(clients, newHost(map[string]string{"LAMBDA_TASK_ROOT": root(t, string(config)), contract.EnvThingGroups: "east"}))
	if err != nil || handler.IngestQueueURL != "https://queue/ingest" {
		t.Errorf("handler %+v, error %v", handler, err)
	}
}

func TestBehaviorsThatCannotBeReadAreAnError(t *testing.T) {
	for name, dir := range map[string]string{
		"no file": t.TempDir(), "not JSON": root(t, "{"), "an unknown thing group": root(t, `{"profiles":[{"name":"p","behaviors":[{"name":"b","metric":"aws:message-byte-size","criteria":{"comparisonOperator":"less-than","value":{"count":8}}}],"targets":["thinggroup/0"]}]}`),
	} {
		if _, err := New(Clients{}, newHost(map[string]string{"LAMBDA_TASK_ROOT": dir})); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// docs/planning.md says for how many devices an environment keeps the registry's answers.
func TestPlanningHasTheNumberOfKnownThings(t *testing.T) {
	page, err := os.ReadFile("../../../docs/planning.md")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("caches %d,%03d devices", knownThings/1000, knownThings%1000)
	if !strings.Contains(string(page), want) {
		t.Errorf("docs/planning.md lacks %q", want)
	}
}
