package defenderhub

import (
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatchactions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
)

// Alarm tunes an alarm that goes off while a metric is above a threshold. Missing data counts as
// normal.
type Alarm struct {
	// Off leaves the alarm out.
	Off bool
	// Above is the threshold. The alarm goes off if the metric is above it.
	// Default: 0, which means the alarm's own default.
	Above int
	// Periods is the number of consecutive periods of five minutes in which the metric must be above
	// the threshold, 1 to 288.
	// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
	// Default: 0, which means the alarm's own default.
	Periods int
}

// InactivityAlarm tunes an alarm that goes off if something does not happen. Missing data sets it
// off.
type InactivityAlarm struct {
	// Off leaves the alarm out.
	Off bool
	// Periods is the number of consecutive periods of five minutes after which the alarm goes off,
	// 1 to 288.
	// Default: 0, which means the alarm's own default.
	Periods int
}

// alarm reports invalid values of an Alarm.
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

// add creates an alarm, unless it is off. description says what happened and what to do.
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

// addInactivity creates an alarm that goes off if the metric stays below 1, unless it is off.
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

// addThrottled creates an alarm for every ten rules, unless it is off.
func (a *alarms) addThrottled(tuned Alarm, rules []awscdk.CfnResource) {
	n := 0
	for some := range slices.Chunk(rules, maxAlarmMetrics) {
		id := "ThrottledMessagesAlarm"
		if n++; n > 1 {
			id = fmt.Sprintf("ThrottledMessages%dAlarm", n)
		}
		a.add(id, tuned, Alarm{Periods: 1},
			"AWS IoT throttles messages to the rules, and they may be lost. Ask AWS for a higher quota of rule evaluations, or let fewer messages match rules",
			throttled(nil, some))
	}
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

func expression(label, text string, metrics map[string]awscloudwatch.IMetric) awscloudwatch.IMetric {
	return awscloudwatch.NewMathExpression(&awscloudwatch.MathExpressionProps{
		Expression: new(text), UsingMetrics: &metrics, Period: seconds(alarmPeriod), Label: new(label),
	})
}

func fiveMinutes(statistic string) *awscloudwatch.MetricOptions {
	return &awscloudwatch.MetricOptions{Statistic: new(statistic), Period: seconds(alarmPeriod)}
}
