// Package behaviortest tests behaviors offline, in milliseconds. A test lists what devices do and
// which alarms must follow. The self-managed engine judges the behaviors. The command
// `defenderhub test` reads the same files.
//
// A file is YAML or JSON:
//
//	behaviors: # as the AWS IoT API writes them
//	- name: no-telnet
//	  metric: aws:listening-tcp-ports
//	  criteria: {comparisonOperator: not-in-port-set, value: {ports: [23]}}
//	tests:
//	- name: a telnet port raises an alarm
//	  telemetry:
//	  - {at: 0:00, device: pump-7, report: {header: {report_id: 1, version: "1.0"}, metrics: {listening_tcp_ports: {ports: [{port: 23}]}}}}
//	  alarms:
//	  - {at: 0:00, device: pump-7, behavior: no-telnet}
//
// Every device is a registered thing to which the behaviors apply. A device without lifecycle
// events is connected during the whole test.
package behaviortest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/offline"
)

// Suite is the content of a file: behaviors and their tests.
type Suite struct {
	// Behaviors are those of one security profile for all things.
	Behaviors []defender.Behavior `json:"behaviors"`
	Settings  Settings            `json:"settings"`
	Tests     []Test              `json:"tests"`
}

// Settings are the settings of the self-managed engine that change alarms. The zero value
// means the construct's defaults.
type Settings struct {
	// ReportsEvery is the prop SelfManaged.ReportsEvery, in whole minutes from 0:05 to 24:00: an
	// alarm for devices that stop sending reports.
	// Default: 0, no such alarm.
	ReportsEvery Clock `json:"reportsEvery"`
	// ReportInterval is the prop SelfManaged.ReportInterval, from 0:00:10 to 1:00.
	// Default: 0:05.
	ReportInterval Clock `json:"reportInterval"`
	// MinDatapoints is the prop SelfManaged.MinDatapoints, at least 1.
	// Default: 100.
	MinDatapoints int `json:"minDatapoints"`
	// ConfirmFirstTraffic is the prop SelfManaged.ConfirmFirstTraffic.
	ConfirmFirstTraffic bool `json:"confirmFirstTraffic"`
}

// Test lists what devices do and which alarms must follow.
type Test struct {
	Name      string  `json:"name"`
	Telemetry []Event `json:"telemetry"`
	// Until is when the test ends. The engine judges a datapoint one or two minutes after its
	// time, because telemetry may arrive late. Set Until to test the silence of a device.
	// Default: when all datapoints of the events are judged.
	Until Clock `json:"until"`
	// Alarms are all changes of alarms that must happen, in any order.
	Alarms []Alarm `json:"alarms"`
}

// Event is one action of a device: exactly one of Event, Message and Report is set.
type Event struct {
	At Clock `json:"at"`
	// Times is how often the event happens, at intervals of Every. Times above 1 requires Every.
	// Default: once, at the time At.
	Every Clock `json:"every"`
	Times int   `json:"times"`
	// Device is the client ID.
	Device string `json:"device"`
	// Event is connected, disconnected or refused. The last is a connection that AWS IoT refused.
	Event string `json:"event"`
	// Reason is the disconnect reason, such as AUTH_ERROR.
	// Default: CLIENT_INITIATED_DISCONNECT.
	Reason  string   `json:"reason"`
	Message *Message `json:"message"`
	// Report is a device report, in the format that agents write. With Times, leave out its
	// report_id: reports with the same ID are duplicates.
	// https://docs.aws.amazon.com/iot-device-defender/latest/devguide/detect-device-side-metrics.html
	Report json.RawMessage `json:"report"`
	// SourceIP is the device's address in messages and connections.
	// Default: "", no address.
	SourceIP string `json:"sourceIp"`
}

// Message is a message that a device publishes. Behaviors see its topic and size.
type Message struct {
	Topic string `json:"topic"`
	Bytes int64  `json:"bytes"`
}

// Alarm is a change of a device's alarm.
type Alarm struct {
	// At is the time of the datapoint that changed the alarm, rounded to seconds. The datapoint of
	// a window has the time of the window's end.
	At       Clock  `json:"at"`
	Device   string `json:"device"`
	Behavior string `json:"behavior"`
	// Change is in-alarm, alarm-cleared or alarm-invalidated.
	// Default: in-alarm.
	Change string `json:"change"`
}

func (a Alarm) String() string {
	return fmt.Sprintf("%s %s %s %s", a.At, a.Device, a.Behavior, cmp.Or(a.Change, "in-alarm"))
}

// Result is the outcome of a test. It passed if both lists are empty.
type Result struct {
	Name string
	// Missing are expected alarms that did not happen, Unexpected those that happened although
	// the test does not list them.
	Missing, Unexpected []Alarm
}

// Err returns nil if the test passed. Otherwise the error lists missing alarms after - and
// unexpected ones after +, in order of time.
func (r Result) Err() error {
	type line struct {
		Alarm
		sign string
	}
	var lines []line
	for _, a := range r.Missing {
		lines = append(lines, line{a, "-"})
	}
	for _, a := range r.Unexpected {
		lines = append(lines, line{a, "+"})
	}
	if len(lines) == 0 {
		return nil
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.At, b.At) })
	text := "alarms (- missing, + unexpected):"
	for _, l := range lines {
		text += "\n" + l.sign + " " + l.String()
	}
	return errors.New(text)
}

// Parse reads the content of a file. It returns the first syntax error or unknown field, otherwise
// all faults that [Suite.Validate] finds.
func Parse(text []byte) (Suite, error) {
	document, err := offline.JSON(text)
	if err != nil {
		return Suite{}, err
	}
	var s Suite
	strict := json.NewDecoder(bytes.NewReader(document))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&s); err != nil {
		return Suite{}, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	var raw struct{ Behaviors []json.RawMessage }
	if err := json.Unmarshal(document, &raw); err != nil {
		return Suite{}, err
	}
	if err := offline.CheckFields(raw.Behaviors); err != nil {
		return Suite{}, err
	}
	return s, s.Validate()
}

// Run judges all tests. It returns an error if the suite is invalid or a test cannot be judged.
func (s Suite) Run() ([]Result, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	results := make([]Result, len(s.Tests))
	for i, test := range s.Tests {
		r, err := s.run(test)
		if err != nil {
			return nil, fmt.Errorf("test %q: %w", test.Name, err)
		}
		results[i] = r
	}
	return results, nil
}

// RunFile runs the tests of a file as subtests of t. It ends t if the file cannot be read or is
// invalid.
func RunFile(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	results, err := s.Run()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for _, r := range results {
		t.Run(r.Name, func(t *testing.T) {
			if err := r.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}
