package engine

import "github.com/defenderhub/defenderhub/internal/iotapi"

// kind is everything in which the kinds of behavior differ. Each kind is one type in one
// file: value.go, size.go, count.go, sum.go, duration.go and reports.go. [compile] and
// [Traffic] choose the kind; no other code distinguishes the kinds. Whether first traffic must be
// confirmed, and whether a criteria has a lower bound, are not kinds: several kinds can have both.
type kind interface {
	// digit is the first character of [Compiled.form], so that states of one kind are never
	// read as those of another.
	digit() byte

	// messages returns which published messages the behavior needs.
	messages(c *Compiled) messageNeed
	// takes reports whether d is an input. known is false if d has the metric, but the engine
	// cannot say whether it is in the dimension.
	takes(c *Compiled, d Datapoint) (takes, known bool)
	// take records an input.
	take(r *step, c *Compiled, d Datapoint)

	// silence returns which windows without datapoints are judged.
	silence(c *Compiled) silence
	// needsSession reports whether the engine must record what d says about an MQTT session.
	needsSession(c *Compiled, d Datapoint) bool
	// sessionsFrom returns the time in ms since which recorded sessions are still needed, if
	// everything before over has arrived. t is nil for a device without state. It is called only if
	// silence is not [silenceIgnored].
	sessionsFrom(c *Compiled, t *track, over int64) int64

	// begin returns the initial [track.Settled], if everything before over has arrived.
	begin(c *Compiled, over int64) int64
	// carry copies to fresh what of old is still valid after the behavior was changed. The
	// alarm is copied already.
	carry(r *step, c *Compiled, old, fresh *track)

	// settle judges, in order, everything that no later arrival can change.
	settle(r *step, c *Compiled, t *track)
	// due returns the time in ms that t waits for, or never. The lateness bound is not included.
	due(c *Compiled, t *track, p presence) int64

	// lingers reports whether an open alarm may stay open forever while the device is away.
	lingers(t *track) bool
	// gone reports whether the registry may end the alarm: nothing that the device sent is
	// still unjudged. It is false for the kinds whose alarms end by silence.
	gone(r *step, c *Compiled, t *track) bool
}

// messageNeed is which published messages a behavior needs.
type messageNeed int

const (
	noMessages messageNeed = iota
	// violatingMessages: the IoT rule may drop the messages that conform.
	violatingMessages
	allMessages
)

// silence is which windows without datapoints are judged.
type silence int

const (
	silenceIgnored silence = iota
	// silenceInAlarm: windows in an alarm, or while datapoints are counted toward one.
	silenceInAlarm
	// silenceAlways: windows of conforming devices as well. The engine then records every session.
	silenceAlways
)

// windowed has the methods of the kinds that are judged window by window: value, size, count
// and sum. Silence of [SilenceLimit] ends their alarms.
type windowed struct{}

func (windowed) begin(c *Compiled, over int64) int64 {
	return windowStart(over, c.length) - c.length.Duration().Milliseconds()
}

func (windowed) sessionsFrom(c *Compiled, t *track, over int64) int64 {
	from := c.sessionsNeeded(over)
	if t != nil {
		from = min(from, t.Settled-ClockSkew.Milliseconds())
	}
	return from
}

func (windowed) due(c *Compiled, t *track, p presence) int64 {
	at := int64(never)
	if len(t.Windows) > 0 {
		at = t.Windows[0].settles(c.length, 0)
	}
	gap := window{Start: t.Settled + c.length.Duration().Milliseconds()}
	if c.infersFor(t) && (p.online() || len(p) > 0 && p[len(p)-1].Time >= gap.Start) {
		at = min(at, gap.settles(c.length, 0))
	}
	if !t.Alarm.idle() {
		at = min(at, t.Alarm.silentSince())
	}
	return min(at, c.dueTraffic(t))
}

func (windowed) lingers(*track) bool { return false }

func (windowed) gone(*step, *Compiled, *track) bool { return false }

// judgment is the verdict about a window.
type judgment struct {
	Verdict
	// at is the time of the datapoint in ms, value what was measured.
	at    int64
	value *iotapi.Value
	// open are clients: the verdict is valid only if one of them had a session throughout the
	// window. Empty: it is valid.
	open []string
}
