package engine

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// fiveBehaviors returns an evaluator with the five behaviors of the cost table. One report judges all.
func fiveBehaviors(t testing.TB) Evaluator {
	return evaluator(t,
		defender.Behavior{Name: "tcp", Criteria: defender.ListeningTCPPorts.InPorts(22, 443)},
		defender.Behavior{Name: "udp", Criteria: defender.ListeningUDPPorts.InPorts(123)},
		defender.Behavior{Name: "destinations", Criteria: defender.DestinationIPAddresses.InCIDRs(netip.MustParsePrefix("10.0.0.0/8"))},
		defender.Behavior{Name: "connections", Criteria: defender.EstablishedTCPConnections.LessThan(20)},
		defender.Behavior{Name: "traffic", Criteria: defender.AllBytesOut.LessThan(1<<20, defender.Window5m)})
}

func fiveMetrics(tcp ...uint16) map[string]iotapi.Value {
	return map[string]iotapi.Value{
		defender.ListeningTCPPorts.Info().Name:         ports(tcp...),
		defender.ListeningUDPPorts.Info().Name:         ports(123),
		defender.DestinationIPAddresses.Info().Name:    cidrs("10.1.2.3", "10.3.2.1"),
		defender.EstablishedTCPConnections.Info().Name: count(3),
		defender.AllBytesOut.Info().Name:               count(4711),
	}
}

func BenchmarkConformingReport(b *testing.B) {
	e := fiveBehaviors(b)
	report := measured("1", start.UnixMilli(), fiveMetrics(22, 443))
	b.ReportAllocs()
	for b.Loop() {
		if r := e.Step("thing", State{}, report, start); r.Changed {
			b.Fatal("a conforming report is written")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
}

func BenchmarkReportsOfADeviceInAlarm(b *testing.B) {
	e := fiveBehaviors(b)
	var s State
	at := start
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at = at.Add(5 * time.Minute)
		s = e.Step("thing", s, measured(fmt.Sprint(i), at.UnixMilli(), fiveMetrics(22, 23, 443)), at).State
	}
	text, err := json.Marshal(s)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
	b.ReportMetric(float64(len(text)), "state-bytes")
}

func BenchmarkCountedMessage(b *testing.B) {
	e := evaluator(b, behavior(defender.MessagesSent.LessThan(1000, defender.Window5m)))
	var s State
	at := start
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at = at.Add(time.Second)
		d := Message{Topic: "t", ID: fmt.Sprint(i), Time: at.UnixMilli(), MQTT: true}.Datapoint(defender.MessagesSent)
		s = e.Step("thing", s, []Datapoint{d}, at).State
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// The device is the worst that AWS allows: it connects each second, publishes a hundred messages per
// second, and reports long lists. Every behavior judges it.
func TestStateOfTheWorstDeviceIsBounded(t *testing.T) {
	e := Evaluator{Behaviors: everyKind(t), Lateness: Lateness(MaxBatching), Fleet: fixedFleet{}, Connection: stillConnected}
	var s State
	largest := 0
	var points []Datapoint
	for second := range int64(30 * 60) {
		at := start.UnixMilli() + second*1000
		session := fmt.Sprint(second)
		points = append(points, Lifecycle{ClientID: "c", Timestamp: at, EventType: "connected", Session: session, Version: second, IPAddress: "192.0.2.1"}.Datapoints()...)
		points = append(points, Lifecycle{ClientID: "c", Timestamp: at + 900, EventType: "disconnected", Session: session, Version: second}.Datapoints()...)
		for i := range int64(100) {
			m := Message{Topic: "t", ClientID: "c", ID: fmt.Sprint(second, i), Time: at + i*9, Bytes: 128 << 10, MQTT: true}
			points = append(points, m.Datapoint(defender.MessageByteSize), m.Datapoint(defender.MessagesSent))
		}
		if second%60 != 0 {
			continue
		}
		many := make([]uint16, 5000)
		for i := range many {
			many[i] = uint16(i + 1000)
		}
		points = append(points, measured(session, at, map[string]iotapi.Value{
			defender.ListeningTCPPorts.Info().Name: {Ports: many}, defender.AllBytesOut.Info().Name: count(1 << 40), defender.AllBytesIn.Info().Name: count(1 << 40),
		})...)
		s = e.Step("thing", s, points, time.UnixMilli(at)).State
		points = nil
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, len(text))
	}
	t.Logf("%d bytes at most", largest)
	if largest > maxStateBytes {
		t.Errorf("state of %d bytes, want at most %d", largest, maxStateBytes)
	}
}
