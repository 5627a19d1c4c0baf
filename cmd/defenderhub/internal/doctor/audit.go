package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/assembly"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/findingevent"
)

// described returns the account's audit configuration, which exists if it has a role.
func (e *exam) described(ctx context.Context) (config *iot.DescribeAccountAuditConfigurationOutput, exists bool, err error) {
	out, err := e.iot.DescribeAccountAuditConfiguration(ctx, &iot.DescribeAccountAuditConfigurationInput{})
	if err != nil {
		return nil, false, err
	}
	return out, aws.ToString(out.RoleArn) != "", nil
}

func enabled(config *iot.DescribeAccountAuditConfigurationOutput, check string) bool {
	return config.AuditCheckConfigurations[check].Enabled
}

// wanted returns the checks that the audit configuration of a template enables.
func wanted(r assembly.Resource) map[string]bool {
	on := map[string]bool{}
	given, _ := r.Properties["AuditCheckConfigurations"].(map[string]any)
	for _, c := range defender.Checks() {
		if check, ok := given[c.Info().Property].(map[string]any); ok && check["Enabled"] == true {
			on[c.String()] = true
		}
	}
	return on
}

// auditConfiguration compares the account's audit configuration with that of the template.
func auditConfiguration(ctx context.Context, e *exam) ([]line, error) {
	config, exists, err := e.described(ctx)
	if err != nil {
		return nil, err
	}
	made := e.resources("AWS::IoT::AccountAuditConfiguration")
	if len(made) == 0 {
		if !exists {
			if e.audits() {
				return []line{{fix, "", "the account has no audit configuration, and the template creates none", "defenderhub:audit-configuration=create in cdk.json, or no Audit.Configuration"}}, nil
			}
			return []line{{Status: note, Finding: "the account has no audit configuration, so no audit can run"}}, nil
		}
		return []line{{Status: ok, Finding: "the audit configuration has the role " + aws.ToString(config.RoleArn) + "; " + countOn(config)}}, nil
	}
	r := made[0]
	ours := e.owns(ctx, r)
	switch {
	case exists && !ours:
		return []line{{fix, "", fmt.Sprintf("an audit configuration exists, with the role %s; %s. %s would create it: The AccountAuditConfiguration already exists.", aws.ToString(config.RoleArn), countOn(config), r.Path()),
			"defenderhub:audit-configuration=existing in cdk.json, or Audit.Configuration: defenderhub.Existing"}}, nil
	case !exists && ours:
		return []line{{fix, "", "the audit configuration was deleted outside the stack: The configuration for your account has not been set up or was deleted.",
			"create it again by hand (aws iot update-account-audit-configuration), then deploy"}}, nil
	case !exists:
		return []line{{Status: ok, Finding: "no audit configuration, and the template creates one"}}, nil
	}
	on := wanted(r)
	var off, added []string
	for _, c := range defender.Checks() {
		switch name := c.String(); {
		case enabled(config, name) && !on[name]:
			off = append(off, name)
		case !enabled(config, name) && on[name]:
			added = append(added, name)
		}
	}
	lines := []line{{Status: ok, Finding: "the audit configuration is this stack's; " + countOn(config)}}
	if len(off) > 0 {
		lines = append(lines, line{note, "", "the deployment turns these checks off in the whole account: " + strings.Join(off, ", "), "to keep them, remove them from Audit.Disabled (defenderhub:audit-disabled in cdk.json)"})
	}
	if len(added) > 0 {
		lines = append(lines, line{note, "", "these checks were turned off outside the stack: " + strings.Join(added, ", ") + ". CloudFormation turns them on only if the template's configuration changes", "keep one owner per account and Region"})
	}
	return lines, nil
}

// audits reports whether the template has resources that need an audit configuration.
func (e *exam) audits() bool {
	for _, kind := range []string{"AWS::IoT::ScheduledAudit", contract.StartAuditResourceType, contract.SuppressionResourceType} {
		if len(e.resources(kind)) > 0 {
			return true
		}
	}
	return e.subscribes(findingevent.AuditProduct) != nil
}

// maxSchedules is the quota of scheduled audits, which AWS does not raise.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
const maxSchedules = 5

// countOn says how many checks are on, and which are not, or which are if that is shorter.
func countOn(config *iot.DescribeAccountAuditConfigurationOutput) string {
	var on, off []string
	for _, name := range slices.Sorted(maps.Keys(config.AuditCheckConfigurations)) {
		if enabled(config, name) {
			on = append(on, name)
		} else {
			off = append(off, name)
		}
	}
	text := fmt.Sprintf("%d of %d checks are on", len(on), len(on)+len(off))
	switch {
	case len(on) == 0 || len(off) == 0:
		return text
	case len(on) < len(off):
		return text + ": " + strings.Join(on, ", ")
	}
	return text + ", not " + strings.Join(off, ", ")
}

// schedule is a scheduled audit of the account.
type schedule struct {
	name, frequency string
	checks          []string
}

func (e *exam) schedules(ctx context.Context) ([]schedule, error) {
	var all []schedule
	for pages := iot.NewListScheduledAuditsPaginator(e.iot, &iot.ListScheduledAuditsInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range page.ScheduledAudits {
			out, err := e.iot.DescribeScheduledAudit(ctx, &iot.DescribeScheduledAuditInput{ScheduledAuditName: a.ScheduledAuditName})
			if notFound(err) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, err
			}
			all = append(all, schedule{aws.ToString(out.ScheduledAuditName), string(out.Frequency), out.TargetCheckNames})
		}
	}
	return all, nil
}

// auditSchedules reports scheduled checks that are off, or that a deployment would turn off.
func auditSchedules(ctx context.Context, e *exam) ([]line, error) {
	all, err := e.schedules(ctx)
	if err != nil {
		return nil, err
	}
	config, exists, err := e.described(ctx)
	if err != nil {
		return nil, err
	}
	var lines []line
	for _, s := range all {
		l := line{Status: ok, Finding: fmt.Sprintf("the scheduled audit %s runs %d checks, %s", s.name, len(s.checks), strings.ToLower(s.frequency))}
		if off := slices.DeleteFunc(slices.Clone(s.checks), func(c string) bool { return enabled(config, c) }); exists && len(off) > 0 {
			l = line{fix, "", fmt.Sprintf("the scheduled audit %s names checks that are off: %s", s.name, strings.Join(off, ", ")), "turn the checks on, or take them out of the schedule"}
		}
		lines = append(lines, l)
	}
	for _, r := range e.resources("AWS::IoT::AccountAuditConfiguration") {
		lines = append(lines, disabling(r, all, config)...)
		if r.DeletionPolicy == "Delete" || r.DeletionPolicy == "" {
			if others := e.foreign(ctx, all); len(others) > 0 {
				lines = append(lines, line{note, "", "deleting the stack would delete the audit configuration, while other scheduled audits use it: " + strings.Join(others, ", "), "no Audit.RemovalPolicy: the default keeps it"})
			}
		}
	}
	creates, added := len(e.resources("AWS::IoT::AccountAuditConfiguration")) > 0, 0
	for _, r := range e.resources("AWS::IoT::ScheduledAudit") {
		lines = append(lines, scheduling(r, config, creates)...)
		if !e.owns(ctx, r) {
			added++
		}
	}
	if added > 0 && len(all)+added > maxSchedules {
		lines = append(lines, line{fix, "", fmt.Sprintf("the account has %d scheduled audits, and the template adds %d: AWS IoT allows %d", len(all), added, maxSchedules), "delete one, or Audit.NoSchedule: true"})
	}
	if len(lines) == 0 {
		return []line{{Status: note, Finding: "no audit is scheduled"}}, nil
	}
	return lines, nil
}

// disabling reports checks that the template turns off although a schedule names them. AWS does not
// allow that, and CloudFormation updates the configuration before the schedule.
func disabling(r assembly.Resource, all []schedule, config *iot.DescribeAccountAuditConfigurationOutput) []line {
	var lines []line
	on := wanted(r)
	for _, s := range all {
		var names []string
		for _, c := range s.checks {
			if !on[c] && enabled(config, c) {
				names = append(names, c)
			}
		}
		if len(names) > 0 {
			lines = append(lines, line{fix, "", fmt.Sprintf("%s turns off checks that the scheduled audit %s runs: %s. You cannot disable a check if it's used by any scheduled audit", r.Path(), s.name, strings.Join(names, ", ")),
				"deploy twice: first with defenderhub:audit-except in cdk.json (Audit.Except), then with defenderhub:audit-disabled (Audit.Disabled). Change schedules of others first"})
		}
	}
	return lines
}

// scheduling reports checks that a schedule of the template cannot name.
func scheduling(r assembly.Resource, config *iot.DescribeAccountAuditConfigurationOutput, creates bool) []line {
	given, _ := r.Properties["TargetCheckNames"].([]any)
	var missing, off, optIn []string
	for _, v := range given {
		name, _ := v.(string)
		_, known := config.AuditCheckConfigurations[name]
		c, err := defender.ParseCheck(name)
		switch {
		case name == "":
		case !known:
			missing = append(missing, name)
		case !creates && !enabled(config, name):
			off = append(off, name)
		case err == nil && c.Info().OptIn:
			optIn = append(optIn, name)
		}
	}
	var lines []line
	if len(missing) > 0 {
		setting, prop := "audit-except", "Audit.Except"
		if creates { // the configuration must not name them either
			setting, prop = "audit-disabled", "Audit.Disabled"
		}
		lines = append(lines, line{fix, "", "this Region does not support checks of " + r.Path() + ": " + strings.Join(missing, ", ") + ". Request contains an invalid Audit Check Name.",
			fmt.Sprintf("defenderhub:%s=%s in cdk.json (%s)", setting, strings.Join(missing, ","), prop)})
	}
	if len(off) > 0 {
		lines = append(lines, line{fix, "", r.Path() + " names checks that the existing audit configuration does not enable: " + strings.Join(off, ", "), "enable them there, or defenderhub:audit-except=" + strings.Join(off, ",") + " in cdk.json (Audit.Except), or Audit.NoSchedule"})
	}
	if len(optIn) > 0 {
		lines = append(lines, line{note, "", "one public report says that AWS rejects a schedule with " + strings.Join(optIn, ", ") + " (unverified)", "if the deployment fails at " + r.Path() + ", remove it from Audit.Include"})
	}
	return lines
}

// foreign returns the names of the scheduled audits that belong to no stack of the template.
func (e *exam) foreign(ctx context.Context, all []schedule) []string {
	var others []string
	for _, s := range all {
		ours := false
		for _, t := range e.stacks {
			d, err := e.deployment(ctx, t.Stack)
			for _, p := range d {
				ours = ours || err == nil && p.kind == "AWS::IoT::ScheduledAudit" && p.id == s.name
			}
		}
		if !ours {
			others = append(others, s.name)
		}
	}
	return others
}

// runsWithin is the age up to which auditRuns looks for the last audit.
const runsWithin = 35 * 24 * time.Hour

// auditRuns shows the last audit. AWS does not say in which order it lists audits.
func auditRuns(ctx context.Context, e *exam) ([]line, error) {
	now := time.Now()
	var id string
	var last *iot.DescribeAuditTaskOutput
	for pages := iot.NewListAuditTasksPaginator(e.iot, &iot.ListAuditTasksInput{StartTime: aws.Time(now.Add(-runsWithin)), EndTime: &now}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		var api smithy.APIError
		if errors.As(err, &api) && api.ErrorCode() == "InvalidRequestException" {
			return []line{{Status: note, Finding: "no audit has run: " + api.ErrorMessage()}}, nil
		}
		if err != nil {
			return nil, err
		}
		for _, task := range page.Tasks {
			out, err := e.iot.DescribeAuditTask(ctx, &iot.DescribeAuditTaskInput{TaskId: task.TaskId})
			if notFound(err) {
				continue // deleted meanwhile
			}
			if err != nil {
				return nil, err
			}
			if last == nil || aws.ToTime(out.TaskStartTime).After(aws.ToTime(last.TaskStartTime)) {
				id, last = aws.ToString(task.TaskId), out
			}
		}
	}
	if last == nil {
		return []line{{note, "", fmt.Sprintf("no audit ran in the last %d days", int(runsWithin.Hours()/24)), "defenderhub audit run"}}, nil
	}
	l := line{Status: ok, Finding: fmt.Sprintf("the last audit, %s of %s, is %s", id, aws.ToTime(last.TaskStartTime).UTC().Format(time.RFC3339), last.TaskStatus)}
	if last.TaskStatus == types.AuditTaskStatusFailed {
		l.Status, l.Fix = fix, "defenderhub audit run shows why"
	}
	return []line{l}, nil
}
