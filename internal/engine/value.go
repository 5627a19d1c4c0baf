package engine

import (
	"github.com/defenderhub/defenderhub/defender"
)

// valueBehavior judges every metric value by itself: those of device reports, and source IP
// addresses. The worst verdict of a window counts. A window without values is not judged, and a
// conforming value of a device without state is not recorded.
type valueBehavior struct{ windowed }

func (valueBehavior) digit() byte { return '0' }

// messages are those of the source IP addresses in a dimension. Without a dimension the
// connections show the addresses.
func (valueBehavior) messages(c *Compiled) messageNeed {
	if c.Behavior.Criteria.Metric().Name == defender.SourceIPAddress.Info().Name && c.Behavior.Dimension != nil {
		return allMessages
	}
	return noMessages
}

func (valueBehavior) takes(c *Compiled, d Datapoint) (takes, known bool) { return c.takesWhole(d) }

func (valueBehavior) take(r *step, c *Compiled, d Datapoint) {
	v := r.judge(c, d.Value, windowStart(d.Time, c.length))
	if v == None || v == Conforms && (d.Partial != nil || r.State.tracks[c.key] == nil) {
		return
	}
	r.keep(c, d, v)
}

func (valueBehavior) silence(*Compiled) silence { return silenceIgnored }

func (valueBehavior) needsSession(*Compiled, Datapoint) bool { return false }

func (valueBehavior) carry(*step, *Compiled, *track, *track) {}

func (k valueBehavior) settle(r *step, c *Compiled, t *track) { r.settleWindows(c, t, k.verdict) }

// verdict ignores conforming values within the lateness bound after the first violation: whether
// they were recorded depends on the order of arrival.
func (valueBehavior) verdict(r *step, _ *Compiled, t *track, w window, _ bool) judgment {
	if w.Verdict == Conforms && w.At < t.anchor()+r.lateness {
		return judgment{at: w.At}
	}
	return judgment{Verdict: w.Verdict, at: w.At, value: w.Value}
}

// keep records the verdict about a metric value.
func (r *step) keep(c *Compiled, d Datapoint, v Verdict) {
	if w := r.window(c, d.Time); w != nil {
		w.add(v, d.Time, c.static.brief(d.Value), d.sampled())
	}
}
