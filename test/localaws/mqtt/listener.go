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

// The timeouts of a client that does not finish the TLS handshake, does not send its CONNECT, or
// does not read the last packet. They only end what hangs.
const (
	handshakeTimeout = 5 * time.Minute
	connectTimeout   = 5 * time.Minute
	farewellTimeout  = time.Minute
)

// listener is mochi's listener. It also reports when mochi has closed a connection.
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

func (b *Broker) listenTLS() (*listener, error) {
	certificate, err := b.registry.CA().ServerCertificate("localhost", "127.0.0.1", "::1")
	if err != nil {
		return nil, fmt.Errorf("issue the server certificate: %w", err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
		// VerifyConnection checks the certificate.
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

// verify accepts each certificate of the certificate authority. One that is not registered or not
// active is refused at CONNECT, where the client ID is known.
func (b *Broker) verify(certificate *x509.Certificate) error {
	if !b.registry.CA().Issued(certificate, b.now()) {
		return errors.New("this AWS IoT did not issue the certificate, or it is not valid now: use one from CreateKeysAndCertificate")
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
		return nil, errors.Join(fmt.Errorf("PlainAddress is %q, want a loopback address, because its clients need no certificate", address), l.Close())
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

// Close implements listeners.Listener. It also closes connections without a CONNECT, for which
// mochi would wait forever.
func (l *listener) Close(closeClients listeners.CloseFn) {
	l.Net.Close(closeClients)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.open {
		c.Close()
	}
}
