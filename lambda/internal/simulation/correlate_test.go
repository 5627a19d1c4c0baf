package simulation

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"

	"github.com/defenderhub/defenderhub/defender"
	rules "github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator"
	"github.com/defenderhub/defenderhub/lambda/internal/host"
)

// ruleNames are the rules of a deployment, unless its settings leave one out.
const (
	vanished = "vanished" // a device that neither connects nor reports, in any order
	worsens  = "worsens"  // a device event of type-0, then one of type-1
	noisy    = "noisy"    // two types of device events while a short window lasts
	exposed  = "exposed"  // an alarm of a device whose policy allows too much
	campaign = "campaign" // an event of one type on several devices
)

// campaignOf is how many devices are a campaign.
const campaignOf = 3

// rules returns the rules of a deployment.
func (s settings) rules() []rules.Rule {
	if s.correlate == 0 {
		return nil
	}
	event := func(name string) []rules.Matcher { return []rules.Matcher{{Events: []string{name}}} }
	behaviors := func(names ...string) []rules.Matcher { return []rules.Matcher{{Behaviors: names}} }
	all := []rules.Rule{
		{Name: vanished, Title: "Device has vanished", Severity: defender.Critical, Window: 48 * time.Hour, Stages: []rules.Stage{
			{Name: "offline", Match: behaviors("offline")}, {Name: "silent", Match: behaviors("reports-regularly")},
		}},
		{Name: worsens, Title: "Device gets worse", InOrder: true, Window: 48 * time.Hour, Stages: []rules.Stage{
			{Name: "first", Match: event("type-0")}, {Name: "then", Match: event("type-1")},
		}},
		{Name: noisy, Title: "Device is noisy", Window: s.noisyFor(), Stages: []rules.Stage{
			{Name: "one", Match: event("type-1")}, {Name: "another", Match: event("type-2")},
		}},
		{Name: exposed, Title: "Device in alarm is exposed", Window: 48 * time.Hour, Stages: []rules.Stage{
			{Name: "an alarm", Match: behaviors("open-ports", "few-ports")},
			{Name: "a broad policy", Shared: true, Match: []rules.Matcher{{Checks: []defender.Check{defender.IoTPolicyOverlyPermissive}}}},
		}},
		{Name: campaign, Title: "Many devices report the same", Window: 12 * time.Hour, Spread: rules.Spread{Devices: campaignOf}, Stages: []rules.Stage{
			{Name: "an event", Match: []rules.Matcher{{Sources: []defender.Source{defender.DeviceEvents}}}},
		}},
	}
	return slices.DeleteFunc(all, func(r rules.Rule) bool { return r.Name == s.withoutRule })
}

// hasRule reports whether a deployment has a rule of correlation.
func (s settings) hasRule(name string) bool { return s.correlate > 0 && s.withoutRule != name }

// noisyFor is the window of the rule [noisy].
func (s settings) noisyFor() time.Duration { return time.Duration(1+s.window) * time.Hour }

// compiled returns the rules as the constructs deploy them.
func (s settings) compiled() []correlation.Rule {
	all, err := correlation.Compile(s.rules(), 0)
	if err != nil {
		panic(err) // the rules are constant
	}
	return all
}

func (w *world) deployCorrelate(s settings) {
	const hidden = 6*time.Minute + 5*time.Second
	w.correlateTable = w.create("correlate", s.correlate, dynamodbtest.Schema{
		Partition: contract.StatePartitionKey, Sort: contract.StateSortKey, Expiry: contract.StateExpiry,
		Indexes: []dynamodbtest.Index{{Name: contract.StateDueIndex, Partition: contract.StateDueShard, Sort: contract.StateDueAt, KeysOnly: true}},
	})
	w.correlateDeadLetters = w.queue(numbered("correlate-dead-letters", s.correlate), 30*time.Second, nil, 0)
	w.correlateQueue = w.queue(numbered("correlate", s.correlate), hidden, w.correlateDeadLetters, int(contract.TelemetryRetry/hidden))
	w.correlator = w.function("correlator", time.Minute, buildCorrelator, w.correlatorEnvironment(s))
	w.correlateQueue.feeds(w.correlator, 100, 5*time.Second, 5)
	w.eachMinute(w.correlator, contract.CorrelateRequest)
}

func (w *world) correlatorEnvironment(s settings) []string {
	dir := w.write(s, correlation.File, correlation.Config{Rules: s.compiled()})
	return []string{
		"AWS_REGION=" + region, "AWS_LAMBDA_FUNCTION_NAME=correlator", "LAMBDA_TASK_ROOT=" + dir, contract.EnvStateTable + "=" + w.correlateTable,
		contract.EnvIngestQueueURL + "=" + w.ingest.url(), contract.EnvLogLevel + "=DEBUG",
	}
}

// write writes a file of a deployment, and returns its directory.
func (w *world) write(s settings, name string, content any) string {
	dir := filepath.Join(w.dir, fmt.Sprint(s.number))
	text, err := json.Marshal(content)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
	}
	if err != nil {
		panic(err)
	}
	return dir
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

const correlateInvariant = "incidents are those of the reference"

// checkIncidents compares the composite findings with the reference. A rule that a deployment has
// changed starts over, which the reference does not model. Without the rule, no incident may be
// active.
func (w *world) checkIncidents() {
	active := map[incidentKey]bool{}
	for _, f := range w.hub.Findings() {
		if composite(f) && f.RecordState == "ACTIVE" {
			active[incidentOf(f)] = true
		}
	}
	for key, want := range w.incidents(time.Now()) {
		switch {
		case !w.settings().hasRule(key.rule):
			continue
		case w.rulesChanged(key.rule), w.edited(key.entity), want.unsure, w.lost(key) && !want.active:
			w.counts["incidents not compared"]++
			delete(active, key)
			continue
		case want.ever:
			w.counts["incidents compared"]++
			w.counts["incidents of "+key.rule]++
		}
		if active[key] != want.active {
			w.violations.add(correlateInvariant, "%s of %s is active: %t, want %t; %v", key.rule, key.entity, active[key], want.active, want.parts)
		}
		delete(active, key)
	}
	for _, key := range slices.SortedFunc(maps.Keys(active), incidentKey.compare) {
		switch {
		case !w.settings().hasRule(key.rule):
			w.violations.add("incidents of removed rules end", "%s of %s is active", key.rule, key.entity)
		case w.lost(key):
		case !w.rulesChanged(key.rule) && !w.edited(key.entity):
			w.violations.add(correlateInvariant, "%s of %s has no parts", key.rule, key.entity)
		}
	}
	if w.correlator == nil {
		return
	}
	if n := len(w.correlateDeadLetters.messages); n > 0 {
		w.violations.add("events become no dead letters", "%d of the correlator", n)
	}
}

// incidentOf returns the key of a composite finding.
func incidentOf(f securityhubtest.Finding) incidentKey {
	return incidentKey{f.ProductFields["CorrelationRule"], cmp.Or(f.ProductFields["CorrelationEntity"], eventOf(f.ProductFields["CorrelationKey"]))}
}

// eventOf returns the type of event that a campaign is about.
func eventOf(key string) string { return strings.TrimPrefix(key, "event ") }

// rulesChanged reports whether a deployment changed or left out a rule since Correlate was added.
func (w *world) rulesChanged(rule string) bool {
	deployed := w.deployed[w.optional.correlateFrom:]
	return slices.ContainsFunc(deployed, func(s settings) bool {
		return s.withoutRule == rule || rule == noisy && s.window != deployed[0].window
	})
}

// edited reports whether the registry was changed about a thing or a client.
func (w *world) edited(name string) bool {
	return slices.ContainsFunc(w.fleetOf, func(d *device) bool { return d.edit != "" && (d.client == name || "new-"+d.client == name) })
}

// related returns the findings that an incident names.
func related(f securityhubtest.Finding) []asff.RelatedFinding {
	var all struct {
		RelatedFindings       []asff.RelatedFinding
		FindingProviderFields struct{ RelatedFindings []asff.RelatedFinding }
	}
	if err := json.Unmarshal(f.JSON, &all); err != nil {
		panic(err) // Security Hub wrote it
	}
	return append(all.RelatedFindings, all.FindingProviderFields.RelatedFindings...)
}

// checkParts requires that an active incident has an active part. The findings of a device that has
// become another thing count for the former one until the window passes.
func (w *world) checkParts() {
	state := map[string]string{}
	for _, f := range w.hub.Findings() {
		state[f.ID] = f.RecordState
	}
	for _, f := range w.hub.Findings() {
		if !composite(f) || f.RecordState != "ACTIVE" || w.edited(f.ProductFields["CorrelationEntity"]) || w.lost(incidentOf(f)) {
			continue
		}
		w.counts["active incidents"]++
		var parts []string
		for _, r := range related(f) {
			parts = append(parts, r.ID+" "+state[r.ID])
		}
		if !slices.ContainsFunc(parts, func(p string) bool { return strings.HasSuffix(p, " ACTIVE") }) {
			w.violations.add("an active incident has an active part", "%s: %v", f.ID, parts)
		}
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
		if i.fn.name == "verification" && i.world.faults.strikes(hubFailure, i.fn) {
			return nil, errLost
		}
		return i.world.hub.client.GetFindings(context.Background(), in)
	})
}

func (t things) ListThings(ctx context.Context, in *iot.ListThingsInput, _ ...func(*iot.Options)) (*iot.ListThingsOutput, error) {
	return ask(ctx, t.environment, "IoT", "ListThings", aws.ToString(in.AttributeValue), func() (*iot.ListThingsOutput, error) { return &iot.ListThingsOutput{}, nil })
}

func (t things) ListThingPrincipals(ctx context.Context, in *iot.ListThingPrincipalsInput, _ ...func(*iot.Options)) (*iot.ListThingPrincipalsOutput, error) {
	return ask(ctx, t.environment, "IoT", "ListThingPrincipals", *in.ThingName, func() (*iot.ListThingPrincipalsOutput, error) {
		certificates, exists := t.world.registry.things[*in.ThingName]
		if !exists {
			return nil, errMissing
		}
		out := &iot.ListThingPrincipalsOutput{}
		for _, c := range certificates {
			out.Principals = append(out.Principals, "arn:aws:iot:"+region+":"+account+":cert/"+c)
		}
		return out, nil
	})
}

// policyOf returns the policy of a device of the fleet. Several devices share one.
func policyOf(thing string) string {
	return fmt.Sprintf("resource-%d", (thing[len(thing)-1]-'0')%3)
}

func (t things) GetEffectivePolicies(ctx context.Context, in *iot.GetEffectivePoliciesInput, _ ...func(*iot.Options)) (*iot.GetEffectivePoliciesOutput, error) {
	return ask(ctx, t.environment, "IoT", "GetEffectivePolicies", cmp.Or(aws.ToString(in.ThingName), aws.ToString(in.Principal)), func() (*iot.GetEffectivePoliciesOutput, error) {
		return &iot.GetEffectivePoliciesOutput{EffectivePolicies: []iottypes.EffectivePolicy{{PolicyName: aws.String(policyOf(*in.ThingName)), PolicyDocument: aws.String("{}")}}}, nil
	})
}

func (t things) DescribeRoleAlias(ctx context.Context, in *iot.DescribeRoleAliasInput, _ ...func(*iot.Options)) (*iot.DescribeRoleAliasOutput, error) {
	return ask(ctx, t.environment, "IoT", "DescribeRoleAlias", *in.RoleAlias, func() (*iot.DescribeRoleAliasOutput, error) { return nil, errMissing })
}

// liveRules returns the rules for the forwarder.
func (s settings) liveRules() string { return correlation.Live(s.compiled()).String() }
