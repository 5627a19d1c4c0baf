package command_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	registry "github.com/defenderhub/defenderhub/test/localaws/cloudformation"
)

// refusing is a provider of CloudFormation that refuses to create some resources.
type refusing struct {
	registry.Provider
	refuse func(registry.Request) error
}

func (p refusing) Create(ctx context.Context, r registry.Request) (registry.Resource, error) {
	if err := p.refuse(r); err != nil {
		return registry.Resource{}, err
	}
	return p.Provider.Create(ctx, r)
}

// refusal is the reason that CloudFormation reports, in AWS's words.
type refusal string

func (r refusal) Error() string { return string(r) }

// refuse makes CloudFormation refuse to create resources of a type, as AWS does in states of an
// account that the local AWS does not have.
func (w world) refuse(kind string, refuse func(registry.Request) error) {
	w.Helper()
	p, err := w.cloud.Resources.Provider(kind)
	w.must(nil, err)
	w.cloud.Resources.Register(kind, refusing{p, refuse})
}

// fails checks that doctor names a conflict, and that the deployment fails with this reason. Then
// it removes the stack.
func (w world) fails(dir, check, text, fix, reason string) {
	w.Helper()
	rows, _ := doctor(w.T, w.cloud, "--template", dir)
	want(w.T, rows, "fix", check, text, fix)
	wantReason(w.T, deploy(w.T, w.cloud, dir), reason)
	remove(w.T, w.cloud)
}

// succeeds checks that doctor finds nothing to fix, and that the deployment succeeds. Then it
// removes the stack.
func (w world) succeeds(dir string) {
	w.Helper()
	if rows, status := doctor(w.T, w.cloud, "--template", dir); status != 0 {
		w.Errorf("doctor has status %d, want 0:\n%s", status, show(rows))
	}
	if reasons := deploy(w.T, w.cloud, dir); reasons != nil {
		w.Errorf("the deployment fails: %q", reasons)
	}
	remove(w.T, w.cloud)
}

// each changes all resources of a type.
func each(t *testing.T, dir, kind string, change func(map[string]any)) string {
	return edit(t, dir, func(resources map[string]map[string]any) {
		for _, r := range resources {
			if r["Type"] == kind {
				change(r)
			}
		}
	})
}

// TestConflictsOfTemplates has conflicts that only an aspect or a pinned environment creates. The
// construct's own template has none of them.
func TestConflictsOfTemplates(t *testing.T) {
	w := newWorld(t)
	// A small quota of concurrent executions: CloudFormation refuses each reservation.
	w.cloud.Functions.Concurrency = 10
	w.cloud.Resources.Check = func(r registry.Request) error {
		if r.ResourceType == "AWS::Lambda::Function" && r.ResourceProperties["ReservedConcurrentExecutions"] != nil {
			return refusal("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [10]")
		}
		return nil
	}
	// AWS IoT refuses a rule whose role was just created. Here it does so until the role has its policy.
	const young = "AWS IoT (iot.amazonaws.com) is unable to assume role (sts:AssumeRole) on resource: R. If the role was just created or updated, please try again in a few seconds."
	w.refuse("AWS::IoT::TopicRule", func(r registry.Request) error {
		if !slices.ContainsFunc(w.cloud.Resources.Deployed("AWS::IAM::Policy"), func(d registry.Deployed) bool { return strings.HasPrefix(d.LogicalID, "HubRules") }) {
			return refusal(young)
		}
		return nil
	})

	const accounts, schedules, functions, rules = "AWS::IoT::AccountAuditConfiguration", "AWS::IoT::ScheduledAudit", "AWS::Lambda::Function", "AWS::IoT::TopicRule"
	plain := func() string { return assembly(t, nil, nil) }
	w.fails(each(t, plain(), accounts, func(r map[string]any) { properties(r)["AccountId"] = "210987654321" }),
		"account", "AccountId in the template (210987654321) doesn't match actual: 123456789012.", "remove Env from the StackProps", "AccountId in the template (210987654321) doesn't match actual: 123456789012.")
	scheduling := func(check string) string {
		return each(t, plain(), schedules, func(r map[string]any) {
			properties(r)["TargetCheckNames"] = append(properties(r)["TargetCheckNames"].([]any), check)
		})
	}
	w.fails(scheduling("NEW_CHECK"), "audit-schedules", "NEW_CHECK. Request contains an invalid Audit Check Name.", "audit-disabled=NEW_CHECK", "Request contains an invalid Audit Check Name.")
	rows, _ := doctor(t, w.cloud, "--template", scheduling("INTERMEDIATE_CA_REVOKED_FOR_ACTIVE_DEVICE_CERTIFICATES_CHECK"))
	want(t, rows, "note", "audit-schedules", "one public report says that AWS rejects a schedule with INTERMEDIATE_CA_REVOKED", "Audit.Include")
	w.fails(each(t, plain(), functions, func(r map[string]any) { properties(r)["ReservedConcurrentExecutions"] = 5 }),
		"concurrency", "of 10 unreserved executions the template takes 5", "remove ReservedConcurrentExecutions", "below its minimum value of [10]")
	early := edit(t, each(t, plain(), rules, func(r map[string]any) { delete(r, "DependsOn") }), func(resources map[string]map[string]any) {
		var all []any
		for id, r := range resources {
			if r["Type"] == rules {
				all = append(all, id)
			}
		}
		for id, r := range resources {
			if r["Type"] == "AWS::IAM::Policy" && strings.HasPrefix(id, "HubRules") {
				r["DependsOn"] = all
			}
		}
	})
	w.fails(early, "rules", "AWS IoT (iot.amazonaws.com) is unable to assume role", "AddDependency on the role's policy", "is unable to assume role (sts:AssumeRole)")
	w.succeeds(plain())

	w.cloud.Functions.Concurrency = 1000
	rows, _ = doctor(t, w.cloud, "--template", each(t, plain(), functions, func(r map[string]any) { properties(r)["ReservedConcurrentExecutions"] = 5 }))
	want(t, rows, "ok", "concurrency", "1000 concurrent executions", "")
	pinned := assembly(t, &awscdk.Environment{Account: aws.String("210987654321"), Region: aws.String("eu-west-1")}, nil)
	rows, _ = doctor(t, w.cloud, "--template", pinned)
	want(t, rows, "fix", "account", "pinned to account 210987654321", "use credentials of that account")
	want(t, rows, "fix", "account", "pinned to Region eu-west-1", "--region eu-west-1")
	nested := edit(t, plain(), func(resources map[string]map[string]any) {
		resources["Nested"] = map[string]any{"Type": "AWS::CloudFormation::Stack", "Metadata": map[string]any{"aws:asset:path": "N.nested.template.json"}}
	})
	rows, _ = doctor(t, w.cloud, "--template", nested)
	want(t, rows, "unknown", "account", "Nested was not checked", "defenderhub doctor --template cdk.out/N.nested.template.json")
	rows, _ = doctor(t, w.cloud, "--template", plain(), "--toolkit-stack-name", "Other")
	want(t, rows, "fix", "bootstrap", "there is no stack Other", "make bootstrap")
}

// TestQuotaOfScheduledAudits deploys one more schedule than AWS IoT allows.
func TestQuotaOfScheduledAudits(t *testing.T) {
	w := newWorld(t)
	// A forwarder alone needs no audit configuration, a schedule does.
	alone := edit(t, assembly(t, nil, nil), func(resources map[string]map[string]any) {
		maps.DeleteFunc(resources, func(id string, _ map[string]any) bool { return !strings.HasPrefix(id, "HubForwarder") })
	})
	rows, _ := doctor(t, w.cloud, "--template", alone)
	want(t, rows, "note", "audit-configuration", "the account has no audit configuration", "")
	existing := func() string {
		return assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) {
			p.Audit = &defenderhub.AuditProps{Configuration: defenderhub.Existing}
		})
	}
	rows, _ = doctor(t, w.cloud, "--template", existing())
	want(t, rows, "fix", "audit-configuration", "the template creates none", "audit-configuration=create")

	all := []string{}
	for _, c := range defender.Checks() {
		all = append(all, c.String())
	}
	w.audits(all...)
	for i := range 5 {
		w.must(w.iot.CreateScheduledAudit(t.Context(), &iot.CreateScheduledAuditInput{ScheduledAuditName: aws.String(fmt.Sprint("daily-", i)), Frequency: iottypes.AuditFrequencyDaily, TargetCheckNames: []string{logging}}))
	}
	w.fails(existing(), "audit-schedules", "the account has 5 scheduled audits, and the template adds 1: AWS IoT allows 5", "Audit.NoSchedule", "LimitExceeded")
	w.must(w.iot.DeleteScheduledAudit(t.Context(), &iot.DeleteScheduledAuditInput{ScheduledAuditName: aws.String("daily-0")}))
	w.succeeds(existing())
}

// TestNamesInUse deploys templates with names that other resources already have.
func TestNamesInUse(t *testing.T) {
	w := newWorld(t)
	w.must(cloudformation.NewFromConfig(w.cloud.Config()).CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("Other"), TemplateBody: aws.String(`{"Resources":{
		"Metric":{"Type":"AWS::IoT::CustomMetric","Properties":{"MetricName":"temperature","MetricType":"number"}},
		"Dimension":{"Type":"AWS::IoT::Dimension","Properties":{"Name":"topics","Type":"TOPIC_FILTER","StringValues":["a"]}},
		"Profile":{"Type":"AWS::IoT::SecurityProfile","Properties":{"SecurityProfileName":"mine","Behaviors":[]}}}}`)}))
	all := []string{}
	for _, c := range defender.Checks() {
		all = append(all, c.String())
	}
	w.audits(all...)
	w.must(w.iot.CreateScheduledAudit(t.Context(), &iot.CreateScheduledAuditInput{ScheduledAuditName: aws.String("daily"), Frequency: iottypes.AuditFrequencyDaily, TargetCheckNames: []string{logging}}))
	w.rule("fleet_reports")
	template := func(schedule, rule, profile, dimension string, metrics ...string) string {
		dir := assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) {
			p.Audit = &defenderhub.AuditProps{Configuration: defenderhub.Existing, ScheduleName: schedule}
			p.Detect = &defenderhub.DetectProps{Native: &defenderhub.NativeProps{ExistingCustomMetrics: metrics}, Profiles: []defender.SecurityProfile{{Name: profile, Behaviors: []defender.Behavior{
				{Name: "hot", Criteria: defender.CustomNumber("temperature").LessThan(90, defender.Window5m)},
			}}}}
		})
		return edit(t, dir, func(resources map[string]map[string]any) {
			if dimension != "" {
				resources["Topics"] = map[string]any{"Type": "AWS::IoT::Dimension", "Properties": map[string]any{"Name": dimension, "Type": "TOPIC_FILTER", "StringValues": []any{"a"}}}
			}
			for _, r := range resources {
				if r["Type"] == "AWS::IoT::TopicRule" && rule != "" {
					properties(r)["RuleName"], rule = rule, ""
				}
			}
		})
	}
	for name, c := range map[string]struct{ dir, fix, reason string }{
		"daily":         {template("daily", "", "own", "", "temperature"), "another Audit.ScheduleName", "The scheduled audit daily already exists"},
		"fleet_reports": {template("", "fleet_reports", "own", "", "temperature"), "another defenderhub:reports-rule in cdk.json", "Rule fleet_reports already exists."},
		"mine":          {template("", "", "mine", "", "temperature"), "another Name in Detect.Profiles", "already exists"},
		"topics":        {template("", "", "own", "topics", "temperature"), "another name", "already exists"},
		"temperature":   {template("", "", "own", ""), "Detect.Native.ExistingCustomMetrics", "already exists"},
	} {
		t.Run(name, func(t *testing.T) {
			w := w
			w.T = t
			w.fails(c.dir, "names", "the name "+name+" of ", c.fix, c.reason)
		})
	}
	w.succeeds(template("", "", "own", "other-topics", "temperature"))
}

// TestDetectIsClosed has an account that may not use Detect.
func TestDetectIsClosed(t *testing.T) {
	w := newWorld(t)
	native := assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) {
		p.Detect = &defenderhub.DetectProps{Behaviors: defender.DemoBehaviors(), Native: &defenderhub.NativeProps{}}
	})
	rows, status := doctor(t, w.cloud, "--template", native)
	want(t, rows, "unknown", "detect", "is not known", "doctor --try")
	if status != 2 {
		t.Errorf("status %d, want 2", status)
	}
	w.must(nil, w.hub.Disable())
	if rows, status := doctor(t, w.cloud, "--template", native); status != 1 {
		t.Errorf("status %d with a thing to fix and an unknown check, want 1:\n%s", status, show(rows))
	}
	w.must(nil, w.hub.Enable(securityhubtest.Settings{}))
	rows, status = doctor(t, w.cloud, "--template", native, "--try", "--yes")
	want(t, rows, "ok", "detect", "was created and deleted", "")
	if profiles, err := w.iot.ListSecurityProfiles(t.Context(), &iot.ListSecurityProfilesInput{}); err != nil || len(profiles.SecurityProfileIdentifiers) > 0 || status != 0 {
		t.Errorf("doctor --try left %v, error %v, status %d", profiles.SecurityProfileIdentifiers, err, status)
	}
	w.cloud.Detect.Closed = true
	w.refuse("AWS::IoT::SecurityProfile", func(registry.Request) error { return refusal("closed (unverified words)") })
	rows, _ = doctor(t, w.cloud, "--template", native, "--try", "--yes")
	want(t, rows, "fix", "detect", "could not be created", "engine=self-managed")
	if r := run(t, w.cloud, nil, "doctor", "--template", native, "--try"); r.status != 2 || !strings.Contains(r.stderr, "create the security profile defenderhub-doctor-") {
		t.Errorf("without --yes: %+v", r)
	}
	rows, _ = doctor(t, w.cloud, "--template", assembly(t, nil, nil), "--try", "--yes")
	want(t, rows, "note", "detect", "the template needs none", "")
	wantReason(t, deploy(t, w.cloud, native), "closed")
	remove(t, w.cloud)
	w.succeeds(assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) { p.Detect = selfManaged("") }))
}

// TestCentralConfiguration has a member account that cannot turn Security Hub on, because its
// administrator does.
func TestCentralConfiguration(t *testing.T) {
	w := newWorld(t)
	w.must(nil, w.hub.Disable())
	w.hub.SetAdministrator("210987654321")
	w.refuse("AWS::SecurityHub::Hub", func(registry.Request) error { return refusal("centrally configured (unverified words)") })
	w.fails(assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) {
		p.Subscriptions = &defenderhub.ProductSubscriptionsProps{EnableSecurityHub: true}
	}), "security-hub", "member account of the Security Hub administrator 210987654321", "ask the administrator", "centrally configured")
	rows, _ := doctor(t, w.cloud, "--template", assembly(t, nil, nil))
	want(t, rows, "fix", "security-hub", "Security Hub CSPM is off", "ask the Security Hub administrator 210987654321")
	w.must(nil, w.hub.Enable(securityhubtest.Settings{})) // by the administrator
	w.succeeds(assembly(t, nil, nil))
}

// TestDeletionWhileOthersAudit deletes a stack with its audit configuration, while a scheduled
// audit of another owner uses it, and after that.
func TestDeletionWhileOthersAudit(t *testing.T) {
	w := newWorld(t)
	deletes := assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) {
		p.Audit = &defenderhub.AuditProps{RemovalPolicy: awscdk.RemovalPolicy_DESTROY}
		p.Subscriptions = &defenderhub.ProductSubscriptionsProps{RemovalPolicy: awscdk.RemovalPolicy_DESTROY}
	})
	if reasons := deploy(t, w.cloud, deletes); reasons != nil {
		t.Fatal(reasons)
	}
	w.must(w.iot.CreateScheduledAudit(t.Context(), &iot.CreateScheduledAuditInput{ScheduledAuditName: aws.String("theirs"), Frequency: iottypes.AuditFrequencyDaily, TargetCheckNames: []string{logging}}))
	rows, _ := doctor(t, w.cloud, "--template", deletes)
	want(t, rows, "note", "audit-schedules", "other scheduled audits use it: theirs", "no Audit.RemovalPolicy: the default keeps it")
	stacks, name := cloudformation.NewFromConfig(w.cloud.Config()), stackName
	deleted := func() string {
		_, err := stacks.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: &name})
		all, listed := stacks.ListStacks(t.Context(), &cloudformation.ListStacksInput{})
		w.must(nil, listed)
		for _, s := range all.StackSummaries {
			if *s.StackName == name {
				return string(s.StackStatus)
			}
		}
		t.Fatal(err)
		return ""
	}
	if got := deleted(); got != "DELETE_FAILED" {
		t.Errorf("the stack is in %s, want DELETE_FAILED", got)
	}
	w.must(w.iot.DeleteScheduledAudit(t.Context(), &iot.DeleteScheduledAuditInput{ScheduledAuditName: aws.String("theirs")}))
	if got := deleted(); got != "DELETE_COMPLETE" {
		t.Errorf("without other schedules the stack is in %s, want DELETE_COMPLETE", got)
	}
}
