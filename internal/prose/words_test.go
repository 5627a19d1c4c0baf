package prose_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxWords limits the words in a sentence of the docs.
const maxWords = 35

type ban struct {
	phrase  *regexp.Regexp
	instead string
}

// bans returns the phrases that are banned everywhere, and those that are banned in docs, which include
// the first.
func bans(t *testing.T) (everywhere, docs []ban) {
	t.Helper()
	var all []ban
	for line := range strings.Lines(read(t, "words.txt")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if line == "[docs]" {
			everywhere = slices.Clip(all)
			continue
		}
		phrase, instead, found := strings.Cut(line, " => ")
		if !found {
			t.Fatalf("words.txt: %q has no replacement", line)
		}
		all = append(all, ban{regexp.MustCompile("(?i)" + phrase), instead})
	}
	if len(everywhere) < 10 || len(all) <= len(everywhere) {
		t.Fatalf("%d phrases, %d of them banned everywhere, want at least 10, and more for docs", len(all), len(everywhere))
	}
	return everywhere, all
}

// text is a piece of prose and its position.
type text struct{ at, words string }

func TestDocsAreInPlainEnglish(t *testing.T) {
	_, banned := bans(t)
	for _, page := range pages(t) {
		for i, paragraph := range strings.Split(prose(read(t, page)), "\n") {
			check(t, banned, text{position(page, i+1), paragraph})
			for _, sentence := range sentences(paragraph) {
				if n := len(strings.Fields(sentence)); n > maxWords {
					t.Errorf("%s: a sentence of %d words, want at most %d: %s", position(page, i+1), n, maxWords, sentence)
				}
			}
		}
	}
}

// others are the extensions of other sources. Their lines are read whole.
var others = map[string]bool{".js": true, ".py": true, ".sh": true, ".yml": true, ".yaml": true, ".html": true}

func TestCodeIsInPlainEnglish(t *testing.T) {
	banned, _ := bans(t)
	files := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") && name != ".github" && name != ".ci" || name == "node_modules" || name == "testdata" || name == "cdk.out") {
				return filepath.SkipDir
			}
			return nil
		}
		switch {
		case strings.HasSuffix(name, ".go"):
			files++
			for _, piece := range proseOf(t, path) {
				check(t, banned, piece)
			}
		case others[filepath.Ext(name)], name == "Makefile":
			for i, line := range strings.Split(read(t, path), "\n") {
				check(t, banned, text{position(path, i+1), line})
			}
		}
		return nil
	})
	if err != nil || files < 50 {
		t.Fatalf("%d files read, error %v, want at least 50", files, err)
	}
}

// proseOf returns the prose of a Go file: comments, string literals and names of tests.
func proseOf(t *testing.T, path string) []text {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	at := func(p token.Pos) string { return position(path, set.Position(p).Line) }
	var all []text
	for _, group := range file.Comments {
		all = append(all, text{at(group.Pos()), strings.Join(strings.Fields(group.Text()), " ")})
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if n.Kind == token.STRING && strings.Contains(n.Value, " ") {
				all = append(all, text{at(n.Pos()), n.Value})
			}
		case *ast.FuncDecl:
			if strings.HasPrefix(n.Name.Name, "Test") {
				all = append(all, text{at(n.Pos()), words(n.Name.Name)})
			}
		}
		return true
	})
	return all
}

// words splits the name of a test: "TestNothingIsLost" is "Test Nothing Is Lost".
func words(name string) string {
	return regexp.MustCompile(`([a-z0-9])([A-Z])`).ReplaceAllString(name, "$1 $2")
}

// awsText is a message of CloudFormation, which the local AWS returns.
const awsText = "No updates are to be performed"

func check(t *testing.T, banned []ban, piece text) {
	t.Helper()
	words := strings.ReplaceAll(piece.words, awsText, "")
	for _, b := range banned {
		if found := b.phrase.FindString(words); found != "" {
			t.Errorf("%s: %q reads as translated: write %s", piece.at, found, b.instead)
		}
	}
}

func position(path string, line int) string {
	return relative(path) + ":" + strconv.Itoa(line)
}

// relative returns a path without the root of the repository.
func relative(path string) string {
	path, _ = strings.CutPrefix(filepath.ToSlash(path), root+"/")
	return path
}

var (
	code      = regexp.MustCompile("`[^`]*`")
	target    = regexp.MustCompile(`\]\([^)]*\)`)
	tag       = regexp.MustCompile(`<[^>]+>`)
	separator = regexp.MustCompile(`([.!?])["')]*\s+|\s*\|\s*|<br>`)
)

// prose returns a page without the lines of code blocks, and with the word "code" for inline code.
func prose(page string) string {
	page = fence.ReplaceAllStringFunc(page, func(block string) string { return strings.Repeat("\n", strings.Count(block, "\n")) })
	return tag.ReplaceAllString(target.ReplaceAllString(code.ReplaceAllString(page, "code"), "]"), " ")
}

// sentences splits a line at the ends of sentences, at the cells of a table and at <br>.
func sentences(line string) []string { return separator.Split(line, -1) }

var (
	section = regexp.MustCompile(`(?m)^## `)
	priced  = regexp.MustCompile(`(?m)^\|.*\bUSD\b`)
	dated   = regexp.MustCompile(`(?i)list prices?[^.\n]* 20\d\d-\d\d[^.\n]*check the AWS pages?`)
)

// Prices change, so a section with a table of prices must state their month and refer to AWS's pages.
func TestTablesOfPricesAreDated(t *testing.T) {
	tables := 0
	for _, page := range pages(t) {
		for _, s := range section.Split(fence.ReplaceAllString(read(t, page), ""), -1) {
			if !priced.MatchString(s) {
				continue
			}
			tables++
			if !dated.MatchString(s) {
				title, _, _ := strings.Cut(s, "\n")
				t.Errorf("%s, section %q: a table with USD, want \"list prices of us-east-1, 2026-11, check the AWS pages\" there", page, title)
			}
		}
	}
	if tables < 5 {
		t.Errorf("%d sections with prices found, want at least 5", tables)
	}
}
