package simulation

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"

	"github.com/defenderhub/defenderhub/defender"
	rules "github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

const (
	correlateTable = "correlate"
	// vanished is the only rule: a device that neither connects nor reports. No window passes in a
	// run.
	vanished = "vanished"
)

// compiled returns the rule as the constructs deploy it.
func compiled() []correlation.Rule {
	all, err := correlation.Compile([]rules.Rule{{
		Name: vanished, Title: "Device has vanished", Remedy: "Look for it.", Severity: defender.Critical, Window: 48 * time.Hour,
		Stages: []rules.Stage{
			{Name: "offline", Match: []rules.Matcher{{Behaviors: []string{"offline"}}}},
			{Name: "silent", Match: []rules.Matcher{{Behaviors: []string{"reports-regularly"}}}},
		},
	}}, 0)
	if err != nil {
		panic(err) // the rule is constant
	}
	return all
}

func (w *world) deployCorrelate() {
	dir := filepath.Join(w.dir, "correlate")
	text, err := json.Marshal(correlation.Config{Rules: compiled()})
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, correlation.File), text, 0o644)
	}
	if err != nil {
		panic(err)
	}
	const hidden = 6*time.Minute + 5*time.Second
	w.correlateDeadLetters = w.queue("correlate-dead-letters", 30*time.Second, nil, 0)
	w.correlateQueue = w.queue("correlate", hidden, w.correlateDeadLetters, int(contract.TelemetryRetry/hidden))
	w.correlator = w.function("correlator", time.Minute, buildCorrelator, []string{
		"AWS_REGION=" + region, "AWS_LAMBDA_FUNCTION_NAME=correlator", "LAMBDA_TASK_ROOT=" + dir, contract.EnvStateTable + "=" + correlateTable,
		contract.EnvIngestQueueURL + "=" + w.ingest.url(), contract.EnvLogLevel + "=DEBUG",
	})
	w.correlateQueue.feeds(w.correlator, 100, 5*time.Second, 5)
	w.eachMinute(w.correlator, contract.CorrelateRequest)
}

func buildCorrelator(e *environment, on host.Host) (handler, error) {
	h, err := correlator.New(correlator.Clients{DynamoDB: table{e}, IoT: things{e}, SQS: queues{e}, SecurityHub: importer{e}}, on)
	if err != nil {
		return nil, err
	}
	return h.Handle, nil
}

// composite reports whether a finding is of the correlator.
func composite(f securityhubtest.Finding) bool {
	return strings.HasPrefix(f.GeneratorID, "defenderhub/correlation/")
}

// partChange is a change of a finding that is a part.
type partChange struct {
	part    string
	updated time.Time
	active  bool
}

// observePart notes changes of the findings that the rule is about, by device.
func (w *world) observePart(f securityhubtest.Finding) {
	for _, behavior := range []string{"offline", "reports-regularly"} {
		if !strings.HasPrefix(f.ID, "defenderhub/behavior/") || !strings.Contains(f.ID, "/"+behavior+"/") {
			continue
		}
		device := f.ID[strings.LastIndex(f.ID, "/")+1:]
		w.parts[device] = append(w.parts[device], partChange{behavior, f.UpdatedAt, f.RecordState == "ACTIVE"})
	}
}

const correlateInvariant = "incidents are those of the reference"

// checkIncidents compares the composite findings with a reference that sees all changes of parts
// in the order of UpdatedAt: an incident opens when both parts are active, and ends with the last. One
// that opened only because events were late must have ended.
func (w *world) checkIncidents() {
	if w.correlator == nil {
		return
	}
	active := map[string]bool{}
	for _, f := range w.hub.Findings() {
		if composite(f) {
			active[f.ProductFields["CorrelationEntity"]] = f.RecordState == "ACTIVE"
		}
	}
	for device, changes := range w.parts {
		slices.SortStableFunc(changes, func(a, b partChange) int { return a.updated.Compare(b.updated) })
		parts := map[string]bool{}
		open, ever := false, false
		for _, c := range changes {
			parts[c.part] = c.active
			switch {
			case parts["offline"] && parts["reports-regularly"]:
				open, ever = true, true
			case !parts["offline"] && !parts["reports-regularly"]:
				open = false
			}
		}
		if ever {
			w.counts["incidents compared"]++
		}
		if got := active[device]; got != open {
			w.violations.add(correlateInvariant, "%s is open: %t, want %t; %v", device, got, open, changes)
		}
		delete(active, device)
	}
	for device, open := range active {
		if !open {
			continue
		}
		w.violations.add(correlateInvariant, "%s has an incident without parts", device)
	}
	if n := len(w.correlateDeadLetters.messages); n > 0 {
		w.counts["events that the correlator gave up"] += n
	}
}

func (i importer) GetFindings(ctx context.Context, in *securityhub.GetFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	about := ""
	if in.Filters != nil {
		for _, f := range in.Filters.Id {
			about += aws.ToString(f.Value) + " "
		}
	}
	return ask(ctx, i.environment, "SecurityHub", "GetFindings", about, func() (*securityhub.GetFindingsOutput, error) {
		return i.world.hub.client.GetFindings(context.Background(), in)
	})
}

func (t things) ListThings(ctx context.Context, in *iot.ListThingsInput, _ ...func(*iot.Options)) (*iot.ListThingsOutput, error) {
	return ask(ctx, t.environment, "IoT", "ListThings", aws.ToString(in.AttributeValue), func() (*iot.ListThingsOutput, error) { return &iot.ListThingsOutput{}, nil })
}

func (t things) ListThingPrincipals(ctx context.Context, in *iot.ListThingPrincipalsInput, _ ...func(*iot.Options)) (*iot.ListThingPrincipalsOutput, error) {
	return ask(ctx, t.environment, "IoT", "ListThingPrincipals", *in.ThingName, func() (*iot.ListThingPrincipalsOutput, error) {
		d := t.world.deviceOf(*in.ThingName)
		if d == nil || !d.registered {
			return nil, errMissing
		}
		return &iot.ListThingPrincipalsOutput{Principals: []string{"arn:aws:iot:" + region + ":" + account + ":cert/" + d.principal}}, nil
	})
}

func (t things) GetEffectivePolicies(ctx context.Context, in *iot.GetEffectivePoliciesInput, _ ...func(*iot.Options)) (*iot.GetEffectivePoliciesOutput, error) {
	return ask(ctx, t.environment, "IoT", "GetEffectivePolicies", cmp.Or(aws.ToString(in.ThingName), aws.ToString(in.Principal)), func() (*iot.GetEffectivePoliciesOutput, error) {
		return &iot.GetEffectivePoliciesOutput{}, nil
	})
}

func (t things) DescribeRoleAlias(ctx context.Context, in *iot.DescribeRoleAliasInput, _ ...func(*iot.Options)) (*iot.DescribeRoleAliasOutput, error) {
	return ask(ctx, t.environment, "IoT", "DescribeRoleAlias", *in.RoleAlias, func() (*iot.DescribeRoleAliasOutput, error) { return nil, errMissing })
}

// liveRules are the rules for the forwarder.
func liveRules() string { return correlation.Live(compiled()).String() }
