// Package eventsource does what Lambda does between an SQS queue or a Kinesis stream and
// a function: it polls, gathers batches by size, time and payload, and invokes the
// function. From a queue it deletes what the function handled; what failed stays there,
// and the queue's visibility timeout and redrive policy decide what follows. A stream
// keeps its records, and the mapping goes on behind them.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
// https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
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

// StreamMapping is an event source mapping from a Kinesis stream to a function, with one
// batch a shard at a time.
// https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html
type StreamMapping struct {
	UUID      string
	StreamARN string
	Function  string // name or ARN
	// BatchSize is 1 to 10,000 records.
	BatchSize int
	// Window is how long a batch is gathered after its first record, at most 5 minutes.
	Window time.Duration
	// Latest starts behind the records that the stream has when the mapping is made;
	// otherwise it starts with the oldest (TRIM_HORIZON).
	Latest bool
	// PartialFailures is ReportBatchItemFailures: the function's answer names the records
	// that failed, and the mapping repeats from the first of them on.
	PartialFailures bool
	// Bisect splits a batch in two when the function fails, which costs no retry.
	Bisect bool
	// Retries is how often a failed batch is repeated; below 0: until it succeeds.
	Retries int
	// MaximumAge is how old a record may be; 0: as old as it likes.
	MaximumAge time.Duration
	// OnFailure is the ARN of a queue that is told of discarded records, or "".
	OnFailure string
}

// StreamBatch tells what became of the records of one invocation.
type StreamBatch struct {
	Mapping StreamMapping
	Shard   string
	// Records were in the batch, Failed of them, the last ones, are repeated or discarded.
	Records, Failed int
	// Discarded are given up.
	Discarded int
	// Err is why the whole batch failed, nil where the function named the failed ones.
	Err error
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
