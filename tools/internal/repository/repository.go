// Package repository reads and changes the checkout from which a release is made.
package repository

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Checkout is the directory of a git checkout.
type Checkout string

// Git runs git in the checkout and returns its output, without the last line break.
func (c Checkout) Git(ctx context.Context, args ...string) (string, error) {
	return c.Run(ctx, nil, "git", args...)
}

// Run runs a program in the checkout with additional environment variables. Its error includes
// the program's output.
func (c Checkout) Run(ctx context.Context, env []string, name string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = string(c), append(os.Environ(), env...)
	out, err := command.Output()
	if err != nil {
		printed := string(out)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			printed += string(exit.Stderr)
		}
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, strings.TrimSpace(printed))
	}
	return strings.TrimRight(string(out), "\n"), nil
}

// LastTag returns the newest version tag that HEAD contains, or "" before the first release.
func (c Checkout) LastTag(ctx context.Context) (string, error) {
	tags, err := c.Git(ctx, "tag", "--list", "v[0-9]*", "--merged", "HEAD", "--sort=-version:refname")
	if err != nil {
		return "", err
	}
	tag, _, _ := strings.Cut(tags, "\n")
	return tag, nil
}

// Changelog is the text of CHANGELOG.md.
type Changelog string

const changelogName = "CHANGELOG.md"

// Changelog reads CHANGELOG.md.
func (c Checkout) Changelog() (Changelog, error) {
	text, err := os.ReadFile(filepath.Join(string(c), changelogName))
	return Changelog(text), err
}

// Write writes CHANGELOG.md.
func (c Checkout) Write(text Changelog) error {
	return os.WriteFile(filepath.Join(string(c), changelogName), []byte(text), 0o644)
}

var (
	unreleased = regexp.MustCompile(`(?m)^## Unreleased\n`)
	nextTitle  = regexp.MustCompile(`(?m)^## `)
	breaking   = regexp.MustCompile(`(?ms)^### Breaking\n(.*?)(?:^###? |\z)`)
)

// Unreleased returns the section of changes since the last release.
func (t Changelog) Unreleased() (string, error) {
	at := unreleased.FindStringIndex(string(t))
	if at == nil {
		return "", errors.New(`CHANGELOG.md has no section "## Unreleased"`)
	}
	section := string(t[at[1]:])
	if end := nextTitle.FindStringIndex(section); end != nil {
		section = section[:end[0]]
	}
	return section, nil
}

// Breaks reports whether the unreleased section lists a breaking change.
func (t Changelog) Breaks() (bool, error) {
	section, err := t.Unreleased()
	if err != nil {
		return false, err
	}
	found := breaking.FindStringSubmatch(section)
	return found != nil && listed(found[1]), nil
}

// listed reports whether text has an entry: a list item or a table.
func listed(text string) bool { return regexp.MustCompile(`(?m)^(- |\|)`).MatchString(text) }

// Release returns the changelog in which the unreleased changes are in a section of the version, below
// a new, empty section "Unreleased". It returns an error if there is no unreleased change.
func (t Changelog) Release(version, date string) (Changelog, error) {
	section, err := t.Unreleased()
	if err != nil {
		return "", err
	}
	if !listed(section) {
		return "", errors.New(`CHANGELOG.md lists nothing below "## Unreleased": list the changes for users there`)
	}
	at := unreleased.FindStringIndex(string(t))
	return t[:at[1]] + "\nNothing yet.\n\n" + Changelog("## "+version+" ("+date+")\n") + t[at[1]:], nil
}
