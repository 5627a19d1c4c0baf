package mqtt

import (
	"cmp"
	"crypto/tls"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

const (
	// versionReset is how long a client must be offline before its version numbers restart.
	versionReset = time.Hour
	// keptHistory is how long ended connections are kept: as long as an audit check of Device
	// Defender looks back.
	keptHistory = 31 * 24 * time.Hour
)

// Connection describes a client's connection.
type Connection struct {
	ClientID          string
	Principal         string // certificate ID, "anonymous" on the plain listener
	ThingName         string // "" for a connection without a thing
	SourceIP          netip.Addr
	SessionIdentifier string // 32 hex digits, new for each connection
	// VersionNumber counts the connections of a client ID, from 0.
	VersionNumber    int64
	ConnectedAt      time.Time
	DisconnectedAt   time.Time // zero while connected
	DisconnectReason DisconnectReason
}

type sessions struct {
	mu       sync.Mutex
	byNet    map[net.Conn]*connection
	byClient map[*mochi.Client]*connection
	active   map[string]*connection // by client id
	latest   map[string]*connection // by client id, ended or not
	versions map[string]versions
	using    map[string]*sync.Mutex // by client id
	history  []*Connection          // by time of connection
}

// versions is the state of a client id's version numbers.
type versions struct {
	next  int64
	until time.Time // when they restart; zero while connected
}

func newSessions() *sessions {
	return &sessions{
		byNet:    map[net.Conn]*connection{},
		byClient: map[*mochi.Client]*connection{},
		active:   map[string]*connection{},
		latest:   map[string]*connection{},
		versions: map[string]versions{},
		using:    map[string]*sync.Mutex{},
	}
}

func (s *sessions) accepted(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byNet[c] = &connection{net: c, done: make(chan struct{})}
}

// identified registers the client of a connection.
func (s *sessions) identified(client *mochi.Client) *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.byNet[client.Net.Conn]
	c.client = client
	s.byClient[client] = c
	return c
}

// of returns the connection of a client. It is nil for AWS itself, and for a client that has not
// sent its CONNECT.
func (s *sessions) of(client *mochi.Client) *connection {
	c, _ := read(s, s.byClient, client)
	return c
}

// use waits for the exclusive right to connect with a client ID. The returned function releases
// it.
func (s *sessions) use(clientID string) func() {
	s.mu.Lock()
	m := s.using[clientID]
	if m == nil {
		m = &sync.Mutex{}
		s.using[clientID] = m
	}
	s.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// read returns an entry of a table of the sessions.
func read[K comparable, V any](s *sessions, table map[K]V, key K) (V, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := table[key]
	return v, ok
}

// recordOf returns a copy of a connection's record.
func (s *sessions) recordOf(c *connection) Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.record
}

func (s *sessions) ofCertificate(id string) []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*connection
	for _, c := range s.active {
		if c.record.Principal == id {
			out = append(out, c)
		}
	}
	return out
}

// register makes a connection the active one of its client ID, and sets its version number.
func (s *sessions) register(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := c.record.ConnectedAt
	v := s.versions[c.record.ClientID]
	if !v.until.IsZero() && now.After(v.until) {
		v = versions{}
	}
	c.record.VersionNumber = v.next
	s.versions[c.record.ClientID] = versions{next: v.next + 1}
	s.active[c.record.ClientID] = c
	s.latest[c.record.ClientID] = c
	s.history = slices.DeleteFunc(s.history, func(h *Connection) bool {
		return !h.DisconnectedAt.IsZero() && now.Sub(h.DisconnectedAt) > keptHistory
	})
	s.history = append(s.history, &c.record)
	c.registered = true
}

// end records the end of a connection, and returns its record.
func (s *sessions) end(c *connection, now time.Time, reason DisconnectReason) Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.record.DisconnectedAt, c.record.DisconnectReason = now, reason
	if s.active[c.record.ClientID] == c {
		delete(s.active, c.record.ClientID)
		v := s.versions[c.record.ClientID]
		v.until = now.Add(versionReset)
		s.versions[c.record.ClientID] = v
	}
	c.finished = true
	return c.record
}

// drop removes a network connection and its client.
func (s *sessions) drop(n net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byClient, s.byNet[n].client)
	delete(s.byNet, n)
}

// ConnectionsOf returns the connections of a certificate that were open at or after a time, sorted
// by their begin. It reaches back 31 days.
func (b *Broker) ConnectionsOf(certificateID string, since time.Time) []Connection {
	return b.sessions.matching(func(c *Connection) bool {
		return c.Principal == certificateID && (c.DisconnectedAt.IsZero() || !c.DisconnectedAt.Before(since))
	})
}

// Conflicts returns the connections that ended at or after a time because another client took the
// client ID, sorted by client ID and time. It reaches back 31 days.
func (b *Broker) Conflicts(since time.Time) []Connection {
	out := b.sessions.matching(func(c *Connection) bool {
		return c.DisconnectReason == DuplicateClientID && !c.DisconnectedAt.Before(since)
	})
	slices.SortStableFunc(out, func(a, b Connection) int { return cmp.Compare(a.ClientID, b.ClientID) })
	return out
}

func (s *sessions) matching(want func(*Connection) bool) []Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Connection
	for _, c := range s.history {
		if want(c) {
			out = append(out, *c)
		}
	}
	return out
}

// anonymous is the principal of clients on the plain listener without a user name.
const anonymous = "anonymous"

type identity struct {
	principal  string // certificate ID, or anonymous
	active     bool
	serverName string // in the TLS handshake
}

// identify returns the identity of a client: from its certificate, or on the plain listener from
// its user name.
func (b *Broker) identify(c net.Conn, username []byte) identity {
	if t, ok := c.(*tls.Conn); ok {
		state := t.ConnectionState()
		id := b.registered(iotcore.CertificateID(state.PeerCertificates[0]))
		id.serverName = state.ServerName
		return id
	}
	if len(username) > 0 {
		return b.registered(string(username))
	}
	return identity{principal: anonymous, active: true}
}

func (b *Broker) registered(certificateID string) identity {
	certificate, ok := b.registry.Certificate(certificateID)
	return identity{principal: certificateID, active: ok && certificate.Status == iotcore.Active}
}

// connection is a network connection, from its acceptance until mochi has removed it.
type connection struct {
	net  net.Conn
	done chan struct{} // closed when mochi has removed it

	// Set at CONNECT, before other goroutines can use the connection.
	client   *mochi.Client
	identity identity
	record   Connection // guarded by the lock of sessions

	// Used only by the goroutine that reads from the connection.
	release       func() // ends the exclusive use of the client ID, or nil
	registered    bool
	finished      bool
	publishDenied bool // for the packet that is being processed

	mu          sync.Mutex
	reason      DisconnectReason
	subscribing map[string]bool // allowed filters of the SUBSCRIBE that is being processed
}

// because sets the reason for the end of the connection, unless it has one.
func (c *connection) because(reason DisconnectReason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == "" {
		c.reason = reason
	}
}

func (c *connection) cause() DisconnectReason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

func (c *connection) subscribeStarts(filters map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscribing = maps.Clone(filters)
}

func (c *connection) subscribeEnds() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscribing = nil
}

func (c *connection) isSubscribing(filter string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subscribing[filter]
}
