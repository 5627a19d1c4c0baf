package cost

import "math"

// PricesRead is the month in which the prices were collected. Most are from pages that repeat
// AWS's: use them for comparisons, not for a budget.
const PricesRead = "2026-11"

// Price is a list price in us-east-1.
type Price struct {
	// Unit is what is counted, and Per how many of it a tier's price covers.
	Unit string
	Per  float64
	// Tiers are in rising order; the last has no end.
	Tiers []Tier
	// Source is where the price was read: an AWS document, a page that repeats one (second hand),
	// or neither, which Unverified marks.
	Source     string
	Unverified bool
}

// Tier is the price of a month's units up to a number of them.
type Tier struct{ UpTo, USD float64 }

// USD returns the price of so many units in one month.
func (p Price) USD(units float64) float64 {
	total, below := 0.0, 0.0
	for _, t := range p.Tiers {
		in := math.Min(units, t.UpTo) - below
		if in <= 0 {
			break
		}
		total += in / p.Per * t.USD
		below = t.UpTo
	}
	return total
}

// Item is a row of the table of prices.
type Item int

// The items.
const (
	DetectDatapoints Item = iota
	IoTMessages
	RulesTriggered
	RuleActions
	RegistryOperations
	SQSRequests
	KinesisShardHours
	KinesisPuts
	KinesisStreamHours
	KinesisIn
	KinesisOut
	LambdaRequests
	LambdaGBSeconds
	DynamoDBReads
	DynamoDBWrites
	DynamoDBStorage
	SchedulerInvocations
	CloudWatchAlarms
	CloudWatchMetrics
	CloudWatchLogs
	FlinkKPUHours
	items
)

const (
	million = 1e6
	billion = 1e9
)

func flat(usd float64) []Tier { return []Tier{{math.Inf(1), usd}} }

const (
	secondHand = "second hand, undated"
	general    = "general knowledge"
)

// Prices is the table that all costs are calculated from. Free tiers are left out: they are
// shared by the whole account.
var Prices = [items]Price{
	DetectDatapoints:     {"metric datapoints, Rules Detect", million, []Tier{{10 * billion, 0.25}, {math.Inf(1), 0.20}}, "derived from AWS's list for China", true},
	IoTMessages:          {"AWS IoT messages of 5 KB", million, []Tier{{billion, 1.00}, {5 * billion, 0.80}, {math.Inf(1), 0.70}}, secondHand + "; its tiers", true},
	RulesTriggered:       {"AWS IoT rules triggered", million, flat(0.15), secondHand, false},
	RuleActions:          {"AWS IoT rule actions", million, flat(0.15), secondHand, false},
	RegistryOperations:   {"AWS IoT registry operations of 1 KB", million, flat(1.25), secondHand, false},
	SQSRequests:          {"SQS standard requests of 64 KB", million, flat(0.40), general, true},
	KinesisShardHours:    {"Kinesis shard hours", 1, flat(0.015), general, true},
	KinesisPuts:          {"Kinesis PUT units of 25 KB", million, flat(0.014), general, true},
	KinesisStreamHours:   {"Kinesis on demand, stream hours", 1, flat(0.04), general, true},
	KinesisIn:            {"Kinesis on demand, GB in, records in whole KB", 1, flat(0.08), general, true},
	KinesisOut:           {"Kinesis on demand, GB out", 1, flat(0.04), general, true},
	LambdaRequests:       {"Lambda requests", million, flat(0.20), "second hand, 2026-10", false},
	LambdaGBSeconds:      {"Lambda GB-seconds, arm64", 1, flat(0.0000133334), "second hand, 2026-10", false},
	DynamoDBReads:        {"DynamoDB read units of 4 KB, on demand", million, flat(0.125), "AWS's list for Oregon, 2026-09", false},
	DynamoDBWrites:       {"DynamoDB write units of 1 KB, on demand", million, flat(0.625), "AWS's list for Oregon, 2026-09", false},
	DynamoDBStorage:      {"DynamoDB GB-months", 1, flat(0.25), "AWS's list for Oregon, 2026-09", false},
	SchedulerInvocations: {"EventBridge Scheduler invocations", million, flat(1.00), "second hand, 2026", false},
	CloudWatchAlarms:     {"CloudWatch alarms", 1, flat(0.10), general, true},
	CloudWatchMetrics:    {"CloudWatch custom metrics", 1, flat(0.30), general, true},
	CloudWatchLogs:       {"CloudWatch Logs GB", 1, flat(0.50), general, true},
	FlinkKPUHours:        {"Managed Flink KPU hours", 1, flat(0.11), "AWS's agent toolkit repository, 2026", false},
}
