// Package cost calculates what judging behaviors costs in 30 days: with the self-managed engine,
// with Device Defender Detect, and at least with Kinesis and Managed Flink. [Prices] has the
// prices, and benchmarks measure the evaluation. Everything else is a constant with its reason.
package cost

import "math"

// The month of the table.
const (
	secondsOfMonth = 30 * 24 * 3600
	minutesOfMonth = secondsOfMonth / 60
	hoursOfMonth   = secondsOfMonth / 3600
	// WindowsOfMonth is the number of five-minute windows in 30 days.
	WindowsOfMonth = secondsOfMonth / 300
)

// Properties of the transports from AWS's documents, and assumptions where those say nothing.
const (
	// requestsAtRest are the requests of one idle event source mapping: five pollers that wait 20
	// s each. AWS does not say that this holds for idle queues (unverified).
	requestsAtRest = 5 * secondsOfMonth / 20
	// largestReceive and largestDelete are the maximum messages per request.
	// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
	largestReceive, largestDelete = 10, 10
	// invocationBytes is the maximum size of an invocation's event, invocationRecords the maximum
	// batch of an event source mapping.
	// https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
	invocationBytes, invocationRecords = 6 << 20, 10_000
	// envelopeBytes is what the event adds to a record: receipt handle, attributes, ARN
	// (unverified).
	envelopeBytes = 800
	// The limits of a shard per second. Half is planned for, because devices do not report
	// evenly.
	// https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html
	shardRecords, shardBytes, shardShare = 1000, 1e6, 0.5
	// megabytesOfCPU is the memory with which a function has one full virtual CPU.
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
	megabytesOfCPU = 1769
	// callSeconds is how long a DynamoDB call takes (unverified). An invocation waits for one
	// read and one write; the others run in parallel.
	callSeconds, callsAtOnce = 0.010, 16
	// platformLogBytes is the size of Lambda's own log lines per invocation (unverified).
	platformLogBytes = 400
)

// Transport is how rules send telemetry to the evaluator.
type Transport int

const (
	// SQS with full receive requests.
	SQS Transport = iota
	// SQSAtWorst is SQS with one message per receive request: AWS does not document how its
	// pollers handle a slow queue.
	SQSAtWorst
	// KinesisOnDemand is an on-demand stream.
	KinesisOnDemand
	// KinesisShards is a stream with as many shards as the load needs at half use.
	KinesisShards
)

// Transports are all transports.
func Transports() []Transport { return []Transport{SQS, SQSAtWorst, KinesisOnDemand, KinesisShards} }

func (t Transport) String() string {
	return [...]string{"SQS", "SQS at worst", "Kinesis on demand", "Kinesis, shards"}[t]
}

// Deployment describes how the engine is deployed; the constructs' defaults are [Defaults].
type Deployment struct {
	MemoryMB     float64 // of the evaluator
	BatchSeconds float64 // the batching window
	BatchRecords float64 // the largest batch
	Partitions   float64 // of the closer, each invoked once a minute
	CloseSeconds float64 // duration of one such invocation
	Alarms       float64 // metrics that CloudWatch alarms use, with one rule
	Metrics      float64 // custom metrics: four counters, each per function and per source
}

// Defaults are what the constructs deploy without props.
var Defaults = Deployment{MemoryMB: 256, BatchSeconds: 10, BatchRecords: 1000, Partitions: 1, CloseSeconds: 0.2, Alarms: 14, Metrics: 8}

// Work is the measured work of evaluating one device for five minutes.
type Work struct {
	Reads, Writes float64 // DynamoDB units
	Calls         float64 // DynamoDB calls that the function waits for
	CPUSeconds    float64 // on one core
	Registry      float64 // operations
	Transitions   float64 // sent through the forwarder
	StoredBytes   float64 // at rest
	LoggedBytes   float64 // per invocation
}

// Load is what devices send.
type Load struct {
	Devices float64
	// Records is how many records rules send per device in five minutes, RecordBytes their size.
	Records, RecordBytes float64
	// Kept is how many messages per device in five minutes trigger a rule without an action.
	Kept float64
	// Charged is how many messages are published only for the engine, to a topic that is not
	// Basic Ingest.
	Charged float64
	// Datapoints is how many datapoints Detect would get per device in five minutes.
	Datapoints float64
	Work       Work
}

// Line is the amount of one item used in the month.
type Line struct {
	Part   string
	Item   Item
	Amount float64
}

// USD returns what the line costs.
func (l Line) USD() float64 { return Prices[l.Item].USD(l.Amount) }

// Bill is the cost of a month.
type Bill []Line

// Total returns the sum in USD.
func (b Bill) Total() float64 {
	total := 0.0
	for _, l := range b {
		total += l.USD()
	}
	return total
}

// Part returns the sum of a part's lines.
func (b Bill) Part(part string) float64 {
	total := 0.0
	for _, l := range b {
		if l.Part == part {
			total += l.USD()
		}
	}
	return total
}

// The parts of a bill, in the order in which a report passes them.
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

// Invocations returns the evaluator's invocations in the month. A batch ends with its window, at
// its maximum number of records, or when the event is full.
func (d Deployment) Invocations(l Load, t Transport) float64 {
	perSecond := l.Devices * l.Records / 300
	if perSecond == 0 {
		return 0
	}
	bytes := l.RecordBytes + envelopeBytes
	sources := 5.0 // concurrent batches (unverified)
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

// SelfManaged returns the bill of the self-managed engine.
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
	add(PartTransport, SQSRequests, requestsAtRest) // for the queue of error actions
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
	if records > 0 { // skip lines of things that do not happen
		add(PartWatching, CloudWatchMetrics, d.Metrics)
	}
	add(PartWatching, CloudWatchLogs, (invocations+closing)*(platformLogBytes+l.Work.LoggedBytes)/1e9)
	add(PartFindings, SQSRequests, windows*l.Work.Transitions*findingRequests)
	add(PartFindings, DynamoDBWrites, windows*l.Work.Transitions*findingWrites)
	return b
}

const (
	// dueReads are the index shards that a run of the closer queries, at half a unit each. It
	// also reads the evaluator's progress and the behaviors' generations.
	dueReads = 16 * 0.5
	// A transition is sent, received and deleted. It is written twice to the forwarder's ledger
	// and its index, before and after the import. The entry has 2.5 KB, and the first write of an
	// end also has the version that it replaces. Half of the transitions end a finding.
	findingRequests             = 3
	raisedWrites, clearedWrites = 15, 23
	findingWrites               = (raisedWrites + clearedWrites) / 2
)

// Detect returns the bill of Device Defender Detect for the same load.
func Detect(l Load) Bill {
	return Bill{{"datapoints", DetectDatapoints, l.Devices * WindowsOfMonth * l.Datapoints}}
}

// LeastReceived returns how many messages a receive request must return, on average, for SQS to
// cost less than Detect. It is infinite if even full requests cost more.
func (d Deployment) LeastReceived(l Load) float64 {
	missing := d.SelfManaged(l, SQSAtWorst).Total() - Detect(l).Total()
	receives := Prices[SQSRequests].USD(l.Devices * WindowsOfMonth * l.Records) // with one message per request
	switch {
	case missing < 0:
		return 1
	case missing >= receives*(1-1.0/largestReceive):
		return math.Inf(1)
	}
	return 1 / (1 - missing/receives)
}

// FlinkFloor is the cost of an idle design on Kinesis and Managed Flink: one shard, one KPU for
// the application and one for orchestration. AWS's sample adds more.
// https://docs.aws.amazon.com/managed-flink/latest/java/how-pricing.html
func FlinkFloor() Bill {
	return Bill{
		{"stream", KinesisShardHours, hoursOfMonth},
		{"application", FlinkKPUHours, 2 * hoursOfMonth},
	}
}
