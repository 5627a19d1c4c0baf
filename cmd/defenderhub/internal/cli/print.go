package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/defenderhub/defenderhub/internal/safetext"
)

// Section is a table that a command prints. Its rows are structs with these tags:
//
//	json  the field's name in the output of --json
//	head  the column's heading; without it, only JSON has the field
//	doc   the description of the field in docs/command.md
type Section struct {
	// Name is the section's title and its field in the output of --json. It is empty if the
	// command has only one section, which --json prints as a list.
	Name string
	// Empty is printed to standard error if there are no rows.
	Empty string
	rows  reflect.Value
}

// Rows returns a section of rows.
func Rows[T any](name string, rows []T) Section {
	return Section{Name: name, rows: reflect.ValueOf(rows)}
}

// OrSay returns the section with a text to print if it has no rows.
func (s Section) OrSay(empty string) Section {
	s.Empty = empty
	return s
}

// Field is a field of a section's rows.
type Field struct{ JSON, Heading, Doc string }

// Fields returns the fields of the section's rows.
func (s Section) Fields() []Field {
	var all []Field
	row := s.rows.Type().Elem()
	for i := range row.NumField() {
		tag := row.Field(i).Tag
		all = append(all, Field{tag.Get("json"), tag.Get("head"), tag.Get("doc")})
	}
	return all
}

// Print prints sections as JSON with --json, and as tables on a terminal. Otherwise it prints values
// that are separated by tabs, without headings, with an empty line between two sections.
func (s *Session) Print(sections ...Section) error {
	if s.JSON {
		return s.printJSON(sections)
	}
	for i, section := range sections {
		if section.Empty != "" && section.rows.Len() == 0 {
			s.Say("%s", section.Empty)
		}
		var err error
		if s.Terminal {
			err = s.printTable(section)
		} else {
			if i > 0 {
				fmt.Fprintln(s.Out)
			}
			err = printTabs(s.Out, section)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) printJSON(sections []Section) error {
	values := map[string]any{}
	for _, section := range sections {
		rows := section.rows
		if rows.IsNil() {
			rows = reflect.MakeSlice(rows.Type(), 0, 0)
		}
		values[section.Name] = rows.Interface()
	}
	var value any = values
	if only, ok := values[""]; ok && len(values) == 1 {
		value = only
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := io.WriteString(s.Out, safetext.EscapeJSON(out.String()))
	return err
}

// Stream prints the rows of a section while a command runs, one per line: values that are separated
// by tabs, or JSON objects with --json.
func (s *Session) Stream(section Section) error {
	if !s.JSON {
		return printTabs(s.Out, section)
	}
	for r := range section.rows.Len() {
		text, err := json.Marshal(section.rows.Index(r).Interface())
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(s.Out, safetext.EscapeJSON(string(text))); err != nil {
			return err
		}
	}
	return nil
}

// columns returns the indexes and headings of the fields that are columns.
func columns(section Section) (indexes []int, headings []string) {
	for i, f := range section.Fields() {
		if f.Heading != "" {
			indexes, headings = append(indexes, i), append(headings, f.Heading)
		}
	}
	return indexes, headings
}

func printTabs(out io.Writer, section Section) error {
	indexes, _ := columns(section)
	var b strings.Builder
	for r := range section.rows.Len() {
		for n, i := range indexes {
			if n > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(cell(section.rows.Index(r).Field(i)))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// cell returns a value as escaped text.
func cell(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Time:
		if x.IsZero() {
			return ""
		}
		return x.UTC().Format("2006-01-02T15:04:05Z")
	case fmt.Stringer:
		return safetext.Escape(x.String())
	case []string:
		return safetext.Escape(strings.Join(x, ", "))
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	}
	return safetext.Escape(fmt.Sprint(v.Interface()))
}

// Styled is a value that has a color on terminals.
type Styled interface {
	// Style returns the number of an ANSI style, "" for none.
	Style() string
}

// minColumn is the minimum width of a wrapped column, in characters.
const minColumn = 10

func (s *Session) printTable(section Section) error {
	if section.rows.Len() == 0 {
		return nil
	}
	indexes, headings := columns(section)
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.Options{}
	style.Format = table.FormatOptions{}
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	header := table.Row{}
	widths := make([]int, len(indexes))
	for n, heading := range headings {
		widths[n] = text.StringWidth(heading)
		header = append(header, paint(s.Color, bold, heading))
	}
	for r := range section.rows.Len() {
		for n, i := range indexes {
			widths[n] = max(widths[n], text.StringWidth(cell(section.rows.Index(r).Field(i))))
		}
	}
	narrow(widths, size(s.Out)-2*len(widths))
	t.AppendHeader(header)
	for r := range section.rows.Len() {
		row := table.Row{}
		for n, i := range indexes {
			value := section.rows.Index(r).Field(i)
			shown := wrap(cell(value), widths[n])
			if styled, ok := value.Interface().(Styled); ok {
				shown = paint(s.Color, styled.Style(), shown)
			}
			row = append(row, shown)
		}
		t.AppendRow(row)
	}
	if section.Name != "" {
		fmt.Fprintf(s.Out, "\n%s\n", paint(s.Color, bold, section.Name))
	}
	_, err := fmt.Fprintln(s.Out, t.Render())
	return err
}

// narrow reduces the widest columns until all columns fit, or none is wider than minColumn. available
// is 0 or negative if the width of the output is unknown.
func narrow(widths []int, available int) {
	for available > 0 {
		total, widest := 0, 0
		for i, w := range widths {
			total += w
			if w > widths[widest] {
				widest = i
			}
		}
		if total <= available || widths[widest] <= minColumn {
			return
		}
		widths[widest]--
	}
}

func wrap(s string, width int) string { return text.WrapSoft(s, width) }
