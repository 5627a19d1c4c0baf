package eventbridge

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/defenderhub/defenderhub/test/localaws/clock"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// eventTime is the form of an event's time, which has whole seconds.
const eventTime = "2006-01-02T15:04:05Z"

// MostRuns is the maximum number of runs of a rule or a schedule in one step of the clock. The last
// ones run. AWS would run all, but a step of a day has 1,440 minutes.
const MostRuns = 60

// Run is one run of a scheduled rule or of a schedule.
type Run struct {
	At    time.Time
	Rule  Rule
	Event []byte
}

// Timetable has all rules and schedules that run at times.
type Timetable struct {
	Account, Region string
	Rules           func() []Rule // rules and schedules
	// Skipped receives the number of runs of a rule or schedule that one step skipped.
	Skipped func(name string, runs int)
}

// ReadSchedule reads the properties of an AWS::Scheduler::Schedule, which the schema has validated.
// Its error names what the local AWS does not support. A run is not retried, and always starts at
// the beginning of a flexible time window.
func ReadSchedule(name, arn string, created time.Time, properties map[string]any) (Rule, error) {
	var p struct {
		State, ScheduleExpression, ScheduleExpressionTimezone, StartDate, EndDate string
		FlexibleTimeWindow                                                        struct {
			Mode                   string
			MaximumWindowInMinutes *int
		}
		Target struct {
			Target  `mapstructure:",squash"`
			RoleArn string
		}
	}
	if err := schema.Decode(properties, &p); err != nil {
		return Rule{}, err
	}
	r := Rule{Name: name, ARN: arn, created: created, Disabled: p.State == "DISABLED", Role: p.Target.RoleArn, scheduler: true, input: p.Target.Input}
	p.Target.Input = "" // event replaces its context attributes
	r.Targets = []Target{p.Target.Target}
	s, err := clock.ParseSchedule(p.ScheduleExpression)
	if err != nil {
		return r, err
	}
	if p.ScheduleExpressionTimezone != "" {
		zone, err := time.LoadLocation(p.ScheduleExpressionTimezone)
		if err != nil {
			return r, fmt.Errorf("ScheduleExpressionTimezone: %w", err)
		}
		s = s.In(zone)
	}
	r.schedule = &s
	switch window := p.FlexibleTimeWindow; {
	case (window.Mode == "FLEXIBLE") != (window.MaximumWindowInMinutes != nil):
		return r, errors.New("MaximumWindowInMinutes is needed with mode FLEXIBLE and with no other (Service: Scheduler, Status Code: 400)")
	case p.StartDate != "" || p.EndDate != "":
		return r, errors.New("the local AWS supports neither StartDate nor EndDate")
	}
	return r, deliverable(p.Target.ARN, p.Target.DeadLetterConfig)
}

// Due returns the runs of enabled rules and schedules after from and not after to, sorted by time.
// Of each rule and schedule it returns the last [MostRuns].
func (t Timetable) Due(from, to time.Time) []Run {
	var runs []Run
	for _, r := range t.Rules() {
		if r.Disabled || r.schedule == nil {
			continue
		}
		due := r.schedule.Due(r.created, from, to)
		if over := len(due) - MostRuns; over > 0 {
			if t.Skipped != nil {
				t.Skipped(r.Name, over)
			}
			due = due[over:]
		}
		for _, at := range due {
			runs = append(runs, Run{at, r, t.event(r, at)})
		}
	}
	slices.SortStableFunc(runs, func(x, y Run) int {
		return cmp.Or(x.At.Compare(y.At), strings.Compare(x.Rule.Name, y.Rule.Name))
	})
	return runs
}

// event returns the event of a run: the Input of a schedule, in which the context attributes are
// replaced, or else a notification.
// https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
func (t Timetable) event(r Rule, at time.Time) []byte {
	source, detail, when := "aws.events", any(struct{}{}), at.UTC().Format(eventTime)
	if r.scheduler {
		if r.input != "" {
			return []byte(strings.NewReplacer(
				"<aws.scheduler.schedule-arn>", r.ARN, "<aws.scheduler.scheduled-time>", when,
				"<aws.scheduler.execution-id>", uuid.NewString(), "<aws.scheduler.attempt-number>", "1",
			).Replace(r.input))
		}
		source, detail = "aws.scheduler", "{}"
	}
	event, err := json.Marshal(map[string]any{
		"version": "0", "id": uuid.NewString(), "detail-type": "Scheduled Event", "source": source, "account": t.Account,
		"time": when, "region": t.Region, "resources": []string{r.ARN}, "detail": detail,
	})
	if err != nil {
		panic(err) // texts always encode
	}
	return event
}
