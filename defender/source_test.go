package defender_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/defender"
)

func TestSourcesHaveOneNameEach(t *testing.T) {
	names := map[string]bool{}
	for _, s := range defender.Sources() {
		if got, err := defender.ParseSource(s.String()); got != s || err != nil || names[s.String()] {
			t.Errorf("%s is repeated, or parsed as %v, error %v", s, got, err)
		}
		names[s.String()] = true
	}
	for _, name := range []string{"", "Audit", "Source(0)", "lifecycle"} {
		if s, err := defender.ParseSource(name); err == nil || s.Known() {
			t.Errorf("%q: got %v, want an error", name, s)
		}
	}
	for _, s := range []defender.Source{-1, 0, defender.Source(len(defender.Sources()) + 1)} {
		if s.Known() || s.Severity() != defender.SeverityDefault || s.Clears() {
			t.Errorf("%v is known, or has a severity or clears", s)
		}
	}
}

// TestDocumentedSources compares the table of docs/findings.md with the code.
func TestDocumentedSources(t *testing.T) {
	text, err := os.ReadFile("../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range defender.Sources() {
		var cells []string
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "| `"+s.String()+"`") {
				cells = strings.Split(line, " | ")
				break
			}
		}
		if len(cells) != 5 {
			t.Errorf("%s: no row with five cells", s)
			continue
		}
		if s != defender.AuditNotifications && !strings.HasPrefix(cells[2], s.Severity().String()) {
			t.Errorf("%s: severity %q, the code says %s", s, cells[2], s.Severity())
		}
		if quiet := strings.HasPrefix(cells[4], "quiet time"); quiet == s.Clears() {
			t.Errorf("%s: ends by %q, the code says that the source clears: %t", s, cells[4], s.Clears())
		}
	}
}

func ExampleParseSource() {
	_, err := defender.ParseSource("lifecycle")
	fmt.Println(err)
	// Output: source "lifecycle", want one of rejected-report, security-disconnect, refused-connection, device-event, audit, detect, behavior, correlation
}
