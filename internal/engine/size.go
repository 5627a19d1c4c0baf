package engine

// sizeBehavior compares the size of each message with a static value. The IoT rule drops the
// messages that conform, so only violating ones are recorded.
type sizeBehavior struct{ windowed }

func (sizeBehavior) digit() byte { return '1' }

func (sizeBehavior) messages(*Compiled) messageNeed { return violatingMessages }

func (sizeBehavior) takes(c *Compiled, d Datapoint) (takes, known bool) { return c.inScope(d) }

func (sizeBehavior) take(r *step, c *Compiled, d Datapoint) {
	if v := r.judge(c, d.Value, windowStart(d.Time, c.length)); v == Violates {
		r.keep(c, d, v)
	}
}

// silence applies in an alarm: a window without violating messages conforms if a session was open
// throughout.
func (sizeBehavior) silence(*Compiled) silence { return silenceInAlarm }

// needsSession is false for a message that conforms, so that it costs no write.
func (k sizeBehavior) needsSession(c *Compiled, d Datapoint) bool {
	if d.Link != Alive || c.lower {
		return true
	}
	takes, _ := k.takes(c, d)
	return takes && c.static.judge(d.Value) == Violates
}

func (sizeBehavior) carry(r *step, c *Compiled, _, fresh *track) { r.skipCurrent(c, fresh) }

func (k sizeBehavior) settle(r *step, c *Compiled, t *track) { r.settleWindows(c, t, k.verdict) }

func (sizeBehavior) verdict(r *step, c *Compiled, t *track, w window, inferred bool) judgment {
	if !inferred {
		return judgment{Verdict: w.Verdict, at: w.At, value: w.Value}
	}
	at := w.end(c.length)
	if open := r.openThroughout(c, t, w); len(open) > 0 {
		return judgment{Verdict: Conforms, at: at, open: open}
	}
	return judgment{at: at}
}
