package contract

import "fmt"

// Names of the notifier's environment variables.
const (
	// EnvNotifyTable is the notifier's table.
	EnvNotifyTable = "DEFENDERHUB_NOTIFY_TABLE"
	// EnvNotifyQueueURL is the notifier's own queue.
	EnvNotifyQueueURL = "DEFENDERHUB_NOTIFY_QUEUE_URL"
	// EnvPeopleTopic and EnvChatTopic are the ARNs of the topics for e-mail and for Slack.
	EnvPeopleTopic = "DEFENDERHUB_PEOPLE_TOPIC"
	EnvChatTopic   = "DEFENDERHUB_CHAT_TOPIC"
)

// The notifier's table. Its keys are strings.
const (
	NotifyPartitionKey = "pk"
	NotifySortKey      = "sk"
	// NotifyExpiry is the TTL attribute, in seconds since 1970.
	NotifyExpiry = "expires"
	// NotifyOpenIndex lists the findings that the daily reminder may list. Its partition key is
	// NotifyOpenSeverity, the severity's label. Its sort key is NotifyOpenSince, a number in ms
	// since 1970. It projects all attributes.
	NotifyOpenIndex    = "open"
	NotifyOpenSeverity = "openSeverity"
	NotifyOpenSince    = "openSince"
)

// The notifier's metrics have the dimension MetricDimensionNotifier, the function's name. They are
// MetricReceived (events), MetricFailed (events that are retried), MetricRefused (events in the
// dead-letter queue), MetricUnchanged (events that change nothing that a message reports), and
// these. Together they count every event.
const (
	MetricDimensionNotifier = "Notifier"
	// MetricSent counts changes with a message of their own. MetricCapped and MetricDigested count
	// those in a message about several.
	MetricSent     = "Sent"
	MetricCapped   = "Capped"
	MetricDigested = "Digested"
	// MetricCovered counts changes of findings that are parts of an incident, and MetricFiltered
	// those that no filter lets through.
	MetricCovered  = "Covered"
	MetricFiltered = "Filtered"
	// MetricHeld counts events that wait for an incident.
	MetricHeld = "Held"
	// MetricUnevaluated counts filters by thing group that could not be evaluated.
	MetricUnevaluated = "Unevaluated"
	// MetricLists counts messages about several changes: digests, reminders, and "and N more".
	MetricLists = "Lists"
)

// The requests of the notifier, beside the events of its queue.
const (
	// NotifyDigest sends the digest, NotifyRemind the daily reminder, and NotifyMore what exceeded
	// the cap of a minute.
	NotifyDigest = "digest"
	NotifyRemind = "remind"
	NotifyMore   = "more"
)

// NotifyRequest is the payload with which EventBridge Scheduler asks the notifier for a digest or
// a reminder. at is a time (RFC 3339), or ScheduledTime.
func NotifyRequest(kind, at string) string {
	return fmt.Sprintf(`{"defenderhub":"%s","at":"%s"}`, kind, at)
}

// EventBridge Scheduler replaces ScheduledTime with the time for which the call was scheduled.
// https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
const ScheduledTime = "<aws.scheduler.scheduled-time>"
