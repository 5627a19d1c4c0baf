package mqtt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
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

// listener is mochi's own, which notices when mochi has closed a connection.
type listener struct {
	*listeners.Net
	broker *Broker

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

func (b *Broker) listener(id string, l net.Listener) *listener {
	return &listener{Net: listeners.NewNet(id, l), broker: b, open: map[net.Conn]bool{}}
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
	return b.listener("tls", l), nil
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
	return b.listener("plain", l), nil
}

// Serve implements listeners.Listener.
func (l *listener) Serve(establish listeners.EstablishFn) {
	l.Net.Serve(func(id string, c net.Conn) error {
		defer l.remove(c)
		l.mu.Lock()
		l.open[c] = true
		closed := l.closed
		l.mu.Unlock()
		if closed {
			return net.ErrClosed
		}
		if t, ok := c.(*tls.Conn); ok {
			ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
			err := t.HandshakeContext(ctx)
			cancel()
			if err != nil {
				l.broker.log.Info("TLS handshake failed", "from", c.RemoteAddr().String(), "error", err)
				return err
			}
		}
		c.SetDeadline(time.Now().Add(connectTimeout))
		l.broker.sessions.accepted(c)
		err := establish(id, c)
		if err != nil {
			l.broker.log.Info("connection ended", "from", c.RemoteAddr().String(), "error", err)
		}
		l.broker.ended(c)
		return err
	})
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
	l.Net.Close(closeClients)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.open {
		c.Close()
	}
}
