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

// The metrics of queues and of functions that the local AWS measures.
const (
	sqsNamespace    = "AWS/SQS"
	MessagesVisible = "ApproximateNumberOfMessagesVisible"
	OldestMessage   = "ApproximateAgeOfOldestMessage" // seconds

	lambdaNamespace    = "AWS/Lambda"
	FunctionErrors     = "Errors"
	AsyncEventsDropped = "AsyncEventsDropped"
)

// FunctionMetric is a metric of a function.
func FunctionMetric(name, function string) Metric {
	return NewMetric(lambdaNamespace, name, map[string]string{"FunctionName": function})
}

// QueueMetric is a metric of a queue.
func QueueMetric(name, queue string) Metric {
	return NewMetric(sqsNamespace, name, map[string]string{"QueueName": queue})
}

// Alarm is a metric alarm.
type Alarm struct {
	Name, ARN, Description string

	operator   string
	threshold  float64
	period     time.Duration
	periods    int // how many are looked at
	toAlarm    int // how many of them must breach
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

// Queues are the names of the queues whose metrics the alarm watches.
func (a Alarm) Queues() []string { return a.queues }

// Actions are the ARNs of the topics that are told of a state.
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

// ParseAlarm reads the properties of an AWS::CloudWatch::Alarm. An alarm that cannot
// be judged here is an error that says why.
func ParseAlarm(name, arn string, properties map[string]any) (Alarm, error) {
	p := reader(properties)
	a := Alarm{
		Name: name, ARN: arn, Description: p.text("AlarmDescription"), operator: p.text("ComparisonOperator"), properties: properties,
		missing: p.text("TreatMissingData"), periods: int(p.number("EvaluationPeriods")), toAlarm: int(p.number("DatapointsToAlarm")),
		threshold: p.number("Threshold"), actions: map[State][]string{
			InAlarm: p.texts("AlarmActions"), OK: p.texts("OKActions"), InsufficientData: p.texts("InsufficientDataActions"),
		},
	}
	if enabled, ok := schema.Boolean(properties["ActionsEnabled"]); ok {
		a.silent = !enabled
	}
	if a.toAlarm == 0 {
		a.toAlarm = a.periods
	}
	if _, ok := operators[a.operator]; !ok {
		return Alarm{}, fmt.Errorf("operator %s is not judged", a.operator)
	}
	if _, ok := properties["Threshold"]; !ok {
		return Alarm{}, errors.New("an alarm without Threshold is not judged")
	}
	for _, topics := range a.actions {
		for _, arn := range topics {
			if parts := strings.Split(arn, ":"); len(parts) < 6 || parts[2] != "sns" {
				return Alarm{}, fmt.Errorf("action %s is not taken: only SNS topics are told", arn)
			}
		}
	}
	var err error
	if _, several := properties["Metrics"]; several {
		err = a.readMetrics(p.objects("Metrics"))
	} else {
		a.period = time.Duration(p.number("Period")) * time.Second
		err = a.add("metric", p, p.text("Statistic"))
		a.expression = func(v values) (float64, bool) {
			x, ok := v["metric"]
			return x, ok
		}
	}
	if err != nil {
		return Alarm{}, err
	}
	if a.period == 0 {
		return Alarm{}, errors.New("an alarm without Period is not judged")
	}
	return a, nil
}

// readMetrics reads an alarm on one metric or one expression over metrics.
func (a *Alarm) readMetrics(metrics []reader) error {
	var returned []reader
	var ids []string
	for _, m := range metrics {
		if returns, ok := schema.Boolean(m["ReturnData"]); !ok || returns {
			returned = append(returned, m)
		}
		stat := m.object("MetricStat")
		if stat == nil {
			continue
		}
		period := time.Duration(stat.number("Period")) * time.Second
		if a.period != 0 && a.period != period {
			return errors.New("metrics of different periods are not judged")
		}
		a.period = period
		if stat.text("Unit") != "" {
			return errors.New("a metric of one Unit only is not judged")
		}
		ids = append(ids, m.text("Id"))
		if err := a.add(m.text("Id"), stat.object("Metric"), stat.text("Stat")); err != nil {
			return err
		}
	}
	if len(returned) != 1 {
		return fmt.Errorf("%d metrics have ReturnData, want 1", len(returned))
	}
	text := returned[0].text("Expression")
	if text == "" {
		text = returned[0].text("Id")
	}
	var err error
	a.expression, err = parseExpression(text, ids)
	return err
}

func (a *Alarm) add(id string, m reader, statistic string) error {
	namespace, name := m.text("Namespace"), m.text("MetricName")
	dimensions := map[string]string{}
	for _, d := range m.objects("Dimensions") {
		dimensions[d.text("Name")] = d.text("Value")
	}
	queue, ofQueue := dimensions["QueueName"]
	switch {
	case m.text("Unit") != "":
		return errors.New("a metric of one Unit only is not judged")
	case !slices.Contains([]string{"SampleCount", "Average", "Sum", "Minimum", "Maximum"}, statistic):
		return fmt.Errorf("statistic %q is not computed", statistic)
	case namespace == sqsNamespace && ofQueue && len(dimensions) == 1 && (name == MessagesVisible || name == OldestMessage):
		a.queues = append(a.queues, queue)
	case namespace == lambdaNamespace && dimensions["FunctionName"] != "" && len(dimensions) == 1 && (name == FunctionErrors || name == AsyncEventsDropped):
	case strings.HasPrefix(namespace, "AWS/"):
		return fmt.Errorf("metric %s of %s is not measured", name, namespace)
	}
	a.queries = append(a.queries, query{id, NewMetric(namespace, name, dimensions), statistic})
	return nil
}

// value is the alarm's value from a time, up to and without another; false when it is
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

// reader reads properties that a schema has seen.
type reader map[string]any

func (r reader) text(key string) string {
	s, _ := schema.String(r[key])
	return s
}

func (r reader) number(key string) float64 {
	f, _ := schema.Float(r[key])
	return f
}

func (r reader) object(key string) reader {
	m, _ := r[key].(map[string]any)
	return m
}

func (r reader) objects(key string) []reader {
	list, _ := r[key].([]any)
	var objects []reader
	for _, item := range list {
		m, _ := item.(map[string]any)
		objects = append(objects, m)
	}
	return objects
}

func (r reader) texts(key string) []string {
	list, _ := r[key].([]any)
	texts := []string{}
	for _, item := range list {
		s, _ := schema.String(item)
		texts = append(texts, s)
	}
	return texts
}
