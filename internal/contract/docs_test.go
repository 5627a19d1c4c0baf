package contract_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The page must document every metric.
func TestOperationsPageNamesEveryMetric(t *testing.T) {
	page := read(t, "../../docs/operations.md")
	file, err := parser.ParseFile(token.NewFileSet(), "contract.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Metric") {
			return true
		}
		name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found++
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/operations.md lacks `%s`", name)
		}
		return true
	})
	if found < 20 {
		t.Errorf("%d metrics found, want at least 20: the source was not read", found)
	}
}

// The page must document every warning.
func TestOperationsPageHasEveryLogLine(t *testing.T) {
	_, page, found := strings.Cut(read(t, "../../docs/operations.md"), "\n## What the logs say\n")
	if !found {
		t.Fatal("docs/operations.md has no section about the logs")
	}
	lines := 0
	err := filepath.WalkDir("../../lambda", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range regexp.MustCompile(`Log\.(?:Warn|Error)\("([^"]+)"`).FindAllStringSubmatch(read(t, path), -1) {
			lines++
			if !strings.Contains(page, "`"+m[1]+"`") {
				t.Errorf("%s logs %q, which docs/operations.md does not explain", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if lines < 20 {
		t.Errorf("%d log lines found, want at least 20: the source was not read", lines)
	}
}

// One of our functions must write each log line that the pages quote.
func TestQuotedLogLinesAreWritten(t *testing.T) {
	var source strings.Builder
	for _, dir := range []string{"../../lambda/internal/*", "../../lambda/internal/*/*", "../engine"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !strings.HasSuffix(f, "_test.go") {
				source.WriteString(read(t, f))
			}
		}
	}
	quotes := []string{
		"silence is not judged: telemetry waits, and no evaluator reports its progress", "sender is not known and is not judged",
		"lifecycle event was published by another client than the one it is about", "start an on-demand audit of ", "environment variable ",
	}
	page := read(t, "../../docs/troubleshooting.md")
	for _, q := range quotes {
		if !strings.Contains(page, "`"+q) {
			t.Errorf("docs/troubleshooting.md does not quote %q", q)
		}
	}
	for _, q := range regexp.MustCompile(`\*([a-z][a-z ]+)\*`).FindAllStringSubmatch(read(t, "../../docs/operations.md"), -1) {
		quotes = append(quotes, q[1])
	}
	if len(quotes) < 7 {
		t.Errorf("quotes %q, want at least 7", quotes)
	}
	for _, q := range quotes {
		if !strings.Contains(source.String(), `"`+q) {
			t.Errorf("no function writes the quoted log line %q", q)
		}
	}
}
