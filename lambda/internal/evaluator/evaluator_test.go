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

	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
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
	thousands := func(n int) string {
		if n < 1000 {
			return fmt.Sprint(n)
		}
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	want := []string{fmt.Sprintf("caches %s devices with a `MemoryMiB` of up to %d, and %d more for each further MiB", thousands(leastThings), smallMiB, thingsPerMiB)}
	for _, memory := range []int{256, 512, 1024, 2048} {
		want = append(want, fmt.Sprintf("\n| %s | %s |\n", thousands(memory), thousands(knownThings(memory))))
	}
	for _, text := range want {
		if !strings.Contains(string(page), text) {
			t.Errorf("docs/planning.md lacks %q", text)
		}
	}
}

// describer is a registry in which each client is a thing. It counts the lookups.
type describer struct {
	registry.API
	calls int
}

func (d *describer) DescribeThing(context.Context, *iot.DescribeThingInput, ...func(*iot.Options)) (*iot.DescribeThingOutput, error) {
	d.calls++
	return &iot.DescribeThingOutput{}, nil
}

func TestMoreMemoryCachesMoreThings(t *testing.T) {
	dir := root(t, `{"batchSeconds":10,"membershipMinutes":15}`)
	for memory, want := range map[string]int{"": 10_000, "128": 10_000, "256": 10_000, "272": 10_000 + 16*256} {
		aws := &describer{}
		h, err := New(Clients{IoT: aws}, newHost(map[string]string{"LAMBDA_TASK_ROOT": dir, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory}))
		if err != nil {
			t.Fatal(err)
		}
		resolve := func(i int) {
			if _, err := h.Registry.Resolve(t.Context(), fmt.Sprint("pump-", i), "", time.Unix(0, 0)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			for i := range want {
				resolve(i)
			}
		}
		if aws.calls != want {
			t.Errorf("%q MiB: %d things that were each seen twice took %d lookups, want one each", memory, want, aws.calls)
		}
		resolve(want)
		if resolve(0); aws.calls != want+2 {
			t.Errorf("%q MiB: one thing more did not evict the oldest", memory)
		}
	}
}
