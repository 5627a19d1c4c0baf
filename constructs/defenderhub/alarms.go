package defenderhub

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatchactions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
)

// AlarmsProps tune the alarms of a [Forwarder].
type AlarmsProps struct {
	// Topic is told when an alarm goes off and when it ends. An encrypted topic needs a
	// customer-managed key that lets cloudwatch.amazonaws.com use it.
	// Default: nil, the alarms notify nobody.
	Topic awssns.ITopic
	// DeadLetters goes off when messages lie in the dead-letter queue.
	// Default: above 0 messages in 1 of 1 periods.
	DeadLetters Alarm
	// OldestMessage goes off when a message has waited long in a queue.
	// Default: above 900 seconds in 1 of 1 periods.
	OldestMessage Alarm
	// SecurityHubOff goes off when imports fail because Security Hub is not enabled.
	// Default: above 0 failed imports in 1 of 1 periods.
	SecurityHubOff Alarm
	// ImportFailures goes off when findings fail to be imported; they are tried again.
	// Default: above 0 findings in 3 of 3 periods.
	ImportFailures Alarm
}

// Alarm is how one alarm is tuned.
type Alarm struct {
	// Off leaves the alarm out.
	Off bool
	// Above is the value that the alarm goes off above.
	// Default: 0, which stands for the alarm's own default.
	Above int
	// Periods is how many periods of five minutes in a row it takes, 1 to 288.
	// Default: 0, which stands for the alarm's own default.
	Periods int
}

func (p AlarmsProps) validate() error {
	var f faults
	f.alarm("DeadLetters", p.DeadLetters)
	f.alarm("OldestMessage", p.OldestMessage)
	f.alarm("SecurityHubOff", p.SecurityHubOff)
	f.alarm("ImportFailures", p.ImportFailures)
	return f.err()
}

// alarm reports how an alarm cannot be tuned.
func (f *faults) alarm(field string, a Alarm) {
	if a.Above < 0 {
		f.add(field+".Above", a.Above, "0 or more; set Off to leave the alarm out")
	}
	f.number(field+".Periods", a.Periods, 1, 288, "periods of five minutes")
}

const alarmPeriod = 5 * time.Minute

// alarms makes the alarms of a construct that are on.
type alarms struct {
	scope constructs.Construct
	// topic is told; nil for nobody.
	topic awssns.ITopic
	made  []awscloudwatch.IAlarm
}

func (a *alarms) add(id string, tuned, defaults Alarm, description string, metric awscloudwatch.IMetric) {
	if tuned.Off {
		return
	}
	alarm := awscloudwatch.NewAlarm(a.scope, new(id), &awscloudwatch.AlarmProps{
		AlarmDescription:   new(description),
		Metric:             metric,
		Threshold:          new(float64(or(tuned.Above, defaults.Above))),
		EvaluationPeriods:  new(float64(or(tuned.Periods, defaults.Periods))),
		ComparisonOperator: awscloudwatch.ComparisonOperator_GREATER_THAN_THRESHOLD,
		TreatMissingData:   awscloudwatch.TreatMissingData_NOT_BREACHING,
	})
	if a.topic != nil {
		action := awscloudwatchactions.NewSnsAction(a.topic)
		alarm.AddAlarmAction(action)
		alarm.AddOkAction(action)
	}
	a.made = append(a.made, alarm)
}

// newAlarms makes the alarms that are on.
func (f *forwarder) newAlarms(p AlarmsProps) []awscloudwatch.IAlarm {
	a := &alarms{scope: f, topic: p.Topic}
	a.add("DeadLettersAlarm", p.DeadLetters, Alarm{Periods: 1},
		"Messages that can never be imported lie in the dead-letter queue; their attributes say why",
		f.deadLetters.MetricApproximateNumberOfMessagesVisible(fiveMinutes("Maximum")))
	a.add("OldestMessageAlarm", p.OldestMessage, Alarm{Above: 900, Periods: 1},
		"Security events wait in a queue: the function fails, is throttled, or Security Hub is off",
		oldestMessage(map[string]awssqs.Queue{"events": f.queue, "errors": f.errorQueue, "audits": f.auditQueue}))
	a.add("SecurityHubOffAlarm", p.SecurityHubOff, Alarm{Periods: 1},
		"Security Hub CSPM is not enabled in this account and Region; events wait up to 14 days for it", f.functionMetric(defender.MetricHubOff))
	a.add("ImportFailuresAlarm", p.ImportFailures, Alarm{Periods: 3},
		"Security Hub refuses findings; they are tried again", f.functionMetric(defender.MetricFailed))
	return a.made
}

// oldestMessage is the age in seconds of the oldest message in any of the queues that are
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

// functionMetric is the sum of a metric over both functions.
func (f *forwarder) functionMetric(name string) awscloudwatch.IMetric {
	metrics := map[string]awscloudwatch.IMetric{}
	for id, function := range map[string]awslambda.Function{"events": f.function, "audits": f.auditFunction} {
		if function == nil {
			continue
		}
		metrics[id] = awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
			Namespace:     new(defender.MetricNamespace),
			MetricName:    new(name),
			DimensionsMap: &map[string]*string{defender.MetricDimensionForwarder: function.FunctionName()},
			Statistic:     new("Sum"),
			Period:        seconds(alarmPeriod),
		})
	}
	if f.auditFunction == nil {
		return metrics["events"]
	}
	return expression(name, "FILL(events, 0) + FILL(audits, 0)", metrics)
}

func expression(label, text string, metrics map[string]awscloudwatch.IMetric) awscloudwatch.IMetric {
	return awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: new(text), UsingMetrics: &metrics, Period: seconds(alarmPeriod), Label: new(label),
	})
}

func fiveMinutes(statistic string) *awscloudwatch.MetricOptions {
	return &awscloudwatch.MetricOptions{Statistic: new(statistic), Period: seconds(alarmPeriod)}
}
