package defenderhub

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// CorrelateAlarmsProps tune the alarms of [Correlate].
type CorrelateAlarmsProps struct {
	// DeadLetters goes off when messages are in the dead-letter queue.
	// Default: above 0 messages in 1 of 1 periods.
	DeadLetters Alarm
	// LostEvents goes off when Amazon EventBridge can deliver events neither to the queue nor to the
	// dead-letter queue, as when the policy of an imported EncryptionKey does not allow it.
	// Default: above 0 events in 1 of 1 periods.
	LostEvents Alarm
	// OldestMessage goes off when an event has waited too long in the queue.
	// Default: above 900 seconds in 1 of 1 periods.
	OldestMessage Alarm
	// Failures goes off when events cannot be correlated; they are retried.
	// Default: above 0 events in 3 of 3 periods.
	Failures Alarm
	// Errors goes off when invocations of the function fail; they are retried.
	// Default: above 0 invocations in 3 of 3 periods.
	Errors Alarm
	// Throttles goes off when Lambda does not start the function, because the account has reached
	// its quota of concurrent executions.
	// Default: above 0 invocations in 3 of 3 periods.
	Throttles Alarm
	// Unsent goes off when composite findings cannot be sent to the forwarder's queue; they are
	// retried each minute.
	// Default: above 0 findings in 3 of 3 periods.
	Unsent Alarm
	// Unfinished goes off when the run of each minute cannot finish all due work.
	// Default: above 0 runs in 3 of 3 periods.
	Unfinished Alarm
	// Stopped goes off when the function, which is scheduled each minute, does not run. Then no
	// incident ends when its window has passed.
	// Default: no run in 3 of 3 periods.
	Stopped InactivityAlarm
}

func (p CorrelateAlarmsProps) validate() error {
	var f faults
	f.alarm("DeadLetters", p.DeadLetters)
	f.alarm("LostEvents", p.LostEvents)
	f.alarm("OldestMessage", p.OldestMessage)
	f.alarm("Failures", p.Failures)
	f.alarm("Errors", p.Errors)
	f.alarm("Throttles", p.Throttles)
	f.alarm("Unsent", p.Unsent)
	f.alarm("Unfinished", p.Unfinished)
	f.periods("Stopped", p.Stopped.Periods)
	return f.err()
}

// newAlarms creates the enabled alarms.
func (c *correlate) newAlarms(props CorrelateProps) []awscloudwatch.IAlarm {
	a, p := newAlarms(c, props.AlarmTopic), value(props.Alarms)
	a.add("DeadLettersAlarm", p.DeadLetters, Alarm{Periods: 1},
		"The dead-letter queue has events of Security Hub that could not be correlated, or that could not be delivered. Correct the cause, then run defenderhub dead-letters drop --queue CorrelateDeadLetters",
		c.events.deadLetters.MetricApproximateNumberOfMessagesVisible(fiveMinutes("Maximum")))
	a.add("LostEventsAlarm", p.LostEvents, Alarm{Periods: 1}, lostEvents, c.events.lost())
	a.add("OldestMessageAlarm", p.OldestMessage, Alarm{Above: 900, Periods: 1},
		"Findings wait to be correlated: the correlator fails or is throttled. Read its log",
		oldestMessage(map[string]awssqs.Queue{"events": c.events.queue}))
	a.add("FailuresAlarm", p.Failures, Alarm{Periods: 3},
		"Findings could not be correlated and are retried. Read the reason in the correlator's log",
		c.emitted(contract.MetricFailed, nil))
	a.add("ErrorsAlarm", p.Errors, Alarm{Periods: 3},
		"The correlator crashes or times out, and its events are retried. Read its log", c.function.MetricErrors(fiveMinutes("Sum")))
	a.add("ThrottlesAlarm", p.Throttles, Alarm{Periods: 3},
		"Lambda does not start the correlator, and findings wait. Raise the account's quota of concurrent executions, or lower MaxConcurrency",
		c.function.MetricThrottles(fiveMinutes("Sum")))
	a.add("UnsentAlarm", p.Unsent, Alarm{Periods: 3},
		"Composite findings do not reach the forwarder's queue and are sent again each minute. Read the reason in the correlator's log", c.emitted(contract.MetricUnsent, nil))
	a.add("UnfinishedAlarm", p.Unfinished, Alarm{Periods: 3},
		"The correlator cannot finish all due work within a run. Set a longer Timeout or more MemoryMiB", c.emitted(contract.MetricUnfinished, nil))
	a.addInactivity("StoppedAlarm", p.Stopped, InactivityAlarm{Periods: 3},
		"The correlator does not run: incidents do not end when their window has passed. Check its schedule, the dead-letter queue and the account's concurrency",
		c.function.MetricInvocations(fiveMinutes("Sum")))
	return a.made
}
