package eventbridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/clock"
	"github.com/defenderhub/defenderhub/test/localaws/edge"
)

// Emulated is the catalog of the rules that the emulator keeps. It reads them again
// only after a change.
type Emulated struct {
	API awsapi.Client // the emulator itself

	mu      sync.Mutex
	known   bool
	rules   []Rule
	created map[string]time.Time // of rules with a schedule, by name
}

// Rules implements [Catalog].
func (e *Emulated) Rules(ctx context.Context) ([]Rule, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known {
		return e.rules, nil
	}
	rules, err := e.read(ctx)
	if err != nil {
		return nil, err
	}
	e.rules, e.known = rules, true
	return rules, nil
}

func (e *Emulated) read(ctx context.Context) ([]Rule, error) {
	rules, err := everyPage(func(token map[string]string) (page []Rule, next string, err error) {
		var out struct {
			Rules     []Rule
			NextToken string
		}
		err = e.API.Target(ctx, "events", target+"ListRules", token, &out)
		return out.Rules, out.NextToken, err
	})
	for i := range rules {
		r := &rules[i]
		r.Created = e.created[r.Name]
		if err == nil {
			r.Targets, err = e.targets(ctx, r.Name)
		}
	}
	return rules, err
}

func (e *Emulated) targets(ctx context.Context, rule string) ([]Target, error) {
	return everyPage(func(in map[string]string) (page []Target, next string, err error) {
		var out struct {
			Targets   []Target
			NextToken string
		}
		in["Rule"] = rule
		err = e.API.Target(ctx, "events", target+"ListTargetsByRule", in, &out)
		return out.Targets, out.NextToken, err
	})
}

// everyPage asks for all pages of a list. The input of ask holds the token of the page.
func everyPage[T any](ask func(in map[string]string) (page []T, next string, err error)) ([]T, error) {
	var all []T
	for in := (map[string]string{}); ; {
		page, next, err := ask(in)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if next == "" {
			return all, nil
		}
		in = map[string]string{"NextToken": next}
	}
}

// scheduled remembers from when on the rate of a rule counts: the emulator does not
// say when a rule was made. A rule that is put again keeps its time.
func (e *Emulated) scheduled(name string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.created == nil {
		e.created = map[string]time.Time{}
	}
	if _, before := e.created[name]; !before {
		e.created[name] = at
	}
}

// changed says that rules or targets may have changed.
func (e *Emulated) changed(operation, rule string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known = false
	if operation == "DeleteRule" {
		delete(e.created, rule)
	}
}

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
	// Skipped receives how many runs of a rule or schedule there were too many for one step.
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

// scheduleParameters are those of a schedule's target that the local AWS follows: a message
// group is of no effect in a queue that is not FIFO, and what fails is not tried again.
var scheduleParameters = []string{"Arn", "DeadLetterConfig", "Input", "RetryPolicy", "RoleArn", "SqsParameters"}

const schedulesPath = "/schedules/"

// entrySchedule is a schedule of EventBridge Scheduler, as its API reads and gives it.
type entrySchedule struct {
	Arn, Name, GroupName       string
	ScheduleExpression         string
	ScheduleExpressionTimezone string
	State                      string
	StartDate, EndDate         any
	ActionAfterCompletion      string
	CreationDate               float64 // seconds since 1970, on the machine's clock
	Target                     struct {
		Arn, RoleArn     string
		Input            string
		DeadLetterConfig *deadLetters
	}
}

// schedule is when it runs; what the local AWS cannot follow is an error that names it.
func (e entrySchedule) schedule() (clock.Schedule, error) {
	s, err := clock.ParseSchedule(e.ScheduleExpression)
	if err != nil {
		return s, err
	}
	if e.ScheduleExpressionTimezone != "" {
		zone, err := time.LoadLocation(e.ScheduleExpressionTimezone)
		if err != nil {
			return s, fmt.Errorf("ScheduleExpressionTimezone: %w", err)
		}
		s = s.In(zone)
	}
	return s, nil
}

func (e entrySchedule) check() error {
	if _, err := e.schedule(); err != nil {
		return err
	}
	switch {
	case e.StartDate != nil || e.EndDate != nil:
		return errors.New("the local AWS follows no StartDate and no EndDate")
	case e.ActionAfterCompletion == "DELETE":
		return errors.New("the local AWS does not delete schedules after completion")
	}
	return deliverable(e.Target.Arn, e.Target.DeadLetterConfig)
}

// SchedulerAPI refuses schedules that the local AWS could not follow, by name, and
// leaves all else of EventBridge Scheduler to next, the emulator.
func SchedulerAPI(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, schedulesPath) || r.Method != http.MethodPost && r.Method != http.MethodPut {
			next.ServeHTTP(w, r)
			return
		}
		body, err := edge.Body(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var e entrySchedule
		var more struct {
			FlexibleTimeWindow struct {
				Mode                   string
				MaximumWindowInMinutes *int
			}
			Target map[string]json.RawMessage
		}
		if err := errors.Join(json.Unmarshal(body, &e), json.Unmarshal(body, &more)); err != nil {
			fail(w, "ValidationException", err.Error())
			return
		}
		if window := more.FlexibleTimeWindow; (window.Mode == "FLEXIBLE") != (window.MaximumWindowInMinutes != nil) {
			fail(w, "ValidationException", "MaximumWindowInMinutes is needed with mode FLEXIBLE and with no other")
			return
		}
		err = e.check()
		if err == nil {
			err = onlyKnown(more.Target, scheduleParameters)
		}
		if err != nil {
			edge.Refuse(w, r, err.Error())
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Schedules reads the schedules that the emulator keeps.
type Schedules struct {
	API awsapi.Client // the emulator itself
}

func (s Schedules) read(ctx context.Context) ([]entrySchedule, error) {
	listed, err := everyPage(func(in map[string]string) (page []entrySchedule, next string, err error) {
		var out struct {
			Schedules []entrySchedule // only the names
			NextToken string
		}
		path := "/schedules"
		if token := in["NextToken"]; token != "" {
			path += "?NextToken=" + url.QueryEscape(token)
		}
		err = s.API.REST(ctx, "scheduler", http.MethodGet, path, nil, &out)
		return out.Schedules, out.NextToken, err
	})
	for i := range listed {
		if err == nil {
			path := schedulesPath + url.PathEscape(listed[i].Name) + "?groupName=" + url.QueryEscape(listed[i].GroupName)
			err = s.API.REST(ctx, "scheduler", http.MethodGet, path, nil, &listed[i])
		}
	}
	return listed, err
}
