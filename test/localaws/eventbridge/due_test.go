package eventbridge

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/clock"
)

var midnight = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// timetable has the rules given and the schedules given, created at midnight, as JSON.
func timetable(t *testing.T, rules fixedRules, schedules string) Timetable {
	t.Helper()
	e := &emulator{}
	if err := json.Unmarshal([]byte(schedules), &e.schedules); err != nil {
		t.Fatal(err)
	}
	for _, s := range e.schedules {
		s["CreationDate"] = float64(midnight.Unix())
	}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return Timetable{
		Account: "1", Region: "us-east-1", Clock: &clock.Clock{}, Rules: rules,
		Schedules: Schedules{API: awsapi.Client{Endpoint: server.URL, Region: "us-east-1"}},
	}
}

func TestRunsAreInTheOrderOfTheirTimes(t *testing.T) {
	queue := `"Target": {"Arn": "arn:aws:sqs:us-east-1:1:q"}`
	tt := timetable(t, fixedRules{
		{Name: "half-hourly", ScheduleExpression: "rate(30 minutes)", Created: midnight},
		{Name: "off", ScheduleExpression: "rate(1 minute)", State: "DISABLED", Created: midnight},
		{Name: "on events", Pattern: "{}"},
	}, `[
		{"Name": "hourly", "GroupName": "default", "ScheduleExpression": "rate(1 hour)", "State": "ENABLED", `+queue+`},
		{"Name": "in-tokyo", "GroupName": "mine", "ScheduleExpression": "cron(45 9 * * ? *)", "ScheduleExpressionTimezone": "Asia/Tokyo", `+queue+`},
		{"Name": "off", "GroupName": "default", "ScheduleExpression": "rate(1 minute)", "State": "DISABLED", `+queue+`}]`)
	runs, err := tt.Due(t.Context(), midnight, midnight.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range runs {
		got = append(got, r.At.UTC().Format("15:04 ")+r.Rule.Name)
	}
	if want := "00:30 half-hourly, 00:45 in-tokyo, 01:00 half-hourly, 01:00 hourly"; strings.Join(got, ", ") != want {
		t.Errorf("runs %s\nwant %s", strings.Join(got, ", "), want)
	}
}

func TestOfOneStepTheLastRunsAreLeft(t *testing.T) {
	tt := timetable(t, fixedRules{{Name: "rule", ScheduleExpression: "rate(1 minute)", Created: midnight}},
		`[{"Name": "schedule", "GroupName": "default", "ScheduleExpression": "rate(1 minute)", "State": "ENABLED", "Target": {"Arn": "arn:aws:sqs:us-east-1:1:q"}}]`)
	for _, step := range []struct {
		length        time.Duration
		runs, skipped int
	}{{time.Hour, 60, 0}, {time.Hour + time.Minute, 60, 1}, {24 * time.Hour, 60, 1380}} {
		skipped := map[string]int{}
		tt.Skipped = func(name string, runs int) { skipped[name] = runs }
		runs, err := tt.Due(t.Context(), midnight, midnight.Add(step.length))
		if err != nil {
			t.Fatal(err)
		}
		if len(runs) != 2*step.runs || skipped["rule"] != step.skipped || skipped["schedule"] != step.skipped {
			t.Fatalf("a step of %v: %d runs, skipped %v; want %d each, skipped %d", step.length, len(runs), skipped, step.runs, step.skipped)
		}
		if first, last := runs[0].At, runs[len(runs)-1].At; !last.Equal(midnight.Add(step.length)) || last.Sub(first) != 59*time.Minute {
			t.Errorf("a step of %v: runs from %v to %v, want those of the last hour", step.length, first, last)
		}
	}
}

func TestRunsCarryWhatTheirTargetsGet(t *testing.T) {
	tt := timetable(t, fixedRules{{Name: "rule", ARN: "arn:rule", ScheduleExpression: "rate(1 hour)", Created: midnight}}, `[
		{"Name": "s1", "Arn": "arn:s1", "GroupName": "g", "ScheduleExpression": "cron(0 1 1 * ? *)",
			"Target": {"Arn": "arn:aws:lambda:us-east-1:1:function:f", "Input": "{\"at\": \"<aws.scheduler.scheduled-time>\", \"by\": \"<aws.scheduler.schedule-arn>\"}", "DeadLetterConfig": {"Arn": "arn:dead"}}},
		{"Name": "s2", "Arn": "arn:s2", "GroupName": "g", "ScheduleExpression": "cron(0 1 1 * ? *)", "Target": {"Arn": "arn:q"}}]`)
	runs, err := tt.Due(t.Context(), midnight, midnight.Add(time.Hour))
	if err != nil || len(runs) != 3 {
		t.Fatalf("runs %v, error %v", runs, err)
	}
	if got := string(runs[1].Event); got != `{"at": "2026-03-01T01:00:00Z", "by": "arn:s1"}` {
		t.Errorf("the input is %s", got)
	}
	if target := runs[1].Rule.Targets[0]; target.ARN != "arn:aws:lambda:us-east-1:1:function:f" || target.DeadLetterConfig.ARN != "arn:dead" {
		t.Errorf("target %+v", target)
	}
	for i, want := range map[int]struct{ source, resource, detail string }{0: {"aws.events", "arn:rule", `{}`}, 2: {"aws.scheduler", "arn:s2", `"{}"`}} {
		var event struct {
			Source, Time string
			Kind         string `json:"detail-type"`
			Resources    []string
			Detail       json.RawMessage
		}
		if err := json.Unmarshal(runs[i].Event, &event); err != nil {
			t.Fatal(err)
		}
		if event.Source != want.source || event.Time != "2026-03-01T01:00:00Z" || event.Kind != "Scheduled Event" || event.Resources[0] != want.resource || string(event.Detail) != want.detail {
			t.Errorf("event %s, want %+v", runs[i].Event, want)
		}
	}
}

func TestSchedulesThatCannotBeFollowedAreRefusedByName(t *testing.T) {
	good := `"Target": {"Arn": "arn:aws:sqs:us-east-1:1:q"}, "ScheduleExpression": "rate(1 hour)"`
	for name, tc := range map[string]struct{ method, path, body, want string }{
		"expression":        {"POST", "/schedules/s", `{"ScheduleExpression": "cron(0 0 ? * 6L *)"}`, "6L"},
		"changed":           {"PUT", "/schedules/s", `{"ScheduleExpression": "rate(1 week)"}`, "rate(1 week)"},
		"time zone":         {"POST", "/schedules/s", `{"ScheduleExpressionTimezone": "Mars/Base", ` + good + `}`, "Mars/Base"},
		"start":             {"POST", "/schedules/s", `{"StartDate": 1, ` + good + `}`, "StartDate"},
		"deletion":          {"POST", "/schedules/s", `{"ActionAfterCompletion": "DELETE", ` + good + `}`, "completion"},
		"universal target":  {"POST", "/schedules/s", `{"ScheduleExpression": "rate(1 hour)", "Target": {"Arn": "arn:aws:scheduler:::aws-sdk:sqs:sendMessage"}}`, "aws-sdk"},
		"dead-letter queue": {"POST", "/schedules/s", `{"ScheduleExpression": "rate(1 hour)", "Target": {"Arn": "arn:aws:sqs:us-east-1:1:q", "DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:1:q.fifo"}}}`, "q.fifo"},
		"window":            {"POST", "/schedules/s", `{"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}, ` + good + `}`, "MaximumWindowInMinutes"},
		"another target's":  {"PUT", "/schedules/s", `{"ScheduleExpression": "rate(1 hour)", "Target": {"Arn": "arn:aws:sqs:us-east-1:1:q", "EcsParameters": {}}}`, "does not follow EcsParameters"},
		"malformed":         {"POST", "/schedules/s", `x`, "invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			e := &emulator{}
			answer := httptest.NewRecorder()
			SchedulerAPI(e).ServeHTTP(answer, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
			if answer.Code < 400 || !strings.Contains(answer.Body.String(), tc.want) || len(e.asked) != 0 {
				t.Errorf("answer %d %s, want a refusal with %q", answer.Code, answer.Body, tc.want)
			}
		})
	}
	e := &emulator{}
	for _, r := range []*http.Request{
		httptest.NewRequest("POST", "/schedules/s", strings.NewReader(`{`+good+`}`)),
		httptest.NewRequest("GET", "/schedules/s", nil),
		httptest.NewRequest("POST", "/schedule-groups/g", nil),
	} {
		SchedulerAPI(e).ServeHTTP(httptest.NewRecorder(), r)
	}
	if len(e.asked) != 3 {
		t.Errorf("the emulator was asked %v", e.asked)
	}
}
