// Command demopicture draws the output of a program as a terminal, light and dark, for README.
//
//	make demo | (cd tools && go run ./demopicture ../docs)
//	defenderhub doctor --template cdk.out | (cd tools && go run ./demopicture -doctor ../docs)
//
// The second command needs the output on a terminal of 118 columns, as script(1) records it.
package main

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The dimensions of the picture in pixels. A monospaced character is 0.6 times as wide as high.
const (
	fontSize   = 12
	lineHeight = 17
	charWidth  = 7.25
	margin     = 16
	titleBar   = 32
)

type theme struct{ suffix, background, bar, text, dim, high, ended string }

var themes = []theme{
	{"", "#ffffff", "#f6f8fa", "#1f2328", "#59636e", "#cf222e", "#1a7f37"},
	{"-dark", "#0d1117", "#161b22", "#e6edf3", "#9198a1", "#ff7b72", "#3fb950"},
}

func main() {
	if err := run(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "demopicture:", err)
		os.Exit(1)
	}
}

// picture draws the lines for which keep reports true. Words have colors in lines for which paints
// reports true.
type picture struct {
	name, command string
	keep, paints  func(line string) bool
	words         *regexp.Regexp
}

var (
	demo = picture{"demo", "make demo", func(line string) bool { return step.MatchString(line) || result.MatchString(line) }, result.MatchString, regexp.MustCompile(`\b(?:CRITICAL|HIGH)\b|\bARCHIVED\b`)}
	// doctor is the table of defenderhub doctor, whose first column has colors.
	doctor = picture{"doctor", "defenderhub doctor --template cdk.out", func(line string) bool { return table.MatchString(line) }, func(string) bool { return true }, regexp.MustCompile(`^(?:fix|ok)\b`)}
)

func run(args []string, output io.Reader) error {
	p := demo
	if len(args) > 0 && args[0] == "-doctor" {
		p, args = doctor, args[1:]
	}
	if len(args) != 1 {
		return errors.New("want one argument, the directory of the pictures; the output is read from standard input")
	}
	lines, err := p.lines(output)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		return fmt.Errorf("standard input has nothing to draw: want the output of %s", p.command)
	}
	for _, t := range themes {
		if err := os.WriteFile(filepath.Join(args[0], p.name+t.suffix+".svg"), []byte(p.draw(lines, t)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

var (
	color  = regexp.MustCompile("\x1b\\[[0-9;]*m")
	step   = regexp.MustCompile(`^ *\d+\.\d+s +\d+/\d+  `)
	result = regexp.MustCompile(`^ +(→ |│ [A-Z]+ incident, )`) // only the first line of a message
	table  = regexp.MustCompile(`^(?:STATUS|ok|fix|note|unknown) +\S|^ {20,}\S`)
)

// lines returns the lines of the output that are drawn.
func (p picture) lines(output io.Reader) ([]string, error) {
	var lines []string
	scanner := bufio.NewScanner(output)
	for scanner.Scan() {
		line := strings.TrimRight(color.ReplaceAllString(scanner.Text(), ""), " \r")
		if p.keep(line) {
			lines = append(lines, line)
		}
	}
	return lines, scanner.Err()
}

func (p picture) draw(lines []string, t theme) string {
	longest := 0
	for _, line := range lines {
		longest = max(longest, utf8.RuneCountInString(line))
	}
	width := int(float64(longest)*charWidth) + 2*margin
	height := titleBar + len(lines)*lineHeight + 2*margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="the output of %s">`+"\n", width, height, width, height, p.command)
	fmt.Fprintf(&b, `<rect x=".5" y=".5" width="%d" height="%d" rx="8" fill="%s" stroke="%s" stroke-opacity=".4"/>`+"\n", width-1, height-1, t.background, t.dim)
	fmt.Fprintf(&b, `<path d="M1 %d V9 a8 8 0 0 1 8 -8 H%d a8 8 0 0 1 8 8 V%d z" fill="%s"/>`+"\n", titleBar, width-9, titleBar, t.bar)
	fmt.Fprintf(&b, `<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,monospace" font-size="%d" fill="%s" xml:space="preserve">`+"\n", fontSize, t.text)
	fmt.Fprintf(&b, `<text x="%d" y="21" fill="%s">$ %s</text>`+"\n", margin, t.dim, p.command)
	for i, line := range lines {
		y := titleBar + margin + lineHeight/2 + i*lineHeight + 2
		fill := ""
		if result.MatchString(line) {
			fill = fmt.Sprintf(` fill="%s"`, t.dim)
		}
		// An explicit length keeps columns aligned with any font.
		fmt.Fprintf(&b, `<text x="%d" y="%d" textLength="%.0f"%s>%s</text>`+"\n", margin, y, float64(utf8.RuneCountInString(line))*charWidth, fill, p.colored(line, t))
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

// colored returns a line as SVG text.
func (p picture) colored(line string, t theme) string {
	var escaped strings.Builder
	xml.EscapeText(&escaped, []byte(strings.ReplaceAll(line, " ", "\u00a0")))
	if !p.paints(line) {
		return escaped.String()
	}
	return p.words.ReplaceAllStringFunc(escaped.String(), func(w string) string {
		fill, weight := t.high, ` font-weight="700"`
		if w == "ARCHIVED" || w == "ok" {
			fill, weight = t.ended, ""
		}
		return fmt.Sprintf(`<tspan fill="%s"%s>%s</tspan>`, fill, weight, w)
	})
}
