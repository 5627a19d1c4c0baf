package mqtt

import (
	"crypto/tls"
	"maps"
	"net"
	"sync"
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// anonymous is the principal of clients on the plain listener without a user name.
const anonymous = "anonymous"

// identity is who a client is.
type identity struct {
	principal  string // certificate id, or anonymous
	active     bool
	serverName string // that the client asked for
}

// identify takes the identity from the certificate of the connection or, on the
// plain listener, from the user name.
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

// connection is a network connection, from its acceptance until mochi has let go
// of it.
type connection struct {
	net  net.Conn
	done chan struct{} // closed when mochi has let go

	// Set at CONNECT, before anybody else can see the connection.
	client   *mochi.Client
	identity identity
	record   Connection // changed with the lock of sessions only

	// Only for the goroutine that reads from the connection.
	release       func() // ends the exclusive use of the client id, nil without
	registered    bool
	finished      bool
	publishDenied bool // the packet that is being processed

	mu          sync.Mutex
	reason      DisconnectReason
	cleaned     bool            // the session is to be removed
	persistent  bool            // the session outlives the connection
	subscribing map[string]bool // filters that are allowed and about to be subscribed
}

// because notes why the connection ends, if nothing else ended it before.
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

// forget says what is not to be kept when the connection ends.
func (c *connection) forget(session, will bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleaned = c.cleaned || session
	if will {
		atomic.StoreUint32(&c.client.Properties.Will.Flag, 0)
	}
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
