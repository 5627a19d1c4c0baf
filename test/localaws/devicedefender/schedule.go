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

// maxScheduledAudits is a quota that AWS does not raise (AWS General Reference, AWS IoT
// Device Defender quotas).
const maxScheduledAudits = 5

type scheduledAudit struct {
	name, arn string
	when
	checks []defender.Check
	// anchor is when it was created or last changed; runs are at its time of day.
	anchor time.Time
	// done is the time up to which all runs that were due have been started.
	done time.Time
	// last is when it last ran, zero for never.
	last time.Time
}

// when is on which days a scheduled audit runs.
type when struct {
	frequency  types.AuditFrequency
	dayOfWeek  types.DayOfWeek
	dayOfMonth string
}

var (
	scheduledAuditForm = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
	dayOfMonthForm     = regexp.MustCompile(`^([1-9]|[12][0-9]|3[01])$|^LAST$`)
)

// createScheduledAudit creates a scheduled audit of checks that are enabled. AWS
// chooses the time of its runs; here it is the time of day of the creation, in UTC,
// and the first run is on a later day.
func (s *Service) createScheduledAudit(in *iot.CreateScheduledAuditInput) (*iot.CreateScheduledAuditOutput, error) {
	name := *in.ScheduledAuditName
	if !scheduledAuditForm.MatchString(name) {
		return nil, invalidRequest("scheduledAuditName is %q, want 1 to 128 of A-Z a-z 0-9 _ -", name)
	}
	if len(in.Tags) > iotcore.MaxTags {
		return nil, invalidRequest("a scheduled audit can have %d tags, not %d", iotcore.MaxTags, len(in.Tags))
	}
	arn := s.config.Registry.ARN("scheduledaudit/" + name)
	if _, exists := s.schedules[name]; exists {
		return nil, alreadyExists(name, arn, "The scheduled audit %s already exists", name)
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
		return nil, limitExceeded("The account has %d scheduled audits, which is the limit", maxScheduledAudits)
	}
	s.schedules[name] = a
	s.config.Registry.SetTags(arn, in.Tags)
	return &iot.CreateScheduledAuditOutput{ScheduledAuditArn: &a.arn}, nil
}

// check holds the days against the frequency.
func (w when) check() error {
	week, month := false, false
	switch w.frequency {
	case types.AuditFrequencyDaily:
	case types.AuditFrequencyWeekly, types.AuditFrequencyBiweekly:
		week = true
	case types.AuditFrequencyMonthly:
		month = true
	default:
		return invalidRequest("frequency is %q, want DAILY, WEEKLY, BIWEEKLY or MONTHLY", w.frequency)
	}
	if week != (w.dayOfWeek != "") || month != (w.dayOfMonth != "") {
		return invalidRequest("frequency %s with dayOfWeek %q and dayOfMonth %q: dayOfWeek goes with WEEKLY and BIWEEKLY, dayOfMonth with MONTHLY, and each is required there",
			w.frequency, w.dayOfWeek, w.dayOfMonth)
	}
	if week && !slices.Contains(w.dayOfWeek.Values(), w.dayOfWeek) {
		return invalidRequest("dayOfWeek is %q, want SUN to SAT", w.dayOfWeek)
	}
	if month && !dayOfMonthForm.MatchString(w.dayOfMonth) {
		return invalidRequest("dayOfMonth is %q, want 1 to 31 or LAST", w.dayOfMonth)
	}
	return nil
}

// runs returns the times after from, up to and with to, at which the audit is due.
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

// updateScheduledAudit changes a scheduled audit. What the input leaves out stays, but for a
// day that does not go with a new frequency.
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
	return nil, notFound("The scheduled audit %s does not exist", name)
}

func (s *Service) dropSchedule(name string) {
	s.config.Registry.DropTags(s.schedules[name].arn)
	delete(s.schedules, name)
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
		s.dropSchedule(*in.ScheduledAuditName)
	}
	return err
}

func (s *Service) listScheduledAudits(in *iot.ListScheduledAuditsInput) (out *iot.ListScheduledAuditsOutput, err error) {
	var all []types.ScheduledAuditMetadata
	for _, name := range slices.Sorted(maps.Keys(s.schedules)) {
		all = append(all, s.schedules[name].metadata())
	}
	out = &iot.ListScheduledAuditsOutput{}
	out.ScheduledAudits, out.NextToken, err = iotcore.Page(all, func(m types.ScheduledAuditMetadata) string { return *m.ScheduledAuditName }, in.NextToken, in.MaxResults, standardPage)
	return out, err
}
