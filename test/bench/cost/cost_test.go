package cost

import (
	"math"
	"testing"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6*math.Max(1, math.Abs(want)) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestEveryItemHasAPriceAndASource(t *testing.T) {
	for i, p := range Prices {
		if p.Unit == "" || p.Source == "" || p.Per <= 0 || len(p.Tiers) == 0 {
			t.Fatalf("price %d lacks a unit, a source, an amount or a tier: %+v", i, p)
		}
		below := 0.0
		for _, tier := range p.Tiers {
			if tier.UpTo <= below || tier.USD <= 0 {
				t.Errorf("%s: tiers %v do not rise, or cost nothing", p.Unit, p.Tiers)
			}
			below = tier.UpTo
		}
		if !math.IsInf(below, 1) {
			t.Errorf("%s: the last tier ends at %v, want no end", p.Unit, below)
		}
	}
}

func TestTiers(t *testing.T) {
	messages := Prices[IoTMessages]
	for units, want := range map[float64]float64{
		0: 0, 1e6: 1, 1e9: 1000, 2e9: 1800, 5e9: 1000 + 3200,
		8.64e9: 1000 + 3200 + 3640*0.70, // a million devices, one report every five minutes
	} {
		near(t, messages.Unit, messages.USD(units), want)
	}
}

// The month of 10,000 devices that report every five minutes, calculated by hand: 86.4 million
// reports.
func TestBillByHand(t *testing.T) {
	d := Deployment{MemoryMB: 1769, BatchSeconds: 60, BatchRecords: 100, Partitions: 2, CloseSeconds: 0.5, Alarms: 3, Metrics: 4}
	l := Load{
		Devices: 10_000, Records: 1, RecordBytes: 1000, Datapoints: 5,
		Work: Work{Reads: 0.5, Writes: 0.1, Calls: 0.05, CPUSeconds: 50e-6, Registry: 0.001, Transitions: 0.0001, StoredBytes: 2000, LoggedBytes: 600},
	}
	invocations := 86.4e6 / 100 // 33.3 per second; each of five batches gets 400 per minute
	for _, row := range []struct {
		part string
		want float64
	}{
		{PartMessages, 0},
		{PartTriggered, 86.4 * 0.15},
		{PartActions, 86.4 * 0.15},
		// Sent, received in tens, deleted in tens; and a second queue is polled in vain.
		{PartTransport, (86.4*1.2 + 0.648) * 0.40},
		// Two closers make 86,400 invocations of 0.5 s.
		{PartFunctions, (invocations+86_400)/1e6*0.20 + 1769.0/1024*(86.4e6*(50e-6+0.05*0.010/16)+invocations*2*0.010+86_400*0.5)*0.0000133334},
		{PartReads, 86.4 * 0.5 * 0.125},
		{PartWrites, 86.4 * 0.1 * 0.625},
		{PartStorage, 0.02 * 0.25},
		{PartRegistry, 86.4 * 0.001 * 1.25},
		{PartSchedule, 0.0864*1.00 + (43_200*8+86_400*2)/1e6*0.125 + 0.0432*0.625},
		{PartWatching, 3*0.10 + 4*0.30 + (invocations+86_400)*1000/1e9*0.50},
		{PartFindings, 86.4 * 0.0001 * (3*0.40 + 19*0.625)},
	} {
		near(t, row.part, d.SelfManaged(l, SQS).Part(row.part), row.want)
	}
	near(t, "one message per receive", d.SelfManaged(l, SQSAtWorst).Part(PartTransport), (86.4*2.1+0.648)*0.40)
	near(t, "shards", d.SelfManaged(l, KinesisShards).Part(PartTransport), 720*0.015+86.4*0.014+0.648*0.40)
	near(t, "on demand", d.SelfManaged(l, KinesisOnDemand).Part(PartTransport), 720*0.04+86.4e6*1024/1e9*(0.08+0.04)+0.648*0.40)
	near(t, "Detect", Detect(l).Total(), 86.4*5*0.25)
	near(t, "Flink", FlinkFloor().Total(), 720*0.015+2*720*0.11)
}

func TestPartsAreTheWholeBill(t *testing.T) {
	l := Load{Devices: 1000, Records: 2, RecordBytes: 700, Kept: 3, Charged: 1, Work: Work{Reads: 1, Writes: 1, Calls: 1, CPUSeconds: 1e-4, Registry: 1, Transitions: 1, StoredBytes: 100}}
	for _, transport := range Transports() {
		bill := Defaults.SelfManaged(l, transport)
		total := 0.0
		for _, part := range Parts() {
			if bill.Part(part) <= 0 {
				t.Errorf("%s: %s costs nothing", transport, part)
			}
			total += bill.Part(part)
		}
		near(t, transport.String(), bill.Total(), total)
	}
}

func TestOwnTopicAddsMessageCosts(t *testing.T) {
	l := Load{Devices: 1_000_000, Records: 1, RecordBytes: 700}
	basic := Defaults.SelfManaged(l, SQS).Total()
	l.Charged = 1
	near(t, "difference", Defaults.SelfManaged(l, SQS).Total()-basic, 1000+3200+3640*0.70)
}

func TestMessagesThatTheRuleDropsCostTheTrigger(t *testing.T) {
	l := Load{Devices: 1000, Kept: 5}
	bill := Defaults.SelfManaged(l, SQS)
	near(t, PartTriggered, bill.Part(PartTriggered), 43.2*0.15)
	if bill.Part(PartActions)+bill.Part(PartReads)+bill.Part(PartWrites) > 0 {
		t.Errorf("messages that the rule drops cost more than the trigger: %+v", bill)
	}
}

func TestShardsAreHalfUsed(t *testing.T) {
	for _, row := range []struct{ devices, bytes, want float64 }{
		{0, 700, 1}, {100_000, 700, 1}, {1_000_000, 700, 7}, {1_000_000, 2000, 14},
	} {
		near(t, "shards", Load{Devices: row.devices, Records: 1, RecordBytes: row.bytes}.shards(), row.want)
	}
}

func TestBatchEndsByTimeCountOrSize(t *testing.T) {
	d := Deployment{BatchSeconds: 60, BatchRecords: 10_000}
	for _, row := range []struct{ devices, bytes, records, want float64 }{
		{300, 200, 10_000, secondsOfMonth / (60.0 / 5)}, // one per second, twelve in each of five batches
		{300_000, 200, 1000, secondsOfMonth},            // a thousand per second
		{300_000, 800, 10_000, 1000 * secondsOfMonth / 3932},
		{0, 200, 10_000, 0},
	} {
		d.BatchRecords = row.records
		near(t, "invocations", d.Invocations(Load{Devices: row.devices, Records: 1, RecordBytes: row.bytes}, SQS), row.want)
	}
}

// The engine's goal: device reports on Basic Ingest cost less than Detect at every fleet size.
// With a queue this holds as long as receive requests are full enough.
func TestDeviceReportsCostLessThanDetect(t *testing.T) {
	for _, devices := range []float64{10_000, 100_000, 1_000_000} {
		l := Load{Devices: devices, Records: 1, RecordBytes: 1000, Datapoints: 5, Work: Work{Reads: 0.52, Writes: 0.1, Calls: 0.1, CPUSeconds: 100e-6, StoredBytes: 10}}
		for _, transport := range []Transport{SQS, KinesisOnDemand, KinesisShards} {
			if ours, detect := Defaults.SelfManaged(l, transport).Total(), Detect(l).Total(); ours >= detect {
				t.Errorf("%v devices, %s: %.2f, want less than Detect, %.2f", devices, transport, ours, detect)
			}
		}
	}
}

func TestLeastReceived(t *testing.T) {
	d := Deployment{MemoryMB: 256, BatchSeconds: 10, BatchRecords: 1000, Partitions: 1}
	l := Load{Devices: 1_000_000, Records: 1, RecordBytes: 700, Datapoints: 5}
	least := d.LeastReceived(l)
	worst, full := d.SelfManaged(l, SQSAtWorst).Total(), d.SelfManaged(l, SQS).Total()
	// Between one and ten messages the price is proportional to the number of requests.
	near(t, "price", worst-(worst-full)*(1-1/least)/0.9, Detect(l).Total())
	l.Datapoints = 6
	near(t, "much cheaper", d.LeastReceived(l), 1)
	if l.Datapoints = 1; !math.IsInf(d.LeastReceived(l), 1) {
		t.Errorf("much more expensive than Detect: %v messages per receive, want no number that suffices", d.LeastReceived(l))
	}
}

func TestAtRest(t *testing.T) {
	for transport, want := range map[Transport]float64{SQS: 2 * 0.648 * 0.40, KinesisShards: 10.80 + 0.648*0.40, KinesisOnDemand: 28.80 + 0.648*0.40} {
		near(t, transport.String(), Defaults.SelfManaged(Load{}, transport).Part(PartTransport), want)
	}
	// Two queues polled in vain; 43,200 closer runs of 0.2 s and 256 MB, each with ten read units
	// and one write unit for a heartbeat; alarms on 14 metrics; 400 log bytes per run.
	near(t, "all", Defaults.SelfManaged(Load{}, SQS).Total(),
		2*0.648*0.40+0.0432*0.20+43_200*0.2*0.25*0.0000133334+0.0432+43_200*10/1e6*0.125+0.0432*0.625+14*0.10+43_200*400/1e9*0.50)
}
