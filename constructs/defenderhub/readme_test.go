package defenderhub_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// README's first Go snippet is Example, character for character, so that a compiler sees
// what a reader copies.
func TestReadmeShowsTheExample(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	body := regexp.MustCompile(`(?s)\nfunc Example\(\) \{\n(.*?)\n\}\n`).FindSubmatch(source)
	if body == nil {
		t.Fatal("no func Example in example_test.go")
	}
	want := strings.ReplaceAll("\n"+string(body[1]), "\n\t", "\n") + "\n"
	if snippet := "```go" + want + "```"; !strings.Contains(string(readme), snippet) {
		t.Errorf("README.md lacks the body of Example:\n%s", snippet)
	}
}
