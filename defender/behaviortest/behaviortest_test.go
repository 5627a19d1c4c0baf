package behaviortest_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/defender/behaviortest"
)

func ExampleSuite_Run() {
	suite := behaviortest.Suite{
		Behaviors: []defender.Behavior{{Name: "small", Criteria: defender.MessageByteSize.LessThan(8)}},
		Settings:  behaviortest.Settings{MinDatapoints: 10},
		Tests: []behaviortest.Test{{
			Name: "a large message",
			Telemetry: []behaviortest.Event{
				{At: behaviortest.Clock(7 * time.Minute), Device: "meter-2", Message: &behaviortest.Message{Topic: "meters", Bytes: 26}},
			},
			Alarms: []behaviortest.Alarm{{At: behaviortest.Clock(9 * time.Minute), Device: "meter-2", Behavior: "small"}},
		}},
	}
	results, err := suite.Run()
	if err != nil {
		fmt.Println(err)
	}
	print := func(r behaviortest.Result) { fmt.Println(r.Name, r.Err()) }
	for _, r := range results {
		print(r)
	}
	// Output:
	// a large message alarms (- missing, + unexpected):
	// + 0:07 meter-2 small in-alarm
	// - 0:09 meter-2 small in-alarm
	// + 0:15 meter-2 small alarm-cleared
}

func ExampleParse() {
	suite, err := behaviortest.Parse([]byte(`
behaviors: [{name: small, metric: aws:message-byte-size, criteria: {comparisonOperator: less-than, value: {count: 8}}}]
tests: [{name: nothing, telemetry: [{at: 0:00, device: a}]}]
`))
	fmt.Println(len(suite.Behaviors), err)
	// Output: 1 test "nothing": telemetry[0]: want exactly one of event, message and report
}

// A Go test of your repository that runs the tests of a file.
func ExampleRunFile() {
	test := func(t *testing.T) { behaviortest.RunFile(t, "behaviors.yaml") }
	_ = test
}

// Users copy the examples.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d examples, error %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) { behaviortest.RunFile(t, f) })
	}
}

const small = `behaviors: [{name: small, metric: aws:message-byte-size, criteria: {comparisonOperator: less-than, value: {count: 8}}}]
`

func TestErrorsOfAFile(t *testing.T) {
	for text, want := range map[string]string{
		"":                           "tests: none",
		"{":                          "did not find",
		small + "tests: [{nmae: x}]": `unknown field "nmae"`,
		"behaviors: [{name: a, metric: aws:message-byte-size, criteria: {operator: less-than, value: {count: 8}}}]\ntests: [{}]": `behaviors[0]: unknown field "operator"`,
		small + "tests: [{until: 90}]":                             "time 90, want hours and minutes",
		small + "tests: [{until: 0:60}]":                           `time "0:60"`,
		small + "settings: {reportsEvery: 0:01}\ntests: [{}]":      "settings.reportsEvery is 0:01, want whole minutes from 0:05 to 24:00",
		small + "settings: {reportInterval: 0:00:09}\ntests: [{}]": "settings.reportInterval is 0:00:09, want whole seconds from 0:00:10 to 1:00",
		small + "settings: {reportInterval: 1}\ntests: [{}]":       "time 1, want hours and minutes",
		small + "settings: {minDatapoints: -1}\ntests: [{}]":       "settings.minDatapoints is -1, want at least 1",
		"behaviors: [{name: a b, metric: aws:message-byte-size, criteria: {comparisonOperator: less-than, value: {count: 8}}}]\ntests: [{}]":                         "Behaviors[0].Name",
		"behaviors: [{name: a, metric: aws:num-messages-received, criteria: {comparisonOperator: less-than, value: {count: 8}, durationSeconds: 300}}]\ntests: [{}]": "no event for messages that a device receives",
		small + "tests: [{name: t, telemetry: [{at: 0:00, event: connected}]}]":                                                                                      `test "t": telemetry[0]: device: missing`,
		small + "tests: [{name: t, telemetry: [{at: 0:00, device: d, event: gone}]}]":                                                                                `event "gone"`,
		small + "tests: [{name: t, telemetry: [{at: 0:00, device: d, event: connected, times: 3}]}]":                                                                 "times: want",
		small + "tests: [{name: t, telemetry: [{at: 0:00, device: d, event: connected, times: 2000000, every: 0:01}]}]":                                              "at most 1000000",
		small + "tests: [{name: t, alarms: [{at: 0:00, device: d, behavior: other}]}]":                                                                               `no behavior has the name "other"`,
		small + "tests: [{name: t, alarms: [{at: 0:00, device: d, behavior: small, change: on}]}]":                                                                   `change "on"`,
	} {
		if _, err := behaviortest.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\nerror %v, want one that says %q", text, err, want)
		}
	}
}

// YAML reads an unquoted date as a time. Devices report texts.
func TestDatesStayTexts(t *testing.T) {
	s, err := behaviortest.Parse([]byte(`
behaviors: [{name: build, metric: build, criteria: {comparisonOperator: in-set, value: {strings: [2026-11-30]}}}]
tests:
  - name: conforms
    telemetry:
      - {at: 0:01, device: 2026-11-30, report: {header: {report_id: 1, version: "1.0"}, custom_metrics: {build: [{string_list: [2026-11-30]}]}}}
      - {at: 0:02, device: 2026-12-01, report: {header: {report_id: 1, version: "1.0"}, custom_metrics: {build: [{string_list: [2026-12-01]}]}}}
    alarms: [{at: 0:02, device: 2026-12-01, behavior: build}]
`))
	if err != nil {
		t.Fatal(err)
	}
	results, err := s.Run()
	if err != nil || len(results) != 1 || len(results[0].Missing)+len(results[0].Unexpected) > 0 {
		t.Errorf("results %+v, error %v, want the alarm of the second device alone", results, err)
	}
}

func TestClockHasATextForm(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0:00": 0, "0:05": 5 * time.Minute, "27:30": 27*time.Hour + 30*time.Minute, "0:05:10": 5*time.Minute + 10*time.Second, "2d 0:05": 48*time.Hour + 5*time.Minute, "1d1:00": 25 * time.Hour,
	} {
		var c behaviortest.Clock
		if err := json.Unmarshal([]byte(`"`+text+`"`), &c); err != nil || time.Duration(c) != want {
			t.Errorf("%s: %v, error %v, want %v", text, time.Duration(c), err, want)
		}
		var again behaviortest.Clock
		if err := json.Unmarshal([]byte(`"`+c.String()+`"`), &again); err != nil || again != c {
			t.Errorf("%s is written as %s, which is %v, error %v", text, c, again, err)
		}
	}
}

func TestMissingAndUnexpectedAlarms(t *testing.T) {
	suite, err := behaviortest.Parse([]byte(small + `tests:
- name: a
  telemetry: [{at: 0:01, device: d, message: {topic: t, bytes: 9}}, {at: 0:06, device: d, message: {topic: t, bytes: 9}}]
  alarms: [{at: 0:15, device: d, behavior: small, change: alarm-cleared}, {at: 0:01, device: d, behavior: small}]
- name: b
  telemetry: [{at: 0:01, device: d, message: {topic: t, bytes: 9}}]
  alarms: [{at: 0:01, device: e, behavior: small}]
`))
	if err != nil {
		t.Fatal(err)
	}
	results, err := suite.Run()
	if err != nil || len(results) != 2 || results[0].Err() != nil {
		t.Fatalf("results %+v, error %v, want two, the first without an error", results, err)
	}
	if got, want := fmt.Sprint(results[1].Err()), "alarms (- missing, + unexpected):\n- 0:01 e small in-alarm\n+ 0:01 d small in-alarm\n+ 0:10 d small alarm-cleared"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Devices that report each minute send five reports in a window of five minutes.
func TestFrequentReportsAreSummed(t *testing.T) {
	const file = `behaviors: [{name: little-traffic, metric: aws:all-bytes-out, criteria: {comparisonOperator: less-than, value: {count: 100}, durationSeconds: 300}}]
tests:
- name: t
  telemetry: [{at: 0:00, every: 0:01, times: 5, device: d, report: {metrics: {network_stats: {bytes_out: 30}}}}]
`
	for settings, want := range map[string]string{"": "<nil>", "settings: {reportInterval: 0:01}\n": "alarms (- missing, + unexpected):\n+ 0:05 d little-traffic in-alarm"} {
		suite, err := behaviortest.Parse([]byte(settings + file))
		if err != nil {
			t.Fatal(err)
		}
		results, err := suite.Run()
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(results[0].Err()); got != want {
			t.Errorf("%sgot %s, want %s", settings, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("examples/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := behaviortest.Parse(text)
		if err != nil {
			return
		}
		for _, test := range s.Tests {
			for _, e := range test.Telemetry {
				if e.Times > 1000 || time.Duration(e.At) > 1000*time.Hour || time.Duration(e.Every) > 1000*time.Hour {
					return // valid, but slow
				}
			}
			if time.Duration(test.Until) > 1000*time.Hour {
				return
			}
		}
		if _, err := s.Run(); err != nil {
			t.Error(err)
		}
	})
}
