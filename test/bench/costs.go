package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/defenderhub/defenderhub/test/bench/cost"
)

// fleets are the fleet sizes of the table, in devices.
var fleets = []float64{10_000, 100_000, 1_000_000}

// fleetBenchmark runs samples of a fleet through the evaluation. Each measurement is for one
// device and five minutes, so that it scales.
const fleetBenchmark, fleetPackage = "Fleet/", "./lambda/internal/evaluator/handler"

const (
	// transitions of a device in five minutes: one in a hundred devices raises and clears an
	// alarm each day. The sample's devices do it all the time.
	transitions = 2 * 0.01 / 288
	// lookUps is how many registry operations one lookup of a thing takes.
	lookUps = 3
)

// messagesOfDevice is how many messages a device publishes in five minutes, besides reports.
const messagesOfDevice = 5

// row is a row of the table: behaviors and the load of a device.
type row struct {
	name, benchmark string
	load            cost.Load
}

// rows returns the rows of the table, with measured loads. The first is the one of the goal.
func rows() []row {
	hourly := 1.0 / 12 // time offline has one value per hour
	return []row{
		{"five behaviors of device reports, Basic Ingest", "reports", cost.Load{Datapoints: 5}},
		{"the same on a topic of your own", "reports", cost.Load{Datapoints: 5, Charged: 1}},
		{"the same and a p99 of the fleet, Basic Ingest", "percentile", cost.Load{Datapoints: 6}},
		{"the same and a report at least every 15 minutes", "silence", cost.Load{Datapoints: 5}},
		{"the same and a report at least every hour", "silence-hour", cost.Load{Datapoints: 5}},
		{"the same, one of them a sum over 15 minutes", "sums", cost.Load{Datapoints: 5}},
		{"a report each minute, bytes a sum over five minutes", "sums-minute", cost.Load{Datapoints: 5}},
		{"message size in the rule's SQL, a message a minute", "oversize", cost.Load{Datapoints: 1, Kept: messagesOfDevice}},
		{"messages counted, a message a minute", "messages", cost.Load{Datapoints: 1}},
		{"the same, batches of five minutes", "messages-gathered", cost.Load{Datapoints: 1}},
		{"messages counted, at least three in five minutes", "messages-least", cost.Load{Datapoints: 1}},
		{"disconnects and time offline, one reconnect a day", "sessions", cost.Load{Datapoints: 1 + hourly}},
	}
}

// costs scales the evaluation of a sample to whole fleets, calculates its price, and compares it
// with Detect's list price and the minimum of Kinesis and Managed Flink.
func (b *bench) costs() error {
	results, _, err := b.benchmark(fleetPackage, "1x", fleetBenchmark)
	if err != nil {
		return err
	}
	table := rows()
	b.row("MEASURED, A DEVICE AND FIVE MINUTES", "RECORDS", "A SECOND ON ONE CORE", "MEMORY OF EACH", "READ UNITS", "WRITE UNITS", "STORED")
	for i := range table {
		r, l := table[i], &table[i].load
		m := results[fleetBenchmark+r.benchmark]
		if m == nil {
			return fmt.Errorf("go test printed no benchmark %s%s", fleetBenchmark, r.benchmark)
		}
		l.Records, l.RecordBytes = m["records"], m["record-bytes"]
		l.Work = cost.Work{
			Reads: m["read-units"], Writes: m["write-units"], Calls: m["calls"], CPUSeconds: m["cpu-ns"] / 1e9,
			Registry: m["registry"] * lookUps, Transitions: m["transitions"] + transitions, StoredBytes: m["stored-bytes"], LoggedBytes: m["logged-bytes"],
		}
		if l.Charged > 0 {
			continue // is evaluated like the row before
		}
		b.row(r.name, fmt.Sprintf("%.2f", l.Records), thousands(l.Records/l.Work.CPUSeconds), thousands(m["record-allocated-bytes"])+" B",
			fmt.Sprintf("%.3f", l.Work.Reads), fmt.Sprintf("%.3f", l.Work.Writes), fmt.Sprintf("%.0f B", l.Work.StoredBytes))
	}
	for _, n := range fleets {
		b.bill(table[0], n)
	}
	b.row()
	b.row(header("WHILE NOTHING HAPPENS")...)
	idle := []string{"everything"}
	for _, t := range cost.Transports() {
		idle = append(idle, dollars(cost.Defaults.SelfManaged(cost.Load{}, t).Total()))
	}
	b.row(idle...)
	b.row()
	b.row(fmt.Sprintf("shards cost less than SQS from %s devices on, at worst for SQS from %s",
		thousands(breakEven(table[0].load, cost.SQS)), thousands(breakEven(table[0].load, cost.SQSAtWorst))))
	for _, n := range fleets {
		b.comparison(table, n)
	}
	b.prices()
	return nil
}

// breakEven returns the number of devices, in hundreds, from which Kinesis costs less.
func breakEven(l cost.Load, than cost.Transport) float64 {
	for l.Devices = 100; cost.Defaults.SelfManaged(l, cost.KinesisShards).Total() >= cost.Defaults.SelfManaged(l, than).Total(); l.Devices += 100 {
		if l.Devices >= fleets[len(fleets)-1] {
			return math.Inf(1)
		}
	}
	return l.Devices
}

// bill prints the parts of the goal's row.
func (b *bench) bill(r row, devices float64) {
	l := r.load
	l.Devices = devices
	b.row()
	b.row(header("%s DEVICES, %s", thousands(devices), r.name)...)
	bills := map[cost.Transport]cost.Bill{}
	for _, t := range cost.Transports() {
		bills[t] = cost.Defaults.SelfManaged(l, t)
	}
	line := func(name string, of func(cost.Bill) float64) {
		cells, some := []string{name}, false
		for _, t := range cost.Transports() {
			usd := of(bills[t])
			some = some || usd > 0
			cells = append(cells, dollars(usd))
		}
		if some {
			b.row(cells...)
		}
	}
	for _, part := range cost.Parts() {
		line(part, func(x cost.Bill) float64 { return x.Part(part) })
	}
	line("TOTAL", cost.Bill.Total)
	detect, floor := cost.Detect(l).Total(), cost.FlinkFloor().Total()
	goals := []string{"goal: less than Detect"}
	for _, t := range cost.Transports() {
		goals = append(goals, verdict(bills[t].Total(), detect))
	}
	b.row("Device Defender Detect", dollars(detect))
	b.row("Kinesis and Managed Flink, while nothing happens", dollars(floor))
	b.row(goals...)
	b.row("  with SQS if a receive request returns", fmt.Sprintf("%.1f messages", cost.Defaults.LeastReceived(l)))
}

func header(format string, args ...any) []string {
	cells := []string{fmt.Sprintf(format, args...)}
	for _, t := range cost.Transports() {
		cells = append(cells, strings.ToUpper(t.String()))
	}
	return cells
}

func verdict(ours, detect float64) string {
	if ours < detect {
		return "reached"
	}
	return "missed"
}

// comparison prints the whole table for one fleet size.
func (b *bench) comparison(table []row, devices float64) {
	b.row()
	b.row(append(header("%s DEVICES", thousands(devices)), "DETECT", "OURS IS")...)
	for _, r := range table {
		l := r.load
		l.Devices = devices
		cells := []string{r.name}
		least, most := math.Inf(1), 0.0
		for _, t := range cost.Transports() {
			usd := cost.Defaults.SelfManaged(l, t).Total()
			least, most = math.Min(least, usd), math.Max(most, usd)
			cells = append(cells, dollars(usd))
		}
		detect := cost.Detect(l).Total()
		b.row(append(cells, dollars(detect), comparedWith(least, most, detect))...)
	}
}

// comparedWith compares a range of costs with Detect's.
func comparedWith(least, most, detect float64) string {
	switch {
	case most < detect:
		return "cheaper"
	case least > detect:
		return fmt.Sprintf("more expensive, at least %.1f times", least/detect)
	}
	return "cheaper or more expensive, by transport"
}

// prices prints the table of prices.
func (b *bench) prices() {
	b.row()
	b.row("LIST PRICES, US-EAST-1, "+cost.PricesRead, "USD", "FOR", "SOURCE")
	for _, p := range cost.Prices {
		source := p.Source
		if p.Unverified {
			source += " (unverified)"
		}
		var tiers []string
		for _, t := range p.Tiers {
			tiers = append(tiers, fmt.Sprintf("%.10g", t.USD))
		}
		b.row(p.Unit, strings.Join(tiers, ", then "), thousands(p.Per), source)
	}
}

func dollars(usd float64) string {
	if usd > 0 && usd < 0.005 {
		return "0.00"
	}
	if usd >= 100 {
		return thousands(math.Round(usd))
	}
	return fmt.Sprintf("%.2f", usd)
}

// thousands writes an integer with commas.
func thousands(n float64) string {
	digits := fmt.Sprintf("%.0f", n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
