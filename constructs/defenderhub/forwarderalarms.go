package defenderhub

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
)

// AlarmsProps tune the alarms of a [Forwarder].
type AlarmsProps struct {
	// DeadLetters goes off when messages are in the dead-letter queue.
	// Default: above 0 messages in 1 of 1 periods.
	DeadLetters Alarm
	// OldestMessage goes off when a message has waited too long in a queue.
	// Default: above 900 seconds in 1 of 1 periods.
	OldestMessage Alarm
	// SecurityHubOff goes off when imports fail because Security Hub is not enabled.
	// Default: above 0 failed imports in 1 of 1 periods.
	SecurityHubOff Alarm
	// ImportFailures goes off when findings cannot be imported; they are retried.
	// Default: above 0 findings in 3 of 3 periods.
	ImportFailures Alarm
	// Errors goes off when invocations of the functions fail; they are retried.
	// Default: above 0 invocations in 3 of 3 periods.
	Errors Alarm
	// RefreshFailures goes off when an hourly run fails. That run archives quiet findings and
	// refreshes those that Security Hub would delete. Its periods are hours, at most 168.
	// Default: above 0 runs in 1 of 1 periods.
	RefreshFailures Alarm
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

// newAlarms creates the enabled alarms.
func (f *forwarder) newAlarms(props ForwarderProps) []awscloudwatch.IAlarm {
	a, p := newAlarms(f, props.AlarmTopic), value(props.Alarms)
	a.add("DeadLettersAlarm", p.DeadLetters, Alarm{Periods: 1},
		"The dead-letter queue has messages that could not be imported. Read the reasons with defenderhub dead-letters list, correct the cause, then run defenderhub dead-letters retry, or drop for messages that can never be valid",
		f.deadLetters.MetricApproximateNumberOfMessagesVisible(fiveMinutes("Maximum")))
	a.add("OldestMessageAlarm", p.OldestMessage, Alarm{Above: 900, Periods: 1},
		"Security events wait in a queue: the forwarder fails or is throttled, or Security Hub is off. Read the forwarder's log",
		oldestMessage(map[string]awssqs.Queue{"events": f.queue, "errors": f.errorQueue, "audits": f.auditQueue}))
	a.add("SecurityHubOffAlarm", p.SecurityHubOff, Alarm{Periods: 1},
		"Security Hub CSPM is not enabled in this account and Region. Enable it. Security events wait up to 14 days", f.MetricSecurityHubOff(nil))
	a.add("ImportFailuresAlarm", p.ImportFailures, Alarm{Periods: 3},
		"Imports of findings fail. Those that Security Hub does not refuse are retried. Read the reason in the forwarder's log", f.MetricFailed(nil))
	a.add("ErrorsAlarm", p.Errors, Alarm{Periods: 3},
		"The forwarder crashes or times out, and its messages are retried. Read its log",
		failed(f.parts()...))
	a.add("RefreshFailuresAlarm", p.RefreshFailures, Alarm{Periods: 1},
		"The forwarder's hourly run, which archives and refreshes findings, failed. The next run continues. Read the forwarder's log",
		f.function.Metric(new("AsyncEventsDropped"), &awscloudwatch.MetricOptions{Statistic: new("Sum"), Period: seconds(refreshInterval)}))
	return a.made
}
