package walkthrough

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/securityhub/types"
	"github.com/fxamacker/cbor/v2"

	"github.com/defenderhub/defenderhub/test/localaws/rules"
)

const (
	small = "21.5"                       // 4 bytes
	large = "21.5 degrees in the cellar" // 26 bytes
)

// experiment is the Detect experiment of AWS's documentation, judged by the self-managed engine
// with its demo profile and starter behaviors.
func (s *story) experiment() []step {
	var quiet, meter, gateway, valve *device
	return []step{
		{"devices publish messages of 4 bytes: you pay only for the rule evaluation", func(ctx context.Context) error {
			for _, d := range []struct {
				name string
				is   **device
			}{{"meter-1", &quiet}, {"meter-2", &meter}, {"gateway-5", &gateway}} {
				var err error
				if *d.is, err = s.newDevice(ctx, d.name); err != nil {
					return err
				}
				if err := (*d.is).connect(); err != nil {
					return err
				}
			}
			return s.publishNormal(ctx, quiet, meter)
		}, hintIssue},
		{"one publishes 26 bytes, one opens a telnet port in its CBOR report, one keeps losing its session", func(ctx context.Context) error {
			if err := s.toNextWindow(ctx); err != nil {
				return err
			}
			if err := meter.publish("data/meter-2", large); err != nil {
				return err
			}
			if err := gateway.report(s.outputs["ReportTopic"], report{id: 1, ports: []int{443, 23}}); err != nil {
				return err
			}
			var err error
			if valve, err = s.newDevice(ctx, "valve-9"); err != nil {
				return err
			}
			for range 6 {
				if err := valve.connect(); err != nil {
					return err
				}
				valve.disconnect()
			}
			return nil
		}, hintIssue},
		{"nine minutes pass: the first five-minute window is complete and is judged", func(ctx context.Context) error {
			if err := s.pass(ctx, 9*time.Minute); err != nil {
				return err
			}
			for _, want := range misbehaviors {
				if err := s.expect(ctx, want.severity, types.RecordStateActive, want.device, want.behavior); err != nil {
					return err
				}
			}
			return nil
		}, hintIssue},
		{"the devices behave again", func(ctx context.Context) error {
			if err := meter.publish("data/meter-2", small); err != nil {
				return err
			}
			if err := gateway.report(s.outputs["ReportTopic"], report{id: 2, ports: []int{443}}); err != nil {
				return err
			}
			return valve.connect()
		}, hintIssue},
		{"a quarter of an hour passes", func(ctx context.Context) error {
			if err := s.pass(ctx, 16*time.Minute); err != nil {
				return err
			}
			for _, want := range misbehaviors {
				if err := s.expect(ctx, want.severity, types.RecordStateArchived, want.device, want.behavior); err != nil {
					return err
				}
			}
			return nil
		}, hintIssue},
	}
}

var misbehaviors = []struct {
	severity         types.SeverityLabel
	device, behavior string
}{
	{types.SeverityLabelMedium, "meter-2", "small-messages"},
	{types.SeverityLabelHigh, "gateway-5", "no-telnet"},
	{types.SeverityLabelMedium, "valve-9", "few-disconnects"},
}

// publishNormal publishes conforming messages, and checks the engine's promise: no rule action
// and no function runs.
func (s *story) publishNormal(ctx context.Context, devices ...*device) error {
	const each = 10
	if err := s.pass(ctx, time.Minute); err != nil { // the connections' messages are processed
		return err
	}
	before, err := s.sizeRule()
	if err != nil {
		return err
	}
	runs := s.cloud.Functions.Invocations()
	for _, d := range devices {
		for range each {
			if err := d.publish("data/"+d.name, small); err != nil {
				return err
			}
		}
	}
	if err := s.cloud.Drained(ctx); err != nil {
		return err
	}
	after, err := s.sizeRule()
	if err != nil {
		return err
	}
	evaluated, matched, ran := after.Triggered-before.Triggered, after.Matched-before.Matched, s.cloud.Functions.Invocations()-runs
	s.note("→ rule evaluated %d times, actions %d, functions run %d", evaluated, matched, ran)
	if evaluated != each*len(devices) || matched != 0 || ran != 0 {
		return fmt.Errorf("want %d evaluations and nothing else", each*len(devices))
	}
	return nil
}

// sizeRule counts runs and actions of the rule that drops messages of normal size.
func (s *story) sizeRule() (rules.Counters, error) {
	for _, r := range s.cloud.IoT.TopicRules() {
		if strings.HasPrefix(*r.Sql, "SELECT 'oversize'") {
			return s.cloud.Rules.Counters(r.Name), nil
		}
	}
	return rules.Counters{}, errors.New("no rule of the stack compares the size of messages")
}

// toNextWindow moves the clock past the next multiple of five minutes, where windows begin. A window
// is judged by the first run of the closer that is more than three minutes and the batching window
// after its end. The closer runs each minute, so that is at most nine minutes from here.
func (s *story) toNextWindow(ctx context.Context) error {
	const window, into = 5 * time.Minute, 30 * time.Second
	now := s.cloud.Clock.Now()
	return s.pass(ctx, now.Truncate(window).Add(window+into).Sub(now))
}

// pass moves the clock. Messages in flight arrive first, as they would in real minutes, and what the
// passed minutes cause is handled.
func (s *story) pass(ctx context.Context, d time.Duration) error {
	if err := s.cloud.Drained(ctx); err != nil {
		return err
	}
	s.cloud.Clock.Step(d)
	return s.cloud.Drained(ctx)
}

// report is a device report.
type report struct {
	id       int
	bytesOut int // in the time since the last report
	ports    []int
}

// report publishes a device report in CBOR, with short names.
func (d *device) report(topic string, r report) error {
	var listening []map[string]any
	for _, p := range r.ports {
		listening = append(listening, map[string]any{"pt": p, "if": "eth0"})
	}
	payload, err := cbor.Marshal(map[string]any{
		"hed": map[string]any{"rid": r.id, "v": "1.0"},
		"met": map[string]any{"tp": map[string]any{"pts": listening, "t": len(r.ports)}, "ns": map[string]any{"bo": r.bytesOut}},
	})
	if err != nil {
		return err
	}
	return d.publish(topic, string(payload))
}
