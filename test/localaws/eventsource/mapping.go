// Package eventsource does what Lambda does between an SQS queue and a function: it
// polls the queue, gathers batches by size, time and payload, invokes the function, and
// deletes what it handled. What failed stays in the queue, whose visibility timeout and
// redrive policy decide what follows.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
package eventsource

import "time"

// Mapping is an event source mapping from a standard queue to a function.
type Mapping struct {
	UUID     string
	QueueARN string
	QueueURL string
	Function string // name or ARN
	// BatchSize is 1 to 10,000 messages.
	BatchSize int
	// Window is how long a batch is gathered after its first message, at most 5 minutes.
	Window time.Duration
	// PartialFailures is ReportBatchItemFailures: the function's answer names the
	// messages that failed. Without it a batch succeeds or fails as a whole.
	PartialFailures bool
}

// Batch tells what became of the messages of one invocation.
type Batch struct {
	Mapping    Mapping
	MessageIDs []string
	// Failed are the messages that stay in the queue.
	Failed []string
	// Err is why the whole batch failed, nil where the function named the failed ones.
	Err error
}
