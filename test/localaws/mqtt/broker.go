// Package mqtt is the message broker of a local AWS IoT Core: MQTT 3.1.1 and 5
// over TLS with client certificates, and over plain TCP on the loopback for quick
// tests, on an embedded mochi-mqtt server.
//
// It takes certificates, policies and things from an iotcore.Service and behaves
// as AWS IoT Core does: only ACTIVE certificates connect, IoT policies decide
// about Connect, Publish, Subscribe and Receive, reserved topics are guarded, a
// client id has one connection at a time, and lifecycle events report each connection.
// Everything that is published can be listened to with OnMessage.
//
// Differences from AWS that are known: policy changes take effect at once, a
// certificate that stops being ACTIVE ends its connections at once (AWS: within a
// few minutes), a refused MQTT 3.1.1 client gets a CONNACK with code 5, a last will
// is never delayed, and no throttling limit applies. A client that asks for a persistent
// session is refused. Only QoS 0 and 1 exist, as on AWS.
package mqtt

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// Limits of the broker (AWS General Reference, AWS IoT Core message broker and
// protocol limits and quotas).
const (
	maxClientID      = 128 // bytes
	maxTopic         = 256 // bytes
	maxSlashes       = 7
	maxSubscriptions = 8 // in one request
	maxTopicAliases  = 8
	minKeepAlive     = 30 * time.Second
	maxKeepAlive     = 1200 * time.Second
	maxPacketSize    = iotcore.MaxPayload + 16<<10 // bytes: the payload, its topic and its properties
)

// Config is what a Broker needs.
type Config struct {
	// Registry knows the certificates, policies and things. Required.
	Registry *iotcore.Service
	// Now tells the time of events and sessions. Default: time.Now. Keep-alive
	// runs on the machine's clock, as devices do.
	Now func() time.Time
	// TLSAddress is where clients connect with their certificates.
	// Default: 127.0.0.1 and a free port.
	TLSAddress string
	// PlainAddress is a loopback address for clients without TLS. A client
	// whose user name is a certificate id acts with that certificate; one
	// without a user name is bound by no policy. Default: no such listener.
	PlainAddress string
	// ServerNames are the names and addresses that the broker's server
	// certificate is for. Default: localhost, 127.0.0.1 and ::1.
	ServerNames []string
	// MinKeepAlive is the shortest keep-alive that is granted; a client that
	// asks for less gets this. Default: 30 s, as on AWS. Whole seconds.
	MinKeepAlive time.Duration
	// Logger gets what the broker refuses, and why. Default: nobody.
	Logger *slog.Logger
}

// Broker is a running broker.
type Broker struct {
	registry     *iotcore.Service
	now          func() time.Time
	log          *slog.Logger
	minKeepAlive time.Duration
	server       *mochi.Server
	service      *mochi.Client // publishes what no client published
	tls, plain   *listener
	sessions     *sessions
	close        func() error

	mu        sync.Mutex
	listeners []func(Message)
}

// Origin says who published a message.
type Origin byte

// The three kinds of publisher.
const (
	FromClient    Origin = iota // an MQTT client, its last will included
	FromDataPlane               // a caller of the data plane's Publish
	FromService                 // AWS itself: lifecycle events, answers, republished messages
)

// Message is a message that was published.
type Message struct {
	Topic   string // whole, with the prefix of Basic Ingest
	Payload []byte
	QoS     byte
	Retain  bool
	Origin  Origin
	Time    time.Time
	// The following are set for messages of MQTT clients only.
	ClientID  string
	Principal string // certificate id; "anonymous" on the plain listener
	ThingName string // of the connection, whether exclusive or not
	SourceIP  netip.Addr
}

// Start starts a broker. Close ends it.
func Start(config Config) (*Broker, error) {
	b := &Broker{
		registry: config.Registry, now: config.Now, log: config.Logger, minKeepAlive: config.MinKeepAlive,
		sessions: newSessions(),
	}
	if b.registry == nil {
		return nil, errors.New("start the MQTT broker: Config.Registry is missing")
	}
	if b.now == nil {
		b.now = time.Now
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.minKeepAlive == 0 {
		b.minKeepAlive = minKeepAlive
	}
	if err := b.serve(config); err != nil {
		return nil, fmt.Errorf("start the MQTT broker: %w", err)
	}
	b.registry.OnCertificateStatus(b.certificateChanged)
	return b, nil
}

func (b *Broker) serve(config Config) error {
	capabilities := mochi.NewDefaultServerCapabilities()
	capabilities.MaximumQos = 1
	capabilities.MaximumPacketSize = maxPacketSize
	capabilities.TopicAliasMaximum = maxTopicAliases
	capabilities.MinimumProtocolVersion = 4
	b.server = mochi.New(&mochi.Options{
		Capabilities:           capabilities,
		Logger:                 slog.New(slog.DiscardHandler), // it logs payloads
		SysTopicResendInterval: math.MaxInt32,                 // $SYS topics are mochi's, not AWS's
	})
	b.close = sync.OnceValue(b.server.Close)
	b.service = b.server.NewClient(nil, "service", "", true)
	if err := b.server.AddHook(&hook{broker: b}, nil); err != nil {
		return err
	}
	var err error
	if b.tls, err = b.listenTLS(config); err != nil {
		return err
	}
	if b.plain, err = b.listenPlain(config.PlainAddress); err != nil {
		b.tls.Close(func(string) {})
		return err
	}
	for _, l := range []*listener{b.tls, b.plain} {
		if l == nil {
			continue
		}
		if err := b.server.AddListener(l); err != nil {
			return err
		}
	}
	return b.server.Serve()
}

// Close ends all connections and stops the broker. Closing it again does nothing.
func (b *Broker) Close() error { return b.close() }

// TLSAddress returns the address for clients with certificates.
func (b *Broker) TLSAddress() string { return b.tls.Address() }

// PlainAddress returns the address for clients without TLS, "" when there is none.
func (b *Broker) PlainAddress() string {
	if b.plain == nil {
		return ""
	}
	return b.plain.Address()
}

// OnMessage has f called with every message that is published: by clients, by
// the data plane and by AWS itself. It is called in the publisher's goroutine,
// one message after the other for each client, and must not change the payload.
func (b *Broker) OnMessage(f func(Message)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners = append(b.listeners, f)
}

func (b *Broker) tell(m Message) {
	m.Time = b.now()
	b.mu.Lock()
	listeners := slices.Clone(b.listeners)
	b.mu.Unlock()
	for _, f := range listeners {
		f(m)
	}
}

// Publish publishes a message of the data plane. Reserved topics are guarded as
// for MQTT clients (unverified: AWS names no error for them here).
func (b *Broker) Publish(m iotcore.PublishedMessage) error {
	switch g := guardHTTP(m.Topic); g.verdict {
	case invalid:
		return iotcore.InvalidRequest("the topic %q is not allowed: %s", m.Topic, g.why)
	case forbidden, unknownHere:
		return iotcore.Unauthorized("publishing to %q is not allowed: %s", m.Topic, g.why)
	}
	if err := b.inject(m); err != nil {
		return iotcore.InvalidRequest("the message on topic %q cannot be published: %v", m.Topic, err)
	}
	b.tell(Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Origin: FromDataPlane})
	return nil
}

// PublishAsService publishes what AWS itself publishes, on any topic, with a QoS as high
// as there is: each subscription lowers it to its own.
func (b *Broker) PublishAsService(topic string, payload []byte) {
	b.publishAsService(topic, payload, 1)
}

// Republish publishes what a rule publishes. Reserved topics are guarded as for the data
// plane: AWS says so of those of Device Defender.
func (b *Broker) Republish(topic string, payload []byte, qos byte) error {
	if g := guardHTTP(topic); g.verdict != allowed {
		return fmt.Errorf("republishing to %q is not allowed: %s", topic, g.why)
	}
	if len(payload) > iotcore.MaxPayload {
		return fmt.Errorf("the payload has %d bytes, at most %d are allowed", len(payload), iotcore.MaxPayload)
	}
	b.publishAsService(topic, payload, qos)
	return nil
}

func (b *Broker) publishAsService(topic string, payload []byte, qos byte) {
	if err := b.inject(iotcore.PublishedMessage{Topic: topic, Payload: payload, QoS: qos}); err != nil {
		b.log.Error("message of the service not delivered", "topic", topic, "error", err)
	}
	b.tell(Message{Topic: topic, Payload: payload, QoS: qos, Origin: FromService})
}

func (b *Broker) inject(m iotcore.PublishedMessage) error {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: m.QoS, Retain: m.Retain},
		TopicName:   m.Topic,
		Payload:     m.Payload,
		PacketID:    uint16(m.QoS), // any, as long as QoS 1 has one
	}
	return b.server.InjectPacket(b.service, pk)
}

// DeleteConnection cuts a client's connection with API_INITIATED_DISCONNECT. No session
// outlives it, whether or not it has to be removed.
func (b *Broker) DeleteConnection(clientID string, _, preventWillMessage bool) error {
	c, ok := read(b.sessions, b.sessions.active, clientID)
	if !ok {
		return iotcore.NotConnected(clientID)
	}
	if preventWillMessage {
		atomic.StoreUint32(&c.client.Properties.Will.Flag, 0)
	}
	b.cut(c, APIInitiatedDisconnect, packets.ErrAdministrativeAction)
	return nil
}

// keptDisconnect is for how long GetConnection says when a client disconnected.
// https://docs.aws.amazon.com/iot/latest/apireference/API_iotdata_GetConnection.html
const keptDisconnect = 30 * time.Minute

// GetConnection describes the last connection of a client. What AWS answers about a client
// that never connected is not documented: here it is not found.
func (b *Broker) GetConnection(clientID string) (*iotdataplane.GetConnectionOutput, error) {
	latest, ok := read(b.sessions, b.sessions.latest, clientID)
	if !ok {
		return nil, iotcore.NotConnected(clientID)
	}
	c := b.sessions.recordOf(latest)
	out := &iotdataplane.GetConnectionOutput{ClientId: &clientID, Connected: c.DisconnectedAt.IsZero()}
	if c.ThingName != "" {
		out.ThingName = &c.ThingName
	}
	switch {
	case out.Connected:
		out.ConnectedSince = c.ConnectedAt.UnixMilli()
	case b.now().Sub(c.DisconnectedAt) <= keptDisconnect:
		out.DisconnectedSince, out.DisconnectReason = c.DisconnectedAt.UnixMilli(), aws.String(string(c.DisconnectReason))
	}
	return out, nil
}

// certificateChanged ends the connections of a certificate that is no longer ACTIVE.
func (b *Broker) certificateChanged(certificateID string, status types.CertificateStatus) {
	if status == iotcore.Active {
		return
	}
	for _, c := range b.sessions.ofCertificate(certificateID) {
		b.cut(c, AuthError, packets.ErrNotAuthorized)
	}
}

// cut ends a connection for a reason. The first reason stays.
func (b *Broker) cut(c *connection, reason DisconnectReason, code packets.Code) {
	c.because(reason)
	b.log.Info("connection cut", "clientId", c.client.ID, "reason", reason, "code", code.Reason)
	// A peer that reads nothing must not hold up who cuts it for ever.
	c.net.SetWriteDeadline(time.Now().Add(farewellTimeout))
	if c.client.Properties.ProtocolVersion == 5 { // MQTT 3.1.1 has no packet for it
		c.client.WritePacket(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
			ReasonCode:  code.Code,
			Properties:  packets.Properties{ReasonString: code.Reason},
		}) // a peer that is gone needs no reason
	}
	// Not client.Stop: when it comes between two packets, mochi takes the end for
	// the client's own and forgets the last will.
	c.net.Close()
}

var _ iotcore.DataPlane = (*Broker)(nil)

// addressOf returns the peer's address, without port and zone.
func addressOf(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
