package replay

import "testing"

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
