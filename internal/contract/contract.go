// Package contract is the agreement between the constructs that deploy a function and the
// function that runs: environment variables, table attributes, metric names and requests.
package contract

import (
	"fmt"
	"time"
)

// The agreement between the constructs that deploy a function and the function
// that runs: names of environment variables, of the ledger's attributes and of
// metrics.
const (
	// EnvPrefix begins the names of all environment variables of the functions.
	EnvPrefix = "DEFENDERHUB_"

	// EnvLedgerTable is the name of the ledger's table.
	EnvLedgerTable = "DEFENDERHUB_LEDGER_TABLE"
	// EnvDeadLetterQueueURL is the queue for messages that can never be imported.
	EnvDeadLetterQueueURL = "DEFENDERHUB_DEAD_LETTER_QUEUE_URL"
	// EnvEventTopic is the topic filter of device events.
	EnvEventTopic = "DEFENDERHUB_EVENT_TOPIC"
	// EnvClientPattern is what [ParseClientPattern] reads.
	EnvClientPattern = "DEFENDERHUB_CLIENT_PATTERN"
	// EnvLogLevel is DEBUG, INFO, WARN or ERROR; default INFO.
	EnvLogLevel = "DEFENDERHUB_LOG_LEVEL"
	// EnvQuietTime is after how long without news a finding of the rules is archived, in
	// the form of time.Duration; default [DefaultQuietTime].
	EnvQuietTime = "DEFENDERHUB_QUIET_TIME"
	// EnvSeverities are the severities that the props change, in the form of [Severities].
	EnvSeverities = "DEFENDERHUB_SEVERITIES"

	// EnvLiveBehaviors are the behaviors that the self-managed engine judges, in the form of
	// [LiveBehaviors]; "" while it judges none.
	EnvLiveBehaviors = "DEFENDERHUB_LIVE_BEHAVIORS"

	// EnvStateTable is the table of the self-managed engine's evaluator.
	EnvStateTable = "DEFENDERHUB_STATE_TABLE"
	// EnvIngestQueueURL is the forwarder's queue, to which the evaluator sends transitions.
	EnvIngestQueueURL = "DEFENDERHUB_INGEST_QUEUE_URL"
	// EnvTelemetryQueueURL is the queue that feeds the evaluator; "" where a stream does.
	EnvTelemetryQueueURL = "DEFENDERHUB_TELEMETRY_QUEUE_URL"
	// EnvTelemetryStream is the name of the stream that feeds the evaluator, for the closer;
	// "" where a queue does.
	EnvTelemetryStream = "DEFENDERHUB_TELEMETRY_STREAM"
	// EnvReportsRule is the name of the rule that brings device reports in.
	EnvReportsRule = "DEFENDERHUB_REPORTS_RULE"
	// EnvThingGroups are the thing groups that engine.Config names by their position,
	// separated by commas: their names may be known only at deployment.
	EnvThingGroups = "DEFENDERHUB_THING_GROUPS"

	// ConfigFile lies beside the evaluator's executable, in the form of engine.Config: an
	// environment takes 4 KB.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	ConfigFile = "behaviors.json"

	// StatePartitionKey and StateSortKey are the state table's keys, both strings, and
	// StateExpiry its TTL attribute, in seconds since 1970.
	StatePartitionKey = "pk"
	StateSortKey      = "sk"
	StateExpiry       = "expires"
	// StateDueIndex lists the things of which silence decides something, or that have
	// transitions to send: partition StateDueShard (a number from 0 to StateDueShards-1, as
	// string), sorted by StateDueAt (number, ms since 1970). It projects the keys alone.
	StateDueIndex  = "due"
	StateDueShard  = "dueShard"
	StateDueAt     = "dueAt"
	StateDueShards = 16

	// LedgerPartitionKey and LedgerSortKey are the ledger's keys, both strings.
	LedgerPartitionKey = "pk"
	LedgerSortKey      = "sk"
	// LedgerExpiry is the TTL attribute, in seconds since 1970.
	LedgerExpiry = "expires"
	// LedgerRefreshIndex lists the active findings that are to be imported again before
	// Security Hub forgets them: partition LedgerRefreshShard (string), sorted by
	// LedgerRefreshAt (number, seconds since 1970). It projects all attributes.
	LedgerRefreshIndex = "refresh"
	LedgerRefreshShard = "refreshShard"
	LedgerRefreshAt    = "refreshAt"

	// MetricNamespace holds the forwarder's metrics. Each stands under the dimension
	// MetricDimensionForwarder (the function's name), and again split by
	// MetricDimensionSource.
	MetricNamespace          = "DefenderHub"
	MetricDimensionForwarder = "Forwarder"
	MetricDimensionSource    = "Source"
	MetricDimensionField     = "Field"

	// MetricReceived counts messages; the others count findings.
	MetricReceived  = "Received"
	MetricImported  = "Imported"
	MetricArchived  = "Archived"
	MetricUnchanged = "Unchanged"
	MetricFailed    = "Failed"
	// MetricRefused counts messages that went to the dead-letter queue.
	MetricRefused = "Refused"
	// MetricHubOff counts imports that failed because Security Hub is not enabled.
	MetricHubOff = "SecurityHubOff"

	// MetricDimensionEvaluator is the name of the self-managed engine's function. Under it,
	// and again split by MetricDimensionSource, which is the kind of telemetry or
	// MetricSourceClose, stand MetricReceived (messages), MetricFailed (messages that come
	// again) and those below.
	MetricDimensionEvaluator = "Evaluator"
	MetricSourceClose        = "close"

	// MetricTransitions counts alarms that were raised, cleared or invalidated.
	MetricTransitions = "Transitions"
	// MetricLate and MetricEarly count datapoints beyond the lateness bound, MetricUnread
	// those of another kind than their metric or without the client id that a dimension asks
	// for, and MetricUnjudged those that had no threshold yet to be compared with. None was
	// judged.
	MetricLate     = "Late"
	MetricEarly    = "Early"
	MetricUnread   = "Unread"
	MetricUnjudged = "Unjudged"
	// MetricUnconfirmed counts windows without events that were not judged, because AWS IoT
	// did not say whether the client was connected.
	MetricUnconfirmed = "Unconfirmed"
	// MetricUnresolved counts devices of which it was not known what thing they are, or in
	// which groups: the behaviors that ask for it did not judge them.
	MetricUnresolved = "Unresolved"
	// MetricUnreadableReports counts messages that contain no device report. MetricDiscarded
	// counts values in reports that cannot be read; it is split by MetricDimensionField, the
	// field's path in the report, as well.
	MetricUnreadableReports = "UnreadableReports"
	MetricDiscarded         = "DiscardedValues"
	// MetricSampledLists counts lists in device reports that were judged although the device
	// listed a sample only.
	MetricSampledLists = "SampledLists"
	// MetricFrequentReports counts device reports that came sooner after another one than
	// the interval that is stated.
	MetricFrequentReports = "FrequentReports"
	// MetricUnreadable counts messages that no rule of the engine wrote, or whose event says
	// neither who nor when; MetricUnreadableStates counts devices whose state was written by
	// another version of the engine, MetricOversizedStates those whose state the table cannot
	// hold. None is judged.
	MetricUnreadable       = "Unreadable"
	MetricUnreadableStates = "UnreadableStates"
	MetricOversizedStates  = "OversizedStates"
	// MetricUnsent counts transitions that did not reach the forwarder's queue; they are sent
	// again each minute.
	MetricUnsent = "Unsent"
	// MetricUnanswered counts unreadable reports that could not be answered.
	MetricUnanswered = "Unanswered"
	// MetricUnsampled counts values that are missing in the fleet's percentiles because they
	// could not be stored.
	MetricUnsampled = "Unsampled"
	// MetricBlind counts runs of the closer that judged nothing, because telemetry waits and
	// nobody tells how far the evaluator has come.
	MetricBlind = "Blind"
	// MetricUnfinished counts runs of the closer that had no time left for all that was due.
	MetricUnfinished = "Unfinished"
	// MetricRuns counts runs of the closer where several share the work, split by
	// [CloserSource].
	MetricRuns = "Runs"
)

// CloserSource is the MetricDimensionSource of the closer for a partition, where several
// share the work.
func CloserSource(partition int) string { return fmt.Sprintf("%s-%d", MetricSourceClose, partition) }

// RefreshRequest is the payload with which a schedule asks the forwarder to do what is
// due at a time (RFC 3339): to import active findings again before Security Hub forgets
// them, to archive those that fell quiet, and to give active findings what a deployment
// changed.
func RefreshRequest(at string) string {
	return fmt.Sprintf(`{"defenderhub":"refresh","at":"%s"}`, at)
}

// CloseRequest is the payload with which EventBridge Scheduler asks the evaluator to
// judge what silence decides, up to a time, for the shards of [StateDueIndex] whose
// number leaves the rest partition when divided by partitions.
func CloseRequest(partition, partitions int) string {
	return fmt.Sprintf(`{"defenderhub":"close","partition":%d,"partitions":%d,"at":"<aws.scheduler.scheduled-time>"}`, partition, partitions)
}

// TelemetryRetry is how long telemetry is tried again before it goes to the dead-letter
// queue. It survives an outage of hours, and a record that crashes the function holds up its
// shard of the stream no longer than that.
const TelemetryRetry = 6 * time.Hour

// DefaultQuietTime is how long a finding of the rules stays active without news: no
// event clears it.
const DefaultQuietTime = 7 * 24 * time.Hour

// AuditFindingLifetime is how long Device Defender keeps the findings of an audit. One that
// no audit has reported for so long is archived, because nothing else would end it where
// its check is in no schedule any more.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
const AuditFindingLifetime = 90 * 24 * time.Hour

// StartAuditResourceType is the custom resource that starts an on-demand audit when it
// is created, and when its property StartAuditChecks (a list of API names) or
// StartAuditTrigger (any text) changes. Deleting it does nothing.
const (
	StartAuditResourceType = "Custom::DefenderHubStartAudit"
	StartAuditChecks       = "CheckNames"
	StartAuditTrigger      = "Trigger"
)

// The metrics of the self-managed engine's behaviors about device reports themselves.
const (
	// MinutesSinceReport counts the minutes since the last device report.
	MinutesSinceReport = "defenderhub:minutes-since-report"
	// UnreadableReport is 1 for a device report that cannot be read, 0 for one that can.
	UnreadableReport = "defenderhub:unreadable-report"
)
