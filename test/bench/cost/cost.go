// Package cost says what judging behaviors costs in 30 days: with the self-managed engine,
// with Device Defender Detect, and at the least with a design on Kinesis and Managed Flink.
// Prices stand in [Prices], what the evaluation does is measured by benchmarks, and what is
// neither is a constant with its reason.
package cost

import "math"

// The month of the table.
const (
	secondsOfMonth = 30 * 24 * 3600
	minutesOfMonth = secondsOfMonth / 60
	hoursOfMonth   = secondsOfMonth / 3600
	// WindowsOfMonth are the five-minute windows of 30 days.
	WindowsOfMonth = secondsOfMonth / 300
)

// What AWS's documents say of the transports, and what is assumed where they are silent.
const (
	// requestsAtRest of one event source mapping: five pollers that wait 20 s each; that it
	// is five and 20 s is not said of idle queues (unverified).
	requestsAtRest = 5 * secondsOfMonth / 20
	// largestReceive and largestDelete are messages in one request.
	// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
	largestReceive, largestDelete = 10, 10
	// invocationBytes is the largest event of an invocation, invocationRecords the largest
	// batch of an event source mapping.
	// https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
	invocationBytes, invocationRecords = 6 << 20, 10_000
	// envelopeBytes is what the event adds to a record: receipt handle, attributes, ARN
	// (unverified).
	envelopeBytes = 800
	// A shard takes so much a second, of which half is planned for, because devices do not
	// report evenly.
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	shardRecords, shardBytes, shardShare = 1000, 1e6, 0.5
	// megabytesOfCPU is the memory with which a function has a whole virtual CPU.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
	megabytesOfCPU = 1769
	// callSeconds is how long a call of DynamoDB takes (unverified). Each invocation waits
	// for one to read and one to write; the others go on at the same time, so many at once.
	callSeconds, callsAtOnce = 0.010, 16
	// platformLogBytes are Lambda's own lines for one invocation (unverified).
	platformLogBytes = 400
)

// Transport brings what the rules send to the evaluator.
type Transport int

const (
	// SQS with receive requests that are full.
	SQS Transport = iota
	// SQSAtWorst is SQS with one message in each receive request: what AWS's pollers make of
	// a slow queue is not documented.
	SQSAtWorst
	// KinesisOnDemand is a stream that grows by itself.
	KinesisOnDemand
	// KinesisShards is a stream with as many shards as the load needs, half used.
	KinesisShards
)

// Transports are all transports.
func Transports() []Transport { return []Transport{SQS, SQSAtWorst, KinesisOnDemand, KinesisShards} }

func (t Transport) String() string {
	return [...]string{"SQS", "SQS at worst", "Kinesis on demand", "Kinesis, shards"}[t]
}

// Deployment is how the engine is deployed; the constructs' defaults are [Defaults].
type Deployment struct {
	MemoryMB     float64 // of the evaluator
	BatchSeconds float64 // the batching window
	BatchRecords float64 // the largest batch
	Partitions   float64 // of the closer, each invoked once a minute
	CloseSeconds float64 // that one such invocation takes
	Alarms       float64 // metrics that alarms of CloudWatch watch
	Metrics      float64 // custom metrics: four counters, each for the function and its source
}

// Defaults are what the constructs deploy without props.
var Defaults = Deployment{MemoryMB: 256, BatchSeconds: 10, BatchRecords: 1000, Partitions: 1, CloseSeconds: 0.2, Alarms: 13, Metrics: 8}

// Work is what the evaluation of a device costs in a window of five minutes, as measured.
type Work struct {
	Reads, Writes float64 // units of DynamoDB
	Calls         float64 // of DynamoDB, for which the function waits
	CPUSeconds    float64 // on one core
	Registry      float64 // operations
	Transitions   float64 // that go through the forwarder
	StoredBytes   float64 // at rest
	LoggedBytes   float64 // of each invocation
}

// Load is what devices send and what is made of it.
type Load struct {
	Devices float64
	// Records are what rules send on of a device in five minutes, RecordBytes their size.
	Records, RecordBytes float64
	// Kept are messages of a device in five minutes that trigger a rule but no action.
	Kept float64
	// Charged are messages that are published only for the engine, to a topic that is not
	// Basic Ingest.
	Charged float64
	// Datapoints that Detect would be given of a device in five minutes.
	Datapoints float64
	Work       Work
}

// Line is an amount of an item that is used in the month.
type Line struct {
	Part   string
	Item   Item
	Amount float64
}

// USD is what the line costs.
func (l Line) USD() float64 { return Prices[l.Item].USD(l.Amount) }

// Bill is what a month costs.
type Bill []Line

// Total is the sum in USD.
func (b Bill) Total() float64 {
	total := 0.0
	for _, l := range b {
		total += l.USD()
	}
	return total
}

// Part is the sum of the lines of a part.
func (b Bill) Part(part string) float64 {
	total := 0.0
	for _, l := range b {
		if l.Part == part {
			total += l.USD()
		}
	}
	return total
}

// The parts of a bill, in the order of the way that a report takes.
const (
	PartMessages  = "messages (not with Basic Ingest)"
	PartTriggered = "rules triggered"
	PartActions   = "rule actions"
	PartTransport = "queue or stream"
	PartFunctions = "functions"
	PartReads     = "state: reads"
	PartWrites    = "state: writes"
	PartStorage   = "state: storage"
	PartRegistry  = "registry"
	PartSchedule  = "schedule, heartbeat"
	PartWatching  = "logs, metrics, alarms"
	PartFindings  = "transitions to findings"
)

// Parts are all parts.
func Parts() []string {
	return []string{PartMessages, PartTriggered, PartActions, PartTransport, PartFunctions, PartReads, PartWrites, PartStorage, PartRegistry, PartSchedule, PartWatching, PartFindings}
}

// Invocations of the evaluator in the month: a batch ends when its window does, when it has
// as many records as it may, or when the event is full.
func (d Deployment) Invocations(l Load, t Transport) float64 {
	perSecond := l.Devices * l.Records / 300
	if perSecond == 0 {
		return 0
	}
	bytes := l.RecordBytes + envelopeBytes
	sources := 5.0 // batches that are gathered at a time (unverified)
	if t == KinesisOnDemand || t == KinesisShards {
		bytes, sources = l.RecordBytes*4/3+envelopeBytes/2, l.shards()
	}
	most := math.Min(d.BatchRecords, math.Floor(invocationBytes/bytes))
	gathered := math.Max(1, perSecond*d.BatchSeconds/sources)
	return perSecond * secondsOfMonth / math.Min(most, gathered)
}

func (l Load) shards() float64 {
	perSecond := l.Devices * l.Records / 300
	return math.Max(1, math.Ceil(math.Max(perSecond/shardRecords, perSecond*l.RecordBytes/shardBytes)/shardShare))
}

// SelfManaged is what the self-managed engine costs.
func (d Deployment) SelfManaged(l Load, t Transport) Bill {
	windows := l.Devices * WindowsOfMonth
	records := windows * l.Records
	var b Bill
	add := func(part string, item Item, amount float64) { b = append(b, Line{part, item, amount}) }
	add(PartMessages, IoTMessages, windows*l.Charged)
	add(PartTriggered, RulesTriggered, records+windows*l.Kept)
	add(PartActions, RuleActions, records)
	switch t {
	case KinesisShards:
		add(PartTransport, KinesisShardHours, l.shards()*hoursOfMonth)
		add(PartTransport, KinesisPuts, records*math.Ceil(l.RecordBytes/25e3))
	case KinesisOnDemand:
		gigabytes := records * math.Ceil(l.RecordBytes/1024) * 1024 / 1e9
		add(PartTransport, KinesisStreamHours, hoursOfMonth)
		add(PartTransport, KinesisIn, gigabytes)
		add(PartTransport, KinesisOut, gigabytes)
	default:
		inReceive := float64(largestReceive)
		if t == SQSAtWorst {
			inReceive = 1
		}
		add(PartTransport, SQSRequests, records+math.Max(records/inReceive, requestsAtRest)+records/largestDelete)
	}
	add(PartTransport, SQSRequests, requestsAtRest) // of the queue of error actions
	invocations := d.Invocations(l, t)
	gigabytes := d.MemoryMB / 1024
	busy := windows*(l.Work.CPUSeconds*megabytesOfCPU/math.Min(d.MemoryMB, megabytesOfCPU)+l.Work.Calls*callSeconds/callsAtOnce) + invocations*2*callSeconds
	closing := d.Partitions * minutesOfMonth
	add(PartFunctions, LambdaRequests, invocations+closing)
	add(PartFunctions, LambdaGBSeconds, gigabytes*(busy+closing*d.CloseSeconds))
	add(PartReads, DynamoDBReads, windows*l.Work.Reads)
	add(PartWrites, DynamoDBWrites, windows*l.Work.Writes)
	add(PartStorage, DynamoDBStorage, l.Devices*l.Work.StoredBytes/1e9)
	add(PartRegistry, RegistryOperations, windows*l.Work.Registry)
	add(PartSchedule, SchedulerInvocations, closing)
	add(PartSchedule, DynamoDBReads, closing*(dueReads/d.Partitions+2))
	add(PartSchedule, DynamoDBWrites, minutesOfMonth)
	add(PartWatching, CloudWatchAlarms, d.Alarms)
	if records > 0 { // nothing is counted that did not happen
		add(PartWatching, CloudWatchMetrics, d.Metrics)
	}
	add(PartWatching, CloudWatchLogs, (invocations+closing)*(platformLogBytes+l.Work.LoggedBytes)/1e9)
	add(PartFindings, SQSRequests, windows*l.Work.Transitions*findingRequests)
	add(PartFindings, DynamoDBWrites, windows*l.Work.Transitions*findingWrites)
	return b
}

const (
	// dueReads are the shards of the index that a round of the closer asks, at half a unit. It
	// reads how far the evaluator is and the behaviors' generations as well.
	dueReads = 16 * 0.5
	// A transition is sent, received and deleted, and written twice with its index to the
	// forwarder's ledger, before and after the import.
	findingRequests, findingWrites = 3, 6
)

// Detect is what Device Defender Detect takes for the same.
func Detect(l Load) Bill {
	return Bill{{"datapoints", DetectDatapoints, l.Devices * WindowsOfMonth * l.Datapoints}}
}

// LeastReceived is how many messages a receive request has to bring, on average, for SQS to
// cost less than Detect; infinite where even full ones cost more.
func (d Deployment) LeastReceived(l Load) float64 {
	missing := d.SelfManaged(l, SQSAtWorst).Total() - Detect(l).Total()
	receives := Prices[SQSRequests].USD(l.Devices * WindowsOfMonth * l.Records) // of one message each
	switch {
	case missing < 0:
		return 1
	case missing >= receives*(1-1.0/largestReceive):
		return math.Inf(1)
	}
	return 1 / (1 - missing/receives)
}

// FlinkFloor is what a design on Kinesis and Managed Flink costs while nothing happens: one
// shard, one KPU for the application and one for its orchestration. AWS's sample adds more.
// https://docs.aws.amazon.com/managed-flink/latest/java/how-pricing.html
func FlinkFloor() Bill {
	return Bill{
		{"stream", KinesisShardHours, hoursOfMonth},
		{"application", FlinkKPUHours, 2 * hoursOfMonth},
	}
}
