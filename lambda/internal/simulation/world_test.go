package simulation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

// world is one run: AWS, the deployed functions, the devices, and the invariants.
type world struct {
	*scheduler
	seed         uint64
	begin        time.Time
	functions    []*function
	environments int
	invocations  int
	living       []*environment
	dynamodb     *dynamodbtest.Service
	serving      *function
	tableCalls   int
	hub          *hub
	queues       []*queue
	model        *model
	counts       map[string]int
	violations   violations

	forwarder, auditor, resources *function
	auditQueue                    *queue
	audits                        *audits
	registry                      *registry
	suppressions                  suppressions
	// resting makes the schedules run rarely, while only time passes.
	resting bool
	// passing is how many days pass at the end of a long run, until they have passed; 0 for other
	// runs.
	passing, passed                 int
	evaluator, closer               *function
	ingest, errorQueue, deadLetters *queue
	// stream is nil if telemetry uses the queue.
	stream                                                *stream
	telemetryQueue, telemetryErrors, telemetryDeadLetters *queue
	fleetOf                                               []*device
	notifier                                              *function
	notifyQueue, notifyDeadLetters                        *queue
	// notices are the messages to people by finding ID, events counts those of Security Hub.
	notices map[string][]notice
	notify  notifyMode
	// reminder has the findings that the next reminder may have, and whether it must have them; nil if
	// that is not known.
	reminder map[string]bool
	// chats counts equal messages to chats.
	chats                                map[string]int
	events                               int
	correlator                           *function
	correlateQueue, correlateDeadLetters *queue
	// parts are the findings that rules are about, by ID.
	parts map[string]*part
	// named are the incidents that ever named a finding or a resource, by its ID.
	named map[string][]string
	// sent are all messages, for a corpus.
	sent []sentMessage
	// dir has the files of the functions' packages.
	dir string
	// deployed are the settings of all deployments, the present ones last.
	deployed []settings
	// deploying is until when the last deployment lasts.
	deploying time.Time
	optional  optional
	campaigns campaigns
	// detect is nil in runs without Detect's notifications.
	detect *detect
	// notifyTable and correlateTable are the names of the present tables.
	notifyTable, correlateTable string
}

// violations has the invariants that do not hold, each with its first example.
type violations struct {
	mu    sync.Mutex
	found map[string]string
}

func (v *violations) add(invariant, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.found == nil {
		v.found = map[string]string{}
	}
	if _, known := v.found[invariant]; !known {
		v.found[invariant] = fmt.Sprintf(format, args...)
	}
}

// String lists them.
func (v *violations) String() string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(v.found)) {
		lines = append(lines, name+": "+v.found[name])
	}
	return strings.Join(lines, "\n")
}

const (
	ledgerTable = "ledger"
	stateTable  = "state"
)

// epoch is when runs begin: a testing bubble begins in 2000.
var epoch = time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)

// newWorld deploys the stack. A storm has no notifier: it would receive each import.
func newWorld(seed uint64, f *faults, keep bool, dir string, notify bool) *world {
	time.Sleep(time.Until(epoch.Add(time.Duration(seed%3600) * time.Second)))
	log := newTrace(keep)
	log.begin = time.Now()
	w := &world{scheduler: newScheduler(seed, log, f), seed: seed, begin: time.Now(), counts: map[string]int{}, model: newModel(), audits: newAudits(), registry: newRegistry(), named: map[string][]string{}, suppressions: suppressions{descriptions: map[string]string{}}, notices: map[string][]notice{}, parts: map[string]*part{}, chats: map[string]int{}, dir: dir, optional: newOptional(), campaigns: newCampaigns()}
	w.dynamodb = dynamodbtest.New(
		dynamodbtest.Schema{
			Name: ledgerTable, Partition: contract.LedgerPartitionKey, Sort: contract.LedgerSortKey, Expiry: contract.LedgerExpiry,
			Indexes: []dynamodbtest.Index{{Name: contract.LedgerRefreshIndex, Partition: contract.LedgerRefreshShard, Sort: contract.LedgerRefreshAt}},
		},
		dynamodbtest.Schema{
			Name: stateTable, Partition: contract.StatePartitionKey, Sort: contract.StateSortKey, Expiry: contract.StateExpiry,
			Indexes: []dynamodbtest.Index{{Name: contract.StateDueIndex, Partition: contract.StateDueShard, Sort: contract.StateDueAt, KeysOnly: true}},
		},
	)
	w.dynamodb.Now = time.Now
	w.dynamodb.Observe = func(a dynamodbtest.Access) {
		w.ledger.observe(a)
		w.hub.observe(a)
		w.observeCampaign(a)
	}
	w.dynamodb.PageItems = 7
	w.dynamodb.Stale = func(since time.Duration) bool { return since < time.Second && f.strikes(staleRead, w.serving) }
	w.dynamodb.Throttle = func(string, dynamodbtest.Item) bool { return f.strikes(tablePartial, w.serving) }
	w.hub = newHub(w, nil)
	construct := 0
	if notify {
		construct = 1
	}
	w.deploy(construct)
	if notify {
		w.optional.notify, w.optional.correlate = construct, construct
		w.deployNotify(w.deployed[0])
		w.deployCorrelate(w.deployed[0])
		w.deployVerification()
		w.hub = newHub(w, w.bus)
	}
	return w
}

// deploy creates queues and functions with the settings of the constructs.
func (w *world) deploy(construct int) {
	w.deadLetters = w.queue("dead-letters", 30*time.Second, nil, 0)
	w.deployed = []settings{{window: w.rng.IntN(5), notify: construct, correlate: construct}}
	w.forwarder = w.function("forwarder", time.Minute, buildForwarder, w.forwarderEnvironment(w.deployed[0], "forwarder"))
	w.auditor = w.function("auditor", 5*time.Minute, buildForwarder, w.forwarderEnvironment(w.deployed[0], "auditor"))
	w.resources = w.function("auditresources", 2*time.Minute, buildResources, nil)
	w.ingest = w.queue("ingest", 6*time.Minute+2*time.Second, w.deadLetters, 1000)
	w.errorQueue = w.queue("errors", 6*time.Minute+2*time.Second, w.deadLetters, 1000)
	w.ingest.feeds(w.forwarder, 100, 2*time.Second, 5)
	w.errorQueue.feeds(w.forwarder, 100, 2*time.Second, 5)
	w.auditQueue = w.queue("audits", 30*time.Minute, w.deadLetters, 1000)
	w.auditQueue.feeds(w.auditor, 1, 0, 2)
	w.hourly()
	w.deployEngine()
}

// deployEngine creates the self-managed engine, with a stream for every third seed.
func (w *world) deployEngine() {
	w.telemetryDeadLetters = w.queue("telemetry-dead-letters", 30*time.Second, nil, 0)
	const hidden = 6*time.Minute + batching
	receives := int(contract.TelemetryRetry / hidden)
	w.telemetryErrors = w.queue("telemetry-errors", hidden, w.telemetryDeadLetters, receives)
	if w.seed%3 == 0 {
		w.stream = w.newStream(nil, w.telemetryDeadLetters)
	} else {
		w.telemetryQueue = w.queue("telemetry", hidden, w.telemetryDeadLetters, receives)
	}
	w.evaluator = w.function("evaluator", time.Minute, buildEvaluator, w.evaluatorEnvironment(w.deployed[0], "evaluator"))
	w.closer = w.function("closer", time.Minute, buildEvaluator, w.evaluatorEnvironment(w.deployed[0], "closer"))
	w.telemetryErrors.feeds(w.evaluator, 1000, batching, 10)
	if w.stream != nil {
		w.stream.fn = w.evaluator
	} else {
		w.telemetryQueue.feeds(w.evaluator, 1000, batching, 10)
	}
	w.eachMinute(w.closer, contract.CloseRequest(0, 1))
}

// eachMinute invokes a function as EventBridge Scheduler does: asynchronously, without retries.
func (w *world) eachMinute(fn *function, request string) {
	next := time.Now().Truncate(w.pace(time.Minute)).Add(w.pace(time.Minute))
	w.at(next, func() {
		if fn.removed {
			return
		}
		event := []byte(strings.ReplaceAll(request, "<aws.scheduler.scheduled-time>", next.Format(time.RFC3339)))
		run := func() { w.invoke(fn, event, func(any, error, bool) {}) }
		late := w.between(0, time.Minute)
		if w.faults.strikes(scheduleOdd, fn) {
			w.after(late, run)
		}
		run()
		w.eachMinute(fn, request)
	})
}

func (w *world) function(name string, timeout time.Duration, build program, environ []string) *function {
	f := &function{name: name, arn: "arn:aws:lambda:" + region + ":" + account + ":function:" + name, timeout: timeout, build: build, environ: environ}
	w.functions = append(w.functions, f)
	return f
}

// pace is how long a schedule waits: longer while the world rests, as if runs had failed.
func (w *world) pace(d time.Duration) time.Duration {
	switch {
	case w.passing > 0:
		return max(6*time.Hour, 24*d)
	case !w.resting:
		return d
	case d < time.Hour:
		return time.Hour
	}
	return 6 * d
}

// hourly invokes the forwarder as its schedule does: asynchronously, with two retries.
func (w *world) hourly() {
	next := time.Now().Truncate(w.pace(time.Hour)).Add(w.pace(time.Hour))
	w.at(next, func() {
		w.checkOwners()
		late := w.between(0, 10*time.Minute)
		event := contract.RefreshRequest(next.Format(time.RFC3339))
		if w.faults.strikes(scheduleOdd, w.forwarder) {
			w.after(late, func() { w.asynchronously(w.forwarder, event, 2) })
		}
		w.asynchronously(w.forwarder, event, 2)
		w.hourly()
	})
}

// asynchronously invokes a function as EventBridge Scheduler does, with retries.
func (w *world) asynchronously(fn *function, event string, retries int) {
	w.invoke(fn, []byte(event), func(_ any, err error, _ bool) {
		if err != nil && retries > 0 {
			w.after(time.Minute, func() { w.asynchronously(fn, event, retries-1) })
		}
	})
}

// update deploys a function with other variables. Environments of both versions serve for a while.
func (w *world) update(fn *function, environ []string) {
	fn.before, fn.environ, fn.mixed = fn.environ, environ, time.Now().Add(w.between(time.Minute, 10*time.Minute))
	w.log.printf("deployment of %s", fn.name)
	w.faults.hits[hit{deployment, fn.name}]++
}

// live runs the world: an active period with faults, and a quiet one without.
func (w *world) live(active time.Duration) {
	w.plan(active)
	w.run(w.begin.Add(active), nil)
	w.faults.quiet = true
	w.hub.turnOn()
	w.hub.until = time.Now()
	for _, fn := range w.functions {
		if fn.paused.holds() {
			w.startSources(fn)
		}
	}
	w.detect.redrive(w)
	w.log.printf("quiet")
	const settles, longest = 4 * time.Hour, 12 * time.Hour
	from := time.Now()
	w.run(from.Add(longest), func() bool { return time.Since(from) >= settles && w.idle() })
	w.rest()
	w.pass()
	w.check()
	w.shutDown()
}

// rest lets time pass until a change of the registry must have had its effect.
func (w *world) rest() {
	until := time.Time{}
	for _, d := range w.fleetOf {
		if end := d.edited.Add(restAfterEdit); d.edit != "" && end.After(until) {
			until = end
		}
	}
	if until.Before(time.Now()) {
		return
	}
	w.log.printf("rest")
	w.resting = true
	w.run(until, nil)
	w.resting = false
	w.run(until.Add(2*time.Hour), nil)
	w.run(until.Add(6*time.Hour), w.idle)
}

// idle reports whether no message waits.
func (w *world) idle() bool {
	if len(w.pending) > 0 {
		return false
	}
	for _, q := range w.queues {
		if q.source != nil && (len(q.messages) > 0 || q.source.running > 0) {
			return false
		}
	}
	return w.stream == nil || !w.stream.waits()
}

// plan schedules the devices, the faults and the deployments of the active period.
func (w *world) plan(active time.Duration) {
	w.devices(active)
	w.fleet(active)
	w.audit(active)
	w.planDetect(active)
	for range 2 {
		at, off := w.between(0, active), w.between(time.Minute, 3*time.Hour)
		if w.faults.strikes(hubOff, w.forwarder) {
			w.after(at, func() { w.hub.turnOff(off) })
		}
	}
	for range 2 {
		at, lasts, chosen := w.between(0, active), w.between(10*time.Minute, 3*time.Hour), w.rng.Uint64()
		if w.faults.strikes(hubStubborn, nil) {
			w.after(at, func() { w.hub.stubborn, w.hub.until = chosen, time.Now().Add(lasts) })
		}
	}
	for range 3 {
		at := w.between(0, active)
		if w.faults.strikes(deployment, nil) {
			w.after(at, w.redeploy)
		}
	}
	w.planConstructs(active)
	for range 2 {
		at := w.between(active/4, active)
		if w.faults.strikes(registryChange, nil) {
			w.after(at, func() { w.editRegistry(active) })
		}
	}
	for range 5 {
		at := w.between(0, active)
		if w.faults.strikes(analystEdits, nil) {
			w.after(at, w.hub.edit)
		}
	}
	for _, fn := range []*function{w.forwarder, w.evaluator, w.notifier, w.correlator} {
		at, lasts := w.between(0, active), w.between(5*time.Minute, 90*time.Minute)
		if w.faults.strikes(sourceStops, fn) {
			w.after(at, func() { w.stopSources(fn, lasts) })
		}
	}
}
