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

// backoff is the time after a source that did not answer, and before a batch is repeated.
const backoff = time.Second

// Mapping is an event source mapping from a standard queue, or from a Kinesis stream with one
// batch a shard at a time, to a function.
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
	// PartialFailures is ReportBatchItemFailures: the function's answer names the records
	// that failed. Of a queue the others are deleted; in a stream the mapping repeats from the
	// first failed one on. Without it a batch succeeds or fails as a whole.
	PartialFailures bool

	// Latest starts behind the records that a stream has when the mapping is made;
	// otherwise it starts with the oldest (TRIM_HORIZON).
	Latest bool
	// Bisect splits a batch of a stream in two when the function fails, which costs no retry.
	Bisect bool
	// Retries is how often a failed batch of a stream is repeated; below 0: until it succeeds.
	Retries int
	// MaximumAge is how old a record of a stream may be; 0: as old as it likes.
	MaximumAge time.Duration
	// OnFailure is the ARN of a queue that receives discarded records of a stream, or "".
	OnFailure string
}

func (m Mapping) ofStream() bool { return strings.Contains(m.SourceARN, ":kinesis:") }

// Batch reports the outcome of the records of one invocation.
type Batch struct {
	Mapping Mapping
	// Failed are the messages that stay in the queue, or the records that are repeated or
	// discarded.
	Failed []string
	// Discarded are given up.
	Discarded int
	// Err is why the whole batch failed, nil where the function named the failed ones.
	Err error
}

// Sources runs a poller for each mapping of a queue, and for each shard of each mapping of a
// stream, that exists. The shards are those that a stream has when the mapping is made.
type Sources struct {
	Queue  Queue
	Stream Stream
	// Invoke runs a function. functionError is what the function itself reported.
	Invoke func(ctx context.Context, function string, payload []byte) (answer []byte, functionError error, err error)
	// Report receives every batch.
	Report func(Batch)
	// Discard sends a queue the report about records that were discarded for a function.
	Discard func(ctx context.Context, function, queueARN string, message []byte) error
	// May is asked before each request: an error where the function's role does not let Lambda
	// read the source. Nil: all may be read.
	May func(ctx context.Context, function, sourceARN string) error
	// At converts the machine's time, which sources give, to that of the cloud, which functions
	// see and by which a batch is gathered; nil: they are the same.
	At func(time.Time) time.Time
	// Hurry reports whether somebody waits for the sources to be empty: then batches end as soon
	// as nothing more is there, before their window does. Nil: nobody does.
	Hurry func() bool

	wait    sync.WaitGroup
	mu      sync.Mutex
	running map[Mapping]context.CancelFunc
	shards  map[Mapping][]*shard
}

// Set starts and stops pollers so that exactly the given mappings are served, until ctx ends. A
// mapping from the latest record on gets every record written after Set.
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

// Mappings are those that are served.
func (s *Sources) Mappings() []Mapping {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.running))
}

// Wait returns when every poller has ended.
func (s *Sources) Wait() { s.wait.Wait() }

func (s *Sources) hurry() bool { return s.Hurry != nil && s.Hurry() }

func (s *Sources) at(t time.Time) time.Time {
	if s.At == nil {
		return t
	}
	return s.At(t)
}

func (s *Sources) now() time.Time { return s.at(time.Now()) }

func (s *Sources) mayRead(ctx context.Context, m Mapping) error {
	if s.May == nil {
		return nil
	}
	return s.May(ctx, m.Function, m.SourceARN)
}

// pause waits, or returns when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// entry is what a batch is made of: a message or a record as the function gets it.
type entry struct {
	id      string // of the message, or the sequence number
	handle  string // of a message
	arrived time.Time
	record  json.RawMessage
}

// gather waits for a record and collects those that follow it in the window. read is given how
// many records there is room for and how long to wait for the first; what it reads beyond a
// batch is carried over to the next.
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
		if len(batch) > 0 { // look at the clock often: a step of it may end the window
			wait = min(time.Second, end.Sub(s.now()))
			if s.hurry() {
				wait = 0
			}
		}
		got, err := read(ctx, m.BatchSize-len(batch), wait)
		if err != nil || len(got) == 0 && (len(batch) == 0 || s.hurry()) {
			return batch, err
		}
		*carried = append(*carried, got...)
	}
}

// take moves entries that were carried over into the batch until it has most of them
// or reaches the payload limit. full says that no more fit.
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
