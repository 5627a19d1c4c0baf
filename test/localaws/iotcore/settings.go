package iotcore

import (
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
)

func (s *Service) describeEndpoint(in *iot.DescribeEndpointInput) (*iot.DescribeEndpointOutput, error) {
	switch kind := aws.ToString(in.EndpointType); kind {
	case "", "iot:Data", "iot:Data-ATS":
		return &iot.DescribeEndpointOutput{EndpointAddress: &s.dataEndpoint}, nil
	case "iot:CredentialProvider", "iot:Jobs":
		return nil, errUnknownHere.new("the endpoint %s is not supported by the local AWS IoT", kind)
	default:
		return nil, errInvalidRequest.new("endpointType is %q, want iot:Data-ATS, iot:Data, iot:CredentialProvider or iot:Jobs", kind)
	}
}

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
	GetConnection(clientID string) (*iotdataplane.GetConnectionOutput, error)
}

// PublishedMessage is a message. The local AWS IoT ignores the properties of MQTT 5 here.
type PublishedMessage struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1
	Retain  bool
}

// Errors that the broker and Device Defender give too.
var (
	InvalidRequest = errInvalidRequest.new
	Unauthorized   = errUnauthorized.new // nobody may do it this way
	NotFound       = errNotFound.new
	LimitExceeded  = errorKind{"LimitExceededException", http.StatusGone}.new
	AlreadyExists  = errAlreadyExists.of
)

// NotConnected returns the error for a client id without a connection.
func NotConnected(clientID string) *Error {
	return NotFound("No client is connected with the client id %s", clientID)
}

func checkClientID(id string) error {
	if id[0] == '$' || len(id) > 128 {
		return errInvalidRequest.new("clientId is %q, want 1 to 128 characters of which the first is no $", id)
	}
	return nil
}

func (h *Handler) registerDataPlane(data DataPlane) {
	Do(h, "Publish", "topic =payload ?qos ?retain", func(in *iotdataplane.PublishInput) error {
		if in.Qos < 0 || in.Qos > 1 {
			return errInvalidRequest.new("qos is %d, want 0 or 1", in.Qos)
		}
		if len(in.Payload) > MaxPayload {
			return errInvalidRequest.new("the payload has %d bytes, at most %d are allowed", len(in.Payload), MaxPayload)
		}
		return data.Publish(PublishedMessage{Topic: *in.Topic, Payload: in.Payload, QoS: byte(in.Qos), Retain: in.Retain})
	})
	Do(h, "DeleteConnection", "clientId ?cleanSession ?preventWillMessage", func(in *iotdataplane.DeleteConnectionInput) error {
		if err := checkClientID(*in.ClientId); err != nil {
			return err
		}
		return data.DeleteConnection(*in.ClientId, in.CleanSession, in.PreventWillMessage)
	})
	Handle(h, "GetConnection", "clientId", func(in *iotdataplane.GetConnectionInput) (*iotdataplane.GetConnectionOutput, error) {
		if err := checkClientID(aws.ToString(in.ClientId)); err != nil {
			return nil, err
		}
		return data.GetConnection(*in.ClientId)
	})
}
