package defenderhub

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatchactions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// AlarmsProps tune the alarms of a [Forwarder].
type AlarmsProps struct {
	// DeadLetters goes off when messages are in the dead-letter queue. Default: above 0 messages
	// in 1 of 1 periods.
	DeadLetters Alarm
	// OldestMessage goes off when a message has waited too long in a queue. Default: above 900
	// seconds in 1 of 1 periods.
	OldestMessage Alarm
	// SecurityHubOff goes off when imports fail because Security Hub is not enabled.
	// Default: above 0 failed imports in 1 of 1 periods.
	SecurityHubOff Alarm
	// ImportFailures goes off when findings fail to be imported; they are retried. Default: above
	// 0 findings in 3 of 3 periods.
	ImportFailures Alarm
	// Errors goes off when invocations of the functions fail; they are retried. Default: above 0
	// invocations in 3 of 3 periods.
	Errors Alarm
	// RefreshFailures goes off when an hourly run fails, which archives quiet findings and
	// refreshes those that Security Hub would delete. Its periods are hours, at most 168 of them.
	// Default: above 0 runs in 1 of 1 periods.
	RefreshFailures Alarm
}

// Alarm tunes an alarm that goes off when something happens. Missing data counts as normal.
type Alarm struct {
	// Off leaves the alarm out.
	Off bool
	// Above is the threshold: the alarm goes off above it. Default: 0, which means the alarm's
	// own default.
	Above int
	// Periods is for how many consecutive periods of five minutes the threshold must be exceeded,
	// 1 to 288.
	// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
	// Default: 0, which means the alarm's own default.
	Periods int
}

// InactivityAlarm is how one alarm is tuned that goes off when something does not happen. A metric
// that is missing sets it off.
type InactivityAlarm struct {
	// Off leaves the alarm out.
	Off bool
	// Periods is after how many consecutive periods of five minutes the alarm goes off, 1 to 288.
	// Default: 0, which means the alarm's own default.
	Periods int
}

func (p AlarmsProps) validate() error {
	var f faults
	f.alarm("DeadLetters", p.DeadLetters)
	f.alarm("OldestMessage", p.OldestMessage)
	f.alarm("SecurityHubOff", p.SecurityHubOff)
	f.alarm("ImportFailures", p.ImportFailures)
	f.alarm("Errors", p.Errors)
	f.above("RefreshFailures", p.RefreshFailures)
	f.number("RefreshFailures.Periods", p.RefreshFailures.Periods, 1, 168, "periods of an hour")
	return f.err()
}

// elsewhere returns an error for a topic that the alarms of scope cannot notify.
func (p ForwarderProps) elsewhere(scope constructs.Construct) error {
	var f faults
	f.alarmTopic(scope, "AlarmTopic", p.AlarmTopic)
	return f.err()
}

// alarm returns an error if an alarm cannot be tuned like this.
func (f *faults) alarm(field string, a Alarm) {
	f.above(field, a)
	f.periods(field, a.Periods)
}

func (f *faults) above(field string, a Alarm) {
	if a.Above < 0 {
		f.add(field+".Above", a.Above, "0 or more; set Off to leave the alarm out")
	}
}

func (f *faults) periods(field string, periods int) {
	f.number(field+".Periods", periods, 1, 288, "periods of five minutes")
}

const alarmPeriod = 5 * time.Minute

// moreAboutAlarms is the page to which the description of each alarm links.
const moreAboutAlarms = "https://github.com/defenderhub/defenderhub/blob/main/docs/operations.md#alarms"

// alarms creates the enabled alarms of a construct.
type alarms struct {
	scope constructs.Construct
	// topic is notified; nil for none.
	topic awssns.ITopic
	made  []awscloudwatch.IAlarm
}

func newAlarms(scope constructs.Construct, topic awssns.ITopic) *alarms {
	if topic != nil {
		letAlarmsPublish(scope, topic)
	}
	return &alarms{scope: scope, topic: topic}
}

// add creates an alarm that goes off when something happens. description says what, and what to
// do.
func (a *alarms) add(id string, tuned, defaults Alarm, description string, metric awscloudwatch.IMetric) {
	if tuned.Off {
		return
	}
	a.make(id, description, &awscloudwatch.AlarmProps{
		Metric:             metric,
		Threshold:          new(float64(or(tuned.Above, defaults.Above))),
		EvaluationPeriods:  new(float64(or(tuned.Periods, defaults.Periods))),
		ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD,
		TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
	})
}

// addInactivity makes an alarm that goes off when something does not happen in a period.
func (a *alarms) addInactivity(id string, tuned, defaults InactivityAlarm, description string, metric awscloudwatch.IMetric) {
	if tuned.Off {
		return
	}
	a.make(id, description, &awscloudwatch.AlarmProps{
		Metric:             metric,
		Threshold:          new(1.0),
		EvaluationPeriods:  new(float64(or(tuned.Periods, defaults.Periods))),
		ComparisonOperator: awscloudwatch.ComparisonOperator_LESS_THAN_THRESHOLD,
		TreatMissingData:   awscloudwatch.TreatMissingData_BREACHING,
	})
}

func (a *alarms) make(id, description string, props *awscloudwatch.AlarmProps) {
	props.AlarmDescription = new(description + ". " + moreAboutAlarms)
	alarm := awscloudwatch.NewAlarm(a.scope, new(id), props)
	if a.topic != nil {
		action := awscloudwatchactions.NewSnsAction(a.topic)
		alarm.AddAlarmAction(action)
		alarm.AddOkAction(action)
	}
	a.made = append(a.made, alarm)
}

// newAlarms creates the enabled alarms.
func (f *forwarder) newAlarms(props ForwarderProps) []awscloudwatch.IAlarm {
	a, p := newAlarms(f, props.AlarmTopic), value(props.Alarms)
	a.add("DeadLettersAlarm", p.DeadLetters, Alarm{Periods: 1},
		"The dead-letter queue has messages that can never be imported. Read the reason in their attributes, correct the cause, then delete them",
		f.deadLetters.MetricApproximateNumberOfMessagesVisible(fiveMinutes("Maximum")))
	a.add("OldestMessageAlarm", p.OldestMessage, Alarm{Above: 900, Periods: 1},
		"Security events wait in a queue: the forwarder fails or is throttled, or Security Hub is off. Read the forwarder's log",
		oldestMessage(map[string]awssqs.Queue{"events": f.queue, "errors": f.errorQueue, "audits": f.auditQueue}))
	a.add("SecurityHubOffAlarm", p.SecurityHubOff, Alarm{Periods: 1},
		"Security Hub CSPM is not enabled in this account and Region. Enable it. Security events wait up to 14 days", f.counted(contract.MetricHubOff))
	a.add("ImportFailuresAlarm", p.ImportFailures, Alarm{Periods: 3},
		"Imports of findings fail and are retried. Read the reason in the forwarder's log", f.counted(contract.MetricFailed))
	a.add("ErrorsAlarm", p.Errors, Alarm{Periods: 3},
		"The forwarder crashes or times out, and its messages are retried. Read its log",
		f.sum("failed invocations", func(g awslambda.Function) awscloudwatch.IMetric { return g.MetricErrors(fiveMinutes("Sum")) }))
	a.add("RefreshFailuresAlarm", p.RefreshFailures, Alarm{Periods: 1},
		"The forwarder abandoned an hourly round, which archives and refreshes findings. The next round does the rest. Read the forwarder's log",
		f.function.Metric(new("AsyncEventsDropped"), &awscloudwatch.MetricOptions{Statistic: new("Sum"), Period: seconds(refreshInterval)}))
	return a.made
}

// oldestMessage returns the age in seconds of the oldest message in any of the queues that are
// not nil.
func oldestMessage(queues map[string]awssqs.Queue) awscloudwatch.IMetric {
	metrics := map[string]awscloudwatch.IMetric{}
	for name, q := range queues {
		if q != nil {
			metrics[name] = q.MetricApproximateAgeOfOldestMessage(fiveMinutes("Maximum"))
		}
	}
	return expression("oldest message, seconds", "MAX(METRICS())", metrics)
}

// counted returns how often the functions counted something.
func (f *forwarder) counted(name string) awscloudwatch.IMetric {
	return f.sum(name, func(g awslambda.Function) awscloudwatch.IMetric {
		return counted(contract.MetricDimensionForwarder, g, name)
	})
}

// sum adds up a metric of both functions.
func (f *forwarder) sum(label string, metric func(awslambda.Function) awscloudwatch.IMetric) awscloudwatch.IMetric {
	if f.auditFunction == nil {
		return metric(f.function)
	}
	return expression(label, "FILL(events, 0) + FILL(audits, 0)", map[string]awscloudwatch.IMetric{
		"events": metric(f.function), "audits": metric(f.auditFunction),
	})
}

// counted returns how often a function counted something; dimension is the kind of function.
func counted(dimension string, function awslambda.Function, name string) awscloudwatch.IMetric {
	return sum(name, map[string]*string{dimension: function.FunctionName()})
}

// countedBySource returns the part of counted that belongs to one source.
func countedBySource(dimension string, function awslambda.Function, source, name string) awscloudwatch.IMetric {
	return sum(name, map[string]*string{dimension: function.FunctionName(), contract.MetricDimensionSource: &source})
}

func sum(name string, dimensions map[string]*string) awscloudwatch.IMetric {
	return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
		Namespace:     new(contract.MetricNamespace),
		MetricName:    new(name),
		DimensionsMap: &dimensions,
		Statistic:     new("Sum"),
		Period:        seconds(alarmPeriod),
	})
}

func expression(label, text string, metrics map[string]awscloudwatch.IMetric) awscloudwatch.IMetric {
	return awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: new(text), UsingMetrics: &metrics, Period: seconds(alarmPeriod), Label: new(label),
	})
}

func fiveMinutes(statistic string) *awscloudwatch.MetricOptions {
	return &awscloudwatch.MetricOptions{Statistic: new(statistic), Period: seconds(alarmPeriod)}
}
