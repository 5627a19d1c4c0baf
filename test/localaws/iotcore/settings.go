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
		return &iot.DescribeEndpointOutput{EndpointAddress: aws.String("localhost")}, nil
	case "iot:CredentialProvider", "iot:Jobs":
		return nil, errUnknownHere.new("the endpoint %s is not supported by the local AWS IoT", kind)
	default:
		return nil, errInvalidRequest.new("endpointType is %q, want iot:Data-ATS, iot:Data, iot:CredentialProvider or iot:Jobs", kind)
	}
}

// MaxPayload is the most bytes that a published message may have
// (AWS General Reference, AWS IoT Core message broker quotas).
const MaxPayload = 128 << 10

// DataPlane is the broker of the data plane's API. An error that is not from this package becomes
// an InternalFailureException.
type DataPlane interface {
	// Publish publishes a message that no MQTT client sent.
	Publish(PublishedMessage) error
	// GetConnection describes a client's connection, ended or not, or returns [NotConnected].
	GetConnection(clientID string) (*iotdataplane.GetConnectionOutput, error)
}

// PublishedMessage is a message without properties of MQTT 5.
type PublishedMessage struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1
	Retain  bool
}

// Errors that the broker and Device Defender return too.
var (
	InvalidRequest = errInvalidRequest.new
	Unauthorized   = errUnauthorized.new // for an action that nobody may take
	NotFound       = errNotFound.new
	LimitExceeded  = errorKind{"LimitExceededException", http.StatusGone}.new
	AlreadyExists  = errAlreadyExists.of
)

// NotConnected returns the error for a client ID without a connection.
func NotConnected(clientID string) *Error {
	return NotFound("No client is connected with the client id %s", clientID)
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
	Handle(h, "GetConnection", "clientId", func(in *iotdataplane.GetConnectionInput) (*iotdataplane.GetConnectionOutput, error) {
		if id := *in.ClientId; id[0] == '$' || len(id) > 128 {
			return nil, errInvalidRequest.new("clientId is %q, want 1 to 128 characters of which the first is not $", id)
		}
		return data.GetConnection(*in.ClientId)
	})
}
