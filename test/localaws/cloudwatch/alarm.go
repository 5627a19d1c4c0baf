package cloudwatch

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// State is the state of an alarm.
type State string

// The states of an alarm. A new one has insufficient data.
const (
	OK               State = "OK"
	InAlarm          State = "ALARM"
	InsufficientData State = "INSUFFICIENT_DATA"
)

// The metrics of queues, functions and rules that the local AWS measures.
const (
	sqsNamespace    = "AWS/SQS"
	MessagesVisible = "ApproximateNumberOfMessagesVisible"
	OldestMessage   = "ApproximateAgeOfOldestMessage" // seconds

	lambdaNamespace    = "AWS/Lambda"
	FunctionErrors     = "Errors"
	AsyncEventsDropped = "AsyncEventsDropped"

	eventsNamespace = "AWS/Events"
	LostEvents      = "InvocationsFailedToBeSentToDlq"
)

// RuleMetric returns a metric of a rule of EventBridge.
func RuleMetric(name, rule string) Metric {
	return NewMetric(eventsNamespace, name, map[string]string{"RuleName": rule})
}

// FunctionMetric returns a metric of a function.
func FunctionMetric(name, function string) Metric {
	return NewMetric(lambdaNamespace, name, map[string]string{"FunctionName": function})
}

// QueueMetric returns a metric of a queue.
func QueueMetric(name, queue string) Metric {
	return NewMetric(sqsNamespace, name, map[string]string{"QueueName": queue})
}

// Alarm is a metric alarm.
type Alarm struct {
	Name, ARN, Description string

	operator   string
	threshold  float64
	period     time.Duration
	periods    int // evaluation periods
	toAlarm    int // datapoints to alarm
	missing    string
	queries    []query
	expression expression // over the queries
	actions    map[State][]string
	silent     bool // its actions are disabled
	queues     []string
	properties map[string]any
}

type query struct {
	id        string
	metric    Metric
	statistic string
}

// Queues returns the names of the queues whose metrics the alarm watches.
func (a Alarm) Queues() []string { return a.queues }

// Actions returns the ARNs of the topics that get a message about a state.
func (a Alarm) Actions(s State) []string {
	if a.silent {
		return nil
	}
	return a.actions[s]
}

var operators = map[string]struct {
	words    string
	breaches func(value, threshold float64) bool
}{
	"GreaterThanThreshold":          {"greater than", func(v, t float64) bool { return v > t }},
	"GreaterThanOrEqualToThreshold": {"greater than or equal to", func(v, t float64) bool { return v >= t }},
	"LessThanThreshold":             {"less than", func(v, t float64) bool { return v < t }},
	"LessThanOrEqualToThreshold":    {"less than or equal to", func(v, t float64) bool { return v <= t }},
}

// properties are the properties of an AWS::CloudWatch::Alarm that are used here. The schema has
// validated them.
type properties struct {
	metric
	AlarmDescription, ComparisonOperator, TreatMissingData, Statistic string
	Threshold                                                         *float64
	EvaluationPeriods, DatapointsToAlarm, Period                      int
	Metrics                                                           []struct {
		ID         string `json:"Id"`
		Expression string
		ReturnData *bool
		MetricStat *struct {
			Metric metric
			Period int
			Stat   string
			Unit   string
		}
	}
	AlarmActions, OKActions, InsufficientDataActions []string
	ActionsEnabled                                   *bool
}

type metric struct {
	Namespace, MetricName, Unit string
	Dimensions                  []struct{ Name, Value string }
}

// ParseAlarm reads the properties of an AWS::CloudWatch::Alarm. It returns an error for an alarm that
// cannot be evaluated here.
func ParseAlarm(name, arn string, given map[string]any) (Alarm, error) {
	var p properties
	err := schema.Decode(given, &p)
	if err != nil {
		return Alarm{}, err
	}
	a := Alarm{
		Name: name, ARN: arn, Description: p.AlarmDescription, operator: p.ComparisonOperator, properties: given, missing: p.TreatMissingData,
		periods: p.EvaluationPeriods, toAlarm: p.DatapointsToAlarm, silent: p.ActionsEnabled != nil && !*p.ActionsEnabled,
		actions: map[State][]string{InAlarm: p.AlarmActions, OK: p.OKActions, InsufficientData: p.InsufficientDataActions},
	}
	if a.toAlarm == 0 {
		a.toAlarm = a.periods
	}
	if _, ok := operators[a.operator]; !ok {
		return Alarm{}, fmt.Errorf("operator %s is not evaluated", a.operator)
	}
	if p.Threshold == nil {
		return Alarm{}, errors.New("an alarm without Threshold is not evaluated")
	}
	a.threshold = *p.Threshold
	for _, arn := range slices.Concat(p.AlarmActions, p.OKActions, p.InsufficientDataActions) {
		if parts := strings.Split(arn, ":"); len(parts) < 6 || parts[2] != "sns" {
			return Alarm{}, fmt.Errorf("action %s is not performed: only SNS topics get messages", arn)
		}
	}
	if p.Metrics == nil {
		err = a.add("metric", p.metric, p.Statistic, p.Period)
		a.expression = metricOf("metric")
	} else {
		err = a.addMetrics(p)
	}
	if err == nil && a.period == 0 {
		err = errors.New("an alarm without Period is not evaluated")
	}
	return a, err
}

// addMetrics reads an alarm on one metric or one expression over metrics.
func (a *Alarm) addMetrics(p properties) (err error) {
	var returned, ids []string
	for _, m := range p.Metrics {
		if m.ReturnData == nil || *m.ReturnData {
			returned = append(returned, m.Expression)
			if m.Expression == "" {
				returned[len(returned)-1] = m.ID
			}
		}
		if m.MetricStat == nil {
			continue
		}
		ids = append(ids, m.ID)
		m.MetricStat.Metric.Unit = m.MetricStat.Unit
		if err := a.add(m.ID, m.MetricStat.Metric, m.MetricStat.Stat, m.MetricStat.Period); err != nil {
			return err
		}
	}
	if len(returned) != 1 {
		return fmt.Errorf("%d metrics have ReturnData, want 1", len(returned))
	}
	a.expression, err = parseExpression(returned[0], ids)
	return err
}

func (a *Alarm) add(id string, m metric, statistic string, period int) error {
	dimensions := map[string]string{}
	for _, d := range m.Dimensions {
		dimensions[d.Name] = d.Value
	}
	queue, ofQueue := dimensions["QueueName"]
	_, ofFunction := dimensions["FunctionName"]
	_, ofRule := dimensions["RuleName"]
	one, name := len(dimensions) == 1, m.MetricName
	switch {
	case a.period != 0 && a.period != time.Duration(period)*time.Second:
		return errors.New("metrics with different periods are not evaluated")
	case m.Unit != "":
		return errors.New("a metric with a Unit is not evaluated")
	case !slices.Contains([]string{"SampleCount", "Average", "Sum", "Minimum", "Maximum"}, statistic):
		return fmt.Errorf("statistic %q is not computed", statistic)
	case m.Namespace == sqsNamespace && ofQueue && one && (name == MessagesVisible || name == OldestMessage):
		a.queues = append(a.queues, queue)
	case m.Namespace == lambdaNamespace && ofFunction && one && (name == FunctionErrors || name == AsyncEventsDropped):
	case m.Namespace == eventsNamespace && ofRule && one && name == LostEvents:
	case strings.HasPrefix(m.Namespace, "AWS/"):
		return fmt.Errorf("metric %s of %s is not measured", name, m.Namespace)
	}
	a.period = time.Duration(period) * time.Second
	a.queries = append(a.queries, query{id, NewMetric(m.Namespace, name, dimensions), statistic})
	return nil
}

// value returns the alarm's value in a period, which does not include to. It returns false if the value is
// missing.
func (a Alarm) value(s *Store, from, to time.Time) (float64, bool) {
	v := values{}
	for _, q := range a.queries {
		if sum := s.Statistics(q.metric, from, to); sum.Count > 0 {
			v[q.id] = sum.value(q.statistic)
		}
	}
	return a.expression(v)
}

func (s Statistics) value(statistic string) float64 {
	switch statistic {
	case "SampleCount":
		return s.Count
	case "Sum":
		return s.Sum
	case "Minimum":
		return s.Minimum
	case "Maximum":
		return s.Maximum
	}
	return s.Sum / s.Count
}
