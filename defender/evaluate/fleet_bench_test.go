package evaluate_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/evaluate"
	"github.com/defenderhub/defenderhub/defender/report"
)

// What BenchmarkFleet plays: a sample of a fleet, of which one device in a hundred
// misbehaves all the time. What it counts grows with the number of devices.
const (
	sampleDevices = 1000
	misbehaving   = sampleDevices / 100
	// defaultBatching is the window in which the constructs let Lambda gather a batch.
	defaultBatching = 10 * time.Second
	// settling are the windows of five minutes before anything is counted.
	settling = 12
)

var fleetStart = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)

// scenario is what a fleet is judged by and what its devices send.
type scenario struct {
	name      string
	behaviors []defender.Behavior
	// windows of five minutes that are counted.
	windows  int
	batching time.Duration
	// send are the records of a device in a window; at is when it has its turn.
	send func(device, window int, at time.Time) []evaluate.Telemetry
}

var fiveOfReports = []defender.Behavior{
	{Name: "tcp", Criteria: defender.ListeningTCPPorts.InPorts(22, 443)},
	{Name: "udp", Criteria: defender.ListeningUDPPorts.InPorts(123)},
	{Name: "destinations", Criteria: defender.DestinationIPAddresses.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"))},
	{Name: "connections", Criteria: defender.EstablishedTCPConnections.LessThan(20)},
	{Name: "traffic", Criteria: defender.AllBytesOut.LessThan(1<<20, defender.Window5m)},
}

var fewMessages = []defender.Behavior{{Name: "few", Criteria: defender.MessagesSent.LessThan(10, defender.Window5m)}}

// sendMessages is one message a minute, and three of who misbehaves.
func sendMessages(device, _ int, at time.Time) []evaluate.Telemetry {
	n := 5
	if device < misbehaving {
		n = 15
	}
	all := make([]evaluate.Telemetry, n)
	for i := range all {
		all[i] = message(evaluate.PublishedMessage, device, 200, at.Add(time.Duration(i)*5*time.Minute/time.Duration(n)))
	}
	return all
}

var scenarioList = []scenario{
	{"reports", fiveOfReports, 12, defaultBatching, sendReport},
	{"percentile", append(slices.Clone(fiveOfReports), defender.Behavior{
		Name: "p99", Criteria: defender.AllBytesOut.Statistical(defender.LessThanEquals, defender.P99, defender.Window5m),
	}), 12, defaultBatching, sendReport},
	{"messages", fewMessages, 12, defaultBatching, sendMessages},
	{"messages-gathered", fewMessages, 12, 5 * time.Minute, sendMessages},
	{"oversize", []defender.Behavior{{Name: "small", Criteria: defender.MessageByteSize.LessThan(1024)}}, 12, defaultBatching,
		func(device, window int, at time.Time) []evaluate.Telemetry {
			if device >= misbehaving {
				return nil
			}
			return []evaluate.Telemetry{message(evaluate.Oversize, device, 4096, at)}
		}},
	{"sessions", []defender.Behavior{
		{Name: "steady", Criteria: defender.Disconnects.LessThan(3, defender.Window5m)},
		{Name: "present", Criteria: defender.DisconnectDuration.LessThan(60)},
	}, 288, defaultBatching, func(device, window int, at time.Time) []evaluate.Telemetry {
		var all []evaluate.Telemetry
		switch {
		case device < misbehaving: // three times in five minutes
			for i := range 3 {
				all = append(all, session(device, window*3+i, at.Add(time.Duration(i)*time.Minute), 5*time.Second)...)
			}
		case (window+device)%288 == 0: // once a day
			all = session(device, window, at, time.Minute)
		}
		return all
	}},
}

func clientID(device int) string { return fmt.Sprintf("pump-%06d", device) }

const principal = "a9a8d1d25d3dd2f0ff3ff0b1b5b8b9f8f6e3a5f2a8c5d1e2f3a4b5c6d7e8f901"

func message(kind evaluate.Kind, device int, bytes int64, at time.Time) evaluate.Telemetry {
	return evaluate.Telemetry{
		Kind: kind, Topic: "plant/7/" + clientID(device) + "/data", Time: at.UnixMilli(), ID: fmt.Sprintf("5a2d3a1c-7f4e-4f6e-9e7b-%012d", at.UnixMilli()),
		ClientID: clientID(device), Principal: principal, SourceIP: "10.20.30.40", Bytes: bytes,
	}
}

// sendReport is a report of AWS's agents in short names.
func sendReport(device, window int, at time.Time) []evaluate.Telemetry {
	t := message(evaluate.DeviceReport, device, 0, at)
	open := 443
	if device < misbehaving {
		open = 23
	}
	t.Topic = clientID(device)
	t.Payload = fmt.Appendf(nil, `{"hed":{"rid":%d,"v":"1.0"},"met":{"tp":{"pts":[{"if":"eth0","pt":22},{"if":"eth0","pt":%d}],"t":2},"up":{"pts":[{"if":"eth0","pt":123}],"t":1},`+
		`"ns":{"bi":%d,"bo":%d,"pi":%d,"po":%d},"tc":{"ec":{"cs":[{"li":"eth0","lp":443,"rad":"10.1.2.3:8000"},{"li":"eth0","lp":8883,"rad":"10.3.2.1:40000"}],"t":2}}}}`,
		at.Unix(), open, 29000+device, 26000+(device*7919+window)%1000, 310+device%50, 280+device%50)
	return []evaluate.Telemetry{t}
}

func session(device, n int, at time.Time, away time.Duration) []evaluate.Telemetry {
	event := func(kind string, n int, at time.Time) evaluate.Telemetry {
		payload := fmt.Sprintf(`{"clientId":%q,"timestamp":%d,"eventType":%q,"sessionIdentifier":"session-%d","principalIdentifier":%q,"versionNumber":%d,"ipAddress":"10.20.30.40"}`,
			clientID(device), at.UnixMilli(), kind, n, principal, n)
		return evaluate.Telemetry{Kind: evaluate.LifecycleEvent, Topic: "$aws/events/presence/" + kind + "/" + clientID(device), Time: at.UnixMilli(), Payload: []byte(payload)}
	}
	return []evaluate.Telemetry{event("disconnected", n, at), event("connected", n+1, at.Add(away))}
}

// fleetTable counts the units of DynamoDB that the state table takes.
type fleetTable struct {
	items                map[string]fleetItem
	reads, writes, calls float64
}

type fleetItem struct {
	state evaluate.State
	bytes int
	due   time.Time
}

// itemOverhead are the bytes of an item beside the state: its keys, the thing, times.
const itemOverhead = 200

func (t *fleetTable) put(key string, state evaluate.State, due time.Time) {
	before := t.items[key]
	after := fleetItem{state: state, due: due}
	if !state.Empty() {
		text, err := json.Marshal(state)
		if err != nil {
			panic(err)
		}
		after.bytes = itemOverhead + len(text)
	}
	t.calls++
	t.writes += units(max(before.bytes, after.bytes), 1024)
	if before.due != due {
		for _, d := range []time.Time{before.due, due} {
			if !d.IsZero() {
				t.writes++ // of the index
			}
		}
	}
	t.items[key] = after
}

func units(bytes, of int) float64 { return math.Max(1, math.Ceil(float64(bytes)/float64(of))) }

// fleetRun plays a scenario through the evaluation as the evaluator does: one read a
// device and batch, a write where something changed, a round of the closer each minute.
type fleetRun struct {
	evaluate.Evaluator
	fleetTable
	transitions, samples, records, bytes float64
	allocated                            float64
	busy                                 time.Duration
}

// pass is a batch, if one is due, and each minute a round of the closer.
func (r *fleetRun) pass(bodies [][]byte, at time.Time) error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	if len(bodies) > 0 {
		if err := r.batch(bodies, at); err != nil {
			return err
		}
	}
	if at.Truncate(time.Minute).Equal(at) {
		r.close(at)
	}
	r.busy += time.Since(began)
	runtime.ReadMemStats(&after)
	r.allocated += float64(after.TotalAlloc - before.TotalAlloc)
	return nil
}

func (r *fleetRun) batch(bodies [][]byte, at time.Time) error {
	points := map[string][]evaluate.Datapoint{}
	for _, body := range bodies {
		t, err := evaluate.DecodeTelemetry(body, "")
		if err != nil {
			return err
		}
		key, some, err := datapoints(t)
		if err != nil {
			return err
		}
		points[key] = append(points[key], some...)
	}
	r.calls += math.Ceil(float64(len(points)) / 100)
	for key, some := range points {
		r.reads += units(r.items[key].bytes, 4096) / 2
		r.step(key, some, at)
	}
	return nil
}

func (r *fleetRun) step(key string, points []evaluate.Datapoint, at time.Time) {
	before := r.items[key]
	result := r.Step(key, before.state, points, at)
	r.transitions += float64(len(result.Transitions))
	r.samples += float64(len(result.Samples))
	if result.Changed {
		r.put(key, result.State, r.Due(result.State))
	}
	if len(result.Transitions) > 0 { // the outbox is cleared
		r.writes++
		r.calls++
	}
}

func (r *fleetRun) close(at time.Time) {
	for key, item := range r.items {
		if !item.due.IsZero() && !item.due.After(at) {
			r.calls++
			r.reads += units(item.bytes, 4096)
			r.step(key, nil, at)
		}
	}
}

func datapoints(t evaluate.Telemetry) (string, []evaluate.Datapoint, error) {
	switch t.Kind {
	case evaluate.LifecycleEvent:
		var l evaluate.Lifecycle
		err := json.Unmarshal(t.Payload, &l)
		return l.ClientID, l.Datapoints(), err
	case evaluate.DeviceReport:
		r, err := report.Decode(t.Payload)
		return t.ClientID, evaluate.Report(fmt.Sprint(r.ID), t.Time, r.Values), err
	}
	m := evaluate.Message{Topic: t.Topic, ClientID: t.ClientID, SourceIP: t.SourceIP, ID: t.ID, Time: t.Time, Bytes: t.Bytes, MQTT: true}
	metric := defender.Metric(defender.MessageByteSize)
	if t.Kind == evaluate.PublishedMessage {
		metric = defender.MessagesSent
	}
	return t.ClientID, []evaluate.Datapoint{m.Datapoint(metric)}, nil
}

// BenchmarkFleet measures what a window of five minutes takes, a device.
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

// play returns the ns that the evaluation took of a device and window.
func (s scenario) play(b *testing.B) float64 {
	compiled, err := evaluate.Compile("Profile", s.behaviors)
	if err != nil {
		b.Fatal(err)
	}
	r := &fleetRun{fleetTable: fleetTable{items: map[string]fleetItem{}}}
	r.Evaluator = evaluate.Evaluator{Behaviors: compiled, Lateness: evaluate.Lateness(s.batching)}
	batches := map[int64][][]byte{}
	var from fleetRun
	for window := range settling + s.windows {
		if window == settling {
			from = *r
		}
		start := fleetStart.Add(time.Duration(window) * 5 * time.Minute)
		for device := range sampleDevices {
			for _, t := range s.send(device, window, start.Add(time.Duration(device)*5*time.Minute/sampleDevices)) {
				body, err := json.Marshal(t)
				if err != nil {
					b.Fatal(err)
				}
				batch := t.Time / s.batching.Milliseconds()
				batches[batch] = append(batches[batch], body)
				r.records++
				r.bytes += float64(len(body))
			}
		}
		for at := start; at.Before(start.Add(5 * time.Minute)); {
			at = at.Add(defaultBatching)
			var due [][]byte
			if at.Sub(fleetStart)%s.batching == 0 {
				batch := at.UnixMilli()/s.batching.Milliseconds() - 1
				due = batches[batch]
				delete(batches, batch)
			}
			if err := r.pass(due, at); err != nil {
				b.Fatal(err)
			}
		}
	}
	stored := 0.0
	for _, item := range r.items {
		stored += float64(item.bytes)
	}
	each := float64(sampleDevices * s.windows)
	b.ReportMetric((r.records-from.records)/each, "records")
	b.ReportMetric((r.bytes-from.bytes)/(r.records-from.records), "record-bytes")
	b.ReportMetric((r.reads-from.reads)/each, "read-units")
	b.ReportMetric((r.writes-from.writes)/each, "write-units")
	b.ReportMetric((r.calls-from.calls)/each, "calls")
	b.ReportMetric((r.transitions-from.transitions)/each, "transitions")
	b.ReportMetric((r.samples-from.samples)/each, "samples")
	b.ReportMetric(stored/sampleDevices, "stored-bytes")
	b.ReportMetric((r.allocated-from.allocated)/(r.records-from.records), "record-allocated-bytes")
	return float64(r.busy-from.busy) / each
}
