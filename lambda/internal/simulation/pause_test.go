package simulation

import "time"

// pause is a time in which Lambda does not invoke a function for its event sources: the account's
// concurrency is used up, or somebody has disabled the event source mappings.
type pause struct{ from, until time.Time }

// holds reports whether the pause lasts.
func (p pause) holds() bool { return time.Now().Before(p.until) }

// stopSources pauses the event sources of a function.
func (w *world) stopSources(fn *function, d time.Duration) {
	fn.paused = pause{time.Now(), time.Now().Add(d)}
	w.log.printf("the event sources of %s stop for %v", fn.name, d)
	w.after(d, func() { w.startSources(fn) })
}

// startSources ends a pause.
func (w *world) startSources(fn *function) {
	if fn.paused.holds() {
		fn.paused.until = time.Now()
	}
	for _, q := range w.queues {
		if q.source != nil && q.source.fn == fn && q.head < len(q.visible) {
			q.source.nudge()
		}
	}
	if w.stream != nil && w.stream.fn == fn {
		for _, h := range w.stream.shards {
			h.nudge(0)
		}
	}
}

// datum is telemetry of a device on its way. time is its own in ms, arrived that of the transport.
type datum struct {
	of      *device
	time    int64
	arrived time.Time
	// waits reports that the closer waits for the telemetry while no evaluator runs. It does not look
	// at the queue of the error actions.
	waits bool
	// resumed is when the pause ended in which the telemetry was sent; the zero time for none.
	resumed time.Time
}

// streamBlind is how long after the evaluator's last report the closer cannot distinguish new records
// of a stream from judged ones, if the evaluator was behind.
// docs/detect.md says so under Backlogs.
const streamBlind = 3*time.Minute + 30*time.Second

// delivered notes that an evaluator gets a batch. The engine judges a backlog by the times at which
// the transport received it. So telemetry that waited in a pause is late if newer telemetry of its
// device was, or may be, judged before it. So is what a stream received while the closer was blind.
func (w *world) delivered(batch []*datum, paused pause) {
	seen := paused.from
	if w.stream != nil {
		seen = seen.Add(streamBlind)
	}
	for _, d := range batch {
		at, h := time.UnixMilli(d.time), &d.of.history
		if d.waits && !paused.holds() && at.After(seen) && at.Before(paused.until) {
			d.resumed = paused.until
			h.late = h.late || h.newest.Sub(at) > lateBound
		}
	}
	for _, d := range batch {
		h := &d.of.history
		for _, o := range h.unfinished {
			h.late = h.late || d.arrived.Sub(time.UnixMilli(o.time)) > lateBound
		}
	}
	for _, d := range batch {
		h := &d.of.history
		if d.arrived.After(h.newest) {
			h.newest = d.arrived
		}
		if !d.resumed.IsZero() {
			h.unfinished = append(h.unfinished, d)
		}
	}
}
