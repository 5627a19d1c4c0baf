package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/tools/internal/repository"
)

const source = "package hub\n\n// Answer answers.\nfunc Answer() int { return 42 }\n"

// newCheckout returns a committed module, with the tag v0.1.0 if tagged.
func newCheckout(t *testing.T, tagged bool) repository.Checkout {
	t.Helper()
	for _, role := range []string{"AUTHOR", "COMMITTER"} {
		t.Setenv("GIT_"+role+"_NAME", "Somebody")
		t.Setenv("GIT_"+role+"_EMAIL", "somebody@example.com")
	}
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	c := repository.Checkout(t.TempDir())
	write(t, c, "go.mod", "module example.com/hub\n\ngo 1.26.0\n")
	write(t, c, "hub.go", source)
	write(t, c, "CHANGELOG.md", "## Unreleased\n\n### Breaking\n\nNothing.\n\n### New\n\n- More.\n")
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "--all"}, {"commit", "--quiet", "-m", "Begin"}} {
		if _, err := c.Git(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	if tagged {
		if _, err := c.Git(t.Context(), "tag", "v0.1.0"); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func write(t *testing.T, c repository.Checkout, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(string(c), name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestBreakingChangeNeedsItsLineInTheChangelog(t *testing.T) {
	const (
		removed = "package hub\n"
		added   = source + "\n// More is more.\nfunc More() {}\n"
		listed  = "## Unreleased\n\n### Breaking\n\n- `Answer` is removed.\n\n## v0.1.0\n"
	)
	for name, tt := range map[string]struct {
		source, changelog string
		tagged            bool
		want              string
	}{
		"unchanged":                 {source: source, tagged: true},
		"added":                     {source: added, tagged: true},
		"removed":                   {source: removed, tagged: true, want: "Answer: removed"},
		"removed and listed":        {source: removed, changelog: listed, tagged: true},
		"before the first tag":      {source: removed},
		"listed in another release": {source: removed, changelog: "## Unreleased\n\n## v0.1.0\n\n### Breaking\n\n- Everything.\n", tagged: true, want: "Answer: removed"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCheckout(t, tt.tagged)
			write(t, c, "hub.go", tt.source)
			if tt.changelog != "" {
				write(t, c, "CHANGELOG.md", tt.changelog)
			}
			err := check(t.Context(), c, "../go.mod")
			if got := err == nil; got != (tt.want == "") || !got && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that says %q", err, tt.want)
			}
			if worktrees, err := c.Git(t.Context(), "worktree", "list"); err != nil || strings.Contains(worktrees, "\n") {
				t.Errorf("worktrees:\n%s, error %v, want the checkout alone", worktrees, err)
			}
		})
	}
}
