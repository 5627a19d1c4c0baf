package iotsql

import "time"

// exampleMessage returns a message with every property that the reference shows.
func exampleMessage(payload string) Message {
	return Message{
		Topic:     "things/myThings/thingOne",
		ClientID:  "device-1",
		Principal: "ba67293af50bf2506f5f93469686da660c7c844e7b3950bfb16813e0d31e9373",
		SourceIP:  "203.0.113.7",
		TraceID:   "12345678-1234-1234-1234-123456789012",
		AccountID: "123456789012",
		Time:      time.UnixMilli(1481825251155),
		Payload:   []byte(payload),
		NewUUID:   func() string { return "123a4567-b89c-12d3-e456-789012345000" },
	}
}

// Eval evaluates a message.
func (s *Statement) Eval(m Message) (output []byte, matched bool, err error) {
	return s.Begin(m).Select()
}
