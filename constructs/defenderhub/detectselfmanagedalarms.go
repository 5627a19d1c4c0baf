package defenderhub

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
)

// SelfManagedAlarmsProps tune the alarms of the engine defender.SelfManaged.
type SelfManagedAlarmsProps struct {
	// Topic is told when an alarm goes off and when it ends. An encrypted topic needs a
	// customer-managed key that lets cloudwatch.amazonaws.com use it.
	// Default: nil, the alarms notify nobody.
	Topic awssns.ITopic
	// DeadLetters goes off when something lies in the dead-letter queue.
	// Default: above 0 messages in 1 of 1 periods.
	DeadLetters Alarm
	// OldestMessage goes off when telemetry has waited long in a queue or in the stream.
	// Default: above 900 seconds in 1 of 1 periods.
	OldestMessage Alarm
	// Errors goes off when invocations of the functions fail; they are tried again.
	// Default: above 0 invocations in 3 of 3 periods.
	Errors Alarm
}

func (p SelfManagedAlarmsProps) validate() error {
	var f faults
	f.alarm("DeadLetters", p.DeadLetters)
	f.alarm("OldestMessage", p.OldestMessage)
	f.alarm("Errors", p.Errors)
	return f.err()
}

// newAlarms makes the alarms that are on.
func (e *selfManaged) newAlarms(p SelfManagedAlarmsProps) []awscloudwatch.IAlarm {
	a := &alarms{scope: e.scope, topic: p.Topic}
	a.add("DeadLettersAlarm", p.DeadLetters, Alarm{Periods: 1},
		"Telemetry that could not be judged, or a minute in which the closer could not be started, lies in the dead-letter queue",
		e.deadLetters.MetricApproximateNumberOfMessagesVisible(fiveMinutes("Maximum")))
	a.add("OldestMessageAlarm", p.OldestMessage, Alarm{Above: 900, Periods: 1},
		"Telemetry waits: the evaluator fails, is throttled, or has too little concurrency", e.oldest())
	a.add("ErrorsAlarm", p.Errors, Alarm{Periods: 3},
		"Invocations of the evaluator or the closer fail; what they were to judge is tried again", e.errors())
	return a.made
}

// oldest is the age in seconds of the oldest telemetry.
func (e *selfManaged) oldest() awscloudwatch.IMetric {
	if e.stream == nil {
		return oldestMessage(map[string]awssqs.Queue{"telemetry": e.queue, "errors": e.errorQueue})
	}
	return expression("oldest telemetry, seconds", "MAX([FILL(stream, 0) / 1000, FILL(errors, 0)])", map[string]awscloudwatch.IMetric{
		"stream": e.stream.MetricGetRecordsIteratorAgeMilliseconds(fiveMinutes("Maximum")),
		"errors": e.errorQueue.MetricApproximateAgeOfOldestMessage(fiveMinutes("Maximum")),
	})
}

// errors is how many invocations of either function failed.
func (e *selfManaged) errors() awscloudwatch.IMetric {
	metrics := map[string]awscloudwatch.IMetric{}
	for id, function := range map[string]awslambda.Function{"evaluator": e.evaluator, "closer": e.closer} {
		metrics[id] = function.MetricErrors(fiveMinutes("Sum"))
	}
	return expression("failed invocations", "FILL(evaluator, 0) + FILL(closer, 0)", metrics)
}
