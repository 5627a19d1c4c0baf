// Package doctor implements the command doctor, which checks whether a deployment will work, or works.
package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

// line is a row of the output.
type line struct {
	Status  status `json:"status" head:"STATUS" doc:"ok; fix: you have something to do; unknown: the check could not decide; note: for information"`
	Check   string `json:"check" head:"CHECK" doc:"the check's name"`
	Finding string `json:"finding" head:"FINDING" doc:"what was found"`
	Fix     string `json:"fix" head:"FIX" doc:"the prop, context key or command that fixes it"`
}

type status string

const (
	ok      status = "ok"
	fix     status = "fix"
	unknown status = "unknown"
	note    status = "note"
)

// Style implements [cli.Styled].
func (s status) Style() string {
	return map[status]string{ok: "32", fix: "31", unknown: "33", note: "2"}[s]
}

// options are the command's flags.
type options struct {
	template, stack, toolkit string
	certificates             int
	try                      bool
}

// check is one check of the account.
type check struct {
	name string
	// actions are the permissions that it needs.
	actions []string
	run     func(context.Context, *exam) ([]line, error)
}

// checks are all checks, in the order of the output.
var checks = []check{
	{"account", nil, account}, // sts:GetCallerIdentity needs no permission
	{"bootstrap", []string{"cloudformation:DescribeStacks"}, bootstrap},
	{"security-hub", []string{"securityhub:DescribeHub", "securityhub:GetAdministratorAccount"}, securityHub},
	{"security-hub-v2", []string{"securityhub:DescribeSecurityHubV2", "securityhub:GetFindings"}, securityHubV2}, // GetFindingsV2 has no action of its own
	{"subscriptions", []string{"securityhub:ListEnabledProductsForImport"}, subscriptions},
	{"audit-configuration", []string{"iot:DescribeAccountAuditConfiguration"}, auditConfiguration},
	{"audit-schedules", []string{"iot:ListScheduledAudits", "iot:DescribeScheduledAudit", "iot:DescribeAccountAuditConfiguration"}, auditSchedules},
	{"audit-runs", []string{"iot:ListAuditTasks", "iot:DescribeAuditTask"}, auditRuns},
	{"detect", []string{"iot:ListSecurityProfiles"}, detect},
	{"names", []string{"iot:ListSecurityProfiles", "iot:ListScheduledAudits", "iot:ListCustomMetrics", "iot:ListDimensions", "iot:ListTopicRules"}, names},
	{"rules", nil, ruleRoles},
	{"concurrency", []string{"lambda:GetAccountSettings"}, concurrency},
	{"topics", []string{"sns:GetTopicAttributes"}, topics},
	{"keys", []string{"kms:GetKeyPolicy"}, keys},
	{"certificates", []string{"iot:ListCertificates", "iot:ListPrincipalThings"}, certificates},
	{"stack", []string{"cloudformation:ListStackResources", "cloudformation:DescribeStacks"}, stackState},
	{"alarms", []string{"cloudwatch:DescribeAlarms"}, alarms},
	{"queues", []string{"cloudformation:GetTemplate", "sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"}, queues},
	{"imports", []string{"cloudwatch:GetMetricData"}, lastImport},
	{"engine", []string{"cloudformation:GetTemplate", "dynamodb:GetItem"}, heartbeat},
}

// Command returns the command.
func Command() *cli.Command {
	var o options
	return &cli.Command{
		Use: "doctor", Short: "Check whether a deployment will work, or works", Changes: true,
		Long: `Check whether a deployment will work, or works.

With --template it reads the output of cdk synth, and reports each conflict with the
account before you deploy. Without a template it checks only the account. If the stack is
deployed, it also checks alarms, queues, imports and the engine. It runs all checks, even
if one fails. It changes nothing, except with --try. While it reads dead letters, others do
not see them.`,
		Example: `defenderhub doctor
cdk synth -q && defenderhub doctor --template cdk.out
defenderhub doctor --stack DefenderHub`,
		Policy: policy(),
		Output: []cli.Section{cli.Rows[line]("", nil)},
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&o.template, "template", "", "output `directory` of cdk synth, or one template in JSON")
			f.StringVar(&o.stack, "stack", "", "the deployed `stack`, of several in the template this one (default: all of the template, else DefenderHub)")
			f.StringVar(&o.toolkit, "toolkit-stack-name", "CDKToolkit", "the `stack` that cdk bootstrap created")
			f.IntVar(&o.certificates, "certificates", 1000, "how many certificates to check for several things that share one")
			f.BoolVar(&o.try, "try", false, "if the account has no security profile, but the template has one or is not given, create and delete one, to find out whether this account can use Detect")
		},
		Run: func(ctx context.Context, s *cli.Session, _ []string) error { return run(ctx, s, o) },
	}
}

// policy returns the actions of all checks and of --try. The checks need the resource *: lists have
// no resource types, and the names of stacks, queues and topics depend on the template.
func policy() []cli.Statement {
	seen := map[string]bool{}
	var read []string
	for _, c := range checks {
		for _, action := range c.actions {
			if !seen[action] {
				seen[action] = true
				read = append(read, action)
			}
		}
	}
	return []cli.Statement{
		{Actions: read, Resources: []string{"*"}},
		{Actions: []string{"iot:CreateSecurityProfile", "iot:DeleteSecurityProfile", "iot:TagResource"}, Resources: []string{"arn:aws:iot:*:*:securityprofile/" + tryPrefix + "*"}},
	}
}

func run(ctx context.Context, s *cli.Session, o options) error {
	e, err := newExam(ctx, s, o)
	if err != nil {
		return err
	}
	var rows []line
	var faults []error
	todo, unclear := 0, 0
	for _, c := range checks {
		found, err := c.run(ctx, e)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			faults = append(faults, err)
			found = append(found, line{Status: unknown, Finding: cli.Explain(err), Fix: fixOf(err)})
		}
		for _, l := range found {
			l.Check = c.name
			switch l.Status {
			case fix:
				todo++
			case unknown:
				unclear++
			}
			rows = append(rows, l)
		}
	}
	if err := s.Print(cli.Rows("", rows)); err != nil {
		return err
	}
	return verdict(s, todo, unclear, faults)
}

// verdict returns the error that decides the exit status. Things to fix decide before faults, which
// are then only printed: make deploy stops only at things to fix, because a check may lack
// permissions.
func verdict(s *cli.Session, todo, unclear int, faults []error) error {
	if unclear > 0 && len(faults) == 0 {
		faults = append(faults, errors.New(count(unclear, "check")+" could not find out"))
	}
	if todo == 0 {
		return errors.Join(faults...)
	}
	for _, err := range faults {
		s.Alert("%s", cli.Explain(err))
	}
	return cli.Todo(count(todo, "thing") + " to fix")
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func fixOf(err error) string {
	if cli.DenialOf(err) != nil {
		return "defenderhub policy doctor prints the minimum policy"
	}
	return ""
}
