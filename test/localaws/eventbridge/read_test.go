package eventbridge

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func decoded(t *testing.T, text string) (properties map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &properties); err != nil {
		t.Fatal(err)
	}
	return properties
}

// rule reads a rule that is created at midnight.
func rule(t *testing.T, name, properties string) Rule {
	t.Helper()
	r, err := ReadRule(name, "arn:"+name, midnight, decoded(t, properties))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

func TestUnsupportedRuleIsRefused(t *testing.T) {
	target := func(more string) string {
		return `{"ScheduleExpression": "rate(1 day)", "Targets": [{"Id": "1", ` + more + `}]}`
	}
	queue := `"Arn": "arn:aws:sqs:us-east-1:1:q"`
	for name, tc := range map[string]struct{ properties, want string }{
		"pattern":               {`{"EventPattern": {"a": [{"like": 1}]}}`, "like"},
		"pattern as text":       {`{"EventPattern": "{\"a\": [{\"like\": 1}]}"}`, "like"},
		"schedule":              {`{"ScheduleExpression": "cron(0 0 L * ? *)"}`, "cron(0 0 L * ? *)"},
		"one time":              {`{"ScheduleExpression": "at(2026-03-02T00:00:00)"}`, "at(2026-03-02T00:00:00)"},
		"one minutes":           {`{"ScheduleExpression": "rate(1 minutes)"}`, "ScheduleExpression"},
		"ten hour":              {`{"ScheduleExpression": "rate(10 hour)"}`, "ScheduleExpression"},
		"no trigger":            {`{}`, "EventPattern or ScheduleExpression must be specified"},
		"input that is no JSON": {target(queue + `, "Input": "tick"`), "Input is not JSON"},
		"two inputs":            {target(queue + `, "Input": "1", "InputTransformer": {"InputTemplate": "1"}`), "exclude each other"},
		"bus":                   {`{"EventBusName": "other", "ScheduleExpression": "rate(1 day)"}`, "other"},
		"target":                {target(`"Arn": "arn:aws:kinesis:us-east-1:1:stream/s"`), "kinesis"},
		"FIFO queue":            {target(`"Arn": "arn:aws:sqs:us-east-1:1:q.fifo"`), "FIFO"},
		"dead-letter queue":     {target(queue + `, "DeadLetterConfig": {"Arn": "arn:aws:sns:us-east-1:1:t"}`), "dead-letter"},
		"path of a transformer": {target(queue + `, "InputTransformer": {"InputPathsMap": {"x": "$['a']"}, "InputTemplate": "<x>"}`), "JSON path"},
		"template":              {target(queue + `, "InputTransformer": {"InputTemplate": "<x>"}`), "x"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadRule("r", "arn", midnight, decoded(t, tc.properties)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want a refusal with %q", err, tc.want)
			}
		})
	}
}

func TestUnsupportedScheduleIsRefused(t *testing.T) {
	good := `"FlexibleTimeWindow": {"Mode": "OFF"}, "Target": {"Arn": "arn:aws:sqs:us-east-1:1:q"}, "ScheduleExpression": "rate(1 hour)"`
	for name, tc := range map[string]struct{ properties, want string }{
		"expression":        {`{"ScheduleExpression": "cron(0 0 ? * 6L *)"}`, "6L"},
		"weeks":             {`{"ScheduleExpression": "rate(1 week)"}`, "rate(1 week)"},
		"time zone":         {`{"ScheduleExpressionTimezone": "Mars/Base", ` + good + `}`, "Mars/Base"},
		"start":             {`{"StartDate": "2026-03-01T00:00:00Z", ` + good + `}`, "StartDate"},
		"universal target":  {`{"ScheduleExpression": "rate(1 hour)", "Target": {"Arn": "arn:aws:scheduler:::aws-sdk:sqs:sendMessage"}}`, "aws-sdk"},
		"dead-letter queue": {`{"ScheduleExpression": "rate(1 hour)", "Target": {"Arn": "arn:aws:sqs:us-east-1:1:q", "DeadLetterConfig": {"Arn": "arn:aws:sqs:us-east-1:1:q.fifo"}}}`, "q.fifo"},
		"window":            {`{"ScheduleExpression": "rate(1 hour)", "FlexibleTimeWindow": {"Mode": "FLEXIBLE"}, "Target": {"Arn": "arn:aws:sqs:us-east-1:1:q"}}`, "MaximumWindowInMinutes"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadSchedule("s", "arn", midnight, decoded(t, tc.properties)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want a refusal with %q", err, tc.want)
			}
		})
	}
	if _, err := ReadSchedule("s", "arn", midnight, decoded(t, "{"+good+"}")); err != nil {
		t.Error(err)
	}
}

var midnight = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
