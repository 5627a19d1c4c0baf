package simulation

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// queue is a standard queue of Amazon SQS. It has no order, delivers at least once, hides received
// messages, and moves messages that were received too often to its dead-letter queue.
type queue struct {
	world      *world
	name       string
	visibility time.Duration
	// receives is after how many receives a message goes to dead; 0 for never.
	receives int
	dead     *queue
	source   *source

	messages map[string]*message // by ID, all that were not deleted
	visible  []*message          // from head on
	head     int
	sent     int
}

// sentMessage is a message for a corpus.
type sentMessage struct{ queue, body string }

// message is a message of a queue.
type message struct {
	id, body   string
	sent       time.Time
	receives   int
	attributes map[string]string
	// hidden is until when the message is in flight; epoch counts its receives and changes of
	// visibility.
	hidden time.Time
	epoch  int
	shown  bool // is in visible
	// datum is set for telemetry, about with the finding's ID for events of Security Hub.
	datum *datum
	about string
}

const (
	account   = "123456789012"
	region    = "us-east-1"
	retention = 14 * 24 * time.Hour
)

func (w *world) queue(name string, visibility time.Duration, dead *queue, receives int) *queue {
	q := &queue{world: w, name: name, visibility: visibility, dead: dead, receives: receives, messages: map[string]*message{}}
	w.queues = append(w.queues, q)
	return q
}

func (q *queue) arn() string { return "arn:aws:sqs:" + region + ":" + account + ":" + q.name }

func (q *queue) url() string {
	return "https://sqs." + region + ".amazonaws.com/" + account + "/" + q.name
}

// send adds a message.
func (q *queue) send(body string, attributes map[string]string) *message {
	q.sent++
	m := &message{id: fmt.Sprintf("%s-%d", q.name, q.sent), body: body, sent: time.Now(), attributes: attributes}
	q.messages[m.id] = m
	if os.Getenv("CORPUS") != "" {
		q.world.sent = append(q.world.sent, sentMessage{q.name, body})
	}
	delay := q.world.between(0, 30*time.Minute)
	if q.source != nil && q.world.faults.strikes(queueDelay, q.source.fn) {
		q.hide(m, delay)
		return m
	}
	q.show(m)
	return m
}

// show makes a message visible.
func (q *queue) show(m *message) {
	if m.shown || q.messages[m.id] == nil {
		return
	}
	m.shown, m.hidden = true, time.Time{}
	q.visible = append(q.visible, m)
	if q.source != nil {
		q.source.nudge()
	}
}

// hide hides a message for a time.
func (q *queue) hide(m *message, d time.Duration) {
	m.epoch++
	epoch := m.epoch
	m.hidden = time.Now().Add(d)
	q.world.at(m.hidden, func() {
		if m.epoch == epoch {
			q.show(m)
		}
	})
}

// receive returns at most n visible messages, and hides them.
func (q *queue) receive(n int) []*message {
	var batch []*message
	now := time.Now()
	reorder := q.world.chance(rates[queueReorder]) && q.world.faults.on[queueReorder] && !q.world.faults.quiet
	if reorder && len(q.visible)-q.head > 1 {
		q.world.faults.hits[hit{queueReorder, q.source.fn.name}]++
	}
	for len(batch) < n && q.head < len(q.visible) {
		if reorder {
			i := q.head + q.world.rng.IntN(len(q.visible)-q.head)
			q.visible[q.head], q.visible[i] = q.visible[i], q.visible[q.head]
		}
		m := q.visible[q.head]
		q.visible[q.head] = nil
		q.head++
		m.shown = false
		if q.messages[m.id] == nil {
			continue // deleted meanwhile
		}
		if now.Sub(m.sent) >= retention {
			q.world.counts["expired messages"]++
			delete(q.messages, m.id)
			continue
		}
		if m.receives++; q.receives > 0 && m.receives > q.receives {
			delete(q.messages, m.id)
			q.world.counts["redriven messages"]++
			if m.datum != nil {
				m.datum.of.history.late = true
			}
			q.dead.send(m.body, map[string]string{})
			continue
		}
		hidden := q.visibility
		early := q.world.between(0, time.Minute)
		if q.world.faults.strikes(queueDuplicate, q.source.fn) {
			hidden = early
		}
		q.hide(m, hidden)
		batch = append(batch, m)
	}
	if q.head > 1024 && q.head*2 > len(q.visible) {
		q.visible = slices.Clone(q.visible[q.head:])
		q.head = 0
	}
	return batch
}

// change changes the visibility timeout of a message in flight.
func (q *queue) change(receipt string, d time.Duration) error {
	id, count := parseReceipt(receipt)
	m := q.messages[id]
	if m == nil || m.shown || m.hidden.IsZero() || count != m.receives {
		return fmt.Errorf("InvalidParameterValue: message %s is not available for visibility timeout change", id)
	}
	q.hide(m, d)
	return nil
}

func receiptOf(m *message) string { return m.id + " " + strconv.Itoa(m.receives) }

func parseReceipt(text string) (id string, count int) {
	_, _ = fmt.Sscan(text, &id, &count) // zero values name no message
	return id, count
}

// count returns the numbers of messages for GetQueueAttributes.
func (q *queue) count() (available, inFlight int) {
	for _, m := range q.messages {
		if m.shown {
			available++
		} else {
			inFlight++
		}
	}
	return available, inFlight
}

// source is an event source mapping of a queue.
type source struct {
	queue       *queue
	fn          *function
	batch       int
	window      time.Duration
	concurrency int
	running     int
	filling     bool
}

func (q *queue) feeds(fn *function, batch int, window time.Duration, concurrency int) {
	q.source = &source{queue: q, fn: fn, batch: batch, window: window, concurrency: concurrency}
}

// nudge starts the window of a batch.
func (s *source) nudge() {
	if s.filling || s.running >= s.concurrency || s.fn.paused.holds() {
		return
	}
	s.filling = true
	w := s.queue.world
	wait := time.Duration(0)
	if len(s.queue.visible)-s.queue.head < s.batch {
		wait = w.between(0, s.window)
	}
	w.after(wait, s.deliver)
}

// deliver invokes the function with a batch.
func (s *source) deliver() {
	s.filling = false
	q, w := s.queue, s.queue.world
	if s.fn.paused.holds() {
		return
	}
	batch := q.receive(s.batch)
	if len(batch) == 0 {
		return
	}
	s.running++
	records := make([]events.SQSMessage, len(batch))
	var data []*datum
	for i, m := range batch {
		if m.datum != nil {
			data = append(data, m.datum)
		}
		records[i] = events.SQSMessage{
			MessageId: m.id, ReceiptHandle: receiptOf(m), Body: m.body, EventSource: "aws:sqs", EventSourceARN: q.arn(), AWSRegion: region,
			Attributes: map[string]string{"SentTimestamp": strconv.FormatInt(m.sent.UnixMilli(), 10), "ApproximateReceiveCount": strconv.Itoa(m.receives)},
		}
	}
	event, err := json.Marshal(events.SQSEvent{Records: records})
	if err != nil {
		panic(err) // strings always marshal
	}
	w.delivered(data, s.fn.paused)
	w.invoke(s.fn, event, func(value any, err error, failed bool) {
		s.running--
		if err == nil && !failed {
			s.delete(batch, value)
		}
		if q.head < len(q.visible) {
			s.nudge()
		}
	})
	if q.head < len(q.visible) {
		s.nudge()
	}
}

// delete deletes the messages that the function has not named as failures.
func (s *source) delete(batch []*message, value any) {
	response, ok := value.(events.SQSEventResponse)
	if !ok {
		s.queue.world.violations.add("answers of functions", "%s answered %T", s.fn.name, value)
		return
	}
	failed := map[string]bool{}
	for _, f := range response.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	for _, m := range batch {
		if !failed[m.id] {
			if m.datum != nil && s.queue.messages[m.id] != nil {
				m.datum.judged()
			}
			if w := s.queue.world; s.queue == w.notifyQueue && s.queue.messages[m.id] != nil {
				w.optional.underway[m.about]--
			}
			delete(s.queue.messages, m.id)
			m.epoch++
		}
	}
}
