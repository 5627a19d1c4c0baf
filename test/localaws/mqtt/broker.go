// Package mqtt is the message broker of a local AWS IoT Core, on an embedded mochi-mqtt server. It
// has MQTT 3.1.1 and 5 over TLS with client certificates, and over plain TCP on the loopback for
// quick tests.
//
// It uses the certificates, policies and things of an iotcore.Service, and behaves as AWS IoT Core
// does. Only ACTIVE certificates connect. IoT policies decide on Connect, Publish, Subscribe and
// Receive. Reserved topics are guarded. A client ID has one connection at a time. Lifecycle
// events report each connection. Listeners of OnMessage get every published message.
//
// Known differences from AWS: policy changes take effect at once, and a certificate that stops
// being ACTIVE ends its connections at once (AWS: within a few minutes). A refused MQTT 3.1.1
// client gets a CONNACK with code 5. A last will is never delayed, and nothing is throttled. A
// client that asks for a persistent session is refused. As on AWS, only QoS 0 and 1 exist.
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
	// Registry has the certificates, policies and things. Required.
	Registry *iotcore.Service
	// Now is the clock of events and sessions. Default: time.Now. Keep-alive always uses the
	// machine's clock, as devices do.
	Now func() time.Time
	// PlainAddress is a loopback address for clients without TLS. A client whose user name is a
	// certificate ID has the policies of that certificate. A client without a user name may do
	// everything. Default: no such listener.
	PlainAddress string
	// MinKeepAlive is the shortest keep-alive interval, in whole seconds. A client that asks for
	// less gets this. Default: 30 s, as on AWS.
	MinKeepAlive time.Duration
	// Logger logs what the broker refuses, and why. Default: nothing is logged.
	Logger *slog.Logger
}

// Broker is a running broker.
type Broker struct {
	registry     *iotcore.Service
	now          func() time.Time
	log          *slog.Logger
	minKeepAlive time.Duration
	server       *mochi.Server
	service      *mochi.Client // publishes messages that no MQTT client published
	tls, plain   *listener
	sessions     *sessions
	close        func() error

	mu        sync.Mutex
	listeners []func(Message)
}

// Origin is the publisher of a message.
type Origin byte

// The kinds of publishers.
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
	// Only messages of MQTT clients have the following.
	ClientID  string
	Principal string // certificate ID; "anonymous" on the plain listener
	ThingName string // of the connection, exclusive or not
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
	if b.tls, err = b.listenTLS(); err != nil {
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

// PlainAddress returns the address for clients without TLS, or "" if there is none.
func (b *Broker) PlainAddress() string {
	if b.plain == nil {
		return ""
	}
	return b.plain.Address()
}

// OnMessage registers f, which is called with every published message: of clients, of the data
// plane, and of AWS itself. It runs in the publisher's goroutine, for one message of a client at
// a time, and must not change the payload.
func (b *Broker) OnMessage(f func(Message)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners = append(b.listeners, f)
}

func (b *Broker) notify(m Message) {
	m.Time = b.now()
	b.mu.Lock()
	listeners := slices.Clone(b.listeners)
	b.mu.Unlock()
	for _, f := range listeners {
		f(m)
	}
}

// Publish publishes a message of the data plane. Reserved topics are guarded as for MQTT clients
// (unverified: AWS documents no error for them).
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
	b.notify(Message{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Origin: FromDataPlane})
	return nil
}

// PublishAsService publishes a message of AWS itself on any topic, with QoS 1. Each subscription
// lowers the QoS to its own.
func (b *Broker) PublishAsService(topic string, payload []byte) {
	b.publishAsService(topic, payload, 1)
}

// Republish publishes the message of a rule. Reserved topics are guarded as for the data plane:
// AWS documents this for the topics of Device Defender.
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
	b.notify(Message{Topic: topic, Payload: payload, QoS: qos, Origin: FromService})
}

func (b *Broker) inject(m iotcore.PublishedMessage) error {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: m.QoS, Retain: m.Retain},
		TopicName:   m.Topic,
		Payload:     m.Payload,
		PacketID:    uint16(m.QoS), // a message with QoS 1 needs an ID, and any will do
	}
	return b.server.InjectPacket(b.service, pk)
}

// keptDisconnect is how long GetConnection returns the time of a disconnect.
// https://docs.aws.amazon.com/iot/latest/apireference/API_iotdata_GetConnection.html
const keptDisconnect = 30 * time.Minute

// GetConnection describes the last connection of a client. AWS does not document the answer for a
// client that never connected: here it is "not found".
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

// cut ends a connection for a reason. If it is cut more than once, the first reason counts.
func (b *Broker) cut(c *connection, reason DisconnectReason, code packets.Code) {
	c.because(reason)
	b.log.Info("connection cut", "clientId", c.client.ID, "reason", reason, "code", code.Reason)
	// A client that reads nothing must not block this goroutine for ever.
	c.net.SetWriteDeadline(time.Now().Add(farewellTimeout))
	if c.client.Properties.ProtocolVersion == 5 { // MQTT 3.1.1 has no packet for the reason
		c.client.WritePacket(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
			ReasonCode:  code.Code,
			Properties:  packets.Properties{ReasonString: code.Reason},
		}) // an error means that the client has disconnected
	}
	// Do not call client.Stop: between two packets, mochi would take this as a disconnect by the
	// client, and drop the last will.
	c.net.Close()
}

var _ iotcore.DataPlane = (*Broker)(nil)

// addressOf returns the address of the client, without port and zone.
func addressOf(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
