package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/cli"
)

var update = flag.Bool("update", false, "write the fields of all commands to docs/command.md")

const page = "../../docs/command.md"

// TestDocsListTheFields compares the tables of fields in docs/command.md, between the comments
// "fields: NAME" and "end", with the rows that the commands print.
func TestDocsListTheFields(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	written := string(text)
	for _, c := range commands() {
		c.Walk(func(name string, c *cli.Command) {
			if c.Run == nil {
				return
			}
			if !strings.Contains(written, "`defenderhub "+name) {
				t.Errorf("%s does not describe defenderhub %s", page, name)
			}
			if c.Output == nil {
				return
			}
			part := regexp.MustCompile(`(?s)<!-- fields: ` + name + ` -->\n.*?<!-- end -->`)
			if !part.MatchString(written) {
				t.Errorf("%s has no <!-- fields: %s --> and <!-- end -->", page, name)
				return
			}
			want := "<!-- fields: " + name + " -->\n" + fields(c) + "<!-- end -->"
			if *update {
				written = part.ReplaceAllLiteralString(written, want)
			} else if got := part.FindString(written); got != want {
				t.Errorf("%s: the fields of %s are\n%s\nwant\n%s\nRun: go test . -update", page, name, got, want)
			}
		})
	}
	if *update {
		if err := os.WriteFile(page, []byte(written), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fields returns the tables of the fields that a command prints.
func fields(c *cli.Command) string {
	var b strings.Builder
	for _, section := range c.Output {
		if section.Name != "" {
			fmt.Fprintf(&b, "`%s`:\n\n", section.Name)
		}
		b.WriteString("| field | column | is |\n|---|---|---|\n")
		for _, f := range section.Fields() {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.JSON, f.Heading, f.Doc)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// TestCommandsAreComplete checks that each command has help, an example, and valid fields and
// actions.
func TestCommandsAreComplete(t *testing.T) {
	for _, c := range commands() {
		c.Walk(func(name string, c *cli.Command) {
			if c.Short == "" || strings.HasSuffix(c.Short, ".") {
				t.Errorf("%s: the short help %q is empty or ends with a period", name, c.Short)
			}
			if c.Run == nil {
				return
			}
			if !strings.Contains(c.Example, "defenderhub "+name) {
				t.Errorf("%s: no example", name)
			}
			for _, section := range c.Output {
				for _, f := range section.Fields() {
					if !regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`).MatchString(f.JSON) || f.Doc == "" {
						t.Errorf("%s: the field %+v lacks a name or a description", name, f)
					}
				}
			}
			for _, s := range c.Policy {
				for _, action := range s.Actions {
					if !regexp.MustCompile(`^[a-z0-9-]+:[A-Z][A-Za-z0-9]+$`).MatchString(action) {
						t.Errorf("%s: the action %q is not one action", name, action)
					}
				}
			}
		})
	}
}

// TestReferencesExist holds the texts of the command to the pages that they name: a page exists, and has
// the heading or the alarm that the text says is in it. Context keys are in docs/settings.md.
func TestReferencesExist(t *testing.T) {
	read := func(page string) string {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	settings := read("settings.md")
	pages := regexp.MustCompile(`(?:\\?"([^"\n]+?)\\?" in |see ([A-Z][A-Za-z]+) in )?\bdocs/([a-z-]+\.md)`)
	keys := regexp.MustCompile(`defenderhub:([a-z]+-[a-z-]+[a-z])`)
	references := 0
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range pages.FindAllStringSubmatch(string(source), -1) {
			references++
			text := read(m[3])
			if heading := m[1]; heading != "" && !strings.Contains(text, "# "+heading+"\n") {
				t.Errorf("%s: docs/%s has no heading %q", path, m[3], heading)
			}
			if alarm := m[2]; alarm != "" && !strings.Contains(text, "*"+alarm+"*") {
				t.Errorf("%s: docs/%s does not describe %s", path, m[3], alarm)
			}
		}
		for _, m := range keys.FindAllStringSubmatch(string(source), -1) {
			references++
			if !strings.Contains(settings, "`defenderhub:"+m[1]+"`") {
				t.Errorf("%s: docs/settings.md does not describe defenderhub:%s", path, m[1])
			}
		}
		return nil
	})
	if err != nil || references < 10 {
		t.Errorf("%d references, error %v", references, err)
	}
}
