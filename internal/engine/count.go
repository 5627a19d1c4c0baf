package engine

import "github.com/defenderhub/defenderhub/defender"

// countBehavior counts the events of a window: messages, connection attempts, disconnects and
// authorization failures. A window without events has the count 0.
type countBehavior struct {
	windowed
	// limit is the count at which the verdict cannot change any more; see [firstAbove].
	limit int64
}

func (countBehavior) digit() byte { return '2' }

func (countBehavior) messages(c *Compiled) messageNeed {
	if c.Behavior.Criteria.Metric().Name == defender.MessagesSent.Info().Name {
		return allMessages
	}
	return noMessages
}

func (countBehavior) takes(c *Compiled, d Datapoint) (takes, known bool) { return c.takesWhole(d) }

func (k countBehavior) take(r *step, c *Compiled, d Datapoint) { r.collect(c, d, k.limit) }

func (countBehavior) silence(c *Compiled) silence { return c.silenceOfEvents() }

func (countBehavior) needsSession(c *Compiled, d Datapoint) bool { return c.needsSessionOfEvents(d) }

func (countBehavior) carry(r *step, c *Compiled, _, fresh *track) { r.skipCurrent(c, fresh) }

func (k countBehavior) settle(r *step, c *Compiled, t *track) { r.settleWindows(c, t, k.verdict) }

func (k countBehavior) verdict(r *step, c *Compiled, t *track, w window, inferred bool) judgment {
	return r.judgeTotal(c, t, w, inferred, min(w.Tally.count(), k.limit))
}
