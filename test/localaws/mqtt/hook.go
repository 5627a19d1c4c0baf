package mqtt

import (
	"net"
	"slices"
	"strings"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/defenderhub/defenderhub/internal/topicfilter"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// These filters replace refused ones, so that mochi answers each filter of a SUBSCRIBE with its own
// code.
const (
	deniedFilter  = "\x00denied"      // OnACLCheck refuses it
	invalidFilter = "\x00invalid/#/#" // mochi refuses it as invalid
)

// firstPacketID is the ID of the first packet with an ID to each client.
const firstPacketID = 1 << 15

type hook struct {
	mochi.HookBase
	broker *Broker
}

// ID implements mochi.Hook.
func (h *hook) ID() string { return "aws-iot" }

// Provides implements mochi.Hook.
func (h *hook) Provides(b byte) bool {
	return slices.Contains([]byte{
		mochi.OnConnect, mochi.OnConnectAuthenticate, mochi.OnSessionEstablish, mochi.OnSessionEstablished,
		mochi.OnDisconnect, mochi.OnPacketRead, mochi.OnPacketEncode, mochi.OnACLCheck,
		mochi.OnSubscribe, mochi.OnSubscribed, mochi.OnUnsubscribed,
		mochi.OnPublish, mochi.OnWillSent,
	}, b)
}

// OnConnect accepts or refuses a CONNECT.
func (h *hook) OnConnect(client *mochi.Client, pk packets.Packet) error {
	b := h.broker
	c := b.sessions.identified(client)
	c.identity = b.identify(client.Net.Conn, pk.Connect.Username)
	thing, _ := b.registry.ConnectionThing(c.identity.principal, client.ID)
	c.record = Connection{
		ClientID: client.ID, Principal: c.identity.principal, ThingName: thing, SourceIP: addressOf(c.net),
		SessionIdentifier: iotcore.NewID(), ConnectedAt: b.now(),
	}
	if len(client.ID) > maxClientID || strings.HasPrefix(client.ID, "$") {
		return b.refuse(c, packets.ErrClientIdentifierNotValid)
	}
	if !c.identity.active || !b.mayConnect(c, pk) {
		b.publishConnectFailed(c.record)
		if client.Properties.ProtocolVersion < 5 {
			return b.refuse(c, packets.ErrBadUsernameOrPassword) // becomes 5, not authorized
		}
		return b.refuse(c, packets.ErrNotAuthorized)
	}
	if !pk.Connect.Clean || pk.Properties.SessionExpiryInterval > 0 {
		b.log.Warn("the local AWS supports no persistent sessions: connect with a clean session", "clientId", client.ID)
		return b.refuse(c, packets.ErrServerUnavailable)
	}
	if granted := b.keepAlive(pk.Connect.Keepalive); granted != pk.Connect.Keepalive {
		client.State.Keepalive, client.State.ServerKeepalive = granted, true
	}
	client.Properties.Will.WillDelayInterval = 0 // mochi would lose the owner of a delayed will
	return startPacketIDs(client)
}

// startPacketIDs makes the IDs of packets to the client begin in the upper half. Mochi has one
// table for the packet IDs of both directions, and clients count from 1. While a message to the
// client has the same ID, a SUBSCRIBE would be refused, or a waiting message lost.
func startPacketIDs(client *mochi.Client) error {
	for range firstPacketID - 1 {
		if _, err := client.NextPacketID(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Broker) refuse(c *connection, code packets.Code) error {
	b.log.Info("connection refused", "clientId", c.client.ID, "principal", c.identity.principal, "code", code.Reason)
	if err := b.server.SendConnack(c.client, code, false, nil); err != nil {
		return err
	}
	return code
}

// mayConnect includes the permission to publish the last will.
func (b *Broker) mayConnect(c *connection, pk packets.Packet) bool {
	attributes := []string{}
	if !pk.Connect.Clean {
		attributes = append(attributes, "PersistentConnect")
	}
	if pk.Connect.WillFlag {
		attributes = append(attributes, "LastWill")
	}
	if !b.authorized(c, "iot:Connect", "client/"+c.client.ID, policy.Values{policy.KeyConnectAttributes: attributes}) {
		return false
	}
	if !pk.Connect.WillFlag {
		return true
	}
	return guardPublish(pk.Connect.WillTopic).verdict == allowed && b.mayPublish(c, pk.Connect.WillTopic, pk.Connect.WillRetain)
}

// keepAlive returns the granted interval in seconds. A client that asks for 0 gets the longest.
func (b *Broker) keepAlive(asked uint16) uint16 {
	longest := uint16(maxKeepAlive / time.Second)
	if asked == 0 || asked > longest {
		return longest
	}
	return max(asked, uint16(b.minKeepAlive/time.Second))
}

// OnConnectAuthenticate accepts every client, because OnConnect has already checked it.
func (h *hook) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

// OnSessionEstablish makes the connection the only one of its client ID. It waits until mochi has
// removed the earlier connection. Otherwise mochi would remove the new client with the old one.
func (h *hook) OnSessionEstablish(client *mochi.Client, _ packets.Packet) {
	b := h.broker
	c := b.sessions.of(client)
	c.release = b.sessions.use(client.ID)
	if old, ok := read(b.sessions, b.sessions.active, client.ID); ok {
		b.cut(old, DuplicateClientID, packets.ErrSessionTakenOver)
	}
	if old, ok := read(b.sessions, b.sessions.latest, client.ID); ok {
		<-old.done
	}
	// Mochi measures the keep-alive from the CONNECT on, but this wait is not silence of the client.
	c.net.SetDeadline(time.Now().Add(connectTimeout))
	c.record.ConnectedAt = b.now()
	b.sessions.register(c)
	b.publishConnected(c.record) // before the CONNACK, as with messages
}

// OnSessionEstablished allows the next connection of the client ID.
func (h *hook) OnSessionEstablished(client *mochi.Client, _ packets.Packet) {
	c := h.broker.sessions.of(client)
	c.release()
	c.release = nil
}

// OnDisconnect reports the end of a connection that had a session.
func (h *hook) OnDisconnect(client *mochi.Client, err error, _ bool) {
	b := h.broker
	c := b.sessions.of(client)
	reason := c.cause()
	if reason == "" {
		reason = whyEnded(client.StopCause(), err)
	}
	b.publishDisconnected(b.sessions.end(c, b.now(), reason))
}

// OnPacketEncode adds the properties that AWS sends to MQTT 5 clients to a CONNACK.
func (h *hook) OnPacketEncode(client *mochi.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack && pk.ReasonCode == packets.CodeSuccess.Code && client.Properties.ProtocolVersion == 5 {
		pk.Properties.TopicAliasMaximum = maxTopicAliases
		pk.Properties.MaximumPacketSize = maxPacketSize
	}
	return pk
}

// OnPacketRead refuses packets before mochi processes them. An error ends the connection.
func (h *hook) OnPacketRead(client *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	c := h.broker.sessions.of(client)
	if c == nil {
		return pk, nil // the CONNECT
	}
	switch pk.FixedHeader.Type {
	case packets.Publish:
		return h.broker.readPublish(c, pk)
	case packets.Subscribe:
		return pk, h.broker.readSubscribe(c, pk)
	}
	return pk, nil
}

// readPublish also resolves topic aliases, because mochi calls OnACLCheck before it resolves them.
func (b *Broker) readPublish(c *connection, pk packets.Packet) (packets.Packet, error) {
	if p := &pk.Properties; p.TopicAliasFlag && p.TopicAlias > 0 && p.TopicAlias <= maxTopicAliases {
		pk.TopicName = c.client.State.TopicAliases.Inbound.Set(p.TopicAlias, pk.TopicName)
		p.TopicAliasFlag, p.TopicAlias = false, 0
	}
	if pk.FixedHeader.Qos > 1 {
		return pk, b.reject(c, ClientError, packets.ErrQosNotSupported)
	}
	if len(pk.Payload) > iotcore.MaxPayload {
		return pk, b.reject(c, ClientError, packets.ErrPacketTooLarge)
	}
	if strings.ContainsAny(pk.TopicName, "+#") || pk.TopicName == "" {
		return pk, nil // mochi refuses these itself
	}
	if err := b.rejectGuarded(c, guardPublish(pk.TopicName)); err != nil {
		return pk, err
	}
	if b.mayPublish(c, pk.TopicName, pk.FixedHeader.Retain) {
		return pk, nil
	}
	// With MQTT 5 and QoS 1, the PUBACK has a reason code. Mochi sends it if OnACLCheck refuses.
	if c.client.Properties.ProtocolVersion == 5 && pk.FixedHeader.Qos == 1 {
		c.publishDenied = true
		return pk, nil
	}
	return pk, b.reject(c, AuthError, packets.ErrNotAuthorized)
}

func (b *Broker) readSubscribe(c *connection, pk packets.Packet) error {
	if len(pk.Filters) > maxSubscriptions {
		return b.reject(c, ClientError, packets.ErrQuotaExceeded)
	}
	for _, f := range pk.Filters {
		if g := guardSubscribe(f.Filter); g.verdict != invalid {
			if err := b.rejectGuarded(c, g); err != nil {
				return err
			}
		}
	}
	return nil
}

// rejectGuarded ends the connection if a guard does not allow the topic.
func (b *Broker) rejectGuarded(c *connection, g guard) error {
	switch g.verdict {
	case forbidden:
		return b.reject(c, ForbiddenAccess, packets.Code{Code: packets.ErrNotAuthorized.Code, Reason: g.why})
	case invalid:
		return b.reject(c, ClientError, packets.Code{Code: packets.ErrTopicNameInvalid.Code, Reason: g.why})
	case unknownHere:
		return b.reject(c, ServerError, packets.Code{Code: packets.ErrImplementationSpecificError.Code, Reason: g.why})
	}
	return nil
}

func (b *Broker) reject(c *connection, reason DisconnectReason, code packets.Code) error {
	b.cut(c, reason, code)
	return packets.ErrRejectPacket
}

// OnACLCheck is called for each PUBLISH, each filter of a SUBSCRIBE, and each delivery. Mochi does
// not distinguish the last two.
func (h *hook) OnACLCheck(client *mochi.Client, topic string, write bool) bool {
	b := h.broker
	c := b.sessions.of(client)
	if c == nil {
		return true // mochi is removing the session of this client
	}
	if write {
		denied := c.publishDenied
		c.publishDenied = false
		return !denied
	}
	if topic == deniedFilter {
		return false
	}
	return c.isSubscribing(topic) || subscribed(client, topic) && b.authorized(c, "iot:Receive", "topic/"+topic, nil)
}

// subscribed reports whether a client is subscribed to a topic. In mochi and MQTT, sensor/# matches
// sensor; in AWS it does not.
func subscribed(client *mochi.Client, topic string) bool {
	for filter := range client.State.Subscriptions.GetAll() {
		if levels := strings.SplitN(filter, "/", 3); levels[0] == "$share" && len(levels) == 3 {
			filter = levels[2]
		}
		if topicfilter.Matches(filter, topic) {
			return true
		}
	}
	return false
}

// OnSubscribe replaces the filters that are refused.
func (h *hook) OnSubscribe(client *mochi.Client, pk packets.Packet) packets.Packet {
	b := h.broker
	c := b.sessions.of(client)
	pk.Filters = slices.Clone(pk.Filters)
	granted := map[string]bool{}
	for i, f := range pk.Filters {
		switch {
		case guardSubscribe(f.Filter).verdict == invalid:
			pk.Filters[i].Filter = invalidFilter
		case !b.authorized(c, "iot:Subscribe", "topicfilter/"+f.Filter, nil):
			pk.Filters[i].Filter = deniedFilter
		default:
			granted[f.Filter] = true
		}
	}
	c.subscribeStarts(granted)
	return pk
}

// OnSubscribed reports the filters that were granted.
func (h *hook) OnSubscribed(client *mochi.Client, pk packets.Packet, codes []byte) {
	c := h.broker.sessions.of(client)
	c.subscribeEnds()
	var topics []string
	for i, f := range pk.Filters {
		if codes[i] < packets.ErrUnspecifiedError.Code {
			topics = append(topics, f.Filter)
		}
	}
	if len(topics) > 0 {
		h.broker.publishSubscriptions(c.record, "subscribed", topics)
	}
}

// OnUnsubscribed reports an UNSUBSCRIBE. Mochi also calls it without a packet ID, when it removes a
// session.
func (h *hook) OnUnsubscribed(client *mochi.Client, pk packets.Packet) {
	c := h.broker.sessions.of(client)
	if c == nil || pk.PacketID == 0 {
		return
	}
	var topics []string
	for _, f := range pk.Filters {
		topics = append(topics, f.Filter)
	}
	h.broker.publishSubscriptions(c.record, "unsubscribed", topics)
}

// OnPublish reports a message of a client before its PUBACK: once the client has the PUBACK, all
// listeners have run.
func (h *hook) OnPublish(client *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	h.notify(client, pk)
	return pk, nil
}

// OnWillSent reports a last will.
func (h *hook) OnWillSent(client *mochi.Client, pk packets.Packet) { h.notify(client, pk) }

func (h *hook) notify(client *mochi.Client, pk packets.Packet) {
	c := h.broker.sessions.of(client)
	if c == nil {
		return // a message of AWS itself
	}
	h.broker.notify(Message{
		Topic: pk.TopicName, Payload: pk.Payload, QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain, Origin: FromClient,
		ClientID: c.record.ClientID, Principal: c.record.Principal, ThingName: c.record.ThingName, SourceIP: c.record.SourceIP,
	})
}

// ended is called when mochi has removed a connection.
func (b *Broker) ended(n net.Conn) {
	c, _ := read(b.sessions, b.sessions.byNet, n)
	if c.registered && !c.finished {
		// Its CONNACK could not be sent.
		b.publishDisconnected(b.sessions.end(c, b.now(), ConnectionLost))
		b.server.Clients.Delete(c.client.ID)
	}
	if c.release != nil {
		c.release()
	}
	b.sessions.drop(n)
	close(c.done)
}
