package devicedefender

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// maxScheduledAudits is a quota that AWS does not raise (AWS General Reference, AWS IoT
// Device Defender quotas).
const maxScheduledAudits = 5

// maxTags is how many tags a resource can have.
const maxTags = 50

type scheduledAudit struct {
	name, arn  string
	frequency  string
	dayOfWeek  string
	dayOfMonth string
	checks     []defender.Check
	tags       map[string]string
	// anchor is when it was created or last changed; runs are at its time of day.
	anchor time.Time
	// done is the time up to which all runs that were due have been started.
	done time.Time
	// last is when it last ran, zero for never.
	last time.Time
}

var (
	scheduledAuditForm = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
	dayOfMonthForm     = regexp.MustCompile(`^([1-9]|[12][0-9]|3[01])$|^LAST$`)
	weekdays           = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
)

// CreateScheduledAuditInput is the operation's input.
type CreateScheduledAuditInput struct {
	ScheduledAuditName string        `uri:"scheduledAuditName"`
	Frequency          string        `json:"frequency"`
	DayOfMonth         string        `json:"dayOfMonth"`
	DayOfWeek          string        `json:"dayOfWeek"`
	TargetCheckNames   []string      `json:"targetCheckNames"`
	Tags               []iotcore.Tag `json:"tags"`
}

// ScheduledAuditOutput is the output of the operations that create and update a
// scheduled audit.
type ScheduledAuditOutput struct {
	ScheduledAuditARN string `json:"scheduledAuditArn"`
}

// CreateScheduledAudit creates a scheduled audit of checks that are enabled. AWS
// chooses the time of its runs; here it is the time of day of the creation, in UTC,
// and the first run is on a later day.
func (s *Service) CreateScheduledAudit(in *CreateScheduledAuditInput) (*ScheduledAuditOutput, error) {
	if !scheduledAuditForm.MatchString(in.ScheduledAuditName) {
		return nil, invalidRequest("scheduledAuditName is %q, want 1 to 128 of A-Z a-z 0-9 _ -", in.ScheduledAuditName)
	}
	if len(in.Tags) > maxTags {
		return nil, invalidRequest("a scheduled audit can have %d tags, not %d", maxTags, len(in.Tags))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	arn := s.config.Registry.ARN("scheduledaudit/" + in.ScheduledAuditName)
	if _, exists := s.schedules[in.ScheduledAuditName]; exists {
		return nil, alreadyExists(in.ScheduledAuditName, arn, "The scheduled audit %s already exists", in.ScheduledAuditName)
	}
	checks, err := s.configuration.usable(in.TargetCheckNames)
	if err != nil {
		return nil, err
	}
	now := s.config.Now()
	a := &scheduledAudit{
		name: in.ScheduledAuditName, arn: arn, frequency: in.Frequency, dayOfWeek: in.DayOfWeek, dayOfMonth: in.DayOfMonth,
		checks: checks, tags: map[string]string{}, anchor: now, done: now,
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	if len(s.schedules) >= maxScheduledAudits {
		return nil, limitExceeded("The account has %d scheduled audits, which is the limit", maxScheduledAudits)
	}
	for _, t := range in.Tags {
		a.tags[t.Key] = t.Value
	}
	s.schedules[a.name] = a
	return &ScheduledAuditOutput{ScheduledAuditARN: a.arn}, nil
}

// check holds the days against the frequency.
func (a *scheduledAudit) check() error {
	week, month := false, false
	switch a.frequency {
	case "DAILY":
	case "WEEKLY", "BIWEEKLY":
		week = true
	case "MONTHLY":
		month = true
	default:
		return invalidRequest("frequency is %q, want DAILY, WEEKLY, BIWEEKLY or MONTHLY", a.frequency)
	}
	if week != (a.dayOfWeek != "") || month != (a.dayOfMonth != "") {
		return invalidRequest("frequency %s with dayOfWeek %q and dayOfMonth %q: dayOfWeek goes with WEEKLY and BIWEEKLY, dayOfMonth with MONTHLY, and each is required there",
			a.frequency, a.dayOfWeek, a.dayOfMonth)
	}
	if week && !slices.Contains(weekdays, a.dayOfWeek) {
		return invalidRequest("dayOfWeek is %q, want SUN to SAT", a.dayOfWeek)
	}
	if month && !dayOfMonthForm.MatchString(a.dayOfMonth) {
		return invalidRequest("dayOfMonth is %q, want 1 to 31 or LAST", a.dayOfMonth)
	}
	return nil
}

// runs returns the times after from, up to and with to, at which the audit is due.
func (a *scheduledAudit) runs(from, to time.Time) []time.Time {
	var due []time.Time
	first := time.Time{} // of a biweekly audit
	for at := a.anchor.UTC().AddDate(0, 0, 1); !at.After(to); at = at.AddDate(0, 0, 1) {
		if !a.dueOn(at, &first) {
			continue
		}
		if at.After(from) {
			due = append(due, at)
		}
	}
	return due
}

func (a *scheduledAudit) dueOn(day time.Time, first *time.Time) bool {
	switch a.frequency {
	case "DAILY":
		return true
	case "MONTHLY":
		last := time.Date(day.Year(), day.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day()
		wanted, err := strconv.Atoi(a.dayOfMonth)
		if err != nil { // LAST
			wanted = last
		}
		return day.Day() == min(wanted, last)
	}
	if strings.ToUpper(day.Weekday().String()[:3]) != a.dayOfWeek {
		return false
	}
	if first.IsZero() {
		*first = day
	}
	const fortnight = 14 * 24 * time.Hour
	return a.frequency == "WEEKLY" || day.Sub(*first)%fortnight == 0
}

// UpdateScheduledAuditInput is the operation's input. What it leaves out stays, but
// for a day that does not go with a new frequency.
type UpdateScheduledAuditInput struct {
	ScheduledAuditName string   `uri:"scheduledAuditName"`
	Frequency          string   `json:"frequency"`
	DayOfMonth         string   `json:"dayOfMonth"`
	DayOfWeek          string   `json:"dayOfWeek"`
	TargetCheckNames   []string `json:"targetCheckNames"`
}

// UpdateScheduledAudit changes a scheduled audit.
func (s *Service) UpdateScheduledAudit(in *UpdateScheduledAuditInput) (*ScheduledAuditOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.schedule(in.ScheduledAuditName)
	if err != nil {
		return nil, err
	}
	next := *a
	if in.Frequency != "" && in.Frequency != a.frequency {
		next.frequency = in.Frequency
		if in.Frequency != "MONTHLY" {
			next.dayOfMonth = ""
		}
		if in.Frequency != "WEEKLY" && in.Frequency != "BIWEEKLY" {
			next.dayOfWeek = ""
		}
	}
	if in.DayOfMonth != "" {
		next.dayOfMonth = in.DayOfMonth
	}
	if in.DayOfWeek != "" {
		next.dayOfWeek = in.DayOfWeek
	}
	if in.TargetCheckNames != nil {
		if next.checks, err = s.configuration.usable(in.TargetCheckNames); err != nil {
			return nil, err
		}
	}
	if err := next.check(); err != nil {
		return nil, err
	}
	if next.frequency != a.frequency || next.dayOfMonth != a.dayOfMonth || next.dayOfWeek != a.dayOfWeek {
		next.anchor = s.config.Now()
		next.done = next.anchor
	}
	*a = next
	return &ScheduledAuditOutput{ScheduledAuditARN: a.arn}, nil
}

// schedule needs the lock.
func (s *Service) schedule(name string) (*scheduledAudit, error) {
	a, ok := s.schedules[name]
	if !ok {
		return nil, notFound("The scheduled audit %s does not exist", name)
	}
	return a, nil
}

// ScheduledAuditInput names a scheduled audit.
type ScheduledAuditInput struct {
	ScheduledAuditName string `uri:"scheduledAuditName"`
}

// ScheduledAuditMetadata is an element of ListScheduledAuditsOutput.
type ScheduledAuditMetadata struct {
	ScheduledAuditName string `json:"scheduledAuditName"`
	ScheduledAuditARN  string `json:"scheduledAuditArn"`
	Frequency          string `json:"frequency"`
	DayOfMonth         string `json:"dayOfMonth,omitempty"`
	DayOfWeek          string `json:"dayOfWeek,omitempty"`
}

// DescribeScheduledAuditOutput is the operation's output.
type DescribeScheduledAuditOutput struct {
	ScheduledAuditMetadata
	TargetCheckNames []string `json:"targetCheckNames"`
}

func (a *scheduledAudit) metadata() ScheduledAuditMetadata {
	return ScheduledAuditMetadata{a.name, a.arn, a.frequency, a.dayOfMonth, a.dayOfWeek}
}

// DescribeScheduledAudit tells of a scheduled audit.
func (s *Service) DescribeScheduledAudit(in *ScheduledAuditInput) (*DescribeScheduledAuditOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.schedule(in.ScheduledAuditName)
	if err != nil {
		return nil, err
	}
	out := &DescribeScheduledAuditOutput{ScheduledAuditMetadata: a.metadata()}
	for _, c := range a.checks {
		out.TargetCheckNames = append(out.TargetCheckNames, c.String())
	}
	return out, nil
}

// DeleteScheduledAudit deletes a scheduled audit.
func (s *Service) DeleteScheduledAudit(in *ScheduledAuditInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.schedule(in.ScheduledAuditName); err != nil {
		return nil, err
	}
	delete(s.schedules, in.ScheduledAuditName)
	return nil, nil
}

// ListScheduledAuditsInput is the operation's input.
type ListScheduledAuditsInput struct{ Paging }

// ListScheduledAuditsOutput is the operation's output.
type ListScheduledAuditsOutput struct {
	ScheduledAudits []ScheduledAuditMetadata `json:"scheduledAudits"`
	NextToken       string                   `json:"nextToken,omitempty"`
}

// ListScheduledAudits lists the scheduled audits by name.
func (s *Service) ListScheduledAudits(in *ListScheduledAuditsInput) (*ListScheduledAuditsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []ScheduledAuditMetadata
	for _, name := range slices.Sorted(maps.Keys(s.schedules)) {
		all = append(all, s.schedules[name].metadata())
	}
	out, next, err := page(in.Paging, all, false, func(m ScheduledAuditMetadata) string { return m.ScheduledAuditName })
	if err != nil {
		return nil, err
	}
	return &ListScheduledAuditsOutput{ScheduledAudits: out, NextToken: next}, nil
}
