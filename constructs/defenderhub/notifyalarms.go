package defenderhub

import (
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"

	"github.com/defenderhub/defenderhub/internal/contract"
)

// NotifyAlarmsProps tune the alarms of [Notify].
type NotifyAlarmsProps struct {
	// DeadLetters goes off when messages are in the dead-letter queue.
	// Default: above 0 messages in 1 of 1 periods.
	DeadLetters Alarm
	// LostEvents goes off when Amazon EventBridge can deliver events neither to the queue nor to the
	// dead-letter queue, as when the policy of an imported EncryptionKey does not allow it.
	// Default: above 0 events in 1 of 1 periods.
	LostEvents Alarm
	// OldestMessage goes off when an event has waited too long in the queue.
	// Default: above 900 seconds plus NotifyProps.Hold in 1 of 1 periods.
	OldestMessage Alarm
	// Failures goes off when events cannot be handled; they are retried.
	// Default: above 0 events in 3 of 3 periods.
	Failures Alarm
	// Errors goes off when invocations of the function fail; they are retried.
	// Default: above 0 invocations in 3 of 3 periods.
	Errors Alarm
	// Throttles goes off when Lambda does not start the function, because the account has reached
	// its quota of concurrent executions.
	// Default: above 0 invocations in 3 of 3 periods.
	Throttles Alarm
	// Undelivered goes off when Amazon SNS cannot deliver messages of the topics.
	// Default: above 0 deliveries in 1 of 1 periods.
	Undelivered Alarm
	// Unsent goes off when a digest or a reminder could not be sent in three attempts.
	// Default: above 0 messages in 1 of 1 periods.
	Unsent Alarm
}

func (p NotifyAlarmsProps) validate() error {
	var f faults
	f.alarm("DeadLetters", p.DeadLetters)
	f.alarm("LostEvents", p.LostEvents)
	f.alarm("OldestMessage", p.OldestMessage)
	f.alarm("Failures", p.Failures)
	f.alarm("Errors", p.Errors)
	f.alarm("Throttles", p.Throttles)
	f.alarm("Undelivered", p.Undelivered)
	f.alarm("Unsent", p.Unsent)
	return f.err()
}

// newAlarms creates the enabled alarms.
func (n *notify) newAlarms(props NotifyProps) []awscloudwatch.IAlarm {
	a, p := newAlarms(n, props.AlarmTopic), value(props.Alarms)
	a.add("DeadLettersAlarm", p.DeadLetters, Alarm{Periods: 1},
		"The dead-letter queue has events that could not be read, handled or delivered, or a request that could not start the notifier. Correct the cause, then run defenderhub dead-letters drop --queue NotifyDeadLetters",
		n.events.deadLetters.MetricApproximateNumberOfMessagesVisible(fiveMinutes("Maximum")))
	a.add("LostEventsAlarm", p.LostEvents, Alarm{Periods: 1}, lostEvents, n.events.lost())
	a.add("OldestMessageAlarm", p.OldestMessage, Alarm{Above: int((15*time.Minute + or(props.Hold, defaultHold)) / time.Second), Periods: 1},
		"Events of Security Hub wait in the queue: no message is sent about them. The notifier fails or is throttled. Read its log",
		oldestMessage(map[string]awssqs.Queue{"events": n.events.queue}))
	a.add("FailuresAlarm", p.Failures, Alarm{Periods: 3},
		"Events could not be handled and are retried: messages are late. Read the reason in the notifier's log", n.metric(contract.MetricFailed, nil))
	a.add("ErrorsAlarm", p.Errors, Alarm{Periods: 3},
		"The notifier crashes or times out, and its events are retried. Read its log", n.function.MetricErrors(fiveMinutes("Sum")))
	a.add("ThrottlesAlarm", p.Throttles, Alarm{Periods: 3},
		"Lambda does not start the notifier, and events wait. Raise the account's quota of concurrent executions", n.function.MetricThrottles(fiveMinutes("Sum")))
	a.add("UndeliveredAlarm", p.Undelivered, Alarm{Periods: 1},
		"Amazon SNS could not deliver messages to a subscriber. Check the subscriptions of the topics and the chat channel",
		expression("undelivered messages", "FILL(people, 0) + FILL(chat, 0)", map[string]awscloudwatch.IMetric{
			"people": n.topic.MetricNumberOfNotificationsFailed(fiveMinutes("Sum")), "chat": n.chatTopic.MetricNumberOfNotificationsFailed(fiveMinutes("Sum")),
		}))
	if props.Digest != nil || !props.NoReminder {
		a.add("UnsentAlarm", p.Unsent, Alarm{Periods: 1},
			"A digest or a reminder could not be sent in three attempts. The next one includes its content. Read the notifier's log",
			n.function.Metric(new("AsyncEventsDropped"), fiveMinutes("Sum")))
	}
	return a.made
}

func (n *notify) metric(name string, options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return emitted(contract.MetricDimensionNotifier, name, options, part{"notifier", n.function})
}

func (n *notify) MetricReceived(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return n.metric(contract.MetricReceived, options)
}

func (n *notify) MetricSent(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return n.metric(contract.MetricSent, options)
}

func (n *notify) MetricCapped(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return n.metric(contract.MetricCapped, options)
}

func (n *notify) MetricDigested(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return n.metric(contract.MetricDigested, options)
}

func (n *notify) MetricCovered(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return n.metric(contract.MetricCovered, options)
}

func (n *notify) MetricFiltered(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return n.metric(contract.MetricFiltered, options)
}

func (n *notify) MetricFailed(options *awscloudwatch.MetricOptions) awscloudwatch.IMetric {
	return n.metric(contract.MetricFailed, options)
}
