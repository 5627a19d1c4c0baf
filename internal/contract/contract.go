// Package contract holds what the constructs and the functions that they deploy must agree on:
// environment variables, table attributes, metric names and requests.
package contract

import (
	"fmt"
	"time"
)

// Names of environment variables, of the ledger's attributes and of metrics.
const (
	// EnvPrefix is the prefix of all environment variables of the functions.
	EnvPrefix = "DEFENDERHUB_"

	// EnvLedgerTable is the name of the ledger table.
	EnvLedgerTable = "DEFENDERHUB_LEDGER_TABLE"
	// EnvDeadLetterQueueURL is the URL of the queue for messages that can never be imported.
	EnvDeadLetterQueueURL = "DEFENDERHUB_DEAD_LETTER_QUEUE_URL"
	// EnvEventTopic is the topic filter of device events.
	EnvEventTopic = "DEFENDERHUB_EVENT_TOPIC"
	// EnvClientPattern is a pattern for [ParseClientPattern].
	EnvClientPattern = "DEFENDERHUB_CLIENT_PATTERN"
	// EnvLogLevel is DEBUG, INFO, WARN or ERROR.
	// Default: INFO.
	EnvLogLevel = "DEFENDERHUB_LOG_LEVEL"
	// EnvDetailedMetrics is "true" to count imported findings by severity, and calls of Security
	// Hub.
	EnvDetailedMetrics = "DEFENDERHUB_DETAILED_METRICS"
	// EnvQuietTime is how long a finding of the rules stays active without a new signal, as a
	// time.Duration.
	// Default: [DefaultQuietTime].
	EnvQuietTime = "DEFENDERHUB_QUIET_TIME"
	// EnvSeverities are the severities that the props change, as [Severities] text.
	EnvSeverities = "DEFENDERHUB_SEVERITIES"

	// EnvLiveBehaviors are the behaviors that the self-managed engine judges, as [LiveBehaviors]
	// text. "" means none.
	EnvLiveBehaviors = "DEFENDERHUB_LIVE_BEHAVIORS"

	// EnvLiveRules are the deployed correlation rules, as correlation.LiveRules text. "" means none.
	EnvLiveRules = "DEFENDERHUB_LIVE_RULES"

	// EnvStateTable is the state table of the evaluator, or of the correlator. Their keys are the
	// same.
	EnvStateTable = "DEFENDERHUB_STATE_TABLE"
	// EnvIngestQueueURL is the forwarder's queue, to which the evaluator sends transitions and the
	// correlator composite findings.
	EnvIngestQueueURL = "DEFENDERHUB_INGEST_QUEUE_URL"
	// EnvTelemetryQueueURL is the evaluator's queue of telemetry; "" if a stream is used.
	EnvTelemetryQueueURL = "DEFENDERHUB_TELEMETRY_QUEUE_URL"
	// EnvTelemetryStream is the evaluator's stream of telemetry, which the closer checks for unread
	// records; "" if a queue is used.
	EnvTelemetryStream = "DEFENDERHUB_TELEMETRY_STREAM"
	// EnvReportsRule is the name of the IoT rule for device reports.
	EnvReportsRule = "DEFENDERHUB_REPORTS_RULE"
	// EnvThingGroups are the names of thing groups, separated by commas. engine.Config refers to
	// them by index, because deployment may choose their names.
	EnvThingGroups = "DEFENDERHUB_THING_GROUPS"

	// ConfigFile is the file with the engine.Config, beside the evaluator's executable:
	// environment variables are limited to 4 KB.
	// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
	ConfigFile = "behaviors.json"

	// StatePartitionKey and StateSortKey are the state table's keys, both strings. StateExpiry is
	// its TTL attribute, in seconds since 1970.
	StatePartitionKey = "pk"
	StateSortKey      = "sk"
	StateExpiry       = "expires"
	// A thing's item has the partition key StateThingPrefix and the client ID, and the sort key
	// StateThingSort. Its attribute StateDocument is the JSON of an engine.State, with its version.
	StateThingPrefix = "thing#"
	StateThingSort   = "state"
	StateDocument    = "state"
	// StateDueIndex lists the items that a timer must judge, and those with unsent messages. Its
	// partition key is StateDueShard, a number from 0 to StateDueShards-1 as a string. Its sort key
	// is StateDueAt, a number in ms since 1970. It projects only the keys.
	StateDueIndex  = "due"
	StateDueShard  = "dueShard"
	StateDueAt     = "dueAt"
	StateDueShards = 16

	// StateProgressKey is both keys of the item with the evaluator's progress. StateHeartbeat is
	// when it last wrote the item, in ms since 1970. StateLag is how far it was behind, in ms.
	// StateProgressVersion is the version of this form, now ProgressVersion.
	StateProgressKey     = "progress"
	StateHeartbeat       = "at"
	StateLag             = "lag"
	StateProgressVersion = "v"
	ProgressVersion      = 1

	// LedgerPartitionKey and LedgerSortKey are the ledger's keys, both strings.
	LedgerPartitionKey = "pk"
	LedgerSortKey      = "sk"
	// LedgerExpiry is the TTL attribute, in seconds since 1970.
	LedgerExpiry = "expires"
	// LedgerRefreshIndex lists the active findings that must be imported again before Security
	// Hub deletes them. Its partition key is LedgerRefreshShard, a string. Its sort key is
	// LedgerRefreshAt, a number in seconds since 1970. It projects all attributes.
	LedgerRefreshIndex = "refresh"
	LedgerRefreshShard = "refreshShard"
	LedgerRefreshAt    = "refreshAt"

	// MetricNamespace is the namespace of all functions' metrics. Each metric of the forwarder has the
	// dimension MetricDimensionForwarder (the function's name), and exists a second time with
	// MetricDimensionSource added.
	MetricNamespace          = "DefenderHub"
	MetricDimensionForwarder = "Forwarder"
	MetricDimensionSource    = "Source"
	// MetricDimensionField is the path of a field in a device report, for [MetricDiscarded].
	MetricDimensionField = "Field"
	// MetricDimensionSeverity is the severity of MetricImported, with [EnvDetailedMetrics].
	MetricDimensionSeverity = "Severity"

	// MetricReceived counts messages; the others count findings.
	MetricReceived  = "Received"
	MetricImported  = "Imported"
	MetricArchived  = "Archived"
	MetricUnchanged = "Unchanged"
	MetricFailed    = "Failed"
	// MetricRefused counts messages sent to the dead-letter queue, and findings that the forwarder
	// sent there without a message.
	MetricRefused = "Refused"
	// MetricImportCalls counts calls of BatchImportFindings, retries included, with
	// [EnvDetailedMetrics]. Its source is MetricSourceImport.
	MetricImportCalls  = "ImportCalls"
	MetricSourceImport = "import"
	// MetricHubOff counts imports that failed because Security Hub is not enabled.
	MetricHubOff = "SecurityHubOff"

	// MetricDimensionEvaluator is the name of the self-managed engine's function. Its metrics are
	// MetricReceived (messages), MetricFailed (messages that are retried) and those below. They
	// also exist by MetricDimensionSource: the kind of telemetry, or MetricSourceClose.
	MetricDimensionEvaluator = "Evaluator"
	MetricSourceClose        = "close"

	// MetricDimensionCorrelator is the name of the correlator's function. Its metrics are
	// MetricReceived and MetricFailed (events, the latter are retried), MetricUnreadable,
	// MetricUnsent and MetricUnfinished (runs of its schedule), and those below. They also exist by
	// MetricDimensionSource: the product, the rule, or MetricSourceClose.
	MetricDimensionCorrelator = "Correlator"
	// MetricMatched counts findings that a stage of a rule matches. MetricUnattributed counts those
	// of them that are about no known device.
	MetricMatched      = "Matched"
	MetricUnattributed = "Unattributed"
	// MetricOpened and MetricEnded count composite findings.
	MetricOpened = "Opened"
	MetricEnded  = "Ended"
	// MetricTied counts findings that GetFindings had to read, because two events have equal times.
	MetricTied = "Tied"
	// MetricTruncated counts parts and devices beyond the correlator's limits, which are left out.
	MetricTruncated = "Truncated"

	// MetricTransitions counts alarms that were raised, cleared or invalidated.
	MetricTransitions = "Transitions"
	// These count datapoints that were not judged. MetricLate and MetricEarly: beyond the lateness
	// bound. MetricUnread: a value of another type than the metric's, or no client ID although a
	// dimension needs one. MetricUnjudged: there was no threshold yet.
	MetricLate     = "Late"
	MetricEarly    = "Early"
	MetricUnread   = "Unread"
	MetricUnjudged = "Unjudged"
	// MetricUnconfirmed counts windows without events that were not judged, because AWS IoT did
	// not say whether the client was connected.
	MetricUnconfirmed = "Unconfirmed"
	// MetricUnresolved counts devices whose thing or thing groups are unknown, so that the
	// behaviors that need them did not judge.
	MetricUnresolved = "Unresolved"
	// MetricUnreadableReports counts messages that contain no device report. MetricDiscarded
	// counts unreadable values in reports, also by MetricDimensionField, the field's path in the
	// report.
	MetricUnreadableReports = "UnreadableReports"
	MetricDiscarded         = "DiscardedValues"
	// MetricSampledLists counts lists in device reports that were judged although the device
	// listed only a sample.
	MetricSampledLists = "SampledLists"
	// MetricFrequentReports counts device reports that arrived sooner after the previous one than
	// the configured interval.
	MetricFrequentReports = "FrequentReports"
	// MetricUnreadable counts messages that no rule of the engine wrote, or that lack a client or
	// a time. MetricUnreadableStates counts devices whose state another version of the engine
	// wrote. MetricOversizedStates counts devices whose state is too large for the table. None of
	// these is judged.
	MetricUnreadable       = "Unreadable"
	MetricUnreadableStates = "UnreadableStates"
	MetricOversizedStates  = "OversizedStates"
	// MetricUnsent counts transitions that could not be sent to the forwarder's queue. They are
	// retried each minute.
	MetricUnsent = "Unsent"
	// MetricUnanswered counts unreadable reports that could not be answered.
	MetricUnanswered = "Unanswered"
	// MetricUnsampled counts values that the fleet's percentiles lack because they could not be
	// stored.
	MetricUnsampled = "Unsampled"
	// MetricBlind counts runs of the closer that judged nothing, because telemetry is waiting and
	// the evaluator's progress is unknown.
	MetricBlind = "Blind"
	// MetricUnfinished counts runs of the closer that did not finish all due work.
	MetricUnfinished = "Unfinished"
	// MetricRuns counts runs of the closer, if several partitions share the work, by
	// [CloserSource].
	MetricRuns = "Runs"
)

// CloserSource returns the MetricDimensionSource of the closer of one partition, if several
// partitions share the work.
func CloserSource(partition int) string { return fmt.Sprintf("%s-%d", MetricSourceClose, partition) }

// RefreshRequest is the payload with which a schedule asks the forwarder to do everything that is
// due at a time (RFC 3339). The forwarder imports active findings again before Security Hub deletes
// them, archives findings without new signals, and applies a deployment's changes to active
// findings.
func RefreshRequest(at string) string {
	return fmt.Sprintf(`{"defenderhub":"refresh","at":"%s"}`, at)
}

// CloseRequest is the payload with which EventBridge Scheduler asks the evaluator to judge, up to
// a time, all devices whose timers are due. It covers the shards of [StateDueIndex] whose number
// modulo partitions is partition.
func CloseRequest(partition, partitions int) string {
	return fmt.Sprintf(`{"defenderhub":"close","partition":%d,"partitions":%d,"at":"<aws.scheduler.scheduled-time>"}`, partition, partitions)
}

// CorrelateRequest is the payload with which EventBridge Scheduler asks the correlator, each
// minute, to end composite findings whose window has passed, and to send unsent ones.
const CorrelateRequest = `{"defenderhub":"correlate","at":"<aws.scheduler.scheduled-time>"}`

// TelemetryRetry is how long telemetry is retried before it goes to the dead-letter queue. It
// survives an outage of hours. A record that crashes the function blocks its shard of the stream
// for at most this time.
const TelemetryRetry = 6 * time.Hour

// DefaultQuietTime is how long a finding of the rules stays active without a new signal: no event
// clears it.
const DefaultQuietTime = 7 * 24 * time.Hour

// AuditFindingLifetime is how long Device Defender keeps audit findings. A finding that no audit
// has reported for that time is archived: if its check is in no schedule any more, nothing else
// would end it.
// https://docs.aws.amazon.com/general/latest/gr/iot_device_defender.html
const AuditFindingLifetime = 90 * 24 * time.Hour

// IncidentLifetime is how long a composite finding stays active after the correlator last sent it.
// The correlator sends an active one daily. One that it has lost, because its table was replaced,
// would otherwise stay active forever.
const IncidentLifetime = 7 * 24 * time.Hour

// StartAuditResourceType is the custom resource that starts an on-demand audit. It does so on
// creation, and when StartAuditChecks (a list of API names) or StartAuditTrigger (any text)
// changes. Deletion does nothing.
const (
	StartAuditResourceType = "Custom::DefenderHubStartAudit"
	StartAuditChecks       = "CheckNames"
	StartAuditTrigger      = "Trigger"
)

// SuppressionResourceType is the custom resource of one audit suppression.
const (
	SuppressionResourceType = "Custom::DefenderHubAuditSuppression"
	// SuppressionCheck is the check's API name, SuppressionResource the resource identifier with
	// the fields of the AWS IoT API.
	SuppressionCheck    = "CheckName"
	SuppressionResource = "ResourceIdentifier"
	// SuppressionUntil is when the suppression ends (RFC 3339); without it, it has no end.
	SuppressionUntil = "Until"
	// SuppressionWhy is the first part of the description.
	SuppressionWhy = "Why"
)

// MaxSuppressionWhy is the maximum length of SuppressionWhy, in characters. A description has at
// most 1000, and ends with the stack's name and ID: at most 128 and 36 characters.
// https://docs.aws.amazon.com/iot/latest/apireference/API_CreateAuditSuppression.html
const MaxSuppressionWhy = 750

// The metrics of the self-managed engine's behaviors about device reports.
const (
	// MinutesSinceReport counts the minutes since the last device report.
	MinutesSinceReport = "defenderhub:minutes-since-report"
	// UnreadableReport is 1 for an unreadable device report, 0 for any other.
	UnreadableReport = "defenderhub:unreadable-report"
)
