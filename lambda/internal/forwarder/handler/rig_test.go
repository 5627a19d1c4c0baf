package handler_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/audit"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/backlog"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/bound"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/delivery"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/importer"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/ledger/ledgertest"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/restate"
	"github.com/defenderhub/defenderhub/lambda/internal/forwarder/sweep"
	"github.com/defenderhub/defenderhub/lambda/internal/inprocess"
)

const (
	account  = "123456789012"
	region   = "us-east-1"
	queueARN = "arn:aws:sqs:us-east-1:123456789012:ingest"
	queueURL = "https://queue/ingest"
	deadURL  = "https://queue/dead"
)

var start = time.Date(2026, 9, 15, 3, 0, 0, 0, time.UTC)

// rig has the whole function without AWS: a ledger in memory, a local Security Hub behind the
// SDK's client, and queues that record their calls.
type rig struct {
	t       testing.TB
	now     time.Time
	service *securityhubtest.Service
	hub     *securityhubtest.Hub
	table   *ledgertest.Table
	sqs     *fakeSQS
	iot     *fakeIoT
	things  *things
	handler *handler.Handler
	sweeper *sweep.Sweeper
	// version identifies the deployment.
	version  string
	restater *restate.Restater
	logs     bytes.Buffer
	metrics  bytes.Buffer
	sent     int
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, now: start}
	r.build(securityhubtest.Config{Now: func() time.Time { return r.now }})
	return r
}

// build creates everything except the clock.
func (r *rig) build(config securityhubtest.Config) {
	t, now := r.t, config.Now
	t.Helper()
	r.table, r.sqs, r.iot, r.things = &ledgertest.Table{}, &fakeSQS{}, &fakeIoT{}, &things{}
	r.service = securityhubtest.New(config)
	r.hub = r.service.Hub(account, region)
	if err := r.hub.Enable(securityhubtest.Settings{}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(&r.logs, nil))
	metrics := emf.New(contract.MetricDimensionForwarder, "forwarder", &r.metrics, now)
	book := ledger.New(r.table, region, contract.DefaultQuietTime)
	deliver := &delivery.Delivery{
		Ledger:   book,
		Importer: importer.New(securityhub.NewFromConfig(inprocess.Config(r.service, account, region)), func(int64) int64 { return 0 }),
		Metrics:  metrics, Log: log,
	}
	r.sweeper = &sweep.Sweeper{Table: r.table, Findings: book, Deliver: deliver, Region: region, Log: log}
	r.restater = &restate.Restater{
		Table: r.table, Findings: book, Deliver: deliver, Region: region, Log: log, Version: func() (string, error) { return r.version, nil },
	}
	r.handler = &handler.Handler{
		Restate: r.restater,
		Sweeper: r.sweeper, Bounds: &bound.Bounds{Table: r.table, Region: region, Now: now}, Things: r.things,
		SQS: r.sqs, Deliver: deliver, Ledger: book, Metrics: metrics, Log: log, Now: now,
		Audit:  &audit.Auditor{IoT: r.iot, Table: r.table, Findings: book, Deliver: deliver, Region: region, Log: log, Random: func(int64) int64 { return 0 }},
		Region: region, EventTopic: "defenderhub/events/+", DeadLetterQueueURL: deadURL,
	}
	r.handler.Backlog = &backlog.Backlog{Table: r.table, Ledger: book, Deliver: deliver, Region: region, Now: now, Log: log}
	deliver.DeadLetter = r.handler.DeadLetterFinding
}

// handle passes messages to the function and returns the IDs of those to retry.
func (r *rig) handle(ctx context.Context, messages ...events.SQSMessage) []string {
	r.t.Helper()
	text, err := json.Marshal(events.SQSEvent{Records: messages})
	if err != nil {
		r.t.Fatal(err)
	}
	answer, err := r.handler.Handle(ctx, text)
	if err != nil {
		r.t.Fatal(err)
	}
	var ids []string
	for _, f := range answer.(events.SQSEventResponse).BatchItemFailures {
		ids = append(ids, f.ItemIdentifier)
	}
	return ids
}

// must requires that no message is retried.
func (r *rig) must(messages ...events.SQSMessage) {
	r.t.Helper()
	if again := r.handle(context.Background(), messages...); len(again) > 0 {
		r.t.Fatalf("messages %v are retried: %s", again, &r.logs)
	}
}

// message returns a message of the queue, sent now, with its own ID.
func (r *rig) message(body string) events.SQSMessage {
	r.sent++
	id := "m" + strconv.Itoa(r.sent)
	return events.SQSMessage{
		MessageId: id, ReceiptHandle: "handle-" + id, Body: body, EventSource: "aws:sqs", EventSourceARN: queueARN, AWSRegion: region,
		Attributes: map[string]string{"SentTimestamp": strconv.FormatInt(r.now.UnixMilli(), 10), "ApproximateReceiveCount": "1"},
	}
}

// device returns a message that the AWS IoT rule for device events sends.
func (r *rig) device(client string, at time.Time, payload string) events.SQSMessage {
	return r.message(ruleBody(defender.DeviceEvents, "defenderhub/events/"+client, payload, map[string]any{"clientId": client, "principal": "abc", "time": at.UnixMilli()}))
}

// ruleBody returns the body of a message that a source's AWS IoT rule sends.
func ruleBody(source defender.Source, topic, payload string, more map[string]any) string {
	fields := map[string]any{"source": source.String(), "topic": topic, "time": start.UnixMilli(), "payload": base64.StdEncoding.EncodeToString([]byte(payload))}
	maps.Copy(fields, more)
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// notification wraps a message of a topic, as Amazon SNS does.
func notification(topicARN, body string) string {
	text, err := json.Marshal(map[string]string{"Type": "Notification", "MessageId": "n", "TopicArn": topicARN, "Message": body, "Timestamp": "2026-09-15T03:00:00.000Z"})
	if err != nil {
		panic(err)
	}
	return string(text)
}

func sample(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "mapping", "testdata", "samples", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// states returns the record states in Security Hub, by finding ID without the common prefix.
func (r *rig) states() map[string]string {
	states := map[string]string{}
	for _, f := range r.hub.Findings() {
		states[strings.TrimPrefix(f.ID, "defenderhub/")] = f.RecordState
	}
	return states
}

func (r *rig) want(want map[string]string) {
	r.t.Helper()
	if got := r.states(); fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("Security Hub shows %v, want %v", got, want)
	}
}

// counted sums a metric over all sources.
func (r *rig) counted(metric string) int {
	r.t.Helper()
	total := 0
	for line := range strings.Lines(r.metrics.String()) {
		var values map[string]any
		if err := json.Unmarshal([]byte(line), &values); err != nil {
			r.t.Fatal(err)
		}
		n, _ := values[metric].(float64)
		total += int(n)
	}
	return total
}

// things is a registry in which the certificate cert-THING is attached only to THING.
type things struct {
	fails error
	// hangs reports whether no lookup returns before its context ends.
	hangs bool
}

func (t *things) Join(ctx context.Context, clientID, principal string, _ time.Time) (string, error) {
	clients, err := contract.ParseClientPattern("")
	thing := clients.Thing(clientID)
	switch {
	case err != nil || thing == "":
		return "", err
	case t.hangs:
		<-ctx.Done()
		return "", fmt.Errorf("%w: %w", certificate.ErrUnresolved, ctx.Err())
	case t.fails != nil:
		return "", fmt.Errorf("%w: %w", certificate.ErrUnresolved, t.fails)
	case principal != "cert-"+thing:
		return "", nil
	}
	return thing, nil
}

// fakeSQS records its calls.
type fakeSQS struct {
	mu      sync.Mutex
	dead    []*sqs.SendMessageInput
	visible map[string]int32 // by receipt handle
	asked   int
	broken  bool
	takes   time.Duration // of SendMessage
}

var errBroken = errors.New("the service is unavailable")

func (f *fakeSQS) SendMessage(ctx context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	select {
	case <-time.After(f.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken || *in.QueueUrl != deadURL {
		return nil, errBroken
	}
	f.dead = append(f.dead, in)
	return &sqs.SendMessageOutput{}, nil
}

func (f *fakeSQS) ChangeMessageVisibility(_ context.Context, in *sqs.ChangeMessageVisibilityInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken || *in.QueueUrl != queueURL {
		return nil, errBroken
	}
	if f.visible == nil {
		f.visible = map[string]int32{}
	}
	f.visible[*in.ReceiptHandle] = in.VisibilityTimeout
	return &sqs.ChangeMessageVisibilityOutput{}, nil
}

func (f *fakeSQS) GetQueueUrl(_ context.Context, in *sqs.GetQueueUrlInput, _ ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken || *in.QueueName != "ingest" || *in.QueueOwnerAWSAccountId != account {
		return nil, errBroken
	}
	f.asked++
	url := queueURL
	return &sqs.GetQueueUrlOutput{QueueUrl: &url}, nil
}

// fakeIoT lists audit findings. Any other call panics.
type fakeIoT struct {
	audit.API
	list func(*iot.ListAuditFindingsInput) (*iot.ListAuditFindingsOutput, error)
}

func (f *fakeIoT) ListAuditFindings(_ context.Context, in *iot.ListAuditFindingsInput, _ ...func(*iot.Options)) (*iot.ListAuditFindingsOutput, error) {
	return f.list(in)
}

// DescribeAccountAuditConfiguration returns a configuration without checks.
func (f *fakeIoT) DescribeAccountAuditConfiguration(context.Context, *iot.DescribeAccountAuditConfigurationInput, ...func(*iot.Options)) (*iot.DescribeAccountAuditConfigurationOutput, error) {
	return &iot.DescribeAccountAuditConfigurationOutput{}, nil
}
