package defenderhub_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// README's Go snippets are Examples, character for character, so that a compiler sees what
// a reader copies.
func TestReadmeShowsTheExamples(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Example", "Example_selfManaged"} {
		body := regexp.MustCompile(`(?s)\nfunc ` + name + `\(\) \{\n(.*?)\n\}\n`).FindSubmatch(source)
		if body == nil {
			t.Fatalf("no func %s in example_test.go", name)
		}
		want := strings.ReplaceAll("\n"+string(body[1]), "\n\t", "\n") + "\n"
		if snippet := "```go" + want + "```"; !strings.Contains(string(readme), snippet) {
			t.Errorf("README.md lacks the body of %s:\n%s", name, snippet)
		}
	}
	// The third is a snapshot test, which the consumer module runs.
	if got := strings.Count(string(readme), "```go\n"); got != 3 {
		t.Errorf("README.md shows %d Go snippets, of which 3 are compiled", got)
	}
}
