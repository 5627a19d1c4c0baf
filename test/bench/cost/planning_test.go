package cost

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

// List prices of us-east-1 that no engine needs, second hand and AWS's.
const (
	auditedDevice   = 0.0011
	keyMonth        = 1.00
	receivedFinding = 0.00003
	freeFindings    = 10_000
)

// docs/planning.md has the bill of a fleet.
func TestPlanningHasTheBill(t *testing.T) {
	text, err := os.ReadFile("../../../docs/planning.md")
	if err != nil {
		t.Fatal(err)
	}
	fleets := []float64{1_000, 200_000, 2_000_000}
	for j, part := range []string{
		"audit, and the key of its topic", "rules of the forwarder, and their alarm", "engine, `self-managed`", "or engine, `native`", "findings that Security Hub receives",
		"forwarder, its alarms and metrics", "correlate, its alarms and metrics", "notify, its alarms and metrics", "logs of these three",
		"**total, `self-managed`**", "**total, `native`**",
	} {
		cells, mark := "", ""
		if strings.HasPrefix(part, "**") {
			mark = "**"
		}
		for _, devices := range fleets {
			least, most := bill(devices, SQS)[j], bill(devices, SQSAtWorst)[j]
			cell := usd(least)
			if most > least {
				cell += " to " + usd(most)
			}
			cells += " " + mark + cell + mark + " |"
		}
		row := ""
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "| "+part+" |") {
				row = strings.TrimSpace(line)
			}
		}
		if !strings.HasSuffix(row, " |"+cells) {
			t.Errorf("docs/planning.md has the row\n%s\nwant the cells\n%s", row, cells)
		}
	}
	onDemand := Defaults.SelfManaged(reports(200_000), KinesisOnDemand).Total()
	if want := "costs " + usd(onDemand) + " USD for 200,000 devices"; !strings.Contains(string(text), want) {
		t.Errorf("docs/planning.md lacks %q", want)
	}
}

// docs/benchmarks.md has the measured write units of a finding.
func TestBenchmarksHaveTheWritesOfAFinding(t *testing.T) {
	text, err := os.ReadFile("../../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	if row := fmt.Sprintf("| write units, event: raised, repeated, cleared, cleared again | %d, 6, %d, 1 |", raisedWrites, clearedWrites); !strings.Contains(string(text), row) {
		t.Errorf("docs/benchmarks.md lacks the row\n%s", row)
	}
}

// docs/detect.md says from how many devices on each transport costs less than Detect.
func TestDocumentedBreakEvenWithDetect(t *testing.T) {
	text, err := os.ReadFile("../../../docs/detect.md")
	if err != nil {
		t.Fatal(err)
	}
	from := func(transport Transport) string {
		l := reports(100)
		l.Work.Transitions = 2 * 0.01 / 288
		for Defaults.SelfManaged(l, transport).Total() >= Detect(l).Total() {
			l.Devices += 100
		}
		return usd(l.Devices)
	}
	if want := fmt.Sprintf("about %s devices with a shard, %s with a stream on demand, and %s with a queue", from(KinesisShards), from(KinesisOnDemand), from(SQS)); !strings.Contains(string(text), want) {
		t.Errorf("docs/detect.md lacks %q", want)
	}
}

// reports is the load of five behaviors of device reports, with the work that benchmarks measured.
// Its transitions are in the forwarder's row.
func reports(devices float64) Load {
	return Load{Devices: devices, Records: 1, RecordBytes: 700, Datapoints: 5, Work: Work{
		Reads: 0.505, Writes: 0.060, Calls: 0.1, CPUSeconds: 1 / 15_272.0, StoredBytes: 5,
	}}
}

// bill returns the parts of the bill and its totals. Small fleets use the queue.
func bill(devices float64, queue Transport) []float64 {
	const days = 30
	changes := devices * 2 * 0.01 * days // alarms that are raised and cleared
	audited := devices * 0.01 * days     // findings of daily audits
	findings := changes + audited        // imports
	transport := KinesisShards
	if devices < 2_600 {
		transport = queue
	}
	metrics, polling := Prices[CloudWatchMetrics].USD(1), Prices[SQSRequests].USD(requestsAtRest)
	parts := []float64{
		devices*auditedDevice + keyMonth,
		Prices[RulesTriggered].USD(devices*days) + 0.40,
		Defaults.SelfManaged(reports(devices), transport).Total(),
		Detect(reports(devices)).Total(),
		math.Max(0, findings-freeFindings) * receivedFinding,
		Prices[SQSRequests].USD(changes*findingRequests) + Prices[DynamoDBWrites].USD(changes*findingWrites) + 2*polling + 0.70 + 8*metrics,
		Correlation(CorrelationLoad{Events: findings, Matched: findings, Lookups: 3 * findings}).Total(),
		findings*(1.95+1)/million + polling + 0.90 + 10*metrics,
		Prices[CloudWatchLogs].USD(findings * 3e3 / 1e9),
	}
	others := 0.0
	for i, usd := range parts {
		if i != 2 && i != 3 {
			others += usd
		}
	}
	return append(parts, others+parts[2], others+parts[3])
}

func usd(x float64) string {
	if x < 100 {
		return fmt.Sprintf("%.2f", x)
	}
	digits := fmt.Sprintf("%.0f", x)
	if n := len(digits); n > 3 {
		digits = digits[:n-3] + "," + digits[n-3:]
	}
	return digits
}
