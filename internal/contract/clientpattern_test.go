package contract_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

func TestClientPatternNamesTheThing(t *testing.T) {
	for _, row := range []struct{ pattern, client, want string }{
		{"", "pump-7#2", "pump-7"},
		{"", "pump-7#17", "pump-7"},
		{"", "plant:pump_7#2", "plant:pump_7"},
		{"", "pump-7", ""},
		{"", "pump-7#", ""},
		{"", "pump-7#2a", ""},
		{"", "#2", ""},
		{"", "pump-7#2#3", ""},
		{"", "pump 7#2", ""},
		{"", "x/pump-7#2", ""},
		{"", "pump-7#2\n", ""},
		{"", strings.Repeat("a", 129) + "#2", ""},
		{`(.+)-(?:agent|app)`, "pump-7-agent", "pump-7"},
		{`(.+)-(?:agent|app)`, "pump-7-agent-2", ""},
		{`(.+)-agent|app`, "app", ""}, // the capture is empty
		{`(.+?)(?:_[0-9a-f]{8})?`, "pump-7_0123abcd", "pump-7"},
		{`(.+?)(?:_[0-9a-f]{8})?`, "pump-7", ""}, // the name itself needs no pattern
		{`agent/(.+)`, "agent/pump-7", "pump-7"},
		{`agent/(.+)`, "agent/pump/7", ""},
	} {
		p, err := contract.ParseClientPattern(row.pattern)
		if err != nil {
			t.Fatalf("%s: %v", row.pattern, err)
		}
		if got := p.Thing(row.client); got != row.want {
			t.Errorf("pattern %q, client ID %q: thing %q, want %q", row.pattern, row.client, got, row.want)
		}
	}
	if got := (contract.ClientPattern{}).Thing("pump-7#2"); got != "" {
		t.Errorf("the zero value maps pump-7#2 to %q, want no thing", got)
	}
}

func TestInvalidClientPatternsAreErrors(t *testing.T) {
	for pattern, want := range map[string]string{
		`.+#[0-9]+`:                  "one capture, the thing's name",
		`(.+)#([0-9]+)`:              "not 2; (?:...) groups without capturing",
		`(.+#[0-9]+`:                 "missing closing )",
		`a)(b`:                       "unexpected )",
		`(.+)(?=#)`:                  "invalid or unsupported Perl syntax",
		strings.Repeat("a", 300):     "at most 256 bytes",
		`(.+)#` + `(?:a{900}){900}b`: "a regular expression",
	} {
		_, err := contract.ParseClientPattern(pattern)
		var field *defender.FieldError
		if !errors.As(err, &field) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want a FieldError that says %q", pattern, err, want)
		}
	}
}

func FuzzClientPattern(f *testing.F) {
	f.Add("", "pump-7#2")
	f.Add(`(.+)-agent`, "pump-7-agent")
	f.Fuzz(func(t *testing.T, pattern, client string) {
		p, err := contract.ParseClientPattern(pattern)
		if err != nil {
			return
		}
		if thing := p.Thing(client); thing == client && thing != "" || !strings.Contains(client, thing) {
			t.Errorf("pattern %q, client ID %q: thing %q, want a shorter part of the client ID", pattern, client, thing)
		}
	})
}
