package iotcore

import (
	"encoding/base64"
	"encoding/json"
	"slices"
)

// MaxPayload is the most bytes that a published message may have
// (AWS General Reference, AWS IoT Core message broker quotas).
const MaxPayload = 128 << 10

// DataPlane is the broker behind the data plane's API. Its errors should be
// those of this package; any other is answered as InternalFailureException.
type DataPlane interface {
	// Publish publishes a message that no MQTT client sent.
	Publish(PublishedMessage) error
	// DeleteConnection cuts a client's connection.
	DeleteConnection(clientID string, cleanSession, preventWillMessage bool) error
	// GetConnection describes a client's connection, ended or not, or returns [NotConnected].
	GetConnection(clientID string) (ClientConnection, error)
}

// ClientConnection is the answer of GetConnection, without its socket. Times are in ms since
// 1970, and 0 is left out.
type ClientConnection struct {
	ClientID          string `json:"clientId"`
	Connected         bool   `json:"connected"`
	ConnectedSince    int64  `json:"connectedSince,omitempty"`
	DisconnectedSince int64  `json:"disconnectedSince,omitempty"`
	DisconnectReason  string `json:"disconnectReason,omitempty"`
	ThingName         string `json:"thingName,omitempty"`
}

// PublishedMessage is a message with its MQTT 5 properties.
type PublishedMessage struct {
	Topic           string
	Payload         []byte
	QoS             byte // 0 or 1
	Retain          bool
	UserProperties  []UserProperty
	PayloadIsUTF8   bool
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	MessageExpiry   uint32 // seconds, 0 for never
}

// InvalidRequest returns the error for a request that breaks a rule.
func InvalidRequest(format string, args ...any) *Error { return errInvalidRequest.new(format, args...) }

// Unauthorized returns the error for something that nobody may do this way.
func Unauthorized(format string, args ...any) *Error { return errUnauthorized.new(format, args...) }

// NotConnected returns the error for a client id without a connection.
func NotConnected(clientID string) *Error {
	return errNotFound.new("No client is connected with the client id %s", clientID)
}

type publishInput struct {
	Topic           string `uri:"topic"`
	QoS             int    `query:"qos"`
	Retain          bool   `query:"retain"`
	Payload         []byte `payload:"raw"`
	UserProperties  string `header:"x-amz-mqtt5-user-properties"` // base64 of a JSON array of objects
	PayloadFormat   string `header:"x-amz-mqtt5-payload-format-indicator"`
	CorrelationData string `header:"x-amz-mqtt5-correlation-data"` // base64
	ContentType     string `query:"contentType"`
	ResponseTopic   string `query:"responseTopic"`
	MessageExpiry   int64  `query:"messageExpiry"`
}

type deleteConnectionInput struct {
	ClientID           string `uri:"clientId"`
	CleanSession       bool   `query:"cleanSession"`
	PreventWillMessage bool   `query:"preventWillMessage"`
}

type getConnectionInput struct {
	ClientID                 string `uri:"clientId"`
	IncludeSocketInformation bool   `query:"includeSocketInformation"`
}

func validateClientID(clientID string) error {
	if clientID[0] == '$' || len(clientID) > 128 {
		return errInvalidRequest.new("clientId is %q, want 1 to 128 characters of which the first is no $", clientID)
	}
	return nil
}

func (h *Handler) registerDataPlane(data DataPlane) {
	Handle(h, "Publish", func(in *publishInput) (*struct{}, error) {
		message, err := in.message()
		if err != nil {
			return nil, err
		}
		return nil, data.Publish(message)
	})
	Handle(h, "DeleteConnection", func(in *deleteConnectionInput) (*struct{}, error) {
		if err := validateClientID(in.ClientID); err != nil {
			return nil, err
		}
		return nil, data.DeleteConnection(in.ClientID, in.CleanSession, in.PreventWillMessage)
	})
	Handle(h, "GetConnection", func(in *getConnectionInput) (*ClientConnection, error) {
		if err := validateClientID(in.ClientID); err != nil {
			return nil, err
		}
		if in.IncludeSocketInformation {
			return nil, errUnknownHere.new("includeSocketInformation of GetConnection is not known to the local AWS IoT")
		}
		c, err := data.GetConnection(in.ClientID)
		return &c, err
	})
}

func (in *publishInput) message() (PublishedMessage, error) {
	m := PublishedMessage{
		Topic: in.Topic, Payload: in.Payload, QoS: byte(in.QoS), Retain: in.Retain, ContentType: in.ContentType,
		ResponseTopic: in.ResponseTopic, PayloadIsUTF8: in.PayloadFormat == "UTF8_DATA", MessageExpiry: uint32(in.MessageExpiry),
	}
	if in.QoS < 0 || in.QoS > 1 {
		return m, errInvalidRequest.new("qos is %d, want 0 or 1", in.QoS)
	}
	if len(in.Payload) > MaxPayload {
		return m, errInvalidRequest.new("the payload has %d bytes, at most %d are allowed", len(in.Payload), MaxPayload)
	}
	if !slices.Contains([]string{"", "UTF8_DATA", "UNSPECIFIED_BYTES"}, in.PayloadFormat) {
		return m, errInvalidRequest.new("payloadFormatIndicator is %q, want UTF8_DATA or UNSPECIFIED_BYTES", in.PayloadFormat)
	}
	if in.MessageExpiry < 0 || in.MessageExpiry > 1<<32-1 {
		return m, errInvalidRequest.new("messageExpiry is %d, want seconds", in.MessageExpiry)
	}
	var err error
	if m.CorrelationData, err = base64.StdEncoding.DecodeString(in.CorrelationData); err != nil {
		return m, errInvalidRequest.new("correlationData is no base64: %v", err)
	}
	m.UserProperties, err = parseUserProperties(in.UserProperties)
	return m, err
}

// parseUserProperties reads [{"key":"value"}, ...], in base64.
func parseUserProperties(text string) ([]UserProperty, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errInvalidRequest.new("userProperties are no base64: %v", err)
	}
	if len(raw) == 0 {
		return nil, nil
	}
	var objects []map[string]string
	if err := json.Unmarshal(raw, &objects); err != nil {
		return nil, errInvalidRequest.new("userProperties are no JSON array of objects: %v", err)
	}
	var out []UserProperty
	for _, o := range objects {
		if len(o) != 1 {
			return nil, errInvalidRequest.new("each of userProperties must have one key, one has %d", len(o))
		}
		for k, v := range o {
			out = append(out, UserProperty{Key: k, Value: v})
		}
	}
	return out, nil
}
