package mqtt

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// DisconnectReason is the reason for the end of a connection in lifecycle events.
type DisconnectReason string

// The reasons that this broker uses (AWS IoT Core Developer Guide, "Lifecycle events").
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
)

// whyEnded returns the reason for the end of a connection that the broker did not cut.
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
	return ClientError // all other errors are about packets of the client
}

// fields are the fields of an event that not all events have.
type fields = map[string]any

func (b *Broker) publishConnected(r Connection) {
	b.emit("presence", "connected", r, fields{"ipAddress": r.SourceIP, "versionNumber": r.VersionNumber})
}

func (b *Broker) publishDisconnected(r Connection) {
	b.emit("presence", "disconnected", r, fields{
		"clientInitiatedDisconnect": r.DisconnectReason == ClientInitiatedDisconnect, "disconnectReason": r.DisconnectReason, "versionNumber": r.VersionNumber,
	})
}

func (b *Broker) publishConnectFailed(r Connection) {
	b.emit("presence", "connect_failed", r, fields{"connectFailureReason": "AUTHORIZATION_FAILED", "ipAddress": r.SourceIP})
}

// publishSubscriptions publishes a subscribed or unsubscribed event.
func (b *Broker) publishSubscriptions(r Connection, eventType string, topics []string) {
	b.emit("subscriptions", eventType, r, fields{"topics": topics})
}

func (b *Broker) emit(kind, eventType string, r Connection, event fields) {
	if strings.ContainsAny(r.ClientID, "#+") { // the client ID cannot be a level of a topic
		return
	}
	maps.Copy(event, fields{
		"clientId": r.ClientID, "timestamp": b.now().UnixMilli(), "eventType": eventType,
		"sessionIdentifier": r.SessionIdentifier, "principalIdentifier": r.Principal,
	})
	if name, exclusive := b.registry.ConnectionThing(r.Principal, r.ClientID); exclusive {
		event["thingName"] = name
	}
	payload, err := json.Marshal(event)
	if err != nil {
		b.log.Error("lifecycle event not written", "eventType", eventType, "error", err)
		return
	}
	b.PublishAsService("$aws/events/"+kind+"/"+eventType+"/"+r.ClientID, payload)
}
