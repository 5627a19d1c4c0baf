package handler_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/engine/transition"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/internal/offline"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/fleet"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/registry"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
)

// start is a multiple of every window.
var start = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)

const batching = time.Minute

// tester is a testing.T, or rapid's replacement.
type tester interface {
	Helper()
	Errorf(string, ...any)
	Fatal(...any)
	Fatalf(string, ...any)
}

// rig has the function, with all services in memory.
type rig struct {
	t        tester
	config   engine.Config
	groups   []string
	now      time.Time
	table    *table
	queue    *queue
	registry *things
	iot      *dataPlane
	handler  *handler.Handler
	logs     bytes.Buffer
	metrics  bytes.Buffer
}

func profile(behaviors ...defender.Behavior) engine.Config {
	for i := range behaviors {
		if behaviors[i].Name == "" {
			behaviors[i].Name = fmt.Sprintf("b%d", i)
		}
	}
	return engine.Config{
		Profiles: []engine.ProfileConfig{{Name: "Profile", Behaviors: behaviors}}, Reports: true,
		BatchSeconds: int(batching / time.Second), MinDatapoints: 1, MembershipMinutes: 10,
	}
}

func newRig(t tester, c engine.Config, groups ...string) *rig {
	t.Helper()
	r := &rig{t: t, now: start, table: newTable(t), queue: &queue{}, registry: &things{}, iot: &dataPlane{}, config: c, groups: groups}
	r.deploy(c)
	return r
}

// deploy starts a new environment of the function with these behaviors.
func (r *rig) deploy(c engine.Config) {
	r.t.Helper()
	log := slog.New(slog.NewJSONHandler(&r.logs, nil))
	population, err := fleet.New(r.table, fleet.Config{Table: "state", Lateness: engine.Lateness(batching), MinDatapoints: c.MinDatapoints, Log: log})
	if err != nil {
		r.t.Fatal(err)
	}
	now := func() time.Time { return r.now }
	r.handler, err = handler.New(c, r.groups, handler.Clients{
		Store: state.New(r.table, "state", nil), Fleet: population, Registry: r.registry, SQS: r.queue, IoTData: r.iot,
		Metrics: emf.New(contract.MetricDimensionEvaluator, "evaluator", &r.metrics, now), Log: log, Now: now,
		IngestQueueURL: "https://queue/ingest", TelemetryQueueURL: "https://queue/telemetry", ReportsRule: "Reports",
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// queue stores the messages to the forwarder, and has the attributes of the telemetry queue.
type queue struct {
	mu       sync.Mutex
	bodies   []string
	waiting  string
	inFlight string
	asked    int
	// step is as in table. Bodies that contain refuse are refused.
	step   func(operation, key string, done bool) error
	refuse string
}

// forbidden reports whether Amazon SQS refuses a message with a character.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
func forbidden(r rune) bool {
	return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF
}

func (q *queue) SendMessageBatch(ctx context.Context, in *sqs.SendMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(in.Entries) == 0 || len(in.Entries) > 10 || *in.QueueUrl != "https://queue/ingest" {
		return nil, fmt.Errorf("unexpected SendMessageBatch %+v", in)
	}
	if q.step != nil {
		if err := q.step("SendMessageBatch", "", false); err != nil {
			return nil, err
		}
	}
	for _, e := range in.Entries {
		if strings.ContainsFunc(*e.MessageBody, forbidden) {
			return nil, errors.New("InvalidMessageContents") // AWS does not document whether this fails one message or all
		}
	}
	out := &sqs.SendMessageBatchOutput{}
	q.mu.Lock()
	for _, e := range in.Entries {
		if q.refuse != "" && strings.Contains(*e.MessageBody, q.refuse) {
			out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: e.Id})
			continue
		}
		q.bodies = append(q.bodies, *e.MessageBody)
		out.Successful = append(out.Successful, types.SendMessageBatchResultEntry{Id: e.Id})
	}
	q.mu.Unlock()
	if q.step != nil {
		if err := q.step("SendMessageBatch", "", true); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (q *queue) GetQueueAttributes(_ context.Context, in *sqs.GetQueueAttributesInput, _ ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error) {
	q.asked++
	return &sqs.GetQueueAttributesOutput{Attributes: map[string]string{
		"ApproximateNumberOfMessages": cmp.Or(q.waiting, "0"), "ApproximateNumberOfMessagesNotVisible": cmp.Or(q.inFlight, "0"),
	}}, nil
}

// messages returns the distinct transitions that reached the forwarder's queue, ordered by
// device, behavior and time.
func (r *rig) messages() []transition.Message {
	r.t.Helper()
	by := map[string]transition.Message{}
	for _, body := range r.queue.bodies {
		var m transition.Message
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			r.t.Fatal(err)
		}
		by[body] = m
	}
	all := slices.Collect(maps.Values(by))
	slices.SortFunc(all, func(a, b transition.Message) int {
		return cmp.Or(cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.Transition.Behavior.Name, b.Transition.Behavior.Name), cmp.Compare(a.Transition.Time, b.Transition.Time))
	})
	return all
}

// changes lists the distinct transitions: device, behavior, change.
func (r *rig) changes() string {
	var all []string
	for _, m := range r.messages() {
		all = append(all, fmt.Sprintf("%s %s %s", m.ClientID, m.Transition.Behavior.Name, m.Transition.Change))
	}
	return strings.Join(all, ", ")
}

// things is the AWS IoT registry.
type things struct {
	mu    sync.Mutex
	by    map[string]registry.Thing // by client ID, or by principal
	asked []string
	fails error
	// failsFor, if set, is the only client ID whose lookups fail.
	failsFor string
	// hangs reports whether no lookup returns before its context ends.
	hangs bool
	// looked has the lookups of the certificates of further connections.
	looked []string
}

// Join uses a registry in which the certificate cert-THING is attached only to THING.
func (t *things) Join(ctx context.Context, clientID, principal string, _ time.Time) (string, error) {
	pattern, err := contract.ParseClientPattern("")
	thing := pattern.Thing(clientID)
	if err != nil || thing == "" {
		return "", err
	}
	if t.hangs {
		<-ctx.Done()
		return "", ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looked = append(t.looked, clientID+"/"+principal)
	if t.fails != nil {
		return "", t.fails
	}
	if principal != "cert-"+thing {
		thing = ""
	}
	return thing, nil
}

func (t *things) Resolve(ctx context.Context, clientID, principal string, _ time.Time) (registry.Thing, error) {
	if t.hangs {
		<-ctx.Done()
		return registry.Thing{}, ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = append(t.asked, clientID+"/"+principal)
	if t.fails != nil && (t.failsFor == "" || t.failsFor == clientID) {
		return registry.Thing{}, t.fails
	}
	for _, name := range []string{principal, clientID} {
		if thing, ok := t.by[name]; ok && name != "" {
			return thing, nil
		}
	}
	if clientID == iotrule.NotMQTT {
		return registry.Thing{}, nil
	}
	return registry.Thing{Name: clientID}, nil
}

// dataPlane is the data plane of AWS IoT. It stores published messages.
type dataPlane struct {
	mu        sync.Mutex
	published []string
	fails     error
	// connections has connections by client ID. Any other client has been connected for long.
	connections map[string]iotdataplane.GetConnectionOutput
	asked       []string // client IDs
	unknown     error    // the error of GetConnection
	hangs       bool     // GetConnection
}

func (p *dataPlane) GetConnection(ctx context.Context, in *iotdataplane.GetConnectionInput, _ ...func(*iotdataplane.Options)) (*iotdataplane.GetConnectionOutput, error) {
	if p.hangs {
		<-ctx.Done()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, *in.ClientId)
	if err := cmp.Or(p.unknown, ctx.Err()); err != nil {
		return nil, err
	}
	if c, ok := p.connections[*in.ClientId]; ok {
		return &c, nil
	}
	return &iotdataplane.GetConnectionOutput{ClientId: in.ClientId, Connected: true, ConnectedSince: 1}, nil
}

func (p *dataPlane) Publish(_ context.Context, in *iotdataplane.PublishInput, _ ...func(*iotdataplane.Options)) (*iotdataplane.PublishOutput, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published = append(p.published, aws.ToString(in.Topic)+" "+string(in.Payload))
	return nil, p.fails
}

// at returns the time in minutes after the start.
func at(minutes float64) time.Time {
	return start.Add(time.Duration(minutes * float64(time.Minute)))
}

// sent returns telemetry as a message of the queue.
func sent(id string, when time.Time, t iotrule.Telemetry) events.SQSMessage {
	body, err := json.Marshal(t)
	if err != nil {
		panic(err)
	}
	return events.SQSMessage{
		MessageId: id, Body: string(body), EventSource: "aws:sqs",
		Attributes: map[string]string{"SentTimestamp": fmt.Sprint(when.UnixMilli()), "ApproximateReceiveCount": "1"},
	}
}

// ports returns the payload of a report with listening TCP ports.
func ports(id int, list ...int) []byte {
	var items []string
	for _, p := range list {
		items = append(items, fmt.Sprintf(`{"port":%d}`, p))
	}
	return fmt.Appendf(nil, `{"header":{"report_id":%d,"version":"1.0"},"metrics":{"listening_tcp_ports":{"ports":[%s]}}}`, id, strings.Join(items, ","))
}

// report returns a device report that is sent immediately.
func report(id string, client string, when time.Time, payload []byte) events.SQSMessage {
	return sent(id, when, iotrule.Telemetry{Kind: iotrule.DeviceReport, Topic: "reports/" + client, Time: when.UnixMilli(), ID: id, ClientID: client, Principal: "cert-" + client, Payload: payload})
}

// message returns the telemetry of a published message with a size in bytes.
func message(id, client string, when time.Time, size int64) events.SQSMessage {
	return sent(id, when, iotrule.Telemetry{Kind: iotrule.PublishedMessage, Topic: "t", Time: when.UnixMilli(), ID: id, ClientID: client, Principal: "cert-" + client, SourceIP: "10.0.0.1", Bytes: size})
}

// lifecycle returns an event of a session.
func lifecycle(client, kind, session string, when time.Time) events.SQSMessage {
	payload := fmt.Sprintf(`{"clientId":%q,"timestamp":%d,"eventType":%q,"sessionIdentifier":%q,"principalIdentifier":"cert-%s","ipAddress":"10.0.0.1"}`, client, when.UnixMilli(), kind, session, client)
	return sent(kind+client+session, when, iotrule.Telemetry{Kind: iotrule.LifecycleEvent, Topic: "$aws/events/presence/" + kind + "/" + client, Time: when.UnixMilli(), Payload: []byte(payload)})
}

func (r *rig) handle(ctx context.Context, event any) any {
	r.t.Helper()
	text, err := json.Marshal(event)
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := r.handler.Handle(ctx, text)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// deliver delivers a batch and returns the IDs of the messages to retry.
func (r *rig) deliver(messages ...events.SQSMessage) []string {
	r.t.Helper()
	var again []string
	for _, f := range r.handle(context.Background(), events.SQSEvent{Records: messages}).(events.SQSEventResponse).BatchItemFailures {
		again = append(again, f.ItemIdentifier)
	}
	return again
}

// close runs the closer of some partitions, or of both.
func (r *rig) close(when time.Time, partitions ...int) {
	r.t.Helper()
	if err := r.tryClose(context.Background(), when, partitions...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryClose(ctx context.Context, when time.Time, partitions ...int) error {
	if partitions == nil {
		partitions = []int{0, 1}
	}
	var faults []error
	for _, p := range partitions {
		request := strings.ReplaceAll(contract.CloseRequest(p, 2), "<aws.scheduler.scheduled-time>", when.Format(time.RFC3339))
		_, err := r.handler.Handle(ctx, json.RawMessage(request))
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// counted returns the sum of a metric since the rig began.
func (r *rig) counted(metric string) int {
	r.t.Helper()
	sum := 0
	for line := range strings.Lines(r.metrics.String()) {
		var counts map[string]any
		if err := json.Unmarshal([]byte(line), &counts); err != nil || counts[contract.MetricDimensionEvaluator] != "evaluator" {
			r.t.Fatalf("%s: %v", line, err)
		}
		if n, ok := counts[metric].(float64); ok {
			sum += int(n)
		}
	}
	return sum
}

// follow updates the connections of the data plane with a record.
func follow(r *rig, record offline.Record, now time.Time) {
	if r.iot.connections == nil {
		r.iot.connections = map[string]iotdataplane.GetConnectionOutput{}
	}
	var l engine.Lifecycle
	if record.Kind == offline.Lifecycle && json.Unmarshal(record.Payload, &l) == nil {
		was, known := r.iot.connections[l.ClientID]
		session := fmt.Sprintf("%s/%03d", l.Session, l.Version)
		current := aws.ToString(was.ThingName) // the rig stores the session in this field
		switch l.EventType {
		case "connected":
			r.iot.connections[l.ClientID] = iotdataplane.GetConnectionOutput{Connected: true, ConnectedSince: l.Timestamp, ThingName: &session}
		case "disconnected":
			if known && was.Connected && (strings.Split(current, "/")[0] != l.Session || current > session) {
				break
			}
			r.iot.connections[l.ClientID] = iotdataplane.GetConnectionOutput{DisconnectedSince: l.Timestamp, ThingName: &session}
		}
	}
	for client, c := range r.iot.connections {
		if !c.Connected && now.Sub(time.UnixMilli(c.DisconnectedSince)) > 30*time.Minute {
			c.DisconnectedSince = 0
			r.iot.connections[client] = c
		}
	}
}
