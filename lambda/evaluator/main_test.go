package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/evaluate"
)

func env(values map[string]string) func(string) string {
	all := map[string]string{"AWS_REGION": "eu-west-1", defender.EnvStateTable: "state", defender.EnvIngestQueueURL: "https://queue/ingest"}
	for k, v := range values {
		all[k] = v
	}
	return func(name string) string { return all[name] }
}

func TestDefaultsNeedOnlyTableAndQueue(t *testing.T) {
	e, err := readEnvironment(env(nil))
	if err != nil || e.telemetry != "" || e.groups != nil || e.level != slog.LevelInfo || e.file != defender.ConfigFile {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestEnvironmentIsRead(t *testing.T) {
	e, err := readEnvironment(env(map[string]string{
		defender.EnvTelemetryQueueURL: "https://queue/telemetry", defender.EnvReportsRule: "Reports", defender.EnvThingGroups: "east,west",
		defender.EnvTelemetryStream: "telemetry", defender.EnvLogLevel: "WARN", "LAMBDA_TASK_ROOT": "/var/task", "AWS_LAMBDA_FUNCTION_NAME": "f",
	}))
	if err != nil || e.telemetry != "https://queue/telemetry" || e.stream != "telemetry" || e.reportsRule != "Reports" || !slices.Equal(e.groups, []string{"east", "west"}) ||
		e.level != slog.LevelWarn || e.file != "/var/task/behaviors.json" || e.function != "f" {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestEveryFaultOfTheEnvironmentIsNamed(t *testing.T) {
	bad := map[string]string{"AWS_REGION": "", defender.EnvStateTable: "", defender.EnvIngestQueueURL: "", defender.EnvLogLevel: "LOUD"}
	_, err := readEnvironment(env(bad))
	for name := range bad {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
}

// root is a directory with the behaviors.
func root(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, defender.ConfigFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestHandlerIsBuiltWithoutCallingAWS(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	config, err := json.Marshal(evaluate.Config{BatchSeconds: 10, MembershipMinutes: 10, Profiles: []evaluate.ProfileConfig{
		{Name: "plant", Behaviors: defender.DemoBehaviors(), Targets: []string{"thinggroup/0"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	handler, err := build(context.Background(), env(map[string]string{"LAMBDA_TASK_ROOT": root(t, string(config)), defender.EnvThingGroups: "east"}))
	if err != nil || handler.IngestQueueURL != "https://queue/ingest" {
		t.Errorf("%+v, %v", handler, err)
	}
}

func TestBehaviorsThatCannotBeReadAreAnError(t *testing.T) {
	for name, dir := range map[string]string{
		"no file": t.TempDir(), "no JSON": root(t, "{"), "a group without a name": root(t, `{"profiles":[{"name":"p","behaviors":[{"name":"b","metric":"aws:message-byte-size","criteria":{"comparisonOperator":"less-than","value":{"count":8}}}],"targets":["thinggroup/0"]}]}`),
	} {
		if _, err := build(context.Background(), env(map[string]string{"LAMBDA_TASK_ROOT": dir})); err == nil {
			t.Errorf("%s is no error", name)
		}
	}
}

// registryAPI holds the one thing of a certificate.
type registryAPI struct{ asked []string }

func (a *registryAPI) ListPrincipalThings(_ context.Context, in *iot.ListPrincipalThingsInput, _ ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error) {
	a.asked = append(a.asked, *in.Principal)
	return &iot.ListPrincipalThingsOutput{Things: []string{"pump"}}, nil
}

func (a *registryAPI) DescribeThing(context.Context, *iot.DescribeThingInput, ...func(*iot.Options)) (*iot.DescribeThingOutput, error) {
	return nil, &types.ResourceNotFoundException{}
}

func (a *registryAPI) ListThingGroupsForThing(context.Context, *iot.ListThingGroupsForThingInput, ...func(*iot.Options)) (*iot.ListThingGroupsForThingOutput, error) {
	return &iot.ListThingGroupsForThingOutput{}, nil
}

func (a *registryAPI) DescribeThingGroup(context.Context, *iot.DescribeThingGroupInput, ...func(*iot.Options)) (*iot.DescribeThingGroupOutput, error) {
	return nil, &types.ResourceNotFoundException{}
}

func TestRegistryIsThatOfTheFunctionsAccount(t *testing.T) {
	api := &registryAPI{}
	r := &things{api: api, groups: true, maxAge: time.Minute}
	ctx := context.Background()
	certificate := strings.Repeat("ab", 32)
	if _, err := r.Resolve(ctx, "c", certificate, time.UnixMilli(0)); err == nil {
		t.Error("an invocation of no function is no error")
	}
	ctx = lambdacontext.NewContext(ctx, &lambdacontext.LambdaContext{InvokedFunctionArn: "arn:aws-cn:lambda:cn-north-1:123456789012:function:evaluator"})
	thing, err := r.Resolve(ctx, "c", certificate, time.UnixMilli(0))
	if err != nil || thing.Name != "pump" || !slices.Equal(api.asked, []string{"arn:aws-cn:iot:cn-north-1:123456789012:cert/" + certificate}) {
		t.Errorf("%+v, asked %v (%v)", thing, api.asked, err)
	}
}
