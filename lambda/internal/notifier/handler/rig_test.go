package handler_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
	"github.com/defenderhub/defenderhub/internal/notification"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/notifier/record"
)

const (
	account = "123456789012"
	region  = "eu-central-1"
	product = "arn:aws:securityhub:" + region + ":" + account + ":product/" + account + "/default"
	queue   = "https://sqs/queue"
	people  = "arn:aws:sns:" + region + ":" + account + ":people"
	chat    = "arn:aws:sns:" + region + ":" + account + ":chat"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// rig has a notifier with its queue, table, topics and registry in memory.
type rig struct {
	t     testing.TB
	h     *handler.Handler
	table *dynamodbtest.Service
	// writes counts the writes that took effect.
	writes int
	now    time.Time
	batch  int
	// fault, if set, returns the error of a call, such as "Publish people" or "PutItem". done
	// reports whether the call took effect.
	fault func(call string, done bool) error
	// groups has the thing groups of each thing.
	groups map[string][]string

	mu          sync.Mutex
	metrics     strings.Builder
	queue       []*queued
	deadLetters []string
	published   []published
	next        int
	crashed     bool
}

type queued struct {
	id, body      string
	sent, visible time.Time
	receives      int
}

// published is a message on a topic.
type published struct {
	topic, subject, body string
	at                   time.Time
}

func newRig(t testing.TB, c notification.Config) *rig {
	r := &rig{t: t, now: noon, batch: 10, groups: map[string][]string{}}
	r.table = dynamodbtest.New(dynamodbtest.Schema{
		Name: "notify", Partition: contract.NotifyPartitionKey, Sort: contract.NotifySortKey, Expiry: contract.NotifyExpiry,
		Indexes: []dynamodbtest.Index{{Name: contract.NotifyOpenIndex, Partition: contract.NotifyOpenSeverity, Sort: contract.NotifyOpenSince}},
	})
	r.table.PageItems = 50
	c.PerMinute, c.MembershipMinutes = cmp.Or(c.PerMinute, 20), cmp.Or(c.MembershipMinutes, 15)
	if c.Filters == nil {
		c.Filters = []notification.Filter{{Severity: correlation.Label(defender.Medium)}}
	}
	now := func() time.Time { return r.now }
	r.h = &handler.Handler{
		SNS: topics{r}, SQS: queues{r}, Groups: registry{r}, Table: record.Table{API: &dynamodbtest.Client{Service: r.table, Step: r.step}, Name: "notify"}, Config: c,
		Metrics: emf.New(contract.MetricDimensionNotifier, "notifier", metrics{r}, now), Log: slog.New(slog.NewJSONHandler(io.Discard, nil)), Now: now,
		Region: region, QueueURL: queue, DeadLetterQueueURL: "https://sqs/dead", PeopleTopicARN: people, ChatTopicARN: chat, Random: func(int64) int64 { return 0 },
	}
	return r
}

var errCrashed = errors.New("crashed")

// call runs before and after each call of a service, and returns its error.
func (r *rig) call(name string, done bool) error {
	r.mu.Lock()
	crashed, fault := r.crashed, r.fault
	r.mu.Unlock()
	if crashed {
		return errCrashed
	}
	if fault != nil {
		err := fault(name, done)
		if errors.Is(err, errCrashed) {
			r.mu.Lock()
			r.crashed = true
			r.mu.Unlock()
		}
		return err
	}
	return nil
}

// begin begins a call. As the SDK's clients do, it fails a call whose context has ended.
func (r *rig) begin(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.call(name, false)
}

// step adds the faults of the rig to its table, and counts the writes.
func (r *rig) step(c dynamodbtest.Call, done bool) error {
	if done && (c.Operation == "PutItem" || c.Operation == "UpdateItem") {
		r.mu.Lock()
		r.writes++
		r.mu.Unlock()
	}
	return r.call(c.Operation, done)
}

type metrics struct{ *rig }

func (r metrics) Write(text []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.metrics.Write(text)
}

type topics struct{ *rig }

func (r topics) Publish(ctx context.Context, in *sns.PublishInput, _ ...func(*sns.Options)) (*sns.PublishOutput, error) {
	name := "Publish " + (*in.TopicArn)[strings.LastIndex(*in.TopicArn, ":")+1:]
	if err := r.begin(ctx, name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.published = append(r.published, published{*in.TopicArn, *in.Subject, *in.Message, r.now})
	r.mu.Unlock()
	return &sns.PublishOutput{}, r.call(name, true)
}

type queues struct{ *rig }

func (r queues) SendMessage(ctx context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	if err := r.begin(ctx, "SendMessage"); err != nil {
		return nil, err
	}
	r.mu.Lock()
	if *in.QueueUrl == queue {
		r.enqueue(*in.MessageBody, time.Duration(in.DelaySeconds)*time.Second)
	} else {
		r.deadLetters = append(r.deadLetters, *in.MessageBody+" "+aws.ToString(in.MessageAttributes["Reason"].StringValue))
	}
	r.mu.Unlock()
	return &sqs.SendMessageOutput{}, r.call("SendMessage", true)
}

func (r queues) ChangeMessageVisibility(ctx context.Context, in *sqs.ChangeMessageVisibilityInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityOutput, error) {
	if err := r.begin(ctx, "ChangeMessageVisibility"); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.queue {
		if m.id == *in.ReceiptHandle {
			m.visible = r.now.Add(time.Duration(in.VisibilityTimeout) * time.Second)
		}
	}
	return &sqs.ChangeMessageVisibilityOutput{}, nil
}

type registry struct{ *rig }

func (r registry) Groups(ctx context.Context, thing string, _ time.Time) ([]string, error) {
	if err := r.begin(ctx, "Groups"); err != nil {
		return nil, err
	}
	return append([]string{}, r.groups[thing]...), nil
}

// enqueue requires the lock.
func (r *rig) enqueue(body string, delay time.Duration) {
	r.next++
	r.queue = append(r.queue, &queued{id: "m" + strconv.Itoa(r.next), body: body, sent: r.now, visible: r.now.Add(delay)})
}

// send puts an event into the queue.
func (r *rig) send(body string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enqueue(body, 0)
}

// visibility is the queue's visibility timeout.
const visibility = 6*time.Minute + time.Second

// run handles the messages that become visible until a time, and moves the clock to that time.
func (r *rig) run(until time.Time) {
	r.t.Helper()
	for range 100_000 {
		r.mu.Lock()
		slices.SortStableFunc(r.queue, func(a, b *queued) int { return a.visible.Compare(b.visible) })
		if len(r.queue) == 0 || r.queue[0].visible.After(until) {
			r.now = until
			r.mu.Unlock()
			return
		}
		if r.queue[0].visible.After(r.now) {
			r.now = r.queue[0].visible
		}
		var batch events.SQSEvent
		for _, m := range r.queue {
			if m.visible.After(r.now) || len(batch.Records) == r.batch {
				break
			}
			m.receives++
			m.visible = r.now.Add(visibility)
			batch.Records = append(batch.Records, events.SQSMessage{
				MessageId: m.id, ReceiptHandle: m.id, Body: m.body, EventSourceARN: "arn:aws:sqs:" + region + ":" + account + ":queue",
				Attributes: map[string]string{"SentTimestamp": strconv.FormatInt(m.sent.UnixMilli(), 10), "ApproximateReceiveCount": strconv.Itoa(m.receives)},
			})
		}
		r.crashed = false
		r.mu.Unlock()
		event, err := json.Marshal(batch)
		if err != nil {
			r.t.Fatal(err)
		}
		out, err := r.h.Handle(context.Background(), event)
		r.mu.Lock()
		if !r.crashed && err == nil {
			failed := map[string]bool{}
			for _, f := range out.(events.SQSEventResponse).BatchItemFailures {
				failed[f.ItemIdentifier] = true
			}
			handled := map[string]bool{}
			for _, m := range batch.Records {
				handled[m.MessageId] = !failed[m.MessageId]
			}
			r.queue = slices.DeleteFunc(r.queue, func(m *queued) bool { return handled[m.id] })
		}
		r.mu.Unlock()
	}
	r.t.Fatal("the queue is not empty after 100,000 batches")
}

// messages returns the subjects of the messages that people received.
func (r *rig) messages() []string { return r.on(people) }

// on returns the subjects of the messages on a topic.
func (r *rig) on(topic string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, p := range r.published {
		if p.topic == topic {
			all = append(all, p.subject)
		}
	}
	return all
}

// digests returns the texts of the digests that people received.
func (r *rig) digests() []string {
	var all []string
	for _, p := range r.published {
		if p.topic == people && strings.HasPrefix(p.subject, "Digest: ") {
			all = append(all, p.body)
		}
	}
	return all
}

// count returns the sum of a metric.
func (r *rig) count(metric string) int {
	n := 0
	for line := range strings.Lines(r.metrics.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			r.t.Fatal(err)
		}
		if v, ok := m[metric].(float64); ok {
			n += int(v)
		}
	}
	return n
}

// finding has the fields of a finding in an event.
type finding struct {
	name     string // of the device
	severity string
	state    string // "archived", "suppressed", "resolved" or open
	at       time.Time
	behavior string
	fields   map[string]string
	more     map[string]any
}

func (f finding) event() string {
	behavior := cmp.Or(f.behavior, "ports")
	fields := map[string]string{"BehaviorName": behavior, "ThingName": f.name}
	maps.Copy(fields, f.fields)
	detail := map[string]any{
		"Id": "defenderhub/behavior/" + region + "/factory/" + behavior + "/" + f.name, "ProductArn": product, "AwsAccountId": account, "Region": region,
		"GeneratorId": "defenderhub/behavior/factory", "Title": f.name + " violates " + behavior, "CreatedAt": noon.Format(time.RFC3339Nano), "UpdatedAt": f.at.Format(time.RFC3339Nano),
		"Severity": map[string]string{"Label": f.severity}, "RecordState": "ACTIVE", "Workflow": map[string]string{"Status": "NEW"},
		"Resources":     []map[string]string{{"Type": "AwsIotRegisteredThing", "Id": f.name}},
		"ProductFields": fields,
	}
	switch f.state {
	case "archived":
		detail["RecordState"] = "ARCHIVED"
	case "suppressed", "resolved":
		detail["Workflow"] = map[string]string{"Status": strings.ToUpper(f.state)}
	}
	maps.Copy(detail, f.more)
	text, err := json.Marshal(map[string]any{
		"source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported", "account": account, "region": region, "time": f.at.Format(time.RFC3339),
		"detail": map[string]any{"findings": []any{detail}},
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// incident returns the event of a composite finding about a device, or of a campaign, with the given
// fields in addition.
func incident(rule, entity, key, severity, state string, at time.Time, more ...map[string]any) string {
	fields := map[string]string{correlation.FieldRule: rule, correlation.FieldParts: "2"}
	f := finding{name: entity, severity: severity, state: state, at: at, fields: fields}
	id := rule + "/" + entity
	if key != "" {
		fields[correlation.FieldKey] = key
		id = rule + "/campaign/" + key
	} else {
		fields[correlation.FieldEntity] = entity
	}
	f.more = map[string]any{
		"Id": "defenderhub/correlation/" + region + "/" + id, "GeneratorId": correlation.GeneratorPrefix + rule, "Title": rule + " " + entity,
		"ProductFields": fields,
	}
	for _, m := range more {
		maps.Copy(f.more, m)
	}
	return f.event()
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// timeline sends events and returns the messages that people received, one per line with its time.
//
//	0s   pump-7 HIGH             the finding of pump-7 is open, with this severity
//	5m   pump-7 HIGH archived    the finding is archived
//	10m  chain incident pump-7 CRITICAL
func timeline(t *testing.T, r *rig, text string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		after, err := time.ParseDuration(words[0])
		if err != nil {
			t.Fatal(err)
		}
		r.run(noon.Add(after))
		state := ""
		if last := words[len(words)-1]; slices.Contains([]string{"archived", "suppressed", "resolved"}, last) {
			state = last
			words = words[:len(words)-1]
		}
		switch {
		case len(words) == 2 && (words[1] == contract.NotifyDigest || words[1] == contract.NotifyRemind):
			r.request(words[1])
		case len(words) == 5 && words[2] == "campaign":
			r.send(incident(words[1], "", "behavior "+words[3], words[4], state, r.now))
		case len(words) == 5 && words[2] == "incident":
			r.send(incident(words[1], words[3], "", words[4], state, r.now))
		case len(words) == 4:
			r.send(finding{name: words[1], behavior: words[2], severity: words[3], state: state, at: r.now}.event())
		default:
			r.send(finding{name: words[1], severity: words[2], state: state, at: r.now}.event())
		}
		r.run(r.now)
	}
	r.run(r.now.Add(20 * time.Minute))
	var lines []string
	for _, p := range r.published {
		if p.topic == people {
			lines = append(lines, fmt.Sprintf("%s %s", brief(p.at.Sub(noon)), p.subject))
		}
	}
	return strings.Join(lines, "\n")
}

// brief formats a duration without zero minutes and seconds.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// request requests a list now, and logs the error.
func (r *rig) request(kind string) {
	r.t.Helper()
	r.crashed = false
	if _, err := r.h.Handle(context.Background(), []byte(contract.NotifyRequest(kind, r.now.Format(time.RFC3339)))); err != nil {
		r.t.Log(err)
	}
}
