package engine

import (
	"math"

	"github.com/defenderhub/defenderhub/defender"
)

// sumBehavior adds up the values of a window: message sizes that are compared with the fleet's, and
// the traffic of devices that report more often than the window is long. A window without messages
// has the sum 0; one without reports is not judged.
type sumBehavior struct{ windowed }

func (sumBehavior) digit() byte { return '3' }

func (sumBehavior) messages(c *Compiled) messageNeed {
	if c.Behavior.Criteria.Metric().Name == defender.MessageByteSize.Info().Name {
		return allMessages
	}
	return noMessages
}

func (sumBehavior) takes(c *Compiled, d Datapoint) (takes, known bool) { return c.takesWhole(d) }

func (sumBehavior) take(r *step, c *Compiled, d Datapoint) {
	if w := r.collect(c, d, math.MaxInt64); w != nil && c.confirm.within > 0 {
		w.Last = max(w.Last, d.Time)
	}
}

func (sumBehavior) silence(c *Compiled) silence { return c.silenceOfEvents() }

func (sumBehavior) needsSession(c *Compiled, d Datapoint) bool { return c.needsSessionOfEvents(d) }

func (sumBehavior) carry(r *step, c *Compiled, _, fresh *track) { r.skipCurrent(c, fresh) }

func (k sumBehavior) settle(r *step, c *Compiled, t *track) { r.settleWindows(c, t, k.verdict) }

func (sumBehavior) verdict(r *step, c *Compiled, t *track, w window, inferred bool) judgment {
	return r.judgeTotal(c, t, w, inferred, w.Tally.sum())
}
