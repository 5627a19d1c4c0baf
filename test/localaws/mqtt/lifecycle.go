package mqtt

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// DisconnectReason is why a connection ended, as lifecycle events tell it.
type DisconnectReason string

// The reasons that this broker gives (AWS IoT Core Developer Guide, "Lifecycle
// events").
const (
	AuthError                 DisconnectReason = "AUTH_ERROR"
	ClientInitiatedDisconnect DisconnectReason = "CLIENT_INITIATED_DISCONNECT"
	ClientError               DisconnectReason = "CLIENT_ERROR"
	ConnectionLost            DisconnectReason = "CONNECTION_LOST"
	DuplicateClientID         DisconnectReason = "DUPLICATE_CLIENTID"
	ForbiddenAccess           DisconnectReason = "FORBIDDEN_ACCESS"
	KeepAliveTimeout          DisconnectReason = "MQTT_KEEP_ALIVE_TIMEOUT"
	ServerError               DisconnectReason = "SERVER_ERROR"
	ServerInitiatedDisconnect DisconnectReason = "SERVER_INITIATED_DISCONNECT"
	APIInitiatedDisconnect    DisconnectReason = "API_INITIATED_DISCONNECT"
)

// whyEnded explains a connection that the broker itself did not cut, from what
// mochi knows.
func whyEnded(stopped, err error) DisconnectReason {
	var network net.Error
	switch {
	case errors.Is(stopped, packets.ErrServerShuttingDown):
		return ServerInitiatedDisconnect
	case errors.Is(stopped, packets.CodeDisconnect), errors.Is(err, packets.CodeDisconnectWillMessage):
		return ClientInitiatedDisconnect
	case errors.Is(err, os.ErrDeadlineExceeded):
		return KeepAliveTimeout
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
		return ConnectionLost
	}
	return ClientError // everything else is about what the client sent
}

// The fields are in the order in which AWS documents them.
type (
	eventHead struct {
		ClientID  string `json:"clientId"`
		ThingName string `json:"thingName,omitempty"`
		Timestamp int64  `json:"timestamp"` // ms
		EventType string `json:"eventType"`
	}
	eventSession struct {
		SessionIdentifier   string `json:"sessionIdentifier"`
		PrincipalIdentifier string `json:"principalIdentifier"`
	}
	connectedEvent struct {
		eventHead
		eventSession
		IPAddress     string `json:"ipAddress"`
		VersionNumber int64  `json:"versionNumber"`
	}
	disconnectedEvent struct {
		eventHead
		eventSession
		ClientInitiatedDisconnect bool             `json:"clientInitiatedDisconnect"`
		DisconnectReason          DisconnectReason `json:"disconnectReason"`
		VersionNumber             int64            `json:"versionNumber"`
	}
	connectFailedEvent struct {
		eventHead
		ConnectFailureReason string `json:"connectFailureReason"`
		PrincipalIdentifier  string `json:"principalIdentifier"`
		SessionIdentifier    string `json:"sessionIdentifier"`
		IPAddress            string `json:"ipAddress"`
	}
	subscriptionEvent struct {
		eventHead
		eventSession
		Topics []string `json:"topics"`
	}
)

func (b *Broker) head(r Connection, eventType string) eventHead {
	h := eventHead{ClientID: r.ClientID, Timestamp: b.now().UnixMilli(), EventType: eventType}
	if name, exclusive := b.registry.ConnectionThing(r.Principal, r.ClientID); exclusive {
		h.ThingName = name
	}
	return h
}

func session(r Connection) eventSession {
	return eventSession{SessionIdentifier: r.SessionIdentifier, PrincipalIdentifier: r.Principal}
}

func (b *Broker) tellConnected(r Connection) {
	b.emit("presence", r, "connected", connectedEvent{b.head(r, "connected"), session(r), r.SourceIP.String(), r.VersionNumber})
}

func (b *Broker) tellDisconnected(r Connection) {
	b.emit("presence", r, "disconnected", disconnectedEvent{
		b.head(r, "disconnected"), session(r),
		r.DisconnectReason == ClientInitiatedDisconnect, r.DisconnectReason, r.VersionNumber,
	})
}

func (b *Broker) tellConnectFailed(r Connection) {
	b.emit("presence", r, "connect_failed", connectFailedEvent{
		b.head(r, "connect_failed"), "AUTHORIZATION_FAILED", r.Principal, r.SessionIdentifier, r.SourceIP.String(),
	})
}

// tellSubscriptions publishes a subscribed or unsubscribed event.
func (b *Broker) tellSubscriptions(r Connection, eventType string, topics []string) {
	b.emit("subscriptions", r, eventType, subscriptionEvent{b.head(r, eventType), session(r), topics})
}

func (b *Broker) emit(kind string, r Connection, eventType string, event any) {
	if strings.ContainsAny(r.ClientID, "#+") { // no topic segment
		return
	}
	payload, err := json.Marshal(event)
	if err != nil {
		b.log.Error("lifecycle event not written", "eventType", eventType, "error", err)
		return
	}
	b.PublishAsService("$aws/events/"+kind+"/"+eventType+"/"+r.ClientID, payload)
}
