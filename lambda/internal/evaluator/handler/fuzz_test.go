package handler_test

import (
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"github.com/defenderhub/defenderhub/defender"
)

// Any message of the queue is judged or counted, and never retried. A device's message only
// affects that device.
func FuzzMessage(f *testing.F) {
	for _, m := range []events.SQSMessage{
		report("1", "pump", at(0), ports(1, 23)), message("2", "pump", at(0), 26), lifecycle("pump", "connected", "s", at(0)), lifecycle("pump", "connect_failed", "s", at(0)),
	} {
		f.Add(m.Body)
	}
	f.Add(`{"ruleName":"Reports","topic":"t","clientId":"pump","base64OriginalPayload":"e30="}`)
	f.Add(`{"kind":"lifecycle","payload":"e30="}`)
	for _, odd := range oddValues(f) {
		f.Add(report("1", "pump", at(0), []byte(odd.Report)).Body)
	}
	config := profile(
		defender.Behavior{Name: "ports", Criteria: defender.ListeningTCPPorts.InPorts(443)},
		defender.Behavior{Name: "small", Criteria: defender.MessageByteSize.LessThan(8)},
		defender.Behavior{Name: "few", Criteria: defender.ConnectionAttempts.LessThan(3, defender.Window5m)},
	)
	config.ReportTopic = "reports/+"
	f.Fuzz(func(t *testing.T, body string) {
		r := newRig(t, config)
		m := events.SQSMessage{MessageId: "1", Body: body, EventSource: "aws:sqs", Attributes: map[string]string{"SentTimestamp": "1788220800000", "ApproximateReceiveCount": "1"}}
		if again := r.deliver(m, report("2", "other", at(0), ports(1, 443))); again != nil {
			t.Errorf("messages %v are retried, want none", again)
		}
		r.close(at(60))
		if len(r.table.items()) > 3 { // progress, the behaviors, and the device of the message
			t.Errorf("%d items after one message, want at most 3", len(r.table.items()))
		}
	})
}
