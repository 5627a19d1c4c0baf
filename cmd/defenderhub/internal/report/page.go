package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/safetext"
)

//go:embed page.html
var pageText string

// page writes text of devices only through html/template, which escapes it for its context, and safe,
// which shows control characters as escapes.
var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"safe":   safetext.Escape,
	"bars":   bars,
	"table":  func(name string, rows []row) table { return table{name, labels, rows} },
	"span":   span,
	"day":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") },
	"usd":    func(v float64) string { return fmt.Sprintf("%.2f", v) },
	"active": func(s asff.RecordState) bool { return s == asff.Active },
	"class":  strings.ToLower,
	"whole":  func(v float64) string { return fmt.Sprintf("%.0f", v) },
}).Parse(pageText))

// write writes the page.
func write(out io.Writer, d data) error { return page.Execute(out, summarize(d)) }

// table is the table of a chart.
type table struct {
	Name   string
	Labels []string
	Rows   []row
}

// chart is a chart of stacked bars.
type chart struct {
	Title         string
	Width, Height int
	Columns       bool // vertical bars from left to right, otherwise horizontal bars
	Bars          []bar
	Top           int // the largest total
}

type bar struct {
	Name           string
	Total          int
	X, Y           float64 // of the bar's own group
	LabelX, LabelY float64
	Parts          []part
	Labeled        bool
}

type part struct {
	Label               string
	Count               int
	X, Y, Width, Height float64
}

// The sizes in charts, in units of the view box. nameRunes is the maximum length of a name.
const (
	chartWidth  = 720
	plotHeight  = 180
	labelHeight = 24
	rowHeight   = 24
	barHeight   = 14
	nameWidth   = 260
	countWidth  = 50
	nameRunes   = 38
)

// bars returns the chart of rows: one column per row, or one line per row.
func bars(title string, columns bool, rows []row) chart {
	c := chart{Title: title, Width: chartWidth, Columns: columns, Height: plotHeight + labelHeight, Top: 1}
	if !columns {
		c.Height = rowHeight * max(1, len(rows))
	}
	for _, r := range rows {
		c.Top = max(c.Top, r.Total())
	}
	slot := float64(chartWidth) / float64(max(1, len(rows)))
	every := max(1, (len(rows)+9)/10) // labels of at most ten columns
	for i, r := range rows {
		b := bar{Name: r.Name, Total: r.Total(), Labeled: i%every == 0}
		offset := 0.0
		for j, n := range r.Counts {
			p := part{Label: labels[j], Count: n}
			if columns {
				p.Height = plotHeight * float64(n) / float64(c.Top)
				p.Width, p.X, p.Y = slot*0.8, float64(i)*slot+slot*0.1, plotHeight-offset-p.Height
				offset += p.Height
			} else {
				p.Width = (chartWidth - nameWidth - countWidth) * float64(n) / float64(c.Top)
				p.Height, p.X, p.Y = barHeight, nameWidth+offset, float64(i*rowHeight+(rowHeight-barHeight)/2)
				offset += p.Width
			}
			if n > 0 {
				b.Parts = append(b.Parts, p)
			}
		}
		b.LabelX, b.LabelY = nameWidth+offset+6, float64(i*rowHeight)+rowHeight*0.7
		if columns {
			b.LabelX, b.LabelY = float64(i)*slot+slot*0.1, plotHeight+labelHeight*0.7
			b.Name = strings.TrimPrefix(r.Name, "20") // the year in two digits
		}
		c.Bars = append(c.Bars, b)
	}
	return c
}

// Short returns the name, shortened to nameRunes characters.
func (b bar) Short() string {
	text := []rune(safetext.Escape(b.Name))
	if len(text) > nameRunes {
		return string(text[:nameRunes-1]) + "…"
	}
	return string(text)
}
