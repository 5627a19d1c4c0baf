package defender

import "time"

// The agreement between the constructs that deploy a function and the function
// that runs: names of environment variables, of the ledger's attributes and of
// metrics.
const (
	// EnvLedgerTable is the name of the ledger's table.
	EnvLedgerTable = "DEFENDERHUB_LEDGER_TABLE"
	// EnvDeadLetterQueueURL is the queue for messages that can never be imported.
	EnvDeadLetterQueueURL = "DEFENDERHUB_DEAD_LETTER_QUEUE_URL"
	// EnvEventTopic is the topic filter of device events.
	EnvEventTopic = "DEFENDERHUB_EVENT_TOPIC"
	// EnvLogLevel is DEBUG, INFO, WARN or ERROR; default INFO.
	EnvLogLevel = "DEFENDERHUB_LOG_LEVEL"
	// EnvQuietTime is after how long without news a finding of the rules is archived, in
	// the form of time.Duration; default [DefaultQuietTime].
	EnvQuietTime = "DEFENDERHUB_QUIET_TIME"
	// EnvSeverities are the severities that the props change, in the form of [Severities].
	EnvSeverities = "DEFENDERHUB_SEVERITIES"

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
)

// RefreshRequest is the payload with which a schedule asks the forwarder to import
// active findings again before Security Hub forgets them.
const RefreshRequest = `{"defenderhub":"refresh"}`

// DefaultQuietTime is how long a finding of the rules stays active without news: no
// event clears it.
const DefaultQuietTime = 7 * 24 * time.Hour

// StartAuditResourceType is the custom resource that starts an on-demand audit when it
// is created, and when its property StartAuditChecks (a list of API names) or
// StartAuditTrigger (any text) changes. Deleting it does nothing.
const (
	StartAuditResourceType = "Custom::DefenderHubStartAudit"
	StartAuditChecks       = "CheckNames"
	StartAuditTrigger      = "Trigger"
)
