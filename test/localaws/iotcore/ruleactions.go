package iotcore

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// RuleAction is an action of a topic rule: exactly one of its fields is set.
// Other kinds of action are refused by name.
type RuleAction struct {
	SQS       *SQSAction       `json:"sqs,omitempty"`
	SNS       *SNSAction       `json:"sns,omitempty"`
	Lambda    *LambdaAction    `json:"lambda,omitempty"`
	Republish *RepublishAction `json:"republish,omitempty"`
	Kinesis   *KinesisAction   `json:"kinesis,omitempty"`
}

// SQSAction sends the SQL's output to a standard queue.
type SQSAction struct {
	RoleARN   string `json:"roleArn"`
	QueueURL  string `json:"queueUrl"`
	UseBase64 bool   `json:"useBase64"`
}

// SNSAction publishes the SQL's output to a topic.
type SNSAction struct {
	TargetARN     string `json:"targetArn"`
	RoleARN       string `json:"roleArn"`
	MessageFormat string `json:"messageFormat,omitempty"` // RAW (default) or JSON
}

// LambdaAction invokes a function with the SQL's output.
type LambdaAction struct {
	FunctionARN string `json:"functionArn"`
}

// KinesisAction writes the SQL's output to a stream.
type KinesisAction struct {
	RoleARN      string `json:"roleArn"`
	StreamName   string `json:"streamName"`
	PartitionKey string `json:"partitionKey,omitempty"`
}

// RepublishAction publishes the SQL's output to another MQTT topic.
type RepublishAction struct {
	RoleARN string       `json:"roleArn"`
	Topic   string       `json:"topic"`
	QoS     int          `json:"qos"`
	Headers *MQTTHeaders `json:"headers,omitempty"`
}

// MQTTHeaders are the MQTT 5 properties of a republished message.
type MQTTHeaders struct {
	PayloadFormatIndicator string         `json:"payloadFormatIndicator,omitempty"`
	ContentType            string         `json:"contentType,omitempty"`
	ResponseTopic          string         `json:"responseTopic,omitempty"`
	CorrelationData        string         `json:"correlationData,omitempty"`
	MessageExpiry          string         `json:"messageExpiry,omitempty"`
	UserProperties         []UserProperty `json:"userProperties,omitempty"`
}

// UserProperty is an MQTT 5 user property.
type UserProperty struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// UnmarshalJSON refuses kinds of action that the local AWS IoT does not run.
func (a *RuleAction) UnmarshalJSON(data []byte) error {
	var kinds map[string]json.RawMessage
	if err := json.Unmarshal(data, &kinds); err != nil {
		return err
	}
	maps.DeleteFunc(kinds, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		var into any
		switch kind {
		case "sqs":
			a.SQS = &SQSAction{}
			into = a.SQS
		case "sns":
			a.SNS = &SNSAction{}
			into = a.SNS
		case "lambda":
			a.Lambda = &LambdaAction{}
			into = a.Lambda
		case "republish":
			a.Republish = &RepublishAction{}
			into = a.Republish
		case "kinesis":
			a.Kinesis = &KinesisAction{}
			into = a.Kinesis
		default:
			return errUnknownHere.new("the rule action %q is not known to the local AWS IoT; it knows sqs, sns, lambda, republish and kinesis", kind)
		}
		if err := strictJSON(kinds[kind], into); err != nil {
			return err
		}
	}
	if len(kinds) != 1 {
		return errInvalidRequest.new("An action must have exactly one kind, it has %d", len(kinds))
	}
	return nil
}

func (a *RuleAction) check() error {
	switch {
	case a.SQS != nil:
		if strings.HasSuffix(a.SQS.QueueURL, ".fifo") {
			return errInvalidRequest.new("The SQS action does not support FIFO queues: %s", a.SQS.QueueURL)
		}
		return required("sqs", field{"roleArn", a.SQS.RoleARN}, field{"queueUrl", a.SQS.QueueURL})
	case a.SNS != nil:
		if f := a.SNS.MessageFormat; f != "" && f != "RAW" && f != "JSON" {
			return errInvalidRequest.new("messageFormat is %q, want RAW or JSON", f)
		}
		return required("sns", field{"roleArn", a.SNS.RoleARN}, field{"targetArn", a.SNS.TargetARN})
	case a.Lambda != nil:
		return required("lambda", field{"functionArn", a.Lambda.FunctionARN})
	case a.Republish != nil:
		if a.Republish.QoS < 0 || a.Republish.QoS > 1 {
			return errInvalidRequest.new("qos is %d, want 0 or 1", a.Republish.QoS)
		}
		return required("republish", field{"roleArn", a.Republish.RoleARN}, field{"topic", a.Republish.Topic})
	case a.Kinesis != nil:
		return required("kinesis", field{"roleArn", a.Kinesis.RoleARN}, field{"streamName", a.Kinesis.StreamName})
	}
	return errInvalidRequest.new("An action must have exactly one kind")
}

type field struct{ name, value string }

func required(action string, fields ...field) error {
	for _, f := range fields {
		if f.value == "" {
			return errInvalidRequest.new("%s of the %s action is missing", f.name, action)
		}
	}
	return nil
}
