package offline

import "testing"

func TestYAMLAndJSON(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "null",
		"# a comment":                     "null",
		"a: [2026-11-30, 1, 0:05]":        `{"a":["2026-11-30",1,"0:05"]}`,
		"2026-11-30: 2026-11-30 12:00:00": `{"2026-11-30":"2026-11-30 12:00:00"}`,
		"a: &d 2026-11-30\nb: *d":         `{"a":"2026-11-30","b":"2026-11-30"}`,
		`{"a": "2026-11-30"}`:             `{"a":"2026-11-30"}`,
	} {
		if got, err := JSON([]byte(text)); err != nil || string(got) != want {
			t.Errorf("%q: got %s, error %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"[", "1: 2", "a: b: c"} {
		if got, err := JSON([]byte(text)); err == nil {
			t.Errorf("%q: got %s, want an error", text, got)
		}
	}
}
