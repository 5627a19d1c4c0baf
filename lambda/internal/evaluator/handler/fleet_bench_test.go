//go:build unix && !race

package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/fleet"
	"github.com/defenderhub/defenderhub/lambda/internal/evaluator/state"
)

// BenchmarkFleet plays a sample of a fleet, in which one device in a hundred misbehaves all the
// time. Its results scale with the number of devices.
const (
	sampleDevices = 1000
	badDevices    = sampleDevices / 100
	// defaultBatching is the constructs' default batching window.
	defaultBatching = 10 * time.Second
	// settling is the number of windows of five minutes that pass before the benchmark counts.
	settling = 3
)

// scenario has behaviors and the telemetry of the devices.
type scenario struct {
	name      string
	behaviors []defender.Behavior
	// windows is the number of counted windows of five minutes.
	windows  int
	batching time.Duration
	// reports and every are engine.Config's Reports and ReportsEvery.
	reports bool
	every   int
	// send returns the records of a device in a window; at is the device's time in the window.
	send func(device, window int, at time.Time) []iotrule.Telemetry
	// interval is engine.Config.ReportSeconds.
	interval int
}

var fiveOfReports = []defender.Behavior{
	{Name: "tcp", Criteria: defender.ListeningTCPPorts.InPorts(22, 443)},
	{Name: "udp", Criteria: defender.ListeningUDPPorts.InPorts(123)},
	{Name: "destinations", Criteria: defender.DestinationIPAddresses.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"))},
	{Name: "connections", Criteria: defender.EstablishedTCPConnections.LessThan(20)},
	{Name: "traffic", Criteria: defender.AllBytesOut.LessThan(1<<20, defender.Window5m)},
}

var fewMessages = []defender.Behavior{{Name: "few", Criteria: defender.MessagesSent.LessThan(10, defender.Window5m)}}

// sendMessages returns one message per minute, and three if the device misbehaves.
func sendMessages(device, _ int, at time.Time) []iotrule.Telemetry {
	n := 5
	if device < badDevices {
		n = 15
	}
	all := make([]iotrule.Telemetry, n)
	for i := range all {
		all[i] = published(iotrule.PublishedMessage, device, 200, at.Add(time.Duration(i)*5*time.Minute/time.Duration(n)))
	}
	return all
}

var scenarioList = []scenario{
	{"reports", fiveOfReports, 12, defaultBatching, true, 0, sendReport, 0},
	{"percentile", append(slices.Clone(fiveOfReports), defender.Behavior{
		Name: "p99", Criteria: defender.AllBytesOut.LessThanEqualsPercentile(defender.P99, defender.Window5m),
	}), 12, defaultBatching, true, 0, sendReport, 0},
	{"silence", fiveOfReports, 12, defaultBatching, true, 15, sendReport, 0},
	{"silence-hour", fiveOfReports, 12, defaultBatching, true, 60, sendReport, 0},
	{"sums", append(slices.Clone(fiveOfReports[:4]), defender.Behavior{
		Name: "traffic", Criteria: defender.AllBytesOut.LessThan(1<<20, defender.Window15m),
	}), 12, defaultBatching, true, 0, sendReport, 0},
	{"sums-minute", fiveOfReports, 12, defaultBatching, true, 0, func(device, window int, at time.Time) []iotrule.Telemetry {
		var all []iotrule.Telemetry
		for i := range 5 {
			all = append(all, sendReport(device, window, at.Add(time.Duration(i)*time.Minute))...)
		}
		return all
	}, 60},
	{"messages", fewMessages, 12, defaultBatching, false, 0, sendMessages, 0},
	{"messages-gathered", fewMessages, 12, 5 * time.Minute, false, 0, sendMessages, 0},
	{"messages-least", []defender.Behavior{{Name: "enough", Criteria: defender.MessagesSent.GreaterThanEquals(3, defender.Window5m)}},
		12, defaultBatching, false, 0, func(device, window int, at time.Time) []iotrule.Telemetry {
			all := sendMessages(badDevices, window, at)
			if device < badDevices {
				all = all[:1]
			}
			for i := range all {
				all[i].ClientID, all[i].Topic = clientID(device), "plant/7/"+clientID(device)+"/data"
			}
			if (window+device)%288 == 0 { // once a day
				all = append(all, session(device, window, at.Add(30*time.Second), 10*time.Second)...)
			}
			return all
		}, 0},
	{"oversize", []defender.Behavior{{Name: "small", Criteria: defender.MessageByteSize.LessThan(1024)}}, 12, defaultBatching, false, 0,
		func(device, window int, at time.Time) []iotrule.Telemetry {
			if device >= badDevices {
				return nil
			}
			return []iotrule.Telemetry{published(iotrule.Oversize, device, 4096, at)}
		}, 0},
	{"sessions", []defender.Behavior{
		{Name: "steady", Criteria: defender.Disconnects.LessThan(3, defender.Window5m)},
		{Name: "present", Criteria: defender.DisconnectDuration.LessThan(60)},
	}, 288, defaultBatching, false, 0, func(device, window int, at time.Time) []iotrule.Telemetry {
		var all []iotrule.Telemetry
		switch {
		case device < badDevices: // three times in five minutes
			for i := range 3 {
				all = append(all, session(device, window*3+i, at.Add(time.Duration(i)*time.Minute), 5*time.Second)...)
			}
		case (window+device)%288 == 0: // once a day
			all = session(device, window, at, time.Minute)
		}
		return all
	}, 0},
}

func clientID(device int) string { return fmt.Sprintf("pump-%06d", device) }

const principal = "a9a8d1d25d3dd2f0ff3ff0b1b5b8b9f8f6e3a5f2a8c5d1e2f3a4b5c6d7e8f901"

func published(kind iotrule.TelemetryKind, device int, bytes int64, at time.Time) iotrule.Telemetry {
	return iotrule.Telemetry{
		Kind: kind, Topic: "plant/7/" + clientID(device) + "/data", Time: at.UnixMilli(), ID: fmt.Sprintf("5a2d3a1c-7f4e-4f6e-9e7b-%012d", at.UnixMilli()),
		ClientID: clientID(device), Principal: principal, SourceIP: "10.20.30.40", Bytes: bytes,
	}
}

// sendReport returns a report with short names, as AWS's agents send it.
func sendReport(device, window int, at time.Time) []iotrule.Telemetry {
	t := published(iotrule.DeviceReport, device, 0, at)
	open := 443
	if device < badDevices {
		open = 23
	}
	t.Topic = clientID(device)
	t.Payload = fmt.Appendf(nil, `{"hed":{"rid":%d,"v":"1.0"},"met":{"tp":{"pts":[{"if":"eth0","pt":22},{"if":"eth0","pt":%d}],"t":2},"up":{"pts":[{"if":"eth0","pt":123}],"t":1},`+
		`"ns":{"bi":%d,"bo":%d,"pi":%d,"po":%d},"tc":{"ec":{"cs":[{"li":"eth0","lp":443,"rad":"10.1.2.3:8000"},{"li":"eth0","lp":8883,"rad":"10.3.2.1:40000"}],"t":2}}}}`,
		at.Unix(), open, 29000+device, 26000+(device*7919+window)%1000, 310+device%50, 280+device%50)
	return []iotrule.Telemetry{t}
}

func session(device, n int, at time.Time, away time.Duration) []iotrule.Telemetry {
	event := func(kind string, n int, at time.Time) iotrule.Telemetry {
		payload := fmt.Sprintf(`{"clientId":%q,"timestamp":%d,"eventType":%q,"sessionIdentifier":"session-%d","principalIdentifier":%q,"versionNumber":%d,"ipAddress":"10.20.30.40"}`,
			clientID(device), at.UnixMilli(), kind, n, principal, n)
		return iotrule.Telemetry{Kind: iotrule.LifecycleEvent, Topic: "$aws/events/presence/" + kind + "/" + clientID(device), Time: at.UnixMilli(), Payload: []byte(payload)}
	}
	return []iotrule.Telemetry{event("disconnected", n, at), event("connected", n+1, at.Add(away))}
}

// meteredTable counts the calls about things and populations, in DynamoDB units. It ignores the
// fixed cost of each minute (the heartbeat, the behaviors' generations, a query of each shard of
// the index), which does not grow with the devices.
type meteredTable struct {
	*table
	mu                   sync.Mutex
	reads, writes, calls float64
}

// eachMinute reports whether an item belongs to the fixed cost of each minute.
func eachMinute(it item) bool {
	partition := str(it, contract.StatePartitionKey)
	return partition == "progress" || partition == "behaviors"
}

// bytesOf returns the size of an item as DynamoDB counts it.
// https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
func bytesOf(it item) int {
	bytes := 0
	for name, value := range it {
		bytes += len(name)
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			bytes += len(v.Value)
		case *types.AttributeValueMemberN:
			bytes += (len(v.Value)+1)/2 + 1
		case *types.AttributeValueMemberB:
			bytes += len(v.Value)
		}
	}
	return bytes
}

func units(bytes, of int) float64 { return math.Max(1, math.Ceil(float64(bytes)/float64(of))) }

func (m *meteredTable) charge(reads, writes float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	m.reads += reads
	m.writes += writes
}

func (m *meteredTable) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, options ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	out, err := m.table.BatchGetItem(ctx, in, options...)
	found := out.Responses["state"]
	reads := float64(len(in.RequestItems["state"].Keys)-len(found)) / 2
	for _, it := range found {
		reads += units(bytesOf(it), 4096) / 2
	}
	m.charge(reads, 0)
	return out, err
}

func (m *meteredTable) GetItem(ctx context.Context, in *dynamodb.GetItemInput, options ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	out, err := m.table.GetItem(ctx, in, options...)
	if !eachMinute(in.Key) {
		m.charge(units(bytesOf(out.Item), 4096), 0)
	}
	return out, err
}

// PutItem is charged for the larger of the items before and after, and for the index if its keys
// change.
func (m *meteredTable) PutItem(ctx context.Context, in *dynamodb.PutItemInput, options ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error) {
	if eachMinute(in.Item) {
		return m.table.PutItem(ctx, in, options...)
	}
	before := m.at(item{contract.StatePartitionKey: in.Item[contract.StatePartitionKey], contract.StateSortKey: in.Item[contract.StateSortKey]})
	out, err := m.table.PutItem(ctx, in, options...)
	writes := units(max(bytesOf(before), bytesOf(in.Item)), 1024)
	if err == nil {
		writes += ofIndex(before, in.Item)
	}
	m.charge(0, writes)
	return out, err
}

// ofIndex returns the write units of the index.
func ofIndex(before, after item) (writes float64) {
	was, is := before[contract.StateDueAt] != nil, after[contract.StateDueAt] != nil
	if was == is && num(before, contract.StateDueAt) == num(after, contract.StateDueAt) {
		return 0
	}
	if was {
		writes++
	}
	if is {
		writes++
	}
	return writes
}

// Query is not charged for the first half unit of the index, which is part of the fixed cost.
func (m *meteredTable) Query(ctx context.Context, in *dynamodb.QueryInput, options ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	out, err := m.table.Query(ctx, in, options...)
	if err != nil {
		return nil, err
	}
	bytes := 0
	for _, it := range out.Items {
		bytes += bytesOf(it)
	}
	reads := units(bytes, 4096) / 2
	if in.IndexName != nil {
		reads -= 0.5
	}
	if reads > 0 {
		m.charge(reads, 0)
	}
	return out, nil
}

// usage is the cost of a scenario.
type usage struct {
	records, bytes, batches, reads, writes, calls, asked, transitions, logged, allocated float64
	busy                                                                                 time.Duration
}

// fleetRun has the function with a metered table.
type fleetRun struct {
	*rig
	meter *meteredTable
	used  usage
}

func newFleetRun(b *testing.B, s scenario) *fleetRun {
	r := &fleetRun{rig: newRig(b, engine.Config{
		Profiles: []engine.ProfileConfig{{Name: "Profile", Behaviors: s.behaviors}},
		Reports:  s.reports, ReportsEvery: s.every, ReportSeconds: s.interval, BatchSeconds: int(s.batching / time.Second), MembershipMinutes: 15,
	})}
	r.meter = &meteredTable{table: r.table}
	r.table.PageItems = 1000 // DynamoDB's pages have 1 MB
	population, err := fleet.New(r.meter, fleet.Config{Table: "state", Lateness: engine.Lateness(s.batching), Log: r.handler.Log})
	if err != nil {
		b.Fatal(err)
	}
	r.handler.Store, r.handler.Fleet = state.New(r.meter, "state", nil), population
	return r
}

// invoke runs one invocation of the function.
func (r *fleetRun) invoke(event any) {
	text, err := json.Marshal(event)
	if err != nil {
		r.t.Fatal(err)
	}
	r.logs.Reset()
	r.metrics.Reset()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := r.processorTime()
	if _, err := r.handler.Handle(context.Background(), text); err != nil {
		r.t.Fatal(err)
	}
	r.used.busy += r.processorTime() - began
	runtime.ReadMemStats(&after)
	r.used.allocated += float64(after.TotalAlloc - before.TotalAlloc)
	r.used.logged += float64(r.logs.Len() + r.metrics.Len())
	r.used.batches++
	r.used.reads, r.used.writes, r.used.calls = r.meter.reads, r.meter.writes, r.meter.calls
	r.used.asked, r.used.transitions = float64(len(r.registry.asked)), float64(len(r.queue.bodies))
}

// processorTime returns the CPU time of the process on all cores.
func (r *fleetRun) processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		r.t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFleet measures the cost of one device in a window of five minutes: the whole function
// with its table in memory, without the AWS SDK and the network.
func BenchmarkFleet(b *testing.B) {
	for _, s := range scenarioList {
		b.Run(s.name, func(b *testing.B) {
			fastest := math.Inf(1)
			for b.Loop() {
				fastest = min(fastest, s.play(b))
			}
			b.ReportMetric(fastest, "cpu-ns")
		})
	}
}

// play returns the CPU time in ns per device and window.
func (s scenario) play(b *testing.B) float64 {
	r := newFleetRun(b, s)
	batches := map[int64][]events.SQSMessage{}
	var from usage
	for window := range settling + s.windows {
		if window == settling {
			from = r.used
		}
		begin := start.Add(time.Duration(window) * 5 * time.Minute)
		for device := range sampleDevices {
			for i, t := range s.send(device, window, begin.Add(time.Duration(device)*5*time.Minute/sampleDevices)) {
				m := sent(fmt.Sprintf("%d-%d-%d", device, window, i), time.UnixMilli(t.Time), t)
				batch := t.Time / s.batching.Milliseconds()
				batches[batch] = append(batches[batch], m)
				r.used.records++
				r.used.bytes += float64(len(m.Body))
			}
		}
		for at := begin; at.Before(begin.Add(5 * time.Minute)); {
			at = at.Add(defaultBatching)
			r.now = at
			batch := at.UnixMilli()/s.batching.Milliseconds() - 1
			if messages := batches[batch]; at.Sub(start)%s.batching == 0 && len(messages) > 0 {
				r.invoke(events.SQSEvent{Records: messages})
				delete(batches, batch)
			}
			if at.Truncate(time.Minute).Equal(at) {
				r.invoke(json.RawMessage(strings.ReplaceAll(contract.CloseRequest(0, 1), "<aws.scheduler.scheduled-time>", at.Format(time.RFC3339))))
			}
		}
	}
	stored := 0
	for _, it := range r.table.items() {
		stored += bytesOf(it) + 100 // as DynamoDB counts storage
	}
	used := func(field func(usage) float64) float64 { return field(r.used) - field(from) }
	each := float64(sampleDevices * s.windows)
	perDevice := func(name string, field func(usage) float64) { b.ReportMetric(used(field)/each, name) }
	perDevice("records", func(u usage) float64 { return u.records })
	perDevice("read-units", func(u usage) float64 { return u.reads })
	perDevice("write-units", func(u usage) float64 { return u.writes })
	perDevice("calls", func(u usage) float64 { return u.calls })
	perDevice("registry", func(u usage) float64 { return u.asked })
	perDevice("transitions", func(u usage) float64 { return u.transitions })
	records := used(func(u usage) float64 { return u.records })
	b.ReportMetric(used(func(u usage) float64 { return u.bytes })/records, "record-bytes")
	b.ReportMetric(used(func(u usage) float64 { return u.allocated })/records, "record-allocated-bytes")
	b.ReportMetric(used(func(u usage) float64 { return u.logged })/used(func(u usage) float64 { return u.batches }), "logged-bytes")
	b.ReportMetric(float64(stored)/sampleDevices, "stored-bytes")
	return used(func(u usage) float64 { return float64(u.busy) }) / each
}
