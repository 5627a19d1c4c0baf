// Package audit implements the command audit run, which starts an audit, shows its progress, and
// waits for each finding in Security Hub.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
	"github.com/defenderhub/defenderhub/defender"
)

// delivery is the time within which AWS's integration usually sends findings after a task ends.
// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/securityhub-integration.html
const delivery = time.Hour

// IoT are the calls to AWS IoT.
type IoT interface {
	iot.ListAuditFindingsAPIClient
	DescribeAccountAuditConfiguration(context.Context, *iot.DescribeAccountAuditConfigurationInput, ...func(*iot.Options)) (*iot.DescribeAccountAuditConfigurationOutput, error)
	StartOnDemandAuditTask(context.Context, *iot.StartOnDemandAuditTaskInput, ...func(*iot.Options)) (*iot.StartOnDemandAuditTaskOutput, error)
	DescribeAuditTask(context.Context, *iot.DescribeAuditTaskInput, ...func(*iot.Options)) (*iot.DescribeAuditTaskOutput, error)
}

// SecurityHub is the call to Security Hub.
type SecurityHub = securityhub.GetFindingsAPIClient

// Check is a row with one check of the task.
type Check struct {
	Check        string `json:"check" head:"CHECK" doc:"the check's API name"`
	Status       status `json:"status" head:"STATUS" doc:"the check's status, such as COMPLETED_COMPLIANT"`
	Total        int64  `json:"total" head:"RESOURCES" doc:"the number of checked resources"`
	NonCompliant int64  `json:"nonCompliant" head:"NON-COMPLIANT" doc:"the number of non-compliant resources"`
	Suppressed   int64  `json:"suppressed" head:"SUPPRESSED" doc:"the number of these that audit suppressions hide"`
	Message      string `json:"message" head:"MESSAGE" doc:"why the check failed, in AWS's words"`
}

// Finding is a row with one non-compliant resource.
type Finding struct {
	Severity  severity `json:"severity" head:"SEVERITY" doc:"CRITICAL, HIGH, MEDIUM or LOW"`
	Check     string   `json:"check" head:"CHECK" doc:"the check's API name"`
	Resource  string   `json:"resource" head:"RESOURCE" doc:"the resource: a policy and its version, a certificate ID, a client ID or an ARN"`
	Reason    string   `json:"reason" head:"REASON" doc:"the reason code"`
	Hub       hubState `json:"securityHub" head:"SECURITY HUB" doc:"the finding's state there: ACTIVE, ARCHIVED, missing, suppressed by an audit suppression, or not followed"`
	FindingID string   `json:"findingId" doc:"Device Defender's ID of the finding"`
	Kind      string   `json:"resourceType" doc:"the kind of resource, such as IOT_POLICY"`
	Text      string   `json:"reasonText" doc:"the reason in AWS's words"`
}

type (
	status   string
	severity string
	hubState string
)

// Style returns red for a failed check, yellow for a non-compliant one.
func (s status) Style() string {
	switch types.AuditCheckRunStatus(s) {
	case types.AuditCheckRunStatusFailed, types.AuditCheckRunStatusCanceled:
		return cli.Red
	case types.AuditCheckRunStatusCompletedNonCompliant:
		return cli.Yellow
	}
	return ""
}

// Style returns red for CRITICAL and HIGH.
func (s severity) Style() string {
	if s == "CRITICAL" || s == "HIGH" {
		return cli.Red
	}
	return ""
}

// Style returns red for a finding that is missing in Security Hub.
func (h hubState) Style() string {
	if h == missing {
		return cli.Red
	}
	return ""
}

const (
	missing     hubState = "missing"
	suppressed  hubState = "suppressed"
	notFollowed hubState = "not followed"
)

// Command returns the group audit with the command run.
func Command() *cli.Command {
	var r run
	return &cli.Command{
		Use: "audit", Short: "Run audits of Device Defender",
		Commands: []*cli.Command{{
			Use: "run [CHECK...]", Short: "Audit now, and follow each finding to Security Hub",
			Long: "Start an on-demand audit, show its progress by check and its findings, and wait until\n" +
				"each finding is in Security Hub. Without CHECK, all enabled checks run. AWS's own\n" +
				"integration usually needs up to an hour after the audit.\n\n" +
				"Ctrl-C ends the command but not the audit.\n\n" +
				"Exit status 1: a resource is non-compliant, a check failed, or a finding is missing in\nSecurity Hub.",
			Example: "defenderhub audit run\ndefenderhub audit run IOT_POLICY_OVERLY_PERMISSIVE_CHECK --wait 0s\ndefenderhub audit run LOGGING_DISABLED_CHECK --yes --json",
			Args:    cobra.ArbitraryArgs,
			Changes: true,
			Policy: []cli.Statement{{
				// AWS IoT has no resource types for audits.
				Actions: []string{
					"iot:DescribeAccountAuditConfiguration", "iot:DescribeAuditTask", "iot:ListAuditFindings", "iot:StartOnDemandAuditTask",
				},
				Resources: []string{"*"},
			}, {
				Actions:   []string{"securityhub:GetFindings"},
				Resources: []string{"arn:aws:securityhub:*:*:hub/default"},
			}},
			Output: []cli.Section{cli.Rows[Check]("checks", nil), cli.Rows[Finding]("findings", nil)},
			Flags: func(f *pflag.FlagSet) {
				f.DurationVar(&r.wait, "wait", delivery, "how long to wait for the findings in Security Hub; 0s: do not wait")
				f.DurationVar(&r.poll, "interval", 5*time.Second, "how often to check the progress, at least 1s")
			},
			Run: func(ctx context.Context, s *cli.Session, args []string) error {
				if r.poll < time.Second {
					return fmt.Errorf("--interval is %s, want at least 1s", r.poll)
				}
				if r.wait < 0 {
					return fmt.Errorf("--wait is %s, want 0s or more", r.wait)
				}
				c, err := s.Config(ctx)
				if err != nil {
					return err
				}
				who, err := sts.NewFromConfig(c).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
				if err != nil {
					return err
				}
				r.iot, r.hub, r.region, r.account = iot.NewFromConfig(c), securityhub.NewFromConfig(c), c.Region, aws.ToString(who.Account)
				return r.do(ctx, s, args)
			},
		}},
	}
}

// run is one run of the command.
type run struct {
	iot             IoT
	hub             SecurityHub
	wait, poll      time.Duration
	region, account string
}

func (r run) do(ctx context.Context, s *cli.Session, args []string) error {
	checks, err := r.checks(ctx, args)
	if err != nil {
		return err
	}
	if err := s.Confirm("audit the whole account for " + strings.Join(checks, ", ") + ", at the price of any audit"); err != nil {
		return err
	}
	started, err := r.iot.StartOnDemandAuditTask(ctx, &iot.StartOnDemandAuditTaskInput{TargetCheckNames: checks})
	if err != nil {
		var full *types.LimitExceededException
		if errors.As(err, &full) {
			return fmt.Errorf("ten on-demand audits are running already: wait for one, or cancel one with aws iot cancel-audit-task (%w)", err)
		}
		return err
	}
	id := aws.ToString(started.TaskId)
	s.Say("audit %s has started", id)
	task, err := r.follow(ctx, s, id)
	if err != nil {
		return errors.Join(err, ended(ctx, id))
	}
	found, err := r.findings(ctx, id)
	if err != nil {
		return err
	}
	inHub := r.toHub(ctx, s, found)
	rows := checkRows(task)
	if err := s.Print(cli.Rows("checks", rows), cli.Rows("findings", found).OrSay("no resource is non-compliant")); err != nil {
		return err
	}
	return errors.Join(inHub, verdict(id, task, rows, found))
}

// ended returns an error that says, after Ctrl-C, how to cancel the audit, which continues.
func ended(ctx context.Context, id string) error {
	if ctx.Err() == nil {
		return nil
	}
	return fmt.Errorf("the audit continues: aws iot cancel-audit-task --task-id %s ends it", id)
}

// checks returns the API names of the checks to run, all of which are enabled.
func (r run) checks(ctx context.Context, args []string) ([]string, error) {
	var wanted []string
	var faults []error
	for _, arg := range args {
		c, err := defender.ParseCheck(arg)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		wanted = append(wanted, c.String())
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	account, err := r.iot.DescribeAccountAuditConfiguration(ctx, &iot.DescribeAccountAuditConfigurationInput{})
	if err != nil {
		return nil, err
	}
	var enabled []string
	for name, c := range account.AuditCheckConfigurations {
		if c.Enabled {
			enabled = append(enabled, name)
		}
	}
	slices.Sort(enabled)
	if len(enabled) == 0 {
		return nil, cli.Todo("no audit check is enabled in this account and Region: deploy defenderhub, or enable checks with aws iot update-account-audit-configuration")
	}
	if len(wanted) == 0 {
		return enabled, nil
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	for _, name := range wanted {
		if !slices.Contains(enabled, name) {
			faults = append(faults, cli.Todo(name+" is not enabled in this account and Region: remove it from the context key defenderhub:audit-disabled, or from AuditProps.Disabled, and deploy"))
		}
	}
	return wanted, errors.Join(faults...)
}

// follow prints the progress of the task until it ends.
func (r run) follow(ctx context.Context, s *cli.Session, id string) (*iot.DescribeAuditTaskOutput, error) {
	said := map[string]types.AuditCheckRunStatus{}
	begin, last := time.Now(), time.Now()
	for {
		task, err := r.iot.DescribeAuditTask(ctx, &iot.DescribeAuditTaskInput{TaskId: &id})
		if err != nil {
			return nil, err
		}
		for _, c := range checkRows(task) {
			now := types.AuditCheckRunStatus(c.Status)
			if said[c.Check] == now {
				continue
			}
			said[c.Check], last = now, time.Now()
			s.Say("%s: %s", c.Check, now)
		}
		if task.TaskStatus != types.AuditTaskStatusInProgress {
			return task, nil
		}
		if time.Since(last) >= 10*time.Second {
			last = time.Now()
			s.Say("in progress for %s", time.Since(begin).Round(time.Second))
		}
		if err := pause(ctx, r.poll); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func checkRows(task *iot.DescribeAuditTaskOutput) []Check {
	rows := []Check{}
	for name, d := range task.AuditDetails {
		rows = append(rows, Check{
			Check: name, Status: status(d.CheckRunStatus), Total: aws.ToInt64(d.TotalResourcesCount), NonCompliant: aws.ToInt64(d.NonCompliantResourcesCount),
			Suppressed: aws.ToInt64(d.SuppressedNonCompliantResourcesCount),
			Message:    strings.TrimSpace(aws.ToString(d.ErrorCode) + " " + aws.ToString(d.Message)),
		})
	}
	slices.SortFunc(rows, func(a, b Check) int { return cmp.Compare(a.Check, b.Check) })
	return rows
}

// findings returns the task's findings, the most severe first.
func (r run) findings(ctx context.Context, id string) ([]Finding, error) {
	rows := []Finding{}
	pages := iot.NewListAuditFindingsPaginator(r.iot, &iot.ListAuditFindingsInput{TaskId: &id, MaxResults: aws.Int32(250)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, f := range page.Findings {
			row := Finding{
				Severity: severity(f.Severity), Check: aws.ToString(f.CheckName), Reason: aws.ToString(f.ReasonForNonComplianceCode),
				FindingID: aws.ToString(f.FindingId), Text: aws.ToString(f.ReasonForNonCompliance), Hub: notFollowed,
			}
			if f.IsSuppressed != nil && *f.IsSuppressed {
				row.Hub = suppressed
			}
			if n := f.NonCompliantResource; n != nil {
				row.Kind, row.Resource = string(n.ResourceType), resource(n.ResourceIdentifier)
			}
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b Finding) int {
		return cmp.Or(grade(b.Severity)-grade(a.Severity), cmp.Compare(a.Check, b.Check), cmp.Compare(a.Resource, b.Resource))
	})
	return rows, nil
}

func grade(s severity) int {
	return slices.Index([]string{"LOW", "MEDIUM", "HIGH", "CRITICAL"}, string(s))
}

// resource returns the identifier of a resource, as the forwarder writes it into findings. Policies
// have their version too.
func resource(r *types.ResourceIdentifier) string {
	if r == nil {
		return ""
	}
	if p := r.PolicyVersionIdentifier; p != nil {
		return aws.ToString(p.PolicyName) + ":" + aws.ToString(p.PolicyVersionId)
	}
	parts := []*string{r.DeviceCertificateId, r.CaCertificateId, r.CognitoIdentityPoolId, r.ClientId, r.Account, r.IamRoleArn, r.RoleAliasArn}
	if i := r.IssuerCertificateIdentifier; i != nil {
		parts = append(parts, i.IssuerId, i.IssuerCertificateSerialNumber, i.IssuerCertificateSubject)
	}
	var all []string
	for _, part := range append(parts, r.DeviceCertificateArn) {
		if text := aws.ToString(part); text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, "/")
}

// count returns a number and its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// verdict returns an error that lists what the user should do about the result of the task, nil for
// nothing.
func verdict(id string, task *iot.DescribeAuditTaskOutput, checks []Check, found []Finding) error {
	var all []error
	if task.TaskStatus != types.AuditTaskStatusCompleted {
		all = append(all, fmt.Errorf("audit %s ended %s, so some checks did not run", id, task.TaskStatus))
	}
	for _, c := range checks {
		switch types.AuditCheckRunStatus(c.Status) {
		case types.AuditCheckRunStatusFailed:
			all = append(all, cli.Todo(fmt.Sprintf("%s failed: %s", c.Check, cmp.Or(c.Message, "AWS gives no reason"))))
		case types.AuditCheckRunStatusCanceled:
			all = append(all, cli.Todo(c.Check+" was canceled"))
		}
	}
	open := 0
	for _, f := range found {
		if f.Hub != suppressed {
			open++
		}
	}
	if open > 0 {
		all = append(all, cli.Todo("non-compliant: "+count(open, "resource")))
	}
	return errors.Join(all...)
}
