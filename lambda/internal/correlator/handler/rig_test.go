package handler_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	hubtypes "github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/defender/correlation"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	rules "github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/entity"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/handler"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/state"
	"github.com/defenderhub/defenderhub/lambda/internal/emf"
)

const account, region = "123456789012", "us-east-1"

var start = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

// rig is a correlator with services in memory.
type rig struct {
	t       tester
	config  rules.Config
	table   *table
	queue   *queue
	iot     *registry
	hub     *hub
	metrics bytes.Buffer
	logs    bytes.Buffer
	now     time.Time
	// delay is how long each message waits in the queue.
	delay   time.Duration
	sent    int
	handler *handler.Handler
}

// newRig deploys these rules, with the things of newRegistry.
func newRig(t tester, all ...correlation.Rule) *rig {
	t.Helper()
	compiled, err := rules.Compile(all, 0)
	if err != nil {
		t.Fatalf("%v", err)
	}
	r := &rig{t: t, table: newTable(t), queue: &queue{t: t}, iot: newRegistry(), hub: &hub{}, now: start}
	r.config = rules.Config{Rules: compiled, Attributes: []string{"instanceId"}}
	r.deploy()
	return r
}

// deploy starts a new process.
func (r *rig) deploy() {
	clients, err := contract.ParseClientPattern("")
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	entities, err := entity.New(r.iot, entity.Config{MaxAge: time.Hour, Size: 100, Attributes: r.config.Attributes, Clients: clients})
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	now := func() time.Time { return r.now }
	r.handler = handler.New(r.config, handler.Clients{
		Store: state.New(r.table, "state"), Entities: entities, SQS: r.queue, SecurityHub: r.hub,
		Metrics: emf.New(contract.MetricDimensionCorrelator, "correlator", &r.metrics, now),
		Log:     slog.New(slog.NewJSONHandler(&r.logs, nil)), Now: now, IngestQueueURL: "ingest",
	})
}

func invocation() context.Context {
	return lambdacontext.NewContext(context.Background(), &lambdacontext.LambdaContext{InvokedFunctionArn: "arn:aws:lambda:us-east-1:123456789012:function:correlator"})
}

// handle passes events to the function and returns the indexes of those to retry.
func (r *rig) handle(all ...string) []int {
	r.t.Helper()
	var batch events.SQSEvent
	for _, e := range all {
		r.sent++
		batch.Records = append(batch.Records, events.SQSMessage{
			MessageId: strconv.Itoa(len(batch.Records)), Body: e, EventSource: "aws:sqs",
			Attributes: map[string]string{"SentTimestamp": strconv.FormatInt(r.now.Add(-r.delay).UnixMilli(), 10)},
		})
	}
	text, err := json.Marshal(batch)
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	answer, err := r.handler.Handle(invocation(), text)
	if err != nil {
		r.t.Fatalf("%v", err)
	}
	var again []int
	for _, f := range answer.(events.SQSEventResponse).BatchItemFailures {
		i, _ := strconv.Atoi(f.ItemIdentifier)
		again = append(again, i)
	}
	return again
}

// must requires that no event is retried.
func (r *rig) must(all ...string) {
	r.t.Helper()
	if again := r.handle(all...); len(again) > 0 {
		r.t.Fatalf("events %v are retried: %s", again, &r.logs)
	}
}

// due runs the schedule now.
func (r *rig) due() error {
	_, err := r.handler.Handle(invocation(), json.RawMessage(`{"defenderhub":"correlate","at":"`+r.now.Format(time.RFC3339)+`"}`))
	return err
}

// composites returns the newest revision of each finding, which the forwarder imports.
func (r *rig) composites() map[string]rules.Composite {
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	all := map[string]rules.Composite{}
	for _, c := range r.queue.sent {
		id := strings.TrimPrefix(c.FindingID(account, region), "defenderhub/correlation/us-east-1/")
		if was, ok := all[id]; !ok || c.Revision > was.Revision {
			all[id] = c
		} else if c.Revision == was.Revision && incident.Digest(c) != incident.Digest(was) {
			r.t.Errorf("two states of %s have revision %d", id, c.Revision)
		}
	}
	return all
}

// active lists the active composite findings: the ID, the severity and the number of parts of each.
func (r *rig) active() string {
	all := r.composites()
	var lines []string
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if c := all[id]; c.State == asff.Active {
			lines = append(lines, fmt.Sprintf("%s %s %d", id, severityOf(c), c.Parts))
		}
	}
	return strings.Join(lines, ", ")
}

func (r *rig) want(active string) {
	r.t.Helper()
	if got := r.active(); got != active {
		r.t.Errorf("active composite findings %q, want %q", got, active)
	}
}

// counted sums a metric over all sources.
func (r *rig) counted(metric string) int {
	total := 0
	for line := range strings.Lines(r.metrics.String()) {
		var values map[string]any
		if err := json.Unmarshal([]byte(line), &values); err != nil {
			r.t.Fatalf("%v", err)
		}
		n, _ := values[metric].(float64)
		total += int(n)
	}
	return total
}

// finding has the fields of a finding in an event.
type finding struct {
	product, id, generator   string
	account, region          string
	severity, record, flow   string
	created, updated, sentAt time.Time
	processed                time.Time
	title                    string
	fields                   map[string]string
	types                    []string
	resources                []map[string]any
}

// event returns the event of a finding, with defaults for the fields that are not set.
func (f finding) event() string {
	if f.updated.IsZero() {
		f.updated = start
	}
	if f.created.IsZero() {
		f.created = start.Add(-time.Hour)
	}
	if f.sentAt.IsZero() {
		f.sentAt = f.updated
	}
	if f.processed.IsZero() {
		f.processed = f.updated
	}
	or := func(s, other string) string {
		if s == "" {
			return other
		}
		return s
	}
	body := map[string]any{
		"SchemaVersion": "2018-10-08", "Id": f.id, "ProductArn": f.product, "GeneratorId": or(f.generator, "g"), "AwsAccountId": or(f.account, account), "Region": or(f.region, region),
		"CreatedAt": f.created.Format(time.RFC3339Nano), "UpdatedAt": f.updated.Format(time.RFC3339Nano), "ProcessedAt": f.processed.Format(time.RFC3339Nano),
		"Title": or(f.title, "A title"), "Description": "d", "Severity": map[string]any{"Label": or(f.severity, "HIGH")},
		"FindingProviderFields": map[string]any{"Severity": map[string]any{"Label": or(f.severity, "HIGH")}, "Types": f.types},
		"Types":                 f.types, "RecordState": or(f.record, "ACTIVE"), "Workflow": map[string]any{"Status": or(f.flow, "NEW")},
		"ProductFields": f.fields, "Resources": f.resources,
	}
	text, err := json.Marshal(map[string]any{
		"version": "0", "source": "aws.securityhub", "detail-type": "Security Hub Findings - Imported", "account": account, "region": region,
		"time": f.sentAt.Truncate(time.Second).Format(time.RFC3339), "detail": map[string]any{"findings": []any{body}},
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// at returns the finding at a time, in the state that a letter names: o open, x archived,
// s suppressed, r resolved.
func (f finding) at(t time.Time, letter string) finding {
	f.updated, f.sentAt, f.processed = t, t, t
	f.record, f.flow = "ACTIVE", "NEW"
	switch letter {
	case "x":
		f.record = "ARCHIVED"
	case "s":
		f.flow = "SUPPRESSED"
	case "r":
		f.flow = "RESOLVED"
	}
	return f
}

const products = "arn:aws:securityhub:us-east-1:"

var ours = asff.DefaultProductARN("aws", region, account)

// thing returns the resource of a registered thing.
func thing(name string) map[string]any {
	return map[string]any{"Type": "AwsIotRegisteredThing", "Id": name, "Region": region, "Partition": "aws", "Details": map[string]any{"Other": map[string]any{"IsRegisteredThing": "true"}}}
}

// behavior returns the finding of a behavior with a metric, as the self-managed engine raises it.
func behavior(device, metric string) finding {
	return finding{
		product: ours, id: "defenderhub/behavior/us-east-1/plant/" + metric + "/" + device, generator: "defenderhub/behavior/plant", types: []string{"Unusual Behaviors"},
		fields:    map[string]string{"BehaviorName": "b-" + metric, "MetricName": metric, "ThingName": device},
		resources: []map[string]any{thing(device)},
	}
}

// duplicate returns the finding of a disconnect because another connection took the client ID.
func duplicate(device string) finding {
	return finding{
		product: ours, id: "defenderhub/security-disconnect/us-east-1/" + device + "/DUPLICATE_CLIENTID", generator: "defenderhub/security-disconnect",
		fields:    map[string]string{"ClientId": device, "Principal": strings.Repeat("ab", 32), "DisconnectReason": "DUPLICATE_CLIENTID"},
		resources: []map[string]any{{"Type": "Other", "Id": device, "Details": map[string]any{"Other": map[string]any{"ClientId": device}}}},
	}
}

// deviceEvent returns the finding of a security event that a device reports.
func deviceEvent(device, kind string) finding {
	return finding{
		product: ours, id: "defenderhub/device-event/us-east-1/" + device + "/" + kind, generator: "defenderhub/device-event",
		fields: map[string]string{"ClientId": device, "EventType": kind}, resources: []map[string]any{{"Type": "Other", "Id": device}},
	}
}

// broadPolicy returns Device Defender's own audit finding about a policy.
func broadPolicy(policy string) finding {
	return finding{
		product: products + ":product/aws/iot-device-defender-audit", id: account + "/IOT_POLICY/" + policy + "/1/IOT_POLICY_OVERLY_PERMISSIVE_CHECK/X", severity: "CRITICAL",
		fields:    map[string]string{"CheckName": "IOT_POLICY_OVERLY_PERMISSIVE_CHECK", "PolicyName": policy, "ReportType": "AuditFinding"},
		resources: []map[string]any{{"Type": "AwsIotPolicy", "Id": policy}},
	}
}

// guardDuty returns a finding of Amazon GuardDuty about an instance.
func guardDuty(instance string) finding {
	return finding{
		product: products + ":product/aws/guardduty", id: "arn:aws:guardduty:us-east-1:123456789012:detector/d/finding/" + instance, types: []string{"TTPs/Command and Control/Backdoor:EC2-C&CActivity.B"},
		resources: []map[string]any{{"Type": "AwsEc2Instance", "Id": "arn:aws:ec2:us-east-1:123456789012:instance/" + instance}},
	}
}

// queue is the forwarder's queue.
type queue struct {
	t      tester
	mu     sync.Mutex
	sent   []rules.Composite
	broken bool
}

var errBroken = errors.New("the service is unavailable")

func (q *queue) SendMessage(_ context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken || *in.QueueUrl != "ingest" {
		return nil, errBroken
	}
	var c rules.Composite
	if err := json.Unmarshal([]byte(*in.MessageBody), &c); err != nil {
		q.t.Errorf("message %s: %v", *in.MessageBody, err)
		return nil, err
	}
	q.sent = append(q.sent, c)
	return &sqs.SendMessageOutput{}, nil
}

func (q *queue) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.sent)
}

// registry is AWS IoT's registry in memory. Any other call panics.
type registry struct {
	entity.API
	mu       sync.Mutex
	fails    error
	calls    map[string]int
	things   map[string]map[string]string // attributes
	attached map[string][]string          // things of certificates
	policies map[string]string            // the document of each policy, attached to all certificates
	roles    map[string]string            // the role of each role alias
}

func newRegistry() *registry {
	return &registry{
		calls:    map[string]int{},
		things:   map[string]map[string]string{"pump-7": {}, "meter-2": {}, "gateway-1": {"instanceId": "i-0abc"}},
		attached: map[string][]string{strings.Repeat("ab", 32): {"pump-7"}, strings.Repeat("cd", 32): {"pump-7", "meter-2"}},
		policies: map[string]string{"broad": `{"Statement":[{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":["arn:aws:iot:us-east-1:123456789012:rolealias/camera"]}]}`},
		roles:    map[string]string{"camera": "arn:aws:iam::123456789012:role/camera"},
	}
}

func (g *registry) call(name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls[name]++
	return g.fails
}

func (g *registry) DescribeThing(_ context.Context, in *iot.DescribeThingInput, _ ...func(*iot.Options)) (*iot.DescribeThingOutput, error) {
	if err := g.call("DescribeThing"); err != nil {
		return nil, err
	}
	attributes, ok := g.things[*in.ThingName]
	if !ok {
		return nil, &iottypes.ResourceNotFoundException{}
	}
	return &iot.DescribeThingOutput{ThingName: in.ThingName, DefaultClientId: in.ThingName, Attributes: attributes}, nil
}

func (g *registry) ListThings(_ context.Context, in *iot.ListThingsInput, _ ...func(*iot.Options)) (*iot.ListThingsOutput, error) {
	if err := g.call("ListThings"); err != nil {
		return nil, err
	}
	out := &iot.ListThingsOutput{}
	for name, attributes := range g.things {
		if attributes[*in.AttributeName] == *in.AttributeValue {
			out.Things = append(out.Things, iottypes.ThingAttribute{ThingName: aws.String(name)})
		}
	}
	return out, nil
}

func (g *registry) ListPrincipalThings(_ context.Context, in *iot.ListPrincipalThingsInput, _ ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error) {
	if err := g.call("ListPrincipalThings"); err != nil {
		return nil, err
	}
	_, id, _ := strings.Cut(*in.Principal, ":cert/")
	return &iot.ListPrincipalThingsOutput{Things: g.attached[id]}, nil
}

func (g *registry) ListThingPrincipals(_ context.Context, in *iot.ListThingPrincipalsInput, _ ...func(*iot.Options)) (*iot.ListThingPrincipalsOutput, error) {
	if err := g.call("ListThingPrincipals"); err != nil {
		return nil, err
	}
	out := &iot.ListThingPrincipalsOutput{}
	for _, id := range slices.Sorted(maps.Keys(g.attached)) {
		if slices.Contains(g.attached[id], *in.ThingName) {
			out.Principals = append(out.Principals, "arn:aws:iot:us-east-1:123456789012:cert/"+id)
		}
	}
	return out, nil
}

func (g *registry) GetEffectivePolicies(context.Context, *iot.GetEffectivePoliciesInput, ...func(*iot.Options)) (*iot.GetEffectivePoliciesOutput, error) {
	if err := g.call("GetEffectivePolicies"); err != nil {
		return nil, err
	}
	out := &iot.GetEffectivePoliciesOutput{}
	for _, name := range slices.Sorted(maps.Keys(g.policies)) {
		out.EffectivePolicies = append(out.EffectivePolicies, iottypes.EffectivePolicy{PolicyName: aws.String(name), PolicyDocument: aws.String(g.policies[name])})
	}
	return out, nil
}

func (g *registry) DescribeRoleAlias(_ context.Context, in *iot.DescribeRoleAliasInput, _ ...func(*iot.Options)) (*iot.DescribeRoleAliasOutput, error) {
	if err := g.call("DescribeRoleAlias"); err != nil {
		return nil, err
	}
	return &iot.DescribeRoleAliasOutput{RoleAliasDescription: &iottypes.RoleAliasDescription{RoleArn: aws.String(g.roles[*in.RoleAlias])}}, nil
}

// hub answers GetFindings, in pages of 15.
type hub struct {
	mu       sync.Mutex
	findings []hubtypes.AwsSecurityFinding
	asked    [][]string
	broken   bool
}

func (h *hub) GetFindings(_ context.Context, in *securityhub.GetFindingsInput, _ ...func(*securityhub.Options)) (*securityhub.GetFindingsOutput, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken {
		return nil, errBroken
	}
	var ids []string
	for _, f := range in.Filters.Id {
		ids = append(ids, *f.Value)
	}
	from := 0
	if in.NextToken == nil {
		h.asked = append(h.asked, ids)
	} else if _, err := fmt.Sscan(*in.NextToken, &from); err != nil {
		return nil, err
	}
	product := func(f hubtypes.AwsSecurityFinding) bool {
		return slices.ContainsFunc(in.Filters.ProductArn, func(p hubtypes.StringFilter) bool { return *p.Value == *f.ProductArn })
	}
	var found []hubtypes.AwsSecurityFinding
	for _, f := range h.findings {
		if slices.Contains(ids, *f.Id) && product(f) {
			found = append(found, f)
		}
	}
	out := &securityhub.GetFindingsOutput{Findings: found[from:min(from+15, len(found))]}
	if from+15 < len(found) {
		out.NextToken = aws.String(fmt.Sprint(from + 15))
	}
	return out, nil
}

// settle runs the schedule until it has sent everything and has counted the devices of campaigns.
func (r *rig) settle() {
	r.t.Helper()
	for _, minutes := range []time.Duration{1, 1, 16, 1} {
		r.now = r.now.Add(minutes * time.Minute)
		if err := r.due(); err != nil {
			r.t.Fatalf("%v", err)
		}
	}
}
