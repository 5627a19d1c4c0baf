package cloudwatch

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func parse(t *testing.T, properties string) Alarm {
	t.Helper()
	a, err := ParseAlarm("a", "arn:a", decode(t, properties))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var p map[string]any
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// history parses datapoints, oldest first: X breaches, 0 does not, - is missing.
func history(text string) []datapoint {
	points := make([]datapoint, len(text))
	for i, c := range text {
		p := &points[len(text)-1-i]
		p.there = c != '-'
		if c == 'X' {
			p.value = 1
		}
	}
	return points
}

// The rows are those of CloudWatch's documentation.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
func TestMissingDataIsTreatedAsCloudWatchDoes(t *testing.T) {
	const retained = State("retained")
	for _, tc := range []struct {
		toAlarm                                   int
		history                                   string
		missing, ignored, breaching, notBreaching State
	}{
		{3, "0-X-X", OK, OK, OK, OK},
		{3, "0----", OK, OK, OK, OK},
		{3, "-----", InsufficientData, retained, InAlarm, OK},
		{3, "0XX-X", InAlarm, InAlarm, InAlarm, InAlarm},
		{3, "--X--", InAlarm, retained, InAlarm, OK},
		{2, "0-X-X", InAlarm, InAlarm, InAlarm, InAlarm},
		{2, "00X0X", InAlarm, InAlarm, InAlarm, InAlarm},
		{2, "0-X--", OK, OK, InAlarm, OK},
		{2, "----0", OK, OK, InAlarm, OK},
		{2, "---X-", InAlarm, retained, InAlarm, OK},
	} {
		for treatment, want := range map[string]State{"missing": tc.missing, "": tc.missing, "ignore": tc.ignored, "breaching": tc.breaching, "notBreaching": tc.notBreaching} {
			a := Alarm{operator: "GreaterThanThreshold", periods: 3, toAlarm: tc.toAlarm, missing: treatment}
			if got := a.judge(history(tc.history), retained); got != want {
				t.Errorf("%d of 3, %s, missing data %q: %s, want %s", tc.toAlarm, tc.history, treatment, got, want)
			}
		}
	}
}

const sumAlarm = `{"Namespace": "Fleet", "MetricName": "Failed", "Dimensions": [{"Name": "F", "Value": "f"}], "Statistic": "Sum", "Period": 300,
	"EvaluationPeriods": "1", "Threshold": "0", "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching",
	"AlarmActions": ["arn:aws:sns:us-east-1:1:people"], "OKActions": ["arn:aws:sns:us-east-1:1:calm"]}`

func TestAlarmFollowsItsMetricAtTheEndOfEachPeriod(t *testing.T) {
	e := Evaluator{Store: &Store{}}
	a := parse(t, sumAlarm)
	f := NewMetric("Fleet", "Failed", map[string]string{"F": "f"})
	e.Store.Put(f, noon.Add(4*time.Minute), 1)
	e.Store.Put(f, noon.Add(5*time.Minute), 0)
	e.Store.Put(NewMetric("Fleet", "Failed", nil), noon.Add(6*time.Minute), 1) // another metric

	if changes := e.Advance([]Alarm{a}, noon, noon.Add(4*time.Minute)); len(changes) != 0 {
		t.Fatalf("a period was judged before its end: %+v", changes)
	}
	changes := e.Advance([]Alarm{a}, noon.Add(4*time.Minute), noon.Add(time.Hour))
	if len(changes) != 2 {
		t.Fatalf("changes %+v, want two", changes)
	}
	for i, want := range []struct {
		from, to State
		at       time.Time
		topic    string
	}{{InsufficientData, InAlarm, noon.Add(5 * time.Minute), "people"}, {InAlarm, OK, noon.Add(10 * time.Minute), "calm"}} {
		c := changes[i]
		if c.From != want.from || c.To != want.to || !c.At.Equal(want.at) || !strings.HasSuffix(c.Alarm.Actions(c.To)[0], want.topic) || c.Reason == "" {
			t.Errorf("change %d: %s to %s at %s because %q, want %+v", i, c.From, c.To, c.At, c.Reason, want)
		}
	}
	if changes := e.Advance([]Alarm{a}, noon.Add(time.Hour), noon.Add(2*time.Hour)); len(changes) != 0 {
		t.Errorf("changes without new values: %+v", changes)
	}
	e.Advance(nil, noon, noon)
	if changes := e.Advance([]Alarm{a}, noon.Add(2*time.Hour), noon.Add(3*time.Hour)); len(changes) != 1 || changes[0].From != InsufficientData {
		t.Errorf("a new alarm of the same name begins with %+v", changes)
	}
}

func TestNotificationDescribesTheChange(t *testing.T) {
	c := Change{Alarm: parse(t, sumAlarm), From: OK, To: InAlarm, At: noon, Reason: "because"}
	subject, message := c.Notification("123456789012", "us-east-1")
	var m struct {
		AlarmName, NewStateValue, OldStateValue, StateChangeTime, AWSAccountID string
		Trigger                                                                struct{ MetricName string }
		AlarmActions                                                           []string
	}
	if err := json.Unmarshal([]byte(message), &m); err != nil {
		t.Fatal(err)
	}
	if subject != `ALARM: "a" in us-east-1` || m.AlarmName != "a" || m.NewStateValue != "ALARM" || m.OldStateValue != "OK" || m.AWSAccountID != "123456789012" ||
		m.StateChangeTime != "2026-03-01T12:00:00.000+0000" || m.Trigger.MetricName != "Failed" || len(m.AlarmActions) != 1 {
		t.Errorf("subject %s, message %s", subject, message)
	}
}

func TestDisabledActionsAreNotTaken(t *testing.T) {
	a := parse(t, strings.Replace(sumAlarm, "{", `{"ActionsEnabled": "false", `, 1))
	if got := a.Actions(InAlarm); got != nil {
		t.Errorf("actions %v, want none", got)
	}
}

func TestLostEventsOfRulesAreJudged(t *testing.T) {
	a, err := ParseAlarm("a", "arn", map[string]any{
		"Namespace": "AWS/Events", "MetricName": "InvocationsFailedToBeSentToDlq", "Dimensions": []any{map[string]any{"Name": "RuleName", "Value": "r"}}, "Statistic": "Sum",
		"Period": 300.0, "EvaluationPeriods": 1.0, "Threshold": 0.0, "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching",
	})
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := Evaluator{Store: &Store{}}
	e.Store.Put(RuleMetric(LostEvents, "other"), from.Add(time.Minute), 1)
	if changes := e.Advance([]Alarm{a}, from, from.Add(5*time.Minute)); len(changes) != 1 || changes[0].To != OK {
		t.Errorf("changes %+v, want one to OK: another rule lost the event", changes)
	}
	e.Store.Put(RuleMetric(LostEvents, "r"), from.Add(6*time.Minute), 1)
	if changes := e.Advance([]Alarm{a}, from.Add(5*time.Minute), from.Add(10*time.Minute)); len(changes) != 1 || changes[0].To != InAlarm {
		t.Errorf("changes %+v, want one to ALARM", changes)
	}
}

func TestFailuresOfFunctionsAreJudged(t *testing.T) {
	a, err := ParseAlarm("a", "arn", map[string]any{
		"Namespace": "AWS/Lambda", "MetricName": "Errors", "Dimensions": []any{map[string]any{"Name": "FunctionName", "Value": "f"}}, "Statistic": "Sum",
		"Period": 300.0, "EvaluationPeriods": 1.0, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching",
	})
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e := Evaluator{Store: &Store{}}
	for _, function := range []string{"f", "g", "f"} {
		e.Store.Put(FunctionMetric(FunctionErrors, function), from.Add(time.Minute), 1)
	}
	e.Store.Put(FunctionMetric(AsyncEventsDropped, "f"), from.Add(time.Minute), 7)
	changes := e.Advance([]Alarm{a}, from, from.Add(5*time.Minute))
	if len(changes) != 1 || changes[0].To != InAlarm || !strings.Contains(changes[0].Reason, "[2]") {
		t.Errorf("changes %+v, want one to ALARM by the sum 2", changes)
	}
}

func TestUnsupportedAlarmsAreRefused(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"metric of a service": {`"Namespace": "Fleet"`, `"Namespace": "AWS/Lambda"`, "Failed of AWS/Lambda is not measured"},
		"operator":            {"GreaterThanThreshold", "GreaterThanUpperThreshold", "GreaterThanUpperThreshold"},
		"percentile":          {`"Statistic": "Sum"`, `"ExtendedStatistic": "p99"`, "statistic"},
		"action":              {"arn:aws:sns:us-east-1:1:people", "arn:aws:lambda:us-east-1:1:function:f", "function:f"},
		"no threshold":        {`"Threshold": "0",`, ``, "Threshold"},
		"no period":           {`"Period": 300,`, ``, "Period"},
		"unit":                {`"Period": 300,`, `"Period": 300, "Unit": "Count",`, "Unit"},
		"expression":          {`"MetricName": "Failed", `, `"Metrics": [{"Id": "e", "Expression": "RATE(m)"}, {"Id": "m", "ReturnData": false, "MetricStat": {"Period": 60, "Stat": "Sum", "Metric": {"MetricName": "M", "Namespace": "N"}}}],`, "RATE"},
		"two results":         {`"MetricName": "Failed", `, `"Metrics": [{"Id": "e", "Expression": "1"}, {"Id": "f", "Expression": "2"}],`, "2 metrics have ReturnData"},
		"periods differ": {`"MetricName": "Failed", `, `"Metrics": [{"Id": "e", "Expression": "m"},
			{"Id": "m", "ReturnData": false, "MetricStat": {"Period": 60, "Stat": "Sum", "Metric": {"MetricName": "M", "Namespace": "N"}}},
			{"Id": "n", "ReturnData": false, "MetricStat": {"Period": 300, "Stat": "Sum", "Metric": {"MetricName": "M", "Namespace": "N"}}}],`, "different periods"},
		"unit of a metric": {`"MetricName": "Failed", `, `"Metrics": [{"Id": "m", "MetricStat": {"Period": 60, "Stat": "Sum", "Unit": "Count", "Metric": {"MetricName": "M", "Namespace": "N"}}}],`, "Unit"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseAlarm("a", "arn", decode(t, strings.Replace(sumAlarm, tc.old, tc.new, 1))); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAlarmOnTheOldestMessageOfQueues(t *testing.T) {
	a := parse(t, `{"Metrics": [{"Id": "expr_1", "Expression": "MAX(METRICS())", "ReturnData": true},
		{"Id": "x", "ReturnData": false, "MetricStat": {"Period": 300, "Stat": "Maximum", "Metric": {"Namespace": "AWS/SQS", "MetricName": "ApproximateAgeOfOldestMessage", "Dimensions": [{"Name": "QueueName", "Value": "x"}]}}},
		{"Id": "y", "ReturnData": false, "MetricStat": {"Period": 300, "Stat": "Maximum", "Metric": {"Namespace": "AWS/SQS", "MetricName": "ApproximateAgeOfOldestMessage", "Dimensions": [{"Name": "QueueName", "Value": "y"}]}}}],
		"EvaluationPeriods": 1, "Threshold": 900, "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching"}`)
	if q := a.Queues(); len(q) != 2 || q[0] != "x" || q[1] != "y" {
		t.Fatalf("the alarm watches the queues %v, want x and y", q)
	}
	e := Evaluator{Store: &Store{}}
	e.Store.Hold(QueueMetric(OldestMessage, "x"), noon, noon.Add(time.Hour), 0, 0)
	e.Store.Hold(QueueMetric(OldestMessage, "y"), noon, noon.Add(time.Hour), 60, 1) // sent at 11:59
	changes := e.Advance([]Alarm{a}, noon, noon.Add(time.Hour))
	if len(changes) != 2 || changes[0].To != OK || changes[1].To != InAlarm || !changes[1].At.Equal(noon.Add(20*time.Minute)) {
		t.Errorf("changes %+v, want OK, then ALARM at 12:20", changes)
	}
}
