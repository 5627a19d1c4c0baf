package eventbridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/clock"
	"github.com/defenderhub/defenderhub/test/localaws/edge"
)

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
