package devicedefender

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
)

// configuration is the account's audit configuration. Without a role there is none.
type configuration struct {
	roleARN string
	sns     *types.AuditNotificationTarget
	checks  map[defender.Check]checkConfiguration
}

type checkConfiguration struct {
	enabled bool
	since   time.Time // when the check was enabled: it has no older data
	days    int       // the threshold, 0 for the default
}

// snsTarget is the only kind of notification target.
const snsTarget = string(types.AuditNotificationTypeSns)

// describeConfiguration describes the configuration. Without one, all checks are disabled
// and nothing else is set.
func (s *Service) describeConfiguration(*iot.DescribeAccountAuditConfigurationInput) (*iot.DescribeAccountAuditConfigurationOutput, error) {
	out := &iot.DescribeAccountAuditConfigurationOutput{AuditCheckConfigurations: map[string]types.AuditCheckConfiguration{}}
	if s.configuration.roleARN != "" {
		out.RoleArn = aws.String(s.configuration.roleARN)
	}
	if t := s.configuration.sns; t != nil {
		out.AuditNotificationTargetConfigurations = map[string]types.AuditNotificationTarget{snsTarget: *t}
	}
	for _, c := range defender.Checks() {
		have := s.configuration.checks[c]
		described := types.AuditCheckConfiguration{Enabled: have.enabled}
		if have.days != 0 {
			described.Configuration = map[string]string{c.Info().Threshold.APIKey: strconv.Itoa(have.days)}
		}
		out.AuditCheckConfigurations[c.String()] = described
	}
	return out, nil
}

// updateConfiguration changes the configuration; what the input leaves out stays. The first
// one needs a role and an enabled check. A check that a scheduled audit uses cannot be
// disabled; disabling a check forgets the data collected for it.
func (s *Service) updateConfiguration(in *iot.UpdateAccountAuditConfigurationInput) error {
	next, err := s.configuration.changed(in, s.config.Now())
	if err != nil {
		return err
	}
	enabled := func(c checkConfiguration) bool { return c.enabled }
	if s.configuration.roleARN == "" && (next.roleARN == "" || !slices.ContainsFunc(slices.Collect(maps.Values(next.checks)), enabled)) {
		return invalidRequest("The first audit configuration needs roleArn and at least one enabled check")
	}
	for _, name := range slices.Sorted(maps.Keys(s.schedules)) {
		for _, c := range s.schedules[name].checks {
			if !next.checks[c].enabled {
				return invalidRequest("You cannot disable a check if it's used by any scheduled audit. You must first delete the check from the scheduled audit or delete the scheduled audit itself. (check=%s, scheduledAudit=%s)", c, name)
			}
		}
	}
	s.configuration = next
	return nil
}

// changed returns the configuration with the input applied.
func (c configuration) changed(in *iot.UpdateAccountAuditConfigurationInput, now time.Time) (configuration, error) {
	next := configuration{roleARN: c.roleARN, sns: c.sns, checks: maps.Clone(c.checks)}
	if in.RoleArn != nil {
		if err := checkRoleARN(in.RoleArn); err != nil {
			return c, err
		}
		next.roleARN = *in.RoleArn
	}
	for kind, target := range in.AuditNotificationTargetConfigurations {
		if kind != snsTarget {
			return c, invalidRequest("auditNotificationTargetConfigurations has the key %q, want SNS", kind)
		}
		if target.Enabled {
			if target.TargetArn == nil {
				return c, invalidRequest("targetArn is missing for an enabled notification target")
			}
			if err := checkRoleARN(target.RoleArn); err != nil {
				return c, err
			}
		}
		next.sns = &target
		if !target.Enabled && target.TargetArn == nil && target.RoleArn == nil {
			next.sns = nil
		}
	}
	for name, wanted := range in.AuditCheckConfigurations {
		check, err := checkNamed(name)
		if err != nil {
			return c, err
		}
		have := next.checks[check]
		if wanted.Configuration != nil {
			if have.days, err = threshold(check, wanted.Configuration); err != nil {
				return c, err
			}
		}
		if wanted.Enabled && !have.enabled {
			have.since = now
		}
		have.enabled = wanted.Enabled
		next.checks[check] = have
	}
	return next, nil
}

func checkRoleARN(arn *string) error {
	if n := len(aws.ToString(arn)); n < 20 || n > 2048 {
		return invalidRequest("roleArn has %d characters, want 20 to 2048", n)
	}
	return nil
}

// threshold reads the parameter of a check, in days.
func threshold(check defender.Check, parameters map[string]string) (int, error) {
	days := 0
	for key, value := range parameters {
		t := check.Info().Threshold
		if t == nil || key != t.APIKey {
			return 0, invalidRequest("the check %s has no parameter %s", check, key)
		}
		var err error
		if days, err = strconv.Atoi(value); err != nil || days < t.Min || days > t.Max {
			return 0, invalidRequest("%s is %q, want %d to %d days", key, value, t.Min, t.Max)
		}
	}
	return days, nil
}

// usable reads the names of checks that an audit is to perform: known, enabled, and
// each once.
func (c configuration) usable(names []string) ([]defender.Check, error) {
	var checks []defender.Check
	for _, name := range names {
		check, err := checkNamed(name)
		if err != nil {
			return nil, err
		}
		if !c.checks[check].enabled {
			return nil, invalidRequest("The check %s is not enabled for this account", name)
		}
		if slices.Contains(checks, check) {
			return nil, invalidRequest("targetCheckNames has the check %s twice", name)
		}
		checks = append(checks, check)
	}
	if len(checks) == 0 {
		return nil, invalidRequest("targetCheckNames is missing, want at least one check")
	}
	return checks, nil
}

func checkNamed(name string) (defender.Check, error) {
	for _, c := range defender.Checks() {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, invalidRequest("Request contains an invalid Audit Check Name. (%s)", name)
}

// deleteConfiguration restores the defaults: no role, no target, all checks disabled. It
// fails while there are scheduled audits that it may not delete, too (unverified: AWS does
// not say what happens to them).
func (s *Service) deleteConfiguration(in *iot.DeleteAccountAuditConfigurationInput) error {
	if s.configuration.roleARN == "" {
		return notFound("The account has no audit configuration")
	}
	if len(s.schedules) > 0 && !in.DeleteScheduledAudits {
		return invalidRequest("The audit configuration is used by %d scheduled audits; delete them first or set deleteScheduledAudits", len(s.schedules))
	}
	for name := range s.schedules {
		s.dropSchedule(name)
	}
	s.configuration = configuration{checks: map[defender.Check]checkConfiguration{}}
	return nil
}
