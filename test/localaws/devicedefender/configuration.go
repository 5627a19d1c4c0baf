package devicedefender

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// configuration is the account's audit configuration. Without a role, the account has none.
type configuration struct {
	roleARN string
	sns     *types.AuditNotificationTarget
	checks  map[defender.Check]checkConfiguration
}

type checkConfiguration struct {
	enabled bool
	since   time.Time // when the check was enabled; it has no older data
	days    int       // the threshold; 0 means the default
}

// snsTarget is the only kind of notification target.
const snsTarget = string(types.AuditNotificationTypeSns)

// describeConfiguration describes the configuration. Without one, all checks are disabled.
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

// updateConfiguration changes the parts of the configuration that the input has. The first
// configuration needs a role and an enabled check. A check that a scheduled audit uses cannot be
// disabled. Disabling a check deletes the data that was collected for it.
func (s *Service) updateConfiguration(in *iot.UpdateAccountAuditConfigurationInput) error {
	next, err := s.configuration.changed(in, s.config.Now())
	if err != nil {
		return err
	}
	enabled := func(c checkConfiguration) bool { return c.enabled }
	if s.configuration.roleARN == "" && (next.roleARN == "" || !slices.ContainsFunc(slices.Collect(maps.Values(next.checks)), enabled)) {
		return iotcore.InvalidRequest("The first audit configuration needs roleArn and at least one enabled check")
	}
	for _, name := range slices.Sorted(maps.Keys(s.schedules)) {
		for _, c := range s.schedules[name].checks {
			if !next.checks[c].enabled {
				return iotcore.InvalidRequest("You cannot disable a check if it's used by any scheduled audit. You must first delete the check from the scheduled audit or delete the scheduled audit itself. (check=%s, scheduledAudit=%s)", c, name)
			}
		}
	}
	s.configuration = next
	return nil
}

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
			return c, iotcore.InvalidRequest("auditNotificationTargetConfigurations has the key %q, want SNS", kind)
		}
		if target.Enabled {
			if target.TargetArn == nil {
				return c, iotcore.InvalidRequest("targetArn is missing for an enabled notification target")
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
		return iotcore.InvalidRequest("roleArn has %d characters, want 20 to 2048", n)
	}
	return nil
}

func threshold(check defender.Check, parameters map[string]string) (int, error) {
	days := 0
	for key, value := range parameters {
		t := check.Info().Threshold
		if t == nil || key != t.APIKey {
			return 0, iotcore.InvalidRequest("the check %s has no parameter %s", check, key)
		}
		var err error
		if days, err = strconv.Atoi(value); err != nil || days < t.Min || days > t.Max {
			return 0, iotcore.InvalidRequest("%s is %q, want %d to %d days", key, value, t.Min, t.Max)
		}
	}
	return days, nil
}

// usable returns the checks with these names. It refuses unknown, disabled and repeated checks.
func (c configuration) usable(names []string) ([]defender.Check, error) {
	var checks []defender.Check
	for _, name := range names {
		check, err := checkNamed(name)
		if err != nil {
			return nil, err
		}
		if !c.checks[check].enabled {
			return nil, iotcore.InvalidRequest("The check %s is not enabled for this account", name)
		}
		if slices.Contains(checks, check) {
			return nil, iotcore.InvalidRequest("targetCheckNames has the check %s twice", name)
		}
		checks = append(checks, check)
	}
	if len(checks) == 0 {
		return nil, iotcore.InvalidRequest("targetCheckNames is missing, want at least one check")
	}
	return checks, nil
}

func checkNamed(name string) (defender.Check, error) {
	for _, c := range defender.Checks() {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, iotcore.InvalidRequest("Request contains an invalid Audit Check Name. (%s)", name)
}

// deleteConfiguration restores the defaults: no role, no target, all checks disabled. It fails if
// there are scheduled audits, unless it may delete them (unverified: AWS does not document this).
func (s *Service) deleteConfiguration(in *iot.DeleteAccountAuditConfigurationInput) error {
	if s.configuration.roleARN == "" {
		return iotcore.NotFound("The account has no audit configuration")
	}
	if len(s.schedules) > 0 && !in.DeleteScheduledAudits {
		return iotcore.InvalidRequest("The audit configuration is used by %d scheduled audits; delete them first or set deleteScheduledAudits", len(s.schedules))
	}
	clear(s.schedules)
	s.configuration = configuration{checks: map[defender.Check]checkConfiguration{}}
	return nil
}

// maxScheduledAudits is a quota that AWS does not raise (AWS General Reference, AWS IoT
// Device Defender quotas).
const maxScheduledAudits = 5

type scheduledAudit struct {
	name, arn string
	when
	checks []defender.Check
	// anchor is when it was created or last changed; runs are at its time of day.
	anchor time.Time
	// done is the time up to which all runs have been started.
	done time.Time
	// last is when it last ran; zero means never.
	last time.Time
}

// when is the days on which a scheduled audit runs.
type when struct {
	frequency  types.AuditFrequency
	dayOfWeek  types.DayOfWeek
	dayOfMonth string
}

var (
	scheduledAuditForm = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
	dayOfMonthForm     = regexp.MustCompile(`^([1-9]|[12][0-9]|3[01])$|^LAST$`)
)

// createScheduledAudit creates a scheduled audit of enabled checks. AWS chooses the time of its runs:
// here it is the time of day of the creation, in UTC. The first run is on a later day.
func (s *Service) createScheduledAudit(in *iot.CreateScheduledAuditInput) (*iot.CreateScheduledAuditOutput, error) {
	name := *in.ScheduledAuditName
	if !scheduledAuditForm.MatchString(name) {
		return nil, iotcore.InvalidRequest("scheduledAuditName is %q, want 1 to 128 of A-Z a-z 0-9 _ -", name)
	}
	arn := s.config.Registry.ARN("scheduledaudit/" + name)
	if _, exists := s.schedules[name]; exists {
		return nil, iotcore.AlreadyExists(name, arn, "The scheduled audit %s already exists", name)
	}
	checks, err := s.configuration.usable(in.TargetCheckNames)
	if err != nil {
		return nil, err
	}
	now := s.config.Now()
	a := &scheduledAudit{name: name, arn: arn, when: when{in.Frequency, in.DayOfWeek, aws.ToString(in.DayOfMonth)}, checks: checks, anchor: now, done: now}
	if err := a.when.check(); err != nil {
		return nil, err
	}
	if len(s.schedules) >= maxScheduledAudits {
		return nil, iotcore.LimitExceeded("The account has %d scheduled audits, which is the limit", maxScheduledAudits)
	}
	s.schedules[name] = a
	return &iot.CreateScheduledAuditOutput{ScheduledAuditArn: &a.arn}, nil
}

// check validates the days for the frequency.
func (w when) check() error {
	week, month := false, false
	switch w.frequency {
	case types.AuditFrequencyDaily:
	case types.AuditFrequencyWeekly, types.AuditFrequencyBiweekly:
		week = true
	case types.AuditFrequencyMonthly:
		month = true
	default:
		return iotcore.InvalidRequest("frequency is %q, want DAILY, WEEKLY, BIWEEKLY or MONTHLY", w.frequency)
	}
	if week != (w.dayOfWeek != "") || month != (w.dayOfMonth != "") {
		return iotcore.InvalidRequest("frequency %s with dayOfWeek %q and dayOfMonth %q: dayOfWeek goes with WEEKLY and BIWEEKLY, dayOfMonth with MONTHLY, and each is required there",
			w.frequency, w.dayOfWeek, w.dayOfMonth)
	}
	if week && !slices.Contains(w.dayOfWeek.Values(), w.dayOfWeek) {
		return iotcore.InvalidRequest("dayOfWeek is %q, want SUN to SAT", w.dayOfWeek)
	}
	if month && !dayOfMonthForm.MatchString(w.dayOfMonth) {
		return iotcore.InvalidRequest("dayOfMonth is %q, want 1 to 31 or LAST", w.dayOfMonth)
	}
	return nil
}

// runs returns the times after from, and not after to, at which the audit is due.
func (a *scheduledAudit) runs(from, to time.Time) []time.Time {
	var due []time.Time
	first := time.Time{} // of a biweekly audit
	for at := a.anchor.UTC().AddDate(0, 0, 1); !at.After(to); at = at.AddDate(0, 0, 1) {
		if a.dueOn(at, &first) && at.After(from) {
			due = append(due, at)
		}
	}
	return due
}

func (w when) dueOn(day time.Time, first *time.Time) bool {
	switch w.frequency {
	case types.AuditFrequencyDaily:
		return true
	case types.AuditFrequencyMonthly:
		last := time.Date(day.Year(), day.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
		wanted, err := strconv.Atoi(w.dayOfMonth)
		if err != nil { // LAST
			wanted = last
		}
		return day.Day() == min(wanted, last)
	}
	if strings.ToUpper(day.Weekday().String()[:3]) != string(w.dayOfWeek) {
		return false
	}
	if first.IsZero() {
		*first = day
	}
	const fortnight = 14 * 24 * time.Hour
	return w.frequency == types.AuditFrequencyWeekly || day.Sub(*first)%fortnight == 0
}

// updateScheduledAudit changes the parts of a scheduled audit that the input has. It removes a day
// that a new frequency does not have.
func (s *Service) updateScheduledAudit(in *iot.UpdateScheduledAuditInput) (*iot.UpdateScheduledAuditOutput, error) {
	a, err := s.schedule(*in.ScheduledAuditName)
	if err != nil {
		return nil, err
	}
	next := *a
	if in.Frequency != "" && in.Frequency != a.frequency {
		next.frequency = in.Frequency
		if in.Frequency != types.AuditFrequencyMonthly {
			next.dayOfMonth = ""
		}
		if in.Frequency != types.AuditFrequencyWeekly && in.Frequency != types.AuditFrequencyBiweekly {
			next.dayOfWeek = ""
		}
	}
	next.dayOfMonth = cmp.Or(aws.ToString(in.DayOfMonth), next.dayOfMonth)
	next.dayOfWeek = cmp.Or(in.DayOfWeek, next.dayOfWeek)
	if in.TargetCheckNames != nil {
		if next.checks, err = s.configuration.usable(in.TargetCheckNames); err != nil {
			return nil, err
		}
	}
	if err := next.when.check(); err != nil {
		return nil, err
	}
	if next.when != a.when {
		next.anchor = s.config.Now()
		next.done = next.anchor
	}
	*a = next
	return &iot.UpdateScheduledAuditOutput{ScheduledAuditArn: &a.arn}, nil
}

func (s *Service) schedule(name string) (*scheduledAudit, error) {
	if a, ok := s.schedules[name]; ok {
		return a, nil
	}
	return nil, iotcore.NotFound("The scheduled audit %s does not exist", name)
}

func (a *scheduledAudit) metadata() types.ScheduledAuditMetadata {
	m := types.ScheduledAuditMetadata{ScheduledAuditName: &a.name, ScheduledAuditArn: &a.arn, Frequency: a.frequency, DayOfWeek: a.dayOfWeek}
	if a.dayOfMonth != "" {
		m.DayOfMonth = &a.dayOfMonth
	}
	return m
}

func (s *Service) describeScheduledAudit(in *iot.DescribeScheduledAuditInput) (*iot.DescribeScheduledAuditOutput, error) {
	a, err := s.schedule(*in.ScheduledAuditName)
	if err != nil {
		return nil, err
	}
	m := a.metadata()
	out := &iot.DescribeScheduledAuditOutput{
		ScheduledAuditName: m.ScheduledAuditName, ScheduledAuditArn: m.ScheduledAuditArn, Frequency: m.Frequency, DayOfWeek: m.DayOfWeek, DayOfMonth: m.DayOfMonth,
	}
	for _, c := range a.checks {
		out.TargetCheckNames = append(out.TargetCheckNames, c.String())
	}
	return out, nil
}

func (s *Service) deleteScheduledAudit(in *iot.DeleteScheduledAuditInput) error {
	_, err := s.schedule(*in.ScheduledAuditName)
	if err == nil {
		delete(s.schedules, *in.ScheduledAuditName)
	}
	return err
}

func (s *Service) listScheduledAudits(in *iot.ListScheduledAuditsInput) (out *iot.ListScheduledAuditsOutput, err error) {
	var all []types.ScheduledAuditMetadata
	for _, name := range slices.Sorted(maps.Keys(s.schedules)) {
		all = append(all, s.schedules[name].metadata())
	}
	out = &iot.ListScheduledAuditsOutput{}
	out.ScheduledAudits, out.NextToken, err = iotcore.Page(all, in.NextToken, in.MaxResults, standardPage)
	return out, err
}
