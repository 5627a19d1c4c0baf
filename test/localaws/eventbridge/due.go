package eventbridge

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/defenderhub/defenderhub/test/localaws/clock"
)

// MostRuns is how often a rule or a schedule runs at most in one step of the clock: for
// its last due times. AWS would have run it at each; a step of a day would have the
// function of a schedule by the minute run 1,440 times.
const MostRuns = 60

// Run is one run of a scheduled rule or of a schedule.
type Run struct {
	At    time.Time
	Rule  Rule // of a schedule: its name, and its target
	Event []byte
}

// Timetable knows all that runs by time.
type Timetable struct {
	Account, Region string
	Clock           *clock.Clock
	Rules           Catalog
	Schedules       Schedules
	// Skipped is told how many runs of a rule or schedule there were too many for one step.
	Skipped func(name string, runs int)
}

// Due lists the runs of enabled rules and schedules after from, up to and with to, in
// the order of their times, of each the last [MostRuns]. A flexible time window is over at its beginning.
func (t Timetable) Due(ctx context.Context, from, to time.Time) ([]Run, error) {
	rules, err := t.Rules.Rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the rules with a schedule: %w", err)
	}
	schedules, err := t.Schedules.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the schedules: %w", err)
	}
	var runs []Run
	for _, r := range rules {
		if r.State == "DISABLED" || r.ScheduleExpression == "" {
			continue
		}
		s, err := clock.ParseSchedule(r.ScheduleExpression)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", r.Name, err)
		}
		for _, at := range t.last(r.Name, s.Due(r.Created, from, to)) {
			runs = append(runs, Run{at, r, t.event("aws.events", r.ARN, at, json.RawMessage(`{}`))})
		}
	}
	for _, e := range schedules {
		if e.State == "DISABLED" {
			continue
		}
		s, err := e.schedule()
		if err != nil {
			return nil, fmt.Errorf("schedule %s: %w", e.Name, err)
		}
		created := t.Clock.At(time.UnixMilli(int64(e.CreationDate * 1000)))
		for _, at := range t.last(e.Name, s.Due(created, from, to)) {
			runs = append(runs, Run{at, e.rule(), t.input(e, at)})
		}
	}
	slices.SortStableFunc(runs, func(x, y Run) int {
		if c := x.At.Compare(y.At); c != 0 {
			return c
		}
		return strings.Compare(x.Rule.Name, y.Rule.Name)
	})
	return runs, nil
}

// last are the times at which it runs, of those that are due.
func (t Timetable) last(name string, due []time.Time) []time.Time {
	over := len(due) - MostRuns
	if over <= 0 {
		return due
	}
	if t.Skipped != nil {
		t.Skipped(name, over)
	}
	return due[over:]
}

// rule is a schedule as the bus starts it.
func (e entrySchedule) rule() Rule {
	target := Target{ID: e.Name, ARN: e.Target.Arn}
	if dead := e.Target.DeadLetterConfig; dead != nil && dead.ARN != "" {
		target.DeadLetterConfig = dead
	}
	return Rule{Name: e.Name, ARN: e.Arn, Role: e.Target.RoleArn, Targets: []Target{target}}
}

// input is what the target of a schedule gets: its Input, in which the context
// attributes are filled in, or a notification.
// https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
func (t Timetable) input(e entrySchedule, at time.Time) []byte {
	if e.Target.Input == "" {
		return t.event("aws.scheduler", e.Arn, at, "{}")
	}
	return []byte(strings.NewReplacer(
		"<aws.scheduler.schedule-arn>", e.Arn,
		"<aws.scheduler.scheduled-time>", at.UTC().Format(eventTime),
		"<aws.scheduler.execution-id>", uuid.NewString(),
		"<aws.scheduler.attempt-number>", "1",
	).Replace(e.Target.Input))
}

// event is the notification of a run.
func (t Timetable) event(source, resource string, at time.Time, detail any) []byte {
	event, err := json.Marshal(map[string]any{
		"version": "0", "id": uuid.NewString(), "detail-type": "Scheduled Event", "source": source, "account": t.Account,
		"time": at.UTC().Format(eventTime), "region": t.Region, "resources": []string{resource}, "detail": detail,
	})
	if err != nil {
		panic(err) // texts and JSON always encode
	}
	return event
}
