package eventsource

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// backoff is the pause after an error of the source, and before a batch is retried.
const backoff = time.Second

// Mapping is an event source mapping from a standard queue or a Kinesis stream to a function. Of a
// stream it processes one batch per shard at a time.
// https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html
type Mapping struct {
	UUID      string
	SourceARN string
	QueueURL  string // of a queue
	Function  string // name or ARN
	// BatchSize is 1 to 10,000 records.
	BatchSize int
	// Window is how long a batch is gathered after its first record, at most 5 minutes.
	Window time.Duration
	// PartialFailures is ReportBatchItemFailures: the function's answer names the failed records.
	// In a queue, the other messages are deleted. In a stream, the records are retried from the
	// first failed one on. Without it, a batch succeeds or fails as a whole.
	PartialFailures bool

	// Latest starts after the records that a stream has when the mapping is created. Otherwise the
	// mapping starts with the oldest record (TRIM_HORIZON).
	Latest bool
	// Bisect splits a batch of a stream in two if the function fails. This does not count as a
	// retry.
	Bisect bool
	// Retries is how often a failed batch of a stream is retried. A negative number means until it
	// succeeds.
	Retries int
	// MaximumAge is the maximum age of a record of a stream; 0 means no limit.
	MaximumAge time.Duration
	// OnFailure is the ARN of a queue that receives discarded records of a stream, or "".
	OnFailure string
}

func (m Mapping) ofStream() bool { return strings.Contains(m.SourceARN, ":kinesis:") }

// Batch reports the outcome of the records of one invocation.
type Batch struct {
	Mapping Mapping
	// Failed are the messages that stay in the queue, or the records that are retried or
	// discarded.
	Failed []string
	// Discarded is the number of discarded records.
	Discarded int
	// Err is why the whole batch failed. It is nil if the function named the failed records.
	Err error
}

// Sources runs a poller for each mapping of a queue, and for each shard of each mapping of a
// stream. The shards are those that the stream has when the mapping is created. All functions are
// required.
type Sources struct {
	Queue  Queue
	Stream Stream
	// Invoke runs a function. functionError is an error that the function itself returned.
	Invoke func(ctx context.Context, function string, payload []byte) (answer []byte, functionError error, err error)
	// Report receives the outcome of each batch.
	Report func(Batch)
	// Discard sends a report about discarded records of a function to a queue.
	Discard func(ctx context.Context, function, queueARN string, message []byte) error
	// May returns an error if the function's role does not let Lambda read the source. It is
	// called before each request.
	May func(ctx context.Context, function, sourceARN string) error
	// At converts the machine's time, which the sources have, to the cloud's, which functions see
	// and by which batches are gathered.
	At func(time.Time) time.Time
	// Hurry reports whether somebody waits for the sources to be empty. A batch then ends as soon as
	// the source has nothing more, before the end of its window.
	Hurry func() bool

	wait    sync.WaitGroup
	mu      sync.Mutex
	running map[Mapping]context.CancelFunc
	shards  map[Mapping][]*shard
}

// Set starts and stops pollers so that exactly these mappings are served, until ctx ends. A
// mapping with Latest gets every record that is written after Set returns.
func (s *Sources) Set(ctx context.Context, mappings []Mapping) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m, stop := range s.running {
		if !slices.Contains(mappings, m) {
			stop()
			delete(s.running, m)
		}
	}
	for _, m := range mappings {
		if s.running[m] != nil {
			continue
		}
		if s.running == nil {
			s.running, s.shards = map[Mapping]context.CancelFunc{}, map[Mapping][]*shard{}
		}
		one, stop := context.WithCancel(ctx)
		s.running[m] = stop
		run := (&poller{Sources: s, mapping: m}).run
		if m.ofStream() {
			run = s.serve(one, m)
		}
		s.wait.Go(func() { run(one) })
	}
}

// Mappings returns the mappings that are served.
func (s *Sources) Mappings() []Mapping {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.running))
}

// Wait returns when every poller has ended.
func (s *Sources) Wait() { s.wait.Wait() }

func (s *Sources) now() time.Time { return s.At(time.Now()) }

// pause waits, or returns when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// entry is a message or a record of a batch as the function gets it.
type entry struct {
	id      string // of the message, or the sequence number
	handle  string // of a message
	arrived time.Time
	record  json.RawMessage
}

// gather waits for a record, and collects those that follow in the window. read gets the number
// of records that still fit, and how long to wait for the first. carried holds records that do
// not fit, for the next batch.
func (s *Sources) gather(ctx context.Context, m Mapping, carried *[]entry, longest time.Duration, read func(ctx context.Context, room int, wait time.Duration) ([]entry, error)) ([]entry, error) {
	var batch []entry
	var end time.Time
	for {
		var full bool
		batch, *carried, full = take(batch, *carried, m.BatchSize)
		if len(batch) > 0 && end.IsZero() {
			end = s.now().Add(m.Window)
		}
		if full || len(batch) > 0 && !s.now().Before(end) {
			return batch, nil
		}
		wait := longest
		if len(batch) > 0 { // read the clock often: a step may end the window
			wait = min(time.Second, end.Sub(s.now()))
			if s.Hurry() {
				wait = 0
			}
		}
		got, err := read(ctx, m.BatchSize-len(batch), wait)
		if err != nil || len(got) == 0 && (len(batch) == 0 || s.Hurry()) {
			return batch, err
		}
		*carried = append(*carried, got...)
	}
}

// take moves carried entries into the batch, up to most entries or the payload limit. full reports
// whether no more fit.
func take(batch, carried []entry, most int) (_, left []entry, full bool) {
	size := len(`{"Records":[]}`)
	for _, e := range batch {
		size += len(e.record) + 1
	}
	for len(carried) > 0 {
		size += len(carried[0].record) + 1
		if len(batch) == most || len(batch) > 0 && size > payloadLimit {
			return batch, carried, true
		}
		batch, carried = append(batch, carried[0]), carried[1:]
	}
	return batch, carried, len(batch) == most
}
