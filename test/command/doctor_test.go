package command_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/defenderhub/defenderhub/constructs/defenderhub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/test/localaws"
	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
)

// finding is a row of doctor.
type finding struct{ Status, Check, Finding, Fix string }

// doctor runs the command and returns all rows and the exit status.
func doctor(t *testing.T, cloud *localaws.Cloud, args ...string) (rows []finding, status int) {
	t.Helper()
	r := run(t, cloud, nil, append([]string{"doctor", "--json"}, args...)...)
	var all []finding
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		t.Fatalf("status %d: %s\n%s", r.status, r.stdout, r.stderr)
	}
	if len(all) < 10 {
		t.Fatalf("only %d rows: %s", len(all), r.stdout)
	}
	return all, r.status
}

// want requires a row of a check with this status and these texts.
func want(t *testing.T, rows []finding, status, check, text, fix string) {
	t.Helper()
	for _, r := range rows {
		if r.Check == check && r.Status == status && strings.Contains(r.Finding, text) && strings.Contains(r.Fix, fix) {
			return
		}
	}
	t.Errorf("no row of %s with status %s has %q and the fix %q:\n%s", check, status, text, fix, show(rows))
}

func show(rows []finding) string {
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%s %s: %s | %s\n", r.Status, r.Check, r.Finding, r.Fix)
	}
	return b.String()
}

type props = func(awscdk.Stack, *defenderhub.DefenderHubProps)

// emptyZip is a zip without files.
var emptyZip = append([]byte("PK\x05\x06"), make([]byte, 18)...)

// world is a local AWS in which Security Hub is on, with a bucket for the code of functions.
type world struct {
	*testing.T
	cloud *localaws.Cloud
	iot   *iot.Client
	hub   *securityhubtest.Hub
	api   awsapi.Client
}

func newWorld(t *testing.T) world {
	t.Helper()
	cloud := start(t)
	w := world{t, cloud, iot.NewFromConfig(cloud.Config()), cloud.SecurityHub.Hub(cloud.Account, cloud.Region), awsapi.Client{Endpoint: cloud.Endpoint, Region: cloud.Region}}
	w.must(w.api.Send(t.Context(), "s3", http.MethodPut, "/code", "", nil, nil))
	w.must(w.api.Send(t.Context(), "s3", http.MethodPut, "/code/function.zip", "", emptyZip, nil))
	w.must(nil, w.hub.Enable(securityhubtest.Settings{}))
	w.must(cloudformation.NewFromConfig(cloud.Config()).CreateStack(t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("CDKToolkit"), TemplateBody: aws.String(
		`{"Resources":{"Topic":{"Type":"AWS::SNS::Topic"}},"Outputs":{"BootstrapVersion":{"Value":"30"}}}`)}))
	return w
}

func (w world) must(_ any, err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// audits configures the account's audits outside the stack, with only these checks enabled.
func (w world) audits(on ...string) {
	w.Helper()
	checks := map[string]iottypes.AuditCheckConfiguration{}
	for _, c := range defender.Checks() {
		checks[c.String()] = iottypes.AuditCheckConfiguration{Enabled: slices.Contains(on, c.String())}
	}
	w.must(w.iot.UpdateAccountAuditConfiguration(w.Context(), &iot.UpdateAccountAuditConfigurationInput{
		RoleArn: aws.String("arn:aws:iam::123456789012:role/somebody"), AuditCheckConfigurations: checks,
	}))
}

// rule creates a topic rule outside the stack.
func (w world) rule(name string) {
	w.Helper()
	role := "arn:aws:iam::123456789012:role/somebody"
	w.must(w.iot.CreateTopicRule(w.Context(), &iot.CreateTopicRuleInput{RuleName: &name, TopicRulePayload: &iottypes.TopicRulePayload{
		Sql: aws.String("SELECT * FROM 't'"), AwsIotSqlVersion: aws.String("2016-03-23"),
		Actions: []iottypes.Action{{Sqs: &iottypes.SqsAction{QueueUrl: aws.String(w.cloud.Endpoint + "/123456789012/q"), RoleArn: &role}}},
	}}))
}

func wantReason(t *testing.T, reasons []string, text string) {
	t.Helper()
	if !slices.ContainsFunc(reasons, func(r string) bool { return strings.Contains(r, text) }) {
		t.Errorf("the deployment did not fail with %q: %q", text, reasons)
	}
}

const (
	auditProduct = "arn:aws:securityhub:us-east-1::product/aws/iot-device-defender-audit"
	logging      = "LOGGING_DISABLED_CHECK"
	shared       = "DEVICE_CERTIFICATE_SHARED_CHECK"
)

func selfManaged(rule string) *defenderhub.DetectProps {
	return &defenderhub.DetectProps{Behaviors: defender.StarterBehaviors(), SelfManaged: &defenderhub.SelfManagedProps{ReportsRuleName: rule}}
}

// TestConflictsAreNamedBeforeTheDeployment puts the account into conflicts that CloudFormation
// reports one at a time. doctor names all, CloudFormation meets the first, and a deployment with
// all the props that doctor names succeeds.
func TestConflictsAreNamedBeforeTheDeployment(t *testing.T) {
	w := newWorld(t)
	w.audits(logging)
	_, err := w.hub.EnableProduct(auditProduct)
	w.must(nil, err)
	w.rule("fleet_reports")
	before := assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) {
		p.Subscriptions = &defenderhub.ProductSubscriptionsProps{EnableSecurityHub: true}
		p.Detect = selfManaged("fleet_reports")
	})
	rows, status := doctor(t, w.cloud, "--template", before)
	want(t, rows, "fix", "audit-configuration", "The AccountAuditConfiguration already exists.", "audit-configuration=existing")
	want(t, rows, "fix", "audit-configuration", "role/somebody; 1 of 17 checks are on: "+logging, "")
	want(t, rows, "fix", "security-hub", "Account is already subscribed to Security Hub", "enable-security-hub=false")
	want(t, rows, "fix", "subscriptions", "ResourceConflictException", "Subscriptions.Audit: defenderhub.Existing")
	want(t, rows, "fix", "names", "the name fleet_reports of DefenderHub/Hub", "reports-rule")
	if status != 1 {
		t.Errorf("status %d:\n%s", status, show(rows))
	}
	if reasons := deploy(t, w.cloud, before); len(reasons) == 0 {
		t.Error("the deployment succeeds in spite of the conflicts")
	}
	remove(t, w.cloud)

	// The existing configuration enables only one check, so a schedule with other checks fails too.
	existing := func(except ...defender.Check) props {
		return func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) {
			p.Subscriptions = &defenderhub.ProductSubscriptionsProps{Audit: defenderhub.Existing}
			p.Audit = &defenderhub.AuditProps{Configuration: defenderhub.Existing, Except: except}
			p.Detect = selfManaged("other_reports")
		}
	}
	rows, _ = doctor(t, w.cloud, "--template", assembly(t, nil, existing()))
	want(t, rows, "fix", "audit-schedules", "names checks that the existing audit configuration does not enable", "audit-except=")
	wantReason(t, deploy(t, w.cloud, assembly(t, nil, existing())), "is not enabled for this account")
	remove(t, w.cloud)

	except := slices.DeleteFunc(defender.Checks(), func(c defender.Check) bool { return c.String() == logging })
	fixed := assembly(t, nil, existing(except...))
	rows, status = doctor(t, w.cloud, "--template", fixed)
	if status != 0 {
		t.Errorf("status %d with the props that doctor names:\n%s", status, show(rows))
	}
	if reasons := deploy(t, w.cloud, fixed); reasons != nil {
		t.Fatalf("the deployment fails with the props that doctor names: %q", reasons)
	}
	rows, status = doctor(t, w.cloud, "--template", fixed)
	want(t, rows, "ok", "stack", "CREATE_COMPLETE", "")
	want(t, rows, "ok", "alarms", "none of ", "")
	want(t, rows, "ok", "queues", "0 messages wait", "")
	want(t, rows, "note", "imports", "no finding was imported", "")
	want(t, rows, "note", "engine", "no telemetry was judged", "")
	if status != 0 {
		t.Errorf("status %d after the deployment:\n%s", status, show(rows))
	}
	w.deadLetters("")
	w.cloud.Clock.Step(10 * time.Minute)
	rows, status = doctor(t, w.cloud)
	want(t, rows, "fix", "queues", "2 dead letters in HubForwarderDeadLetters", "dead-letters retry")
	want(t, rows, "note", "queues", " of the source device-event: a reason", "dead-letters list")
	want(t, rows, "note", "queues", " of the source audit: a reason", "dead-letters list")
	want(t, rows, "fix", "alarms", "is in alarm", "docs/operations.md")
	if status != 1 {
		t.Errorf("status %d:\n%s", status, show(rows))
	}
}

// TestOwnDeploymentDrifts deploys a stack that owns the audit configuration, and changes the
// configuration outside the stack.
func TestOwnDeploymentDrifts(t *testing.T) {
	w := newWorld(t)
	own := func(change func(*defenderhub.AuditProps)) string {
		return assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) {
			p.Audit = &defenderhub.AuditProps{}
			change(p.Audit)
		})
	}
	w.must(nil, w.hub.Disable())
	rows, _ := doctor(t, w.cloud, "--template", own(func(*defenderhub.AuditProps) {}))
	want(t, rows, "fix", "security-hub", "Security Hub CSPM is off", "enable-security-hub=true")
	wantReason(t, deploy(t, w.cloud, own(func(*defenderhub.AuditProps) {})), "is not subscribed to AWS Security Hub")
	remove(t, w.cloud)
	w.hub.SetAdministrator("210987654321")
	enabling := assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) {
		p.Subscriptions = &defenderhub.ProductSubscriptionsProps{EnableSecurityHub: true}
	})
	rows, _ = doctor(t, w.cloud, "--template", enabling)
	want(t, rows, "fix", "security-hub", "member account of the Security Hub administrator 210987654321", "ask the administrator")
	w.hub.SetAdministrator("")
	rows, status := doctor(t, w.cloud, "--template", enabling)
	want(t, rows, "ok", "security-hub", "the template turns it on", "")
	if status != 0 {
		t.Errorf("status %d: %s", status, show(rows))
	}
	if reasons := deploy(t, w.cloud, enabling); reasons != nil {
		t.Fatalf("the deployment fails: %q", reasons)
	}

	// Disabling a check that the schedule runs takes two deployments.
	hub := func(change func(*defenderhub.AuditProps)) string {
		return assembly(t, nil, func(_ awscdk.Stack, p *defenderhub.DefenderHubProps) {
			p.Subscriptions = &defenderhub.ProductSubscriptionsProps{EnableSecurityHub: true}
			p.Audit = &defenderhub.AuditProps{}
			change(p.Audit)
		})
	}
	check := []defender.Check{defender.DeviceCertificateShared}
	disabled := func() string { return hub(func(a *defenderhub.AuditProps) { a.Disabled = check }) }
	rows, _ = doctor(t, w.cloud, "--template", disabled())
	want(t, rows, "fix", "audit-schedules", "You cannot disable a check if it's used by any scheduled audit", "deploy twice")
	wantReason(t, deploy(t, w.cloud, disabled()), "scheduled audit")
	for _, step := range []string{hub(func(a *defenderhub.AuditProps) { a.Except = check }), disabled()} {
		if rows, status := doctor(t, w.cloud, "--template", step); status != 0 {
			t.Errorf("status %d: %s", status, show(rows))
		}
		if reasons := deploy(t, w.cloud, step); reasons != nil {
			t.Fatalf("a step fails: %q", reasons)
		}
	}

	// Another owner changes the configuration, and uses it.
	var theirs []string
	for _, c := range defender.Checks() {
		if c != defender.IntermediateCARevoked {
			theirs = append(theirs, c.String())
		}
	}
	w.audits(theirs...)
	drifted := hub(func(a *defenderhub.AuditProps) { a.Disabled, a.CertificateAgeDays = check, 90 })
	rows, _ = doctor(t, w.cloud, "--template", drifted)
	want(t, rows, "note", "audit-configuration", "turns these checks off in the whole account: "+shared, "Audit.Disabled")
	want(t, rows, "note", "audit-configuration", "these checks were turned off outside the stack: INTERMEDIATE_CA_REVOKED", "one owner")
	on := func() bool {
		config, err := w.iot.DescribeAccountAuditConfiguration(t.Context(), &iot.DescribeAccountAuditConfigurationInput{})
		w.must(nil, err)
		return config.AuditCheckConfigurations[shared].Enabled
	}
	if !on() {
		t.Error("the check is off before the deployment")
	}
	if reasons := deploy(t, w.cloud, drifted); reasons != nil || on() {
		t.Errorf("the deployment fails: %q, or does not turn the check off: %v", reasons, on())
	}
	w.must(w.iot.CreateScheduledAudit(t.Context(), &iot.CreateScheduledAuditInput{ScheduledAuditName: aws.String("theirs"), Frequency: iottypes.AuditFrequencyDaily, TargetCheckNames: []string{logging}}))
	deletes := hub(func(a *defenderhub.AuditProps) { a.Disabled, a.RemovalPolicy = check, awscdk.RemovalPolicy_DESTROY })
	rows, _ = doctor(t, w.cloud, "--template", deletes)
	want(t, rows, "note", "audit-schedules", "other scheduled audits use it: theirs", "Audit.RemovalPolicy")

	// Another owner deletes the configuration. The command that doctor names creates it again.
	deleted := func() {
		w.must(w.iot.DeleteAccountAuditConfiguration(t.Context(), &iot.DeleteAccountAuditConfigurationInput{DeleteScheduledAudits: true}))
	}
	changed := func(days int) string {
		return hub(func(a *defenderhub.AuditProps) { a.CertificateAgeDays, a.NoSchedule = days, true })
	}
	deleted()
	rows, _ = doctor(t, w.cloud, "--template", changed(100))
	want(t, rows, "fix", "audit-configuration", "The configuration for your account has not been set up or was deleted.", "create it again by hand (aws iot update-account-audit-configuration)")
	w.audits(theirs...)
	if reasons := deploy(t, w.cloud, changed(100)); reasons != nil {
		t.Errorf("the deployment fails after the configuration was created again: %q", reasons)
	}
	deleted()
	wantReason(t, deploy(t, w.cloud, changed(200)), "has not been set up or was deleted")
}

// TestPoliciesOfImportedTopics imports a topic whose policy must let CloudWatch publish.
func TestPoliciesOfImportedTopics(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	topics := sns.NewFromConfig(w.cloud.Config())
	made, err := topics.CreateTopic(ctx, &sns.CreateTopicInput{Name: aws.String("alerts")})
	w.must(nil, err)
	policy := func(text string) {
		t.Helper()
		w.must(topics.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: made.TopicArn, AttributeName: aws.String("Policy"), AttributeValue: &text}))
	}
	policy(`{"Version":"2012-10-17","Statement":[]}`)
	dir := assembly(t, nil, func(stack awscdk.Stack, p *defenderhub.DefenderHubProps) {
		p.AlarmTopic = awssns.Topic_FromTopicArn(stack, aws.String("Alerts"), made.TopicArn)
	})
	rows, _ := doctor(t, w.cloud, "--template", dir)
	want(t, rows, "fix", "topics", "does not let cloudwatch.amazonaws.com publish", `"Action":"sns:Publish"`)
	policy(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"cloudwatch.amazonaws.com"},"Action":"sns:Publish","Resource":"*"}]}`)
	rows, _ = doctor(t, w.cloud, "--template", dir)
	want(t, rows, "ok", "topics", "services may publish", "")
}

// TestManyCertificates has 300 certificates, of which the last one is shared. The command reads
// all pages.
func TestManyCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	for _, name := range []string{"pump-1", "pump-2"} {
		w.must(w.iot.CreateThing(ctx, &iot.CreateThingInput{ThingName: &name}))
	}
	const all = 300
	var last *string
	for range all {
		keys, err := w.iot.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{})
		w.must(nil, err)
		last = keys.CertificateArn
		w.must(w.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: aws.String("pump-1"), Principal: last}))
	}
	w.must(w.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: aws.String("pump-2"), Principal: last}))
	rows, status := doctor(t, w.cloud)
	want(t, rows, "fix", "certificates", "is attached to 2 things: pump-1, pump-2", "its own certificate")
	if status != 1 {
		t.Errorf("status %d, want 1", status)
	}
	rows, _ = doctor(t, w.cloud, "--certificates", "299")
	want(t, rows, "note", "certificates", "more than 299 certificates", "--certificates 2990")
	var shown struct {
		Device []struct{ Kind, Name string }
	}
	r := run(t, w.cloud, nil, "device", "pump-1", "--json")
	w.must(nil, json.Unmarshal([]byte(r.stdout), &shown))
	certificates := map[string]bool{}
	for _, row := range shown.Device {
		if row.Kind == "certificate" {
			certificates[row.Name] = true
		}
	}
	if len(certificates) != all || r.status != 0 {
		t.Errorf("device shows %d certificates, status %d: %s", len(certificates), r.status, r.stderr)
	}
}
