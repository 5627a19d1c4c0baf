package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/defenderhub/defenderhub/cmd/defenderhub/internal/hub"
	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/asff"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// labels are the severities, the most severe first.
var labels = []string{defender.Critical.String(), defender.High.String(), defender.Medium.String(), defender.Low.String(), defender.Informational.String()}

// row is a row of a table, and a bar of its chart: one number per severity.
type row struct {
	Name   string
	Counts []int // in the order of labels
}

// Total returns the sum of the counts.
func (r row) Total() int {
	n := 0
	for _, c := range r.Counts {
		n += c
	}
	return n
}

// tally counts findings by name and severity.
type tally map[string][]int

func (t tally) add(name string, s defender.Severity) {
	if t[name] == nil {
		t[name] = make([]int, len(labels))
	}
	if i := slices.Index(labels, s.String()); i >= 0 {
		t[name][i]++
	}
}

// most returns the n rows with the most findings of the highest severity. If rows are equal, the next
// severity decides, and so on.
func (t tally) most(n int) []row {
	rows := t.rows()
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(slices.Compare(b.Counts, a.Counts), cmp.Compare(a.Name, b.Name)) })
	return rows[:min(n, len(rows))]
}

func (t tally) rows() []row {
	var rows []row
	for _, name := range slices.Sorted(maps.Keys(t)) {
		rows = append(rows, row{name, t[name]})
	}
	return rows
}

// pace is how fast the findings of one kind were cleared.
type pace struct {
	Name         string
	Cleared      int
	Median, Slow time.Duration // of the cleared ones; Slow is the 90th percentile
	Open         int
	OldestOpen   time.Duration
}

// charge is a line of the cost.
type charge struct {
	What      string
	Count     float64
	Low, High float64 // USD
}

// summary is what the page shows.
type summary struct {
	data
	Labels    []string
	Active    []int // in the order of Labels
	Cleared   int
	ByDay     []row
	ByKind    []row
	Devices   []row
	Paces     []pace
	Incidents []hub.Finding
	Charges   []charge
	Low, High float64
}

// standOut is how many devices, checks and behaviors the page shows.
const standOut = 15

func summarize(d data) summary {
	s := summary{data: d, Labels: labels, Active: make([]int, len(labels))}
	days, kinds, devices := tally{}, tally{}, tally{}
	for day := d.Since; !day.After(d.Now); day = day.AddDate(0, 0, 1) {
		days[day.Format(time.DateOnly)] = make([]int, len(labels))
	}
	durations := map[string][]time.Duration{}
	paces := map[string]*pace{}
	for _, f := range d.Findings {
		if f.Rule != "" {
			s.Incidents = append(s.Incidents, f)
		}
		kind := cmp.Or(f.Check, f.Behavior, f.Rule, f.Source)
		p := paces[kind]
		if p == nil {
			p = &pace{Name: kind}
			paces[kind] = p
		}
		if !f.CreatedAt.Before(d.Since) {
			days.add(f.CreatedAt.Format(time.DateOnly), f.Severity)
		}
		if f.RecordState == asff.Archived {
			s.Cleared++
			durations[kind] = append(durations[kind], max(0, f.Order.Updated.Sub(f.CreatedAt)))
			continue
		}
		if i := slices.Index(labels, f.Severity.String()); i >= 0 {
			s.Active[i]++
		}
		kinds.add(kind, f.Severity)
		devices.add(f.Device, f.Severity)
		p.Open++
		p.OldestOpen = max(p.OldestOpen, d.Now.Sub(f.CreatedAt))
	}
	for _, p := range paces {
		all := durations[p.Name]
		slices.Sort(all)
		if p.Cleared = len(all); p.Cleared > 0 {
			p.Median, p.Slow = all[(len(all)-1)/2], all[int(math.Ceil(0.9*float64(len(all))))-1]
		}
	}
	s.ByDay, s.ByKind, s.Devices = days.rows(), kinds.most(standOut), devices.most(standOut)
	for _, p := range paces {
		s.Paces = append(s.Paces, *p)
	}
	slices.SortFunc(s.Paces, func(a, b pace) int { return cmp.Or(b.Open-a.Open, b.Cleared-a.Cleared, cmp.Compare(a.Name, b.Name)) })
	slices.SortFunc(s.Incidents, func(a, b hub.Finding) int {
		return cmp.Or(cmp.Compare(a.RecordState, b.RecordState), cmp.Compare(b.Severity, a.Severity), b.Order.Updated.Compare(a.Order.Updated), cmp.Compare(a.Key(), b.Key()))
	})
	s.charge()
	return s
}

// List prices of us-east-1 in USD, as of 2026-10, with their sources. The page says that they are list
// prices.
const (
	// The first 10,000 findings of a month are free.
	// https://aws.amazon.com/security-hub/pricing/
	freeFindings, perFinding = 10_000, 0.00003
	// The cost of a signal in rule, queue, function and ledger, from docs/detect.md and
	// docs/benchmarks.md.
	perChange, perRepeatLow, perRepeatHigh = 10e-6, 2e-6, 5e-6
)

func (s *summary) charge() {
	if s.Counts == nil {
		return
	}
	changed := s.Counts[contract.MetricImported]
	free := freeFindings * float64(s.Days) / 30
	hubCost := max(0, changed-free) * perFinding
	s.Charges = []charge{
		{"Security Hub: findings beyond the free ones", max(0, changed-free), hubCost, hubCost},
		{"forwarder: signals that changed a finding", changed, changed * perChange, changed * perChange},
		{"forwarder: repeats", s.Counts[contract.MetricUnchanged], s.Counts[contract.MetricUnchanged] * perRepeatLow, s.Counts[contract.MetricUnchanged] * perRepeatHigh},
	}
	for _, c := range s.Charges {
		s.Low, s.High = s.Low+c.Low, s.High+c.High
	}
}

// span returns a duration in words, in the largest unit of which it has at least two.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	case d >= 2*time.Minute:
		return fmt.Sprintf("%.0f minutes", d.Minutes())
	}
	return fmt.Sprintf("%.0f seconds", d.Seconds())
}
