package cost

// CorrelationLoad is what the correlator gets in a month.
type CorrelationLoad struct {
	// Events are the findings that pass the event pattern, and Matched those of them that a rule
	// can match.
	Events, Matched float64
	// Changes are the changes of composite findings, each sent through the forwarder.
	Changes float64
	// Lookups are the operations of the AWS IoT registry.
	Lookups float64
	// Campaigns are the hours for which a campaign of Devices devices is active.
	Campaigns, Devices float64
}

// The correlator's work. Sizes are those of its tests' events and items; durations are assumed
// (unverified).
const (
	// eventRequests: an event of up to 64 KB is sent by EventBridge, received and deleted. AWS's
	// pollers may receive one message per request.
	eventRequests = 3
	// matchReads and matchWrites are the units for one alarm with the built-in rules, alone in its
	// batch. It reads its device, three resources that the device uses, and of a campaign its own
	// part, the finding and its eight partitions of two periods. It writes its device with about 1.6 KB, and its part
	// of the campaign.
	matchReads, matchWrites = 14, 3
	// changeReads and changeWrites: a composite finding makes the item due, which adds the index,
	// and the outbox is emptied afterwards.
	changeReads, changeWrites = 0, 6
	correlatorMB              = 256
	// correlatorDueReads are the index shards that a run of the schedule queries, at half a unit each.
	correlatorDueReads = 4 * 0.5
	// eventSeconds is the duration of one event in a batch, dueSeconds of a run of the schedule
	// that finds nothing.
	eventSeconds, dueSeconds = 0.010, 0.15
	// eventsInBatch is assumed, because events rarely fill a batch.
	eventsInBatch = 2
	// correlatorAlarms and correlatorMetrics are what the construct deploys, and what a deployment
	// with events writes: five counters, each per function and per product or rule.
	correlatorAlarms, correlatorMetrics = 9, 12
	// countedBytes is the size of a campaign's part, which the schedule reads to count devices. It
	// counts every 15 minutes at the end, and more often at first.
	countedBytes, countsPerHour = 500, 6
)

// Correlation returns the bill of the correlator. Amazon EventBridge does not charge for events of
// AWS services on the default bus.
// https://aws.amazon.com/eventbridge/pricing/
func Correlation(l CorrelationLoad) Bill {
	var b Bill
	add := func(part string, item Item, amount float64) { b = append(b, Line{part, item, amount}) }
	add(PartTransport, SQSRequests, requestsAtRest+l.Events*eventRequests)
	invocations := l.Events / eventsInBatch
	add(PartFunctions, LambdaRequests, invocations+minutesOfMonth)
	add(PartFunctions, LambdaGBSeconds, correlatorMB/1024.0*(l.Events*eventSeconds+invocations*2*callSeconds+minutesOfMonth*dueSeconds))
	counts := l.Campaigns * countsPerHour
	add(PartReads, DynamoDBReads, l.Matched*matchReads+l.Changes*changeReads+counts*l.Devices*countedBytes/4096)
	add(PartWrites, DynamoDBWrites, l.Matched*matchWrites+l.Changes*changeWrites+counts*3)
	add(PartRegistry, RegistryOperations, l.Lookups)
	add(PartSchedule, SchedulerInvocations, minutesOfMonth)
	add(PartSchedule, DynamoDBReads, minutesOfMonth*correlatorDueReads)
	add(PartWatching, CloudWatchAlarms, correlatorAlarms)
	if l.Events > 0 {
		add(PartWatching, CloudWatchMetrics, correlatorMetrics)
	}
	add(PartWatching, CloudWatchLogs, (invocations+minutesOfMonth)*platformLogBytes/1e9)
	add(PartFindings, SQSRequests, l.Changes*findingRequests)
	add(PartFindings, DynamoDBWrites, l.Changes*findingWrites)
	return b
}
