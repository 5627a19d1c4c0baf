package engine

import (
	"cmp"
	"slices"
	"strings"
)

// Link is what an event shows about the MQTT session of a thing.
type Link int8

// The links.
const (
	// NoLink shows nothing: a message over HTTPS, a metric of a report.
	NoLink Link = iota
	// Alive is a message over MQTT: a session was open at that time.
	Alive
	// Connected and Disconnected are lifecycle events, which name their session.
	Connected
	Disconnected
)

// maxMarks bounds the state of a thing that keeps reconnecting. It is how many lifecycle events of
// each [Period] are kept, the newest, and how many sessions without a known end. Dropped events
// mean that fewer windows conform.
const maxMarks = 4

// mark is one event about a session. Time is in ms.
type mark struct {
	Time    int64  `json:"t"`
	Link    Link   `json:"l"`
	Session string `json:"s,omitempty"`
	// Client is the client ID of the session, "" if it is the thing itself.
	Client string `json:"c,omitempty"`
}

func (m mark) compare(o mark) int {
	return cmp.Or(cmp.Compare(m.Time, o.Time), cmp.Compare(m.Link, o.Link), cmp.Compare(m.Session, o.Session), cmp.Compare(m.Client, o.Client))
}

// hasLifecycleEvents reports whether AWS IoT publishes lifecycle events for a client ID. It
// publishes none for one with # or +, so the end of such a session is unknown.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
func hasLifecycleEvents(clientID string) bool { return !strings.ContainsAny(clientID, "+#") }

// presence has the recorded events about a thing's sessions, oldest first. Adding is commutative,
// and duplicates change nothing.
type presence []mark

// add records m. It keeps only the last message of each [Period].
func (p *presence) add(m mark) {
	i, found := slices.BinarySearchFunc(*p, m, mark.compare)
	if found {
		return
	}
	marks := slices.Insert(slices.Clone(*p), i, m)
	alike := func(o mark) bool {
		return (o.Link == Alive) == (m.Link == Alive) && windowStart(o.Time, Period) == windowStart(m.Time, Period)
	}
	most, n := maxMarks, 0
	if m.Link == Alive {
		most = 1
	}
	for _, o := range marks {
		if alike(o) {
			n++
		}
	}
	if n > most {
		oldest := slices.IndexFunc(marks, alike)
		marks = slices.Delete(marks, oldest, oldest+1)
	}
	*p = marks
}

// openThroughout returns the clients that probably had a session open from a to b, in ms, according
// to events not older than oldest. Lifecycle timestamps may be [ClockSkew] off: a connection counts
// if it is at least that much before a, a disconnection unless it is earlier than that. A
// disconnected event may be lost, and a last will may be published long after the end of its
// session: see [Connection].
func (p presence) openThroughout(a, b, oldest int64) []string {
	skewed := a - ClockSkew.Milliseconds()
	var clients []string
	for _, m := range p {
		if m.Time < oldest || slices.Contains(clients, m.Client) || p.closed(m, b) ||
			!(m.Link == Connected && m.Time <= skewed || m.Link == Alive && m.Time < a) {
			continue
		}
		if !slices.ContainsFunc(p, func(d mark) bool {
			return d.Link == Disconnected && d.Client == m.Client && d.Time >= skewed && d.Time < b
		}) {
			clients = append(clients, m.Client)
		}
	}
	return clients
}

// closed reports whether the session of m ended before t. The disconnection of the same session
// ends a connection. Any disconnection that may be later than a message ends its session.
func (p presence) closed(m mark, t int64) bool {
	return slices.ContainsFunc(p, func(d mark) bool {
		return d.Link == Disconnected && d.Client == m.Client && d.Time < t && d.Time >= m.Time-ClockSkew.Milliseconds() &&
			(m.Link == Alive || d.Session == m.Session)
	})
}

// end records that a client has no session at a time, without an event.
func (p *presence) end(client string, at int64) {
	var ends []mark
	left := slices.DeleteFunc(slices.Clone(*p), func(m mark) bool {
		if m.Client != client || m.Link == Disconnected || p.closed(m, never) {
			return false
		}
		if m.Link == Connected {
			ends = append(ends, mark{max(at, m.Time), Disconnected, m.Session, client})
		}
		return m.Link == Alive
	})
	*p = left
	for _, m := range ends {
		p.add(m)
	}
}

// connected returns the clients with a connection without a known end before t.
func (p presence) connected(t int64) []string {
	var clients []string
	for _, m := range p {
		if m.Link == Connected && m.Time < t && !p.closed(m, t) && !slices.Contains(clients, m.Client) {
			clients = append(clients, m.Client)
		}
	}
	return clients
}

// online reports whether a session has no known end.
func (p presence) online() bool {
	return slices.ContainsFunc(p, func(m mark) bool { return m.Link != Disconnected && !p.closed(m, never) })
}

// offlineSince returns the time of the disconnection since which the thing has had no session at t;
// 0 if it has one, or if none is known. It uses only lifecycle events.
func (p presence) offlineSince(t int64) int64 {
	var since int64
	for _, m := range p {
		if m.Time > t {
			break
		}
		switch m.Link {
		case Disconnected:
			since = m.Time
		case Connected:
			if !p.closed(m, t+1) {
				return 0
			}
		}
	}
	return since
}

// before drops the marks before t, which must be the start of a [Period]. It keeps disconnections
// that end a session with a later mark, and with proofs the newest marks of sessions that are open
// at t.
func (p presence) before(t int64, proofs bool) presence {
	i, _ := slices.BinarySearchFunc(p, mark{Time: t}, mark.compare)
	old, kept := p[:i], p[i:]
	var short presence
	type session struct{ client, id string } // id is "" for messages
	var open []session
	for _, m := range slices.Backward(old) {
		proves := proofs && m.Link != Disconnected && !p.closed(m, t) && !slices.Contains(open, session{m.Client, m.Session})
		ends := m.Link == Disconnected && slices.ContainsFunc(kept, func(k mark) bool {
			return k.Link != Disconnected && presence{m}.closed(k, t)
		})
		if proves {
			open = append(open, session{m.Client, m.Session})
		}
		if ends || proves && len(open) <= maxMarks {
			short = append(short, m)
		}
	}
	slices.Reverse(short)
	return append(short, kept...)
}
