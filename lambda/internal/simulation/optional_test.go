package simulation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/dynamodbtest"
)

// optional are the constructs that deployments add and remove: Notify and Correlate. A construct
// has a number; one of another number has a new queue, table and function. 0 is none.
type optional struct {
	notify, correlate int
	// added counts the constructs that were added after the first deployment.
	added int
	// received is when Notify received the first event of each finding since it was added.
	received map[string]time.Time
	// underway counts the events of each finding that Notify has not handled yet.
	underway map[string]int
	// over has for each finding the incidents that Notify knew to be over when it opened last.
	over map[string]map[string]bool
	// correlateFrom is the deployment that added Correlate, and correlateSince its time.
	correlateFrom  int
	correlateSince time.Time
	// composites are what correlators have sent last, by incident.
	composites map[incidentKey]sentComposite
	// repeats are the repeated messages of notifiers that were removed.
	repeats int
}

// sentComposite is a composite finding that a correlator has sent.
type sentComposite struct {
	by       *function
	revision int64
	active   bool
}

func newOptional() optional {
	return optional{
		received: map[string]time.Time{}, underway: map[string]int{}, over: map[string]map[string]bool{}, composites: map[incidentKey]sentComposite{},
	}
}

// planConstructs schedules deployments that add and remove constructs. It draws from the source of
// the fault, so that runs without it stay as they are.
func (w *world) planConstructs(active time.Duration) {
	rng := w.faults.own[constructChange]
	for range 3 {
		at := time.Duration(rng.Int64N(int64(active)))
		if w.faults.strikes(constructChange, nil) {
			w.after(at, func() { w.changeConstructs(rng) })
		}
	}
}

// changeConstructs deploys the present settings with other constructs: it adds those that are
// missing, and removes or replaces others. A construct is replaced if its ID changes.
func (w *world) changeConstructs(rng *rand.Rand) {
	if time.Now().Before(w.deploying) {
		w.at(w.deploying, func() { w.changeConstructs(rng) })
		return
	}
	next := w.settings()
	next.number = len(w.deployed)
	change := func(construct *int) {
		if *construct > 0 && rng.IntN(3) > 0 {
			*construct = 0
			return
		}
		w.optional.added++
		*construct = 1 + w.optional.added
	}
	which := rng.IntN(3)
	if which != 0 {
		change(&next.notify)
	}
	if which != 1 {
		change(&next.correlate)
	}
	w.deploySettings(next, updateOrder)
}

// deployOptional creates, updates and deletes what a deployment says about a construct. New
// resources are created before those that they replace are deleted.
func (w *world) deployOptional(name string, s settings) {
	switch {
	case name == "notifier" && w.optional.notify == s.notify:
		if w.notifier != nil {
			w.update(w.notifier, w.notifierEnvironment(s))
		}
	case name == "notifier":
		old, queue, table := w.notifier, w.notifyQueue, w.notifyTable
		w.notifier, w.optional.notify = nil, s.notify
		if s.notify > 0 {
			w.deployNotify(s)
		}
		w.changed(name, old, queue, table)
		w.forgetMessages()
	case w.optional.correlate == s.correlate:
		if w.correlator != nil {
			w.update(w.correlator, w.correlatorEnvironment(s))
		}
	default:
		old, queue, table := w.correlator, w.correlateQueue, w.correlateTable
		w.correlator, w.optional.correlate = nil, s.correlate
		if s.correlate > 0 {
			w.deployCorrelate(s)
		}
		w.changed(name, old, queue, table)
		w.forgetParts()
	}
}

// changed deletes the resources of a construct, and counts the change.
func (w *world) changed(name string, old *function, queue *queue, table string) {
	what := "added"
	if old != nil {
		w.remove(old, queue, table)
		what = "removed"
		if w.optional.notify > 0 && name == "notifier" || w.optional.correlate > 0 && name == "correlator" {
			what = "replaced"
		}
	}
	w.log.printf("%s was %s", name, what)
	w.counts[name+"s "+what]++
	w.faults.hits[hit{constructChange, name}]++
}

// remove deletes a function with its queue and table. Nothing that waits is handled any more.
func (w *world) remove(fn *function, q *queue, table string) {
	fn.removed = true
	for _, e := range w.living {
		if e.fn == fn && !e.dead.Load() {
			w.kill(e)
		}
	}
	if n := len(q.dead.messages); n > 0 {
		w.violations.add("events become no dead letters", "%d of the %s", n, fn.name)
	}
	q.messages, q.visible, q.head = map[string]*message{}, nil, 0
	w.queues = slices.DeleteFunc(w.queues, func(o *queue) bool { return o == q || o == q.dead })
	w.dynamodb.Delete(table)
}

// create creates the table of a construct, and returns its name. The names of the first deployment
// have no number.
func (w *world) create(name string, construct int, schema dynamodbtest.Schema) string {
	schema.Name = numbered(name, construct)
	w.dynamodb.Create(schema)
	return schema.Name
}

func numbered(name string, construct int) string {
	if construct > 1 {
		return fmt.Sprintf("%s-%d", name, construct)
	}
	return name
}

// forgetMessages begins anew with the messages to people: a notifier that was added knows nothing
// of those before.
func (w *world) forgetMessages() {
	w.optional.repeats += w.repeats()
	w.optional.received, w.notices, w.chats, w.reminder = map[string]time.Time{}, map[string][]notice{}, map[string]int{}, nil
	w.optional.underway, w.optional.over = map[string]int{}, map[string]map[string]bool{}
}

// forgetParts begins anew with the reference of incidents: a correlator that was added knows
// findings from their first event on.
func (w *world) forgetParts() {
	w.parts, w.campaigns = map[string]*part{}, newCampaigns()
	w.optional.correlateFrom, w.optional.correlateSince = len(w.deployed)-1, time.Now()
}

// observeComposite notes what a correlator sends to the forwarder.
func (w *world) observeComposite(fn *function, body string) {
	if fn.name != "correlator" {
		return
	}
	var c correlation.Composite
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		panic(err) // the correlator wrote it
	}
	key := incidentKey{c.Rule, cmp.Or(c.Entity, eventOf(c.Key))}
	if last := w.optional.composites[key]; last.by != fn || last.revision < c.Revision {
		w.optional.composites[key] = sentComposite{fn, c.Revision, c.State == asff.Active}
	}
}

// lostIncidents returns how many active incidents are lost, and counts them.
func (w *world) lostIncidents() (n int) {
	for _, f := range w.hub.Findings() {
		if composite(f) && f.RecordState == "ACTIVE" && w.lost(incidentOf(f)) {
			n++
		}
	}
	w.counts["incidents that no correlator knew"] += n
	return n
}

// lost reports whether only a correlator that was removed has sent an incident: the present one
// does not know it. The forwarder ends it some time after. Without Correlate it ends at once.
func (w *world) lost(key incidentKey) bool {
	if w.correlator == nil {
		return false
	}
	last := w.optional.composites[key]
	return last.by != w.correlator && last.active && time.Since(w.optional.correlateSince) < contract.IncidentLifetime+scheduleDelay
}
