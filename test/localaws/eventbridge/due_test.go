package eventbridge

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// timetable returns a timetable of rules, and of schedules in JSON that are created at midnight.
func timetable(t *testing.T, rules []Rule, schedules string) Timetable {
	t.Helper()
	var all []map[string]any
	if err := json.Unmarshal([]byte(schedules), &all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		r, err := ReadSchedule(s["Name"].(string), "arn:"+s["Name"].(string), midnight, s)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	return Timetable{Account: "1", Region: "us-east-1", Rules: func() []Rule { return rules }}
}

func TestRunsAreInTheOrderOfTheirTimes(t *testing.T) {
	queue := `"Target": {"Arn": "arn:aws:sqs:us-east-1:1:q"}`
	tt := timetable(t, []Rule{
		rule(t, "half-hourly", `{"ScheduleExpression": "rate(30 minutes)"}`), rule(t, "off", `{"ScheduleExpression": "rate(1 minute)", "State": "DISABLED"}`),
		rule(t, "on events", `{"EventPattern": {"source": ["fleet"]}}`),
	}, `[
		{"Name": "hourly", "GroupName": "default", "ScheduleExpression": "rate(1 hour)", "State": "ENABLED", `+queue+`},
		{"Name": "in-tokyo", "GroupName": "mine", "ScheduleExpression": "cron(45 9 * * ? *)", "ScheduleExpressionTimezone": "Asia/Tokyo", `+queue+`},
		{"Name": "off", "GroupName": "default", "ScheduleExpression": "rate(1 minute)", "State": "DISABLED", `+queue+`}]`)
	runs := tt.Due(midnight, midnight.Add(time.Hour))
	var got []string
	for _, r := range runs {
		got = append(got, r.At.UTC().Format("15:04 ")+r.Rule.Name)
	}
	if want := "00:30 half-hourly, 00:45 in-tokyo, 01:00 half-hourly, 01:00 hourly"; strings.Join(got, ", ") != want {
		t.Errorf("runs %s\nwant %s", strings.Join(got, ", "), want)
	}
}

func TestStepKeepsTheLast60RunsOfASchedule(t *testing.T) {
	tt := timetable(t, []Rule{rule(t, "rule", `{"ScheduleExpression": "rate(1 minute)"}`)},
		`[{"Name": "schedule", "GroupName": "default", "ScheduleExpression": "rate(1 minute)", "State": "ENABLED", "Target": {"Arn": "arn:aws:sqs:us-east-1:1:q"}}]`)
	for _, step := range []struct {
		length        time.Duration
		runs, skipped int
	}{{time.Hour, 60, 0}, {time.Hour + time.Minute, 60, 1}, {24 * time.Hour, 60, 1380}} {
		skipped := map[string]int{}
		tt.Skipped = func(name string, runs int) { skipped[name] = runs }
		runs := tt.Due(midnight, midnight.Add(step.length))
		if len(runs) != 2*step.runs || skipped["rule"] != step.skipped || skipped["schedule"] != step.skipped {
			t.Fatalf("a step of %v: %d runs, skipped %v; want %d each, skipped %d", step.length, len(runs), skipped, step.runs, step.skipped)
		}
		if first, last := runs[0].At, runs[len(runs)-1].At; !last.Equal(midnight.Add(step.length)) || last.Sub(first) != 59*time.Minute {
			t.Errorf("a step of %v: runs from %v to %v, want those of the last hour", step.length, first, last)
		}
	}
}

func TestRunsHaveTheEventAndTheTarget(t *testing.T) {
	tt := timetable(t, []Rule{rule(t, "rule", `{"ScheduleExpression": "rate(1 hour)"}`)}, `[
		{"Name": "s1", "Arn": "arn:s1", "GroupName": "g", "ScheduleExpression": "cron(0 1 1 * ? *)",
			"Target": {"Arn": "arn:aws:lambda:us-east-1:1:function:f", "Input": "{\"at\": \"<aws.scheduler.scheduled-time>\", \"by\": \"<aws.scheduler.schedule-arn>\"}", "DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:1:dead"}}},
		{"Name": "s2", "Arn": "arn:s2", "GroupName": "g", "ScheduleExpression": "cron(0 1 1 * ? *)", "Target": {"Arn": "arn:aws:sqs:us-east-1:1:q"}}]`)
	runs := tt.Due(midnight, midnight.Add(time.Hour))
	if len(runs) != 3 {
		t.Fatalf("runs %v, want three", runs)
	}
	if got := string(runs[1].Event); got != `{"at": "2026-03-01T01:00:00Z", "by": "arn:s1"}` {
		t.Errorf("the input is %s, want its placeholders replaced", got)
	}
	if target := runs[1].Rule.Targets[0]; target.ARN != "arn:aws:lambda:us-east-1:1:function:f" || target.DeadLetterConfig.ARN != "arn:aws:sqs:us-east-1:1:dead" {
		t.Errorf("target %+v, want function f with the queue dead", target)
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
