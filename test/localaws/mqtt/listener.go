package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// What hangs ends after these: a peer that does not shake hands, or then sends no
// CONNECT, and a farewell that nobody reads.
const (
	handshakeTimeout = 5 * time.Minute
	connectTimeout   = 5 * time.Minute
	farewellTimeout  = time.Minute
)

// listener accepts connections for mochi and knows when mochi has let go of one.
type listener struct {
	id     string
	net    net.Listener
	broker *Broker

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

func (b *Broker) listenTLS(config Config) (*listener, error) {
	address, names := config.TLSAddress, config.ServerNames
	if address == "" {
		address = "127.0.0.1:0"
	}
	if len(names) == 0 {
		names = []string{"localhost", "127.0.0.1", "::1"}
	}
	certificate, err := b.registry.CA().ServerCertificate(names...)
	if err != nil {
		return nil, fmt.Errorf("issue the server certificate: %w", err)
	}
	l, err := tls.Listen("tcp", address, &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
		// Any certificate for now: verify decides, by the registry.
		ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			return b.verify(state.PeerCertificates[0])
		},
	})
	if err != nil {
		return nil, err
	}
	return &listener{id: "tls", net: l, broker: b, open: map[net.Conn]bool{}}, nil
}

// verify accepts what the certificate authority signed, even when it is no longer
// registered or not active: those are refused at CONNECT, when the client id is known.
func (b *Broker) verify(certificate *x509.Certificate) error {
	if !b.registry.CA().Issued(certificate, b.now()) {
		return errors.New("the certificate is not issued by this AWS IoT, or not valid at this time")
	}
	return nil
}

// listenPlain returns nil without an address.
func (b *Broker) listenPlain(address string) (*listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	ap, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil || !ap.Addr().IsLoopback() {
		return nil, errors.Join(fmt.Errorf("PlainAddress is %q, want a loopback address: it asks for no certificate", address), l.Close())
	}
	return &listener{id: "plain", net: l, broker: b, open: map[net.Conn]bool{}}, nil
}

// Init implements listeners.Listener.
func (l *listener) Init(*slog.Logger) error { return nil }

// ID implements listeners.Listener.
func (l *listener) ID() string { return l.id }

// Address implements listeners.Listener.
func (l *listener) Address() string { return l.net.Addr().String() }

// Protocol implements listeners.Listener.
func (l *listener) Protocol() string { return "tcp" }

// Serve implements listeners.Listener.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		c, err := l.net.Accept()
		if err != nil {
			return
		}
		if !l.add(c) {
			c.Close()
			return
		}
		go l.handle(c, establish)
	}
}

func (l *listener) handle(c net.Conn, establish listeners.EstablishFn) {
	defer l.remove(c)
	if t, ok := c.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
		err := t.HandshakeContext(ctx)
		cancel()
		if err != nil {
			l.broker.log.Info("TLS handshake failed", "from", c.RemoteAddr().String(), "error", err)
			return
		}
	}
	c.SetDeadline(time.Now().Add(connectTimeout))
	l.broker.sessions.accepted(c)
	if err := establish(l.id, c); err != nil {
		l.broker.log.Info("connection ended", "from", c.RemoteAddr().String(), "error", err)
	}
	l.broker.ended(c)
}

func (l *listener) add(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.open[c] = true
	return true
}

func (l *listener) remove(c net.Conn) {
	l.mu.Lock()
	delete(l.open, c)
	l.mu.Unlock()
	c.Close()
}

// Close implements listeners.Listener. It also closes connections that have not
// sent a CONNECT, which mochi would wait for forever.
func (l *listener) Close(closeClients listeners.CloseFn) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.net.Close()
	closeClients(l.id)
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		c.Close()
	}
}
