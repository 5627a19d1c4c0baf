package replay

import (
	"strings"
	"testing"
)

func TestFaultsOfAFileWithBehaviors(t *testing.T) {
	const small = `{name: small, metric: aws:message-byte-size, criteria: {comparisonOperator: less-than, value: {count: 8}}}`
	for text, want := range map[string]string{
		"- " + small: "",
		"securityProfileName: p\nbehaviors: [" + small + "]":                      "", // of the AWS CLI
		"tests: []\nsettings: {reportInterval: 0:01}\nbehaviors: [" + small + "]": "",
		"- {name: small, metrics: aws:message-byte-size}":                         `behaviors[0]: unknown field "metrics"`,
		"settings: {reportIntervall: 0:01}\nbehaviors: [" + small + "]":           `unknown field "reportIntervall"`,
		"settings: {reportsEvery: 0:01}\nbehaviors: [" + small + "]":              "settings.reportsEvery is 0:01, want whole minutes from 0:05 to 24:00",
		"test: []\nsettings: {}\nbehaviors: [" + small + "]":                      `unknown field "test"`,
		"behaviors: []": "the file has no behaviors",
	} {
		_, err := parseConfig([]byte(text))
		if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s:\nerror %v, want %q", text, err, want)
		}
	}
}

// FuzzParseConfig reads files with behaviors. No input may panic, and replay can measure each
// accepted one.
func FuzzParseConfig(f *testing.F) {
	for _, seed := range []string{
		`{"behaviors": [{"name": "small", "metric": "aws:message-byte-size", "criteria": {"comparisonOperator": "less-than", "value": {"count": 8}}}]}`,
		"- name: few\n  metric: aws:num-messages-sent\n  criteria: {comparisonOperator: less-than, value: {count: 2}, durationSeconds: 600}",
		`{"profiles": [{"name": "p", "targets": ["thinggroup/0"], "behaviors": []}], "batchSeconds": 10, "membershipMinutes": 10}`,
		"settings: {reportsEvery: 0:01}", "1: 2", "[", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		config, err := parseConfig(text)
		if err != nil {
			return
		}
		if _, err := measuring(config).Compile(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	})
}
