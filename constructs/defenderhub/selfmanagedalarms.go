package defenderhub

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// SelfManagedAlarmsProps tune the alarms of the self-managed engine.
type SelfManagedAlarmsProps struct {
	// DeadLetters goes off when messages are in the dead-letter queue.
	// Default: above 0 messages in 1 of 1 periods.
	DeadLetters Alarm
	// OldestMessage goes off when telemetry has waited too long in a queue or in the stream.
	// Default: above 900 seconds in 1 of 1 periods.
	OldestMessage Alarm
	// Failures goes off when telemetry cannot be judged; it is retried.
	// Default: above 0 messages in 3 of 3 periods.
	Failures Alarm
	// Throttles goes off when Lambda does not start the evaluator, because the account has
	// reached its quota of concurrent executions.
	// Default: above 0 invocations in 3 of 3 periods.
	Throttles Alarm
	// Errors goes off when invocations of the functions fail; they are retried.
	// Default: above 0 invocations in 3 of 3 periods.
	Errors Alarm
	// Unsent goes off when transitions cannot be sent to the forwarder's queue; they are retried.
	// Default: above 0 transitions in 3 of 3 periods.
	Unsent Alarm
	// CloserStopped goes off when the closer does not run, so that silence is not judged. With
	// several Closers there is an alarm for each, because one schedule may fail alone.
	// Default: no run in 3 of 3 periods.
	CloserStopped InactivityAlarm
	// Blind goes off when the closer judges nothing, because telemetry is waiting and the
	// evaluator's progress is unknown.
	// Default: above 0 minutes in 3 of 3 periods.
	Blind Alarm
	// Unfinished goes off when the closer does not finish all due work.
	// Default: above 0 minutes in 3 of 3 periods.
	Unfinished Alarm
	// OversizedStates goes off when a device is not judged, because the state of its violated
	// behaviors is larger than an item of the table can be.
	// Default: above 0 devices in 1 of 1 periods.
	OversizedStates Alarm
	// Unreadable goes off when the evaluator receives a message that no rule of the engine sent, or a
	// lifecycle event that a device published.
	// Default: above 0 messages in 1 of 1 periods.
	Unreadable Alarm
	// ThrottledMessages goes off when AWS IoT throttles messages to the rules, because the account has
	// reached its quota of rule evaluations. With more than ten rules, every ten have an alarm.
	// Default: above 0 messages in 1 of 1 periods.
	ThrottledMessages Alarm
}

func (p SelfManagedAlarmsProps) validate() error {
	var f faults
	f.alarm("DeadLetters", p.DeadLetters)
	f.alarm("OldestMessage", p.OldestMessage)
	f.alarm("Failures", p.Failures)
	f.alarm("Throttles", p.Throttles)
	f.alarm("Errors", p.Errors)
	f.alarm("Unsent", p.Unsent)
	f.periods("CloserStopped", p.CloserStopped.Periods)
	f.alarm("Blind", p.Blind)
	f.alarm("Unfinished", p.Unfinished)
	f.alarm("OversizedStates", p.OversizedStates)
	f.alarm("Unreadable", p.Unreadable)
	f.alarm("ThrottledMessages", p.ThrottledMessages)
	return f.err()
}

// newAlarms creates the enabled alarms.
func (e *selfManaged) newAlarms(s SelfManagedProps, closers int) []awscloudwatch.IAlarm {
	a, p := newAlarms(e.scope, s.AlarmTopic), value(s.Alarms)
	a.add("DeadLettersAlarm", p.DeadLetters, Alarm{Periods: 1},
		"The dead-letter queue has telemetry that could not be judged for six hours, or an event that could not start the closer. Correct the cause, then run defenderhub dead-letters drop --queue DetectDeadLetters",
		e.deadLetters.MetricApproximateNumberOfMessagesVisible(fiveMinutes("Maximum")))
	a.add("OldestMessageAlarm", p.OldestMessage, Alarm{Above: 900, Periods: 1},
		"Telemetry waits: the evaluator fails, is throttled, or has too little concurrency or too few shards. Read its log", e.oldest())
	a.add("FailuresAlarm", p.Failures, Alarm{Periods: 3},
		"Telemetry could not be judged and is retried for six hours. Read the reason in the evaluator's log", e.MetricFailed(nil))
	a.add("ThrottlesAlarm", p.Throttles, Alarm{Periods: 3},
		"Lambda does not start the evaluator, and telemetry waits. Raise the account's quota of concurrent executions, or lower MaxConcurrency",
		e.evaluator.MetricThrottles(fiveMinutes("Sum")))
	a.add("ErrorsAlarm", p.Errors, Alarm{Periods: 3},
		"Invocations of the evaluator or the closer fail, and their work is retried. Read the reason in their logs", failed(e.evaluatorPart(), e.closerPart()))
	a.add("UnsentAlarm", p.Unsent, Alarm{Periods: 3},
		"Alarms of devices do not reach the forwarder's queue and are sent again each minute. Read the reason in the closer's log", e.MetricUnsent(nil))
	e.addCloserAlarms(a, p.CloserStopped, closers)
	a.add("BlindAlarm", p.Blind, Alarm{Periods: 3},
		"The closer judges nothing: telemetry waits, and no evaluator reports its progress. Check the evaluator's errors, throttles and event source mappings",
		e.MetricBlind(nil))
	a.add("UnfinishedAlarm", p.Unfinished, Alarm{Periods: 3},
		"The closer cannot finish all due work within a run. Set more Closers, a longer Timeout or more MemoryMiB", e.MetricUnfinished(nil))
	a.add("OversizedStatesAlarm", p.OversizedStates, Alarm{Periods: 1},
		"A device violates more behaviors at once than the table can hold and is not judged. The evaluator's log names the device. Check it", e.metric(contract.MetricOversizedStates, nil, e.evaluatorPart()))
	a.add("UnreadableAlarm", p.Unreadable, Alarm{Periods: 1},
		"The evaluator received a message that no rule of the engine sent, or a lifecycle event that a device published. Find out who may send to the queue, and which IoT policy allows $aws/rules/*",
		e.metric(contract.MetricUnreadable, nil, e.evaluatorPart()))
	a.addThrottled(p.ThrottledMessages, e.allRules())
	return a.made
}

// addCloserAlarms adds an alarm per closer. All closers are invocations of one function, so Lambda's
// metrics do not show which schedule is missing.
func (e *selfManaged) addCloserAlarms(a *alarms, tuned InactivityAlarm, closers int) {
	const lookAt = "Check its schedule, the dead-letter queue and the account's concurrency"
	if closers == 1 {
		a.addInactivity("CloserStoppedAlarm", tuned, InactivityAlarm{Periods: 3},
			"The closer does not run: silence is not judged, and nothing is cleared. "+lookAt, e.closer.MetricInvocations(fiveMinutes("Sum")))
		return
	}
	for i := range closers {
		source := map[string]*string{contract.MetricDimensionSource: new(contract.CloserSource(i))}
		runs := e.metric(contract.MetricRuns, &awscloudwatch.MetricOptions{DimensionsMap: &source}, e.closerPart())
		a.addInactivity(fmt.Sprintf("CloserStopped%dAlarm", i), tuned, InactivityAlarm{Periods: 3},
			fmt.Sprintf("The closer does not run for partition %d of 0 to %d: the silence of its devices is not judged, and nothing is cleared. %s", i, closers-1, lookAt), runs)
	}
}

// oldest returns the age in seconds of the oldest telemetry.
func (e *selfManaged) oldest() awscloudwatch.IMetric {
	if e.stream == nil {
		return oldestMessage(map[string]awssqs.Queue{"telemetry": e.queue, "errors": e.errorQueue})
	}
	return expression("oldest telemetry, seconds", "MAX([FILL(stream, 0) / 1000, FILL(errors, 0)])", map[string]awscloudwatch.IMetric{
		"stream": e.stream.MetricGetRecordsIteratorAgeMilliseconds(fiveMinutes("Maximum")),
		"errors": e.errorQueue.MetricApproximateAgeOfOldestMessage(fiveMinutes("Maximum")),
	})
}
