package simulation

import (
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/defender"
)

// updateOrder is the order in which a deployment updates functions. The forwarder is first, so that
// it knows new behaviors before their first alarm.
var updateOrder = [][]string{{"forwarder", "auditor"}, {"evaluator", "closer", "correlator", "notifier"}}

// redeploy deploys other settings, or an earlier deployment again, in the opposite order.
func (w *world) redeploy() {
	if time.Now().Before(w.deploying) { // CloudFormation updates a stack once at a time
		w.at(w.deploying, w.redeploy)
		return
	}
	next := w.settings()
	next.number, next.connections, next.severity = len(w.deployed), pick(w.scheduler, []string{"", fewerConnections, noConnections}), pick(w.scheduler, []defender.Severity{defender.Low, defender.High})
	next.withoutRule, next.window = pick(w.scheduler, []string{"", "", vanished, worsens, exposed, campaign}), pick(w.scheduler, []int{w.deployed[0].window, 5})
	order := updateOrder
	if w.chance(0.3) {
		next = pick(w.scheduler, w.deployed)
		order = [][]string{updateOrder[1], updateOrder[0]}
		w.counts["rollbacks"]++
	}
	w.deploySettings(next, order)
}

// deploySettings deploys settings, and lets some time pass between the two halves of the stack.
func (w *world) deploySettings(next settings, order [][]string) {
	w.deployed = append(w.deployed, next)
	w.deployFunctions(order[0], next)
	w.customResource(len(w.deployed))
	w.suppress(len(w.deployed))
	rest := w.between(0, 3*time.Minute)
	w.deploying = time.Now().Add(rest + time.Second)
	w.after(rest, func() { w.deployFunctions(order[1], next) })
}

func (w *world) deployFunctions(names []string, s settings) {
	for _, name := range names {
		switch name {
		case "correlator", "notifier":
			w.deployOptional(name, s)
			continue
		}
		fn := w.functions[slices.IndexFunc(w.functions, func(f *function) bool { return f.name == name })]
		environ := w.evaluatorEnvironment
		if name == "forwarder" || name == "auditor" {
			environ = w.forwarderEnvironment
		}
		w.update(fn, environ(s, name))
	}
}
