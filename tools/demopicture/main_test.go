package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const output = "installing and compiling\n" +
	"  5.8s   2/19  cdk bootstrap\n" +
	"               … for 8 s, the CDK CLI says: creating changeset...\n" +
	" 51.9s   6/19  narrow the policy <now>, and audit again\n" +
	"               → Security Hub: \x1b[31mCRITICAL\x1b[0m ARCHIVED A_CHECK: A & B\n" +
	"                 │ CRITICAL incident, new\n" +
	"                 │ Device          meter-2\n" +
	"\nSEVERITY  STATE\nHIGH      ACTIVE\n"

func TestPictureHasStepsAndResults(t *testing.T) {
	dir := t.TempDir()
	if err := run([]string{dir}, strings.NewReader(output)); err != nil {
		t.Fatal(err)
	}
	for _, theme := range themes {
		picture := read(t, filepath.Join(dir, "demo"+theme.suffix+".svg"))
		got := lines(t, picture)
		want := []string{"$ make demo", "  5.8s   2/19  cdk bootstrap", " 51.9s   6/19  narrow the policy <now>, and audit again", "               → Security Hub: CRITICAL ARCHIVED A_CHECK: A & B",
			"                 │ CRITICAL incident, new"}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: %q, want %q", "demo"+theme.suffix, got, want)
		}
		if !strings.Contains(picture, `<tspan fill="`+theme.high+`" font-weight="700">CRITICAL</tspan>`) {
			t.Errorf("%s: CRITICAL has no color: %s", "demo"+theme.suffix, picture)
		}
	}
}

func TestPictureNeedsTheDemosOutput(t *testing.T) {
	if err := run([]string{t.TempDir()}, strings.NewReader("make: *** No rule\n")); err == nil || !strings.Contains(err.Error(), "want the output of make demo") {
		t.Errorf("other output: error %v, want one that says want the output of make demo", err)
	}
	if err := run(nil, strings.NewReader(output)); err == nil {
		t.Error("a missing directory argument is no error")
	}
}

func TestPictureOfDoctorHasItsTable(t *testing.T) {
	dir := t.TempDir()
	const printed = "\x1b[1mSTATUS\x1b[0m   CHECK\n\x1b[32mok\x1b[0m       account              account <1>\n\x1b[31mfix\x1b[0m      names                in use\n                              twice\n2 things to fix\n"
	if err := run([]string{"-doctor", dir}, strings.NewReader(printed)); err != nil {
		t.Fatal(err)
	}
	for _, theme := range themes {
		picture := read(t, filepath.Join(dir, "doctor"+theme.suffix+".svg"))
		want := "$ defenderhub doctor --template cdk.out\nSTATUS   CHECK\nok       account              account <1>\nfix      names                in use\n                              twice"
		if got := strings.Join(lines(t, picture), "\n"); got != want || !strings.Contains(picture, `<tspan fill="`+theme.high+`" font-weight="700">fix</tspan>`) {
			t.Errorf("%s: got %q, want %q, with fix in red", "doctor"+theme.suffix, got, want)
		}
	}
}

// If the steps of the demo change, the pictures in docs must change.
func TestPictureInDocsHasTheStepsOfTheDemo(t *testing.T) {
	var source strings.Builder
	files, err := filepath.Glob("../../test/walkthrough/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source.WriteString(read(t, file))
	}
	for _, theme := range themes {
		picture := read(t, filepath.Join("../../docs", "demo"+theme.suffix+".svg"))
		if len(picture) > 40<<10 {
			t.Errorf("%s has %d bytes, want at most 40 KB", "demo"+theme.suffix, len(picture))
		}
		steps := 0
		for _, line := range lines(t, picture) {
			if title := step.ReplaceAllString(line, ""); title != line {
				steps++
				if !strings.Contains(source.String(), `"`+title) {
					t.Errorf("%s shows the step %q, which test/walkthrough does not have: run make demo | (cd tools && go run ./demopicture ../docs)", "demo"+theme.suffix, title)
				}
			}
		}
		if steps < 10 {
			t.Errorf("%s shows %d steps, want at least 10", "demo"+theme.suffix, steps)
		}
	}
}

// lines returns the text of each line of a picture, which must be well-formed XML.
func lines(t *testing.T, picture string) []string {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^<text [^>]*>(.*)</text>$`).FindAllStringSubmatch(picture, -1) {
		var element struct {
			Text string `xml:",chardata"`
		}
		plain := regexp.MustCompile(`</?tspan[^>]*>`).ReplaceAllString(m[1], "")
		if err := xml.Unmarshal([]byte("<text>"+plain+"</text>"), &element); err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.ReplaceAll(element.Text, "\u00a0", " "))
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
