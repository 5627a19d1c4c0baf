package defenderhub_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each Go snippet of README and the docs is the body of an Example, so that the compiler checks it.
func TestDocsShowTheExamples(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, file := range append(files, "../../README.md") {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pages[filepath.Base(file)] = string(page)
		shown += strings.Count(string(page), "```go\n")
	}
	for name, page := range map[string]string{"Example": "README.md", "Example_selfManaged": "embedding.md", "Example_parts": "embedding.md", "Example_suppressions": "findings.md", "Example_correlate": "embedding.md", "Example_notify": "notify.md", "Example_manyAccounts": "planning.md", "Example_campaignOfALargeFleet": "planning.md"} {
		body := regexp.MustCompile(`(?s)\nfunc ` + name + `\(\) \{\n(.*?)\n\}\n`).FindSubmatch(source)
		if body == nil {
			t.Fatalf("no func %s in example_test.go", name)
		}
		want := strings.ReplaceAll("\n"+string(body[1]), "\n\t", "\n") + "\n"
		if snippet := "```go" + want + "```"; !strings.Contains(pages[page], snippet) {
			t.Errorf("%s lacks the body of %s:\n%s", page, name, snippet)
		}
	}
	// The ninth snippet is a snapshot test. The consumer module runs it.
	if shown != 9 {
		t.Errorf("README.md and docs/ show %d Go snippets, of which 9 are compiled", shown)
	}
}
