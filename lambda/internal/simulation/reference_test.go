package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// history has the telemetry of a device. late reports that some may have arrived after the documented
// bound.
type history struct {
	reports  []reportEvent
	sessions []sessionEvent
	late     bool
	// newest is the arrival of the newest telemetry that was delivered, unfinished what waited in a
	// pause and was delivered, but not judged yet.
	newest     time.Time
	unfinished []*datum
}

// reportEvent is a device report. Times are in ms.
type reportEvent struct {
	time int64
	// ports are the first of five usual ones; odd adds one that is not allowed.
	ports       int
	odd         bool
	connections int
	// unreadable reports have no readable value; empty ones are no report at all.
	unreadable, empty bool
}

type sessionEvent struct {
	time      int64
	connected bool
}

// change is a transition, as the reference and the engine give it.
type change struct {
	behavior, kind string
	time           int64
}

func (c change) String() string {
	return fmt.Sprintf("%s %s at %s", c.behavior, c.kind, time.UnixMilli(c.time).UTC().Format("15:04:05.000"))
}

const (
	raised  = "in-alarm"
	cleared = "alarm-cleared"
)

// alarm counts consecutive datapoints.
type alarm struct {
	behavior         string
	toAlarm, toClear int
	open             bool
	run              int
	changes          []change
}

func (a *alarm) datapoint(violates bool, at int64) {
	if violates == a.open {
		a.run = 0
		return
	}
	a.run++
	switch {
	case !a.open && a.run >= a.toAlarm:
		a.open, a.run = true, 0
		a.changes = append(a.changes, change{a.behavior, raised, at})
	case a.open && a.run >= a.toClear:
		a.open, a.run = false, 0
		a.changes = append(a.changes, change{a.behavior, cleared, at})
	}
}

// The reference's own statement of what the simulation deploys. Ports, connections, readability
// and the number of ports have one datapoint for each five minutes in which a report has the
// value: reports are at least five minutes apart.
const (
	openPorts      = "fleet/open-ports"      // 22, 443, 1883, 8883 and 80 alone; 2 datapoints raise, 1 clears
	fewConnections = "fleet/few-connections" // fewer than 10; 1 raises, 2 clear
	// A deployment may rename that behavior, or leave it out.
	fewerConnections = "fleet/fewer-connections"
	noConnections    = "none"
	offline          = "fleet/offline"                  // less than 30 minutes
	fewPorts         = "registered/few-ports"           // fewer than 4, registered things only
	regular          = "device-agent/reports-regularly" // at least every 30 minutes
	readable         = "device-agent/reports-readable"  // 3 unreadable ones raise, 1 clears

	longestOffline = 30 * time.Minute
	longestSilence = 30 * time.Minute
)

// reference returns the transitions of a device up to a time: it has all telemetry, and judges it
// in order.
func (d *device) reference(until time.Time) []change {
	reports := slices.Clone(d.history.reports)
	slices.SortFunc(reports, func(a, b reportEvent) int { return cmp.Compare(a.time, b.time) })
	ports, connections := &alarm{behavior: openPorts, toAlarm: 2, toClear: 1}, &alarm{behavior: fewConnections, toAlarm: 1, toClear: 2}
	count, reading := &alarm{behavior: fewPorts, toAlarm: 1, toClear: 1}, &alarm{behavior: readable, toAlarm: 3, toClear: 1}
	for _, r := range reports {
		reading.datapoint(r.unreadable, r.time)
		if r.unreadable {
			continue
		}
		ports.datapoint(r.odd, r.time)
		connections.datapoint(r.connections >= 10, r.time)
		n := r.ports
		if r.odd {
			n++
		}
		if d.registered {
			count.datapoint(n >= 4, r.time)
		}
	}
	all := slices.Concat(ports.changes, connections.changes, count.changes, reading.changes, silence(reports, until), disconnections(d.history.sessions, until))
	slices.SortFunc(all, func(a, b change) int {
		return cmp.Or(strings.Compare(a.behavior, b.behavior), cmp.Compare(a.time, b.time))
	})
	return all
}

// silence judges the time since the last report, which is rounded up to the end of a quarter of
// the longest silence.
func silence(reports []reportEvent, until time.Time) []change {
	a := &alarm{behavior: regular, toAlarm: 1, toClear: 1}
	quarter, longest := longestSilence.Milliseconds()/4, longestSilence.Milliseconds()
	var last int64
	for _, r := range reports {
		if r.empty {
			continue
		}
		at := r.time - r.time%quarter + quarter - 1
		if last != 0 && at > last+longest {
			a.datapoint(true, last+longest)
		}
		a.datapoint(false, at)
		last = at
	}
	if last != 0 && last+longest < until.UnixMilli() {
		a.datapoint(true, last+longest)
	}
	return a.changes
}

// disconnections judges how long the device has had no session.
func disconnections(events []sessionEvent, until time.Time) []change {
	a := &alarm{behavior: offline, toAlarm: 1, toClear: 1}
	longest := longestOffline.Milliseconds()
	var since int64
	for _, e := range events {
		if since != 0 && since+longest < e.time {
			a.datapoint(true, since+longest)
		}
		since = 0
		if e.connected {
			a.datapoint(false, e.time)
		} else {
			since = e.time
		}
	}
	if since != 0 && since+longest < until.UnixMilli() {
		a.datapoint(true, since+longest)
	}
	return a.changes
}

// String lists what happened, for a failure.
func (h history) String() string {
	clock := func(ms int64) string { return time.UnixMilli(ms).UTC().Format("15:04:05.000") }
	var b strings.Builder
	for _, r := range h.reports {
		fmt.Fprintf(&b, "%s report %d ports odd %t connections %d unreadable %t empty %t\n", clock(r.time), r.ports, r.odd, r.connections, r.unreadable, r.empty)
	}
	for _, s := range h.sessions {
		fmt.Fprintf(&b, "%s connected %t\n", clock(s.time), s.connected)
	}
	return b.String()
}
