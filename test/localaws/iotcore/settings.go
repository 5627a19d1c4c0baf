package iotcore

import "slices"

// LoggingOptions are the account's fine-grained logging options. They are kept
// for the audit; the local AWS IoT writes no logs.
type LoggingOptions struct {
	RoleARN             string               `json:"roleArn,omitempty"`
	DefaultLogLevel     string               `json:"defaultLogLevel,omitempty"`
	DisableAllLogs      bool                 `json:"disableAllLogs"`
	EventConfigurations []EventConfiguration `json:"eventConfigurations,omitempty"`
}

// EventConfiguration overrides the log level for one type of event.
type EventConfiguration struct {
	EventType      string `json:"eventType"`
	LogLevel       string `json:"logLevel,omitempty"`
	LogDestination string `json:"logDestination,omitempty"`
}

var logLevels = []string{"DEBUG", "INFO", "ERROR", "WARN", "DISABLED"}

// Logging returns the logging options, false when they were never set.
func (s *Service) Logging() (LoggingOptions, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.logging == nil {
		return LoggingOptions{}, false
	}
	return *s.logging, true
}

// GetV2LoggingOptionsInput is the operation's input.
type GetV2LoggingOptionsInput struct {
	Verbose bool `query:"verbose"`
}

// GetV2LoggingOptions tells the logging options. EventConfigurations are told
// only with Verbose.
func (s *Service) GetV2LoggingOptions(in *GetV2LoggingOptionsInput) (*LoggingOptions, error) {
	options, ok := s.Logging()
	if !ok {
		return nil, errNotConfigured.new("Log options have not been set for this account")
	}
	if !in.Verbose {
		options.EventConfigurations = nil
	}
	return &options, nil
}

// SetV2LoggingOptionsInput is the operation's input. What it leaves out stays.
type SetV2LoggingOptionsInput struct {
	RoleARN             *string              `json:"roleArn"`
	DefaultLogLevel     *string              `json:"defaultLogLevel"`
	DisableAllLogs      *bool                `json:"disableAllLogs"`
	EventConfigurations []EventConfiguration `json:"eventConfigurations"`
}

// SetV2LoggingOptions changes the logging options.
func (s *Service) SetV2LoggingOptions(in *SetV2LoggingOptionsInput) (*struct{}, error) {
	if in.DefaultLogLevel != nil && !slices.Contains(logLevels, *in.DefaultLogLevel) {
		return nil, errInvalidRequest.new("defaultLogLevel is %q, want one of %v", *in.DefaultLogLevel, logLevels)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logging == nil {
		s.logging = &LoggingOptions{}
	}
	if in.RoleARN != nil {
		s.logging.RoleARN = *in.RoleARN
	}
	if in.DefaultLogLevel != nil {
		s.logging.DefaultLogLevel = *in.DefaultLogLevel
	}
	if in.DisableAllLogs != nil {
		s.logging.DisableAllLogs = *in.DisableAllLogs
	}
	if in.EventConfigurations != nil {
		s.logging.EventConfigurations = in.EventConfigurations
	}
	return nil, nil
}

// DescribeEndpointInput is the operation's input.
type DescribeEndpointInput struct {
	EndpointType string `query:"endpointType"`
}

// DescribeEndpointOutput is the operation's output.
type DescribeEndpointOutput struct {
	EndpointAddress string `json:"endpointAddress"`
}

// DescribeEndpoint tells the host of the MQTT broker.
func (s *Service) DescribeEndpoint(in *DescribeEndpointInput) (*DescribeEndpointOutput, error) {
	switch in.EndpointType {
	case "", "iot:Data", "iot:Data-ATS":
		return &DescribeEndpointOutput{EndpointAddress: s.dataEndpoint}, nil
	case "iot:CredentialProvider", "iot:Jobs":
		return nil, errUnknownHere.new("the endpoint %s is not known to the local AWS IoT", in.EndpointType)
	}
	return nil, errInvalidRequest.new("endpointType is %q, want iot:Data-ATS, iot:Data, iot:CredentialProvider or iot:Jobs", in.EndpointType)
}
