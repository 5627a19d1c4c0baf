package engine

import (
	"cmp"
	"slices"
	"strings"
)

// Link is what an event tells about the MQTT session of a thing.
type Link int8

// The links.
const (
	// NoLink tells nothing: a message over HTTPS, a metric of a report.
	NoLink Link = iota
	// Alive is a message over MQTT: some session was open at that time.
	Alive
	// Connected and Disconnected are lifecycle events, which name their session.
	Connected
	Disconnected
)

// maxMarks bounds what is remembered of a thing that keeps reconnecting: the newest
// lifecycle events of each five minutes, and as many sessions of which no end is known.
// With others forgotten less is known, and fewer windows conform.
const maxMarks = 4

// mark is one event about a session. Time is in ms.
type mark struct {
	Time    int64  `json:"t"`
	Link    Link   `json:"l"`
	Session string `json:"s,omitempty"`
	// Client is the client ID of the session, "" where it is the thing's subject.
	Client string `json:"c,omitempty"`
}

func (m mark) compare(o mark) int {
	return cmp.Or(cmp.Compare(m.Time, o.Time), cmp.Compare(m.Link, o.Link), cmp.Compare(m.Session, o.Session), cmp.Compare(m.Client, o.Client))
}

// hasLifecycleEvents reports whether AWS IoT publishes lifecycle events for a client ID. It
// publishes none for one with # or +, so that nothing shows the end of such a session.
// https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
func hasLifecycleEvents(clientID string) bool { return !strings.ContainsAny(clientID, "+#") }

// presence is what is known of a thing's sessions, in order. Adding is commutative and
// repeating a mark changes nothing.
type presence []mark

// add inserts m. Of the messages of five minutes only the last is kept.
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

// openThroughout returns the clients that seem to have had a session open from a to b, in
// ms, by a sign not older than oldest. Lifecycle timestamps may be [ClockSkew] off, so a
// connection counts only if it was made that much before a, and a disconnection from that
// much before a on. A disconnected event may be lost, and a last will may be published long
// after the end of its session: see [Connection].
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

// closed reports whether the session that m proves has ended before t: a connection by
// the disconnection of the same session, a message by any that may be later.
func (p presence) closed(m mark, t int64) bool {
	return slices.ContainsFunc(p, func(d mark) bool {
		return d.Link == Disconnected && d.Client == m.Client && d.Time < t && d.Time >= m.Time-ClockSkew.Milliseconds() &&
			(m.Link == Alive || d.Session == m.Session)
	})
}

// end notes that a client has no session at a time, although no event says so.
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

// connected returns the clients of which a connection is not known to have ended before t.
func (p presence) connected(t int64) []string {
	var clients []string
	for _, m := range p {
		if m.Link == Connected && m.Time < t && !p.closed(m, t) && !slices.Contains(clients, m.Client) {
			clients = append(clients, m.Client)
		}
	}
	return clients
}

// online reports whether some session is not known to have ended.
func (p presence) online() bool {
	return slices.ContainsFunc(p, func(m mark) bool { return m.Link != Disconnected && !p.closed(m, never) })
}

// offlineSince is the time of the disconnection that left the thing without a session
// at t, 0 while it has one or nothing is known. It goes by lifecycle events alone.
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

// before drops the marks before t, which must be the start of five minutes, except
// disconnections that end a session of which a sign is kept, and where proofs are asked for
// the newest of sessions that are still open then.
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
