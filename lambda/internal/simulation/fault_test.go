package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// kind is a kind of fault.
type kind string

// The kinds of faults.
const (
	crash          kind = "crash"
	slowCall       kind = "slow-call"
	tableThrottle  kind = "table-throttle"
	tablePartial   kind = "table-partial"
	answerLost     kind = "answer-lost"
	answerRetried  kind = "answer-retried"
	staleRead      kind = "stale-read"
	hubFailure     kind = "hub-5xx"
	hubLost        kind = "hub-answer-lost"
	hubPartial     kind = "hub-partial"
	hubStubborn    kind = "hub-fails-some-findings-for-hours"
	hubBusy        kind = "hub-quota-used-by-others"
	hubOff         kind = "hub-off"
	queueDuplicate kind = "queue-duplicate"
	queueReorder   kind = "queue-reorder"
	queueDelay     kind = "queue-delay"
	queueFails     kind = "queue-call-fails"
	ruleDuplicate  kind = "rule-duplicate"
	ruleError      kind = "rule-error-action"
	clockSkew      kind = "clock-skew"
	scheduleOdd    kind = "schedule-late-or-twice"
	deployment     kind = "deployment"
	lifecycleSkew  kind = "lifecycle-clock-skew"
	eventDuplicate kind = "event-duplicate"
	pageExpires    kind = "page-token-expires"
	analystEdits   kind = "analyst"
	registryChange kind = "registry-change"
	sourceStops    kind = "event-source-stops"
	// constructChange adds, removes or replaces Notify or Correlate.
	constructChange kind = "construct-change"
)

// rates are the probabilities with which faults strike, if their kind is on: per call, message or
// occasion.
var rates = map[kind]float64{
	crash: 0.01, slowCall: 0.01, tableThrottle: 0.02, tablePartial: 0.05, answerLost: 0.02, answerRetried: 0.02, staleRead: 0.3,
	hubFailure: 0.1, hubLost: 0.1, hubPartial: 0.1, hubStubborn: 0.3, hubBusy: 0.2, hubOff: 0.5,
	queueDuplicate: 0.1, queueReorder: 0.5, queueDelay: 0.1, queueFails: 0.05,
	ruleDuplicate: 0.1, ruleError: 0.05, clockSkew: 0.5, lifecycleSkew: 0.5, pageExpires: 0.1, eventDuplicate: 0.1, scheduleOdd: 0.2, deployment: 0.5, analystEdits: 0.5, registryChange: 0.7, sourceStops: 0.5, constructChange: 0.5,
}

// later are the kinds that were added when seeds were known already. Each draws from a source of its
// own, so that runs in which it is off stay as they were. It is on in every fourth run.
var later = map[kind]uint64{constructChange: 0xadd}

// kinds returns all kinds, sorted.
func kinds() []kind {
	all := make([]kind, 0, len(rates))
	for k := range rates {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// faults are the kinds that are on, and how often each has struck each function.
type faults struct {
	rng *rand.Rand
	on  map[kind]bool
	// own are the sources of the kinds of [later].
	own map[kind]*rand.Rand
	// quiet ends all faults.
	quiet bool
	hits  map[hit]int
}

// hit is a cell of the table of faults and functions.
type hit struct {
	kind     kind
	function string
}

// swarm switches off a random half of the kinds.
func swarm(seed uint64, without ...kind) *faults {
	rng := rand.New(rand.NewPCG(seed, 0xfa017))
	f := &faults{on: map[kind]bool{}, own: map[kind]*rand.Rand{}, hits: map[hit]int{}}
	for _, k := range kinds() {
		if stream, ok := later[k]; ok {
			f.own[k] = rand.New(rand.NewPCG(seed, stream))
			f.on[k] = f.own[k].IntN(4) == 0 && !slices.Contains(without, k)
			continue
		}
		f.on[k] = rng.IntN(2) == 0 && !slices.Contains(without, k)
	}
	return f
}

// some reports whether one of these kinds is on.
func (f *faults) some(kinds ...kind) bool {
	return slices.ContainsFunc(kinds, func(k kind) bool { return f.on[k] })
}

// String names the kinds that are on.
func (f *faults) String() string {
	var names []string
	for _, k := range kinds() {
		if f.on[k] {
			names = append(names, string(k))
		}
	}
	return strings.Join(names, ",")
}

// strikes decides whether a fault happens now to a function, nil for none. It draws a number even
// if the kind is off, so that leaving a kind out changes little else.
func (f *faults) strikes(k kind, fn *function) bool {
	rate := rates[k]
	if fn != nil && fn.name == "auditresources" {
		rate *= 10 // it makes a call per deployment
	}
	rng := f.rng
	if own := f.own[k]; own != nil {
		rng = own
	}
	struck := rng.Float64() < rate
	if !struck || !f.on[k] || f.quiet {
		return false
	}
	name := "-"
	if fn != nil {
		name = fn.name
	}
	f.hits[hit{k, name}]++
	return true
}

// parseKinds parses names that are separated by commas.
func parseKinds(text string) ([]kind, error) {
	var all []kind
	for name := range strings.SplitSeq(text, ",") {
		if name == "" {
			continue
		}
		if _, ok := rates[kind(name)]; !ok {
			return nil, fmt.Errorf("fault %q, want one of %v", name, kinds())
		}
		all = append(all, kind(name))
	}
	return all, nil
}

// handlers are the functions that the stack deploys, as the simulation names them.
var handlers = []string{"forwarder", "auditor", "auditresources", "evaluator", "closer", "notifier", "correlator", "verification"}

var (
	withTables = []string{"forwarder", "auditor", "evaluator", "closer", "notifier", "correlator"}
	writers    = append([]string{"verification"}, withTables...)
	importers  = []string{"forwarder", "auditor"}
	consumers  = []string{"forwarder", "auditor", "evaluator", "notifier", "correlator", "verification"}
)

// cells are the functions that each kind of fault must have struck. The other cells of the table
// are faults that the function cannot have, or too rare to require.
var cells = map[kind][]string{
	crash: handlers, slowCall: handlers, queueFails: handlers,
	tableThrottle: withTables, answerLost: writers, answerRetried: writers, clockSkew: withTables, deployment: withTables, eventDuplicate: {"notifier", "correlator", "verification"},
	tablePartial: {"evaluator", "closer"}, staleRead: {"closer"}, lifecycleSkew: {"evaluator"}, pageExpires: {"auditor"},
	hubFailure: {"forwarder", "auditor", "verification"}, hubLost: importers, hubPartial: importers, hubStubborn: importers, hubBusy: importers, hubOff: {"forwarder"},
	queueDuplicate: consumers, queueReorder: {"forwarder", "evaluator", "notifier", "correlator", "verification"}, queueDelay: consumers,
	ruleDuplicate: {"forwarder", "evaluator"}, ruleError: {"forwarder", "evaluator"},
	scheduleOdd: {"forwarder", "closer", "correlator", "notifier"}, registryChange: {"evaluator", "closer"},
	sourceStops:     {"forwarder", "evaluator", "notifier", "correlator"},
	constructChange: {"notifier", "correlator"},
}

// strikesIn reports whether a kind of fault must have struck a function at least once.
func (k kind) strikesIn(function string) bool { return slices.Contains(cells[k], function) }
