package iotcore

import (
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
)

// SetTags sets the tags of a resource that can have some: only those that somebody set
// tags of, though it were none, can be tagged over the API. maxTags is the most.
func (s *Service) SetTags(arn string, tags []types.Tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tags, arn)
	s.setTags(arn, tags)
}

// DropTags forgets a resource.
func (s *Service) DropTags(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tags, arn)
}

// setTags adds tags. It needs the lock.
func (s *Service) setTags(arn string, tags []types.Tag) {
	if s.tags[arn] == nil {
		s.tags[arn] = map[string]string{}
	}
	for _, t := range tags {
		s.tags[arn][aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
}

// tagsOf needs the lock.
func (s *Service) tagsOf(arn *string) (map[string]string, error) {
	tags, ok := s.tags[aws.ToString(arn)]
	if !ok {
		return nil, errNotFound.new("No thing group, policy, topic rule or scheduled audit has the ARN %s", aws.ToString(arn))
	}
	return tags, nil
}

// MaxTags is the most tags of a resource.
// https://docs.aws.amazon.com/iot/latest/developerguide/tagging-iot.html
const MaxTags = 50

func (s *Service) listTagsForResource(in *iot.ListTagsForResourceInput) (*iot.ListTagsForResourceOutput, error) {
	tags, err := s.tagsOf(in.ResourceArn)
	if err != nil {
		return nil, err
	}
	keys, next, err := Page(slices.Sorted(maps.Keys(tags)), itself, in.NextToken, nil, DefaultPage)
	out := &iot.ListTagsForResourceOutput{NextToken: next}
	for _, key := range keys {
		out.Tags = append(out.Tags, types.Tag{Key: &key, Value: aws.String(tags[key])})
	}
	return out, err
}

var logLevels = []types.LogLevel{types.LogLevelDebug, types.LogLevelInfo, types.LogLevelError, types.LogLevelWarn, types.LogLevelDisabled}

// Logging returns the account's fine-grained logging options, nil when they were never
// set. They are kept for the audit; the local AWS IoT writes no logs.
func (s *Service) Logging() *iot.GetV2LoggingOptionsOutput {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.logging == nil {
		return nil
	}
	options := *s.logging
	return &options
}

// getV2LoggingOptions returns the logging options, with EventConfigurations only where the
// input says Verbose.
func (s *Service) getV2LoggingOptions(in *iot.GetV2LoggingOptionsInput) (*iot.GetV2LoggingOptionsOutput, error) {
	if s.logging == nil {
		return nil, errNotConfigured.new("Log options have not been set for this account")
	}
	options := *s.logging
	if !in.Verbose {
		options.EventConfigurations = nil
	}
	return &options, nil
}

// setV2LoggingOptions changes the logging options. What it leaves out stays.
func (s *Service) setV2LoggingOptions(in *iot.SetV2LoggingOptionsInput) error {
	if in.DefaultLogLevel != "" && !slices.Contains(logLevels, in.DefaultLogLevel) {
		return errInvalidRequest.new("defaultLogLevel is %q, want one of %v", in.DefaultLogLevel, logLevels)
	}
	options := iot.GetV2LoggingOptionsOutput{}
	if s.logging != nil {
		options = *s.logging
	}
	if in.RoleArn != nil {
		options.RoleArn = in.RoleArn
	}
	if in.DefaultLogLevel != "" {
		options.DefaultLogLevel = in.DefaultLogLevel
	}
	if in.EventConfigurations != nil {
		options.EventConfigurations = in.EventConfigurations
	}
	options.DisableAllLogs = in.DisableAllLogs
	s.logging = &options
	return nil
}

func (s *Service) describeEndpoint(in *iot.DescribeEndpointInput) (*iot.DescribeEndpointOutput, error) {
	switch kind := aws.ToString(in.EndpointType); kind {
	case "", "iot:Data", "iot:Data-ATS":
		return &iot.DescribeEndpointOutput{EndpointAddress: &s.dataEndpoint}, nil
	case "iot:CredentialProvider", "iot:Jobs":
		return nil, errUnknownHere.new("the endpoint %s is not known to the local AWS IoT", kind)
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

// PublishedMessage is a message. The local AWS IoT knows no properties of MQTT 5 here.
type PublishedMessage struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1
	Retain  bool
}

// InvalidRequest returns the error for a request that breaks a rule.
func InvalidRequest(format string, args ...any) *Error { return errInvalidRequest.new(format, args...) }

// Unauthorized returns the error for something that nobody may do this way.
func Unauthorized(format string, args ...any) *Error { return errUnauthorized.new(format, args...) }

// NotConnected returns the error for a client id without a connection.
func NotConnected(clientID string) *Error {
	return errNotFound.new("No client is connected with the client id %s", clientID)
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
