package main

import (
	"fmt"
	"math"
	"regexp"
	"strconv"

	"github.com/defenderhub/defenderhub/test/bench/awsstub"
)

// noise is how much two equal medians may differ.
const noise = 1.1

// cells are the columns of a figure: today's, that of the other commit, and that of the sample.
type cells struct {
	*bench
	subjects []subject
	all      [][]figures
}

// show prints a row per figure, with its goal and whether it is reached.
func (b *bench) show(subjects []subject, all [][]figures) error {
	c := &cells{b, subjects, all}
	head := []string{""}
	for _, s := range subjects {
		head = append(head, s.name)
	}
	for _, s := range subjects[1:] {
		head = append(head, "NOW / "+s.name)
	}
	b.row(append(head, "GOAL")...)
	for day, title := range []string{"CPU of an audit of 10,000 new findings", "CPU of the same audit the day after"} {
		c.figure(title, goal{ofBase: []float64{0.26, 0.5}[day], ofPeer: []float64{0.8, 0}[day]}, day == 0, seconds, func(f figures) float64 { return f.cpu[day].Seconds() })
	}
	c.figure("import calls per finding, audit", goal{value: 0.0102}, true, exact, func(f figures) float64 { return f.imports })
	c.figure("ledger calls per finding, audit, new", goal{value: 0.10}, false, exact, func(f figures) float64 { return f.ledger[0] })
	c.figure("ledger calls per finding, audit, unchanged", goal{value: 0.05}, false, exact, func(f figures) float64 { return f.ledger[1] })
	if err := c.storm(); err != nil {
		return err
	}
	for kind, name := range kindNames {
		c.figure("ledger calls of a single event, "+name, goal{ofBase: 1}, false, number, func(f figures) float64 { return f.alerts[kind].ledger })
	}
	for _, kind := range []int{raises, clears} {
		c.figure("queue to import of a single event, "+kindNames[kind]+", p50", goal{ofBase: noise}, false, millis, func(f figures) float64 { return f.alerts[kind].p50.Seconds() })
		c.figure("queue to import of a single event, "+kindNames[kind]+", p99", goal{ofBase: noise}, false, millis, func(f figures) float64 { return f.alerts[kind].p99.Seconds() })
	}
	now := all[0][0]
	for day, name := range []string{"new", "unchanged"} {
		c.units(fmt.Sprintf("audit, %s, items of %d B", name, now.bytes), func(f figures) awsstub.Units { return f.units[day] })
	}
	for kind, name := range kindNames {
		c.units(fmt.Sprintf("event, %s, items of %d B", name, now.alerts[kind].bytes), func(f figures) awsstub.Units { return f.alerts[kind].units })
	}
	if err := c.allocations(); err != nil {
		return err
	}
	c.figure("memory at 25,000 findings", goal{value: 65}, false, func(n float64) string { return fmt.Sprintf("%.0f MiB", n) }, func(f figures) float64 { return float64(f.memory) / 1024 })
	return nil
}

func millis(seconds float64) string { return fmt.Sprintf("%.1f ms", seconds*1000) }

func exact(n float64) string { return fmt.Sprintf("%.4f", n) }

// goal is the most that a figure may be: itself, or as a ratio. 0 is no goal.
type goal struct{ value, ofBase, ofPeer float64 }

// figure prints the medians of a figure and the medians of its ratios, pair by pair. The sample's
// column is empty unless it has the figure.
func (c *cells) figure(title string, g goal, peer bool, text func(float64) string, value func(figures) float64) {
	row, ratios := []string{title}, []string(nil)
	verdict, failed := "", false
	judged := func(n, most float64) {
		if most == 0 {
			return
		}
		failed = failed || n > most
		verdict += fmt.Sprintf("at most %g, ", most)
	}
	for i, s := range c.subjects {
		if s.python && !peer {
			row, ratios = append(row, ""), append(ratios, "")
			continue
		}
		var values, of []float64
		for pair, f := range c.all[i] {
			n, now := value(f), value(c.all[0][pair])
			values, of = append(values, n), append(of, now/n)
		}
		m := median(values)
		row = append(row, text(m))
		if i == 0 {
			judged(m, g.value)
			continue
		}
		ratio := math.Round(median(of)*100) / 100 // as it is printed
		ratios = append(ratios, number(ratio))
		if s.python {
			judged(ratio, g.ofPeer)
		} else {
			judged(ratio, g.ofBase)
		}
	}
	if verdict != "" {
		verdict = verdict[:len(verdict)-2] + map[bool]string{true: ": missed", false: ": reached"}[failed]
	}
	c.row(append(append(row, ratios...), verdict)...)
}

// units prints the read units of findings, and their write units with those of the index.
func (c *cells) units(title string, of func(figures) awsstub.Units) {
	c.figure("read units per finding, "+title, goal{ofBase: 1}, false, number, func(f figures) float64 { return of(f).Read })
	c.figure("write units per finding, "+title, goal{ofBase: 1}, false, number, func(f figures) float64 { return of(f).Write + of(f).Index })
}

// alone prints a figure that only today's version has.
func (c *cells) alone(title, value, verdict string) {
	row := []string{title, value}
	for range 2 * (len(c.subjects) - 1) {
		row = append(row, "")
	}
	c.row(append(row, verdict)...)
}

var stormLine = regexp.MustCompile(`([0-9.]+) per finding;.* settled (\S+) after the end, ([0-9.]+) times`)

// storm runs the storm if its devices are given, because that takes minutes.
func (c *cells) storm() error {
	const perFinding, settled = "import calls per finding, storm", "from the storm's end until all last states are shown / the floor"
	if c.devices == 0 {
		c.alone(perFinding, "not measured", "-storm 100000 measures it, in minutes")
		return nil
	}
	out, err := c.command(c.repository, []string{"GOGC=200"}, "go", "test", "-count=1", "-timeout", "2h", "-v", "-run", "^TestStorm$", "./lambda/internal/simulation",
		fmt.Sprintf("-storm.devices=%d", c.devices))
	if err != nil {
		return err
	}
	found := stormLine.FindStringSubmatch(out)
	if found == nil {
		return fmt.Errorf("the storm printed no figures:\n%s", out)
	}
	for i, f := range []struct {
		title string
		most  float64
	}{{perFinding, 0.02}, {settled, 2}} {
		n, err := strconv.ParseFloat(found[1+2*i], 64)
		if err != nil {
			return err
		}
		c.alone(fmt.Sprintf("%s, %d devices", f.title, c.devices), exact(n), judge(n, f.most))
	}
	return nil
}

// allocations prints those of mapping.
func (c *cells) allocations() error {
	results, _, err := c.benchmark("./lambda/internal/forwarder/mapping", "0.5s", "Mapping/(device-event|detect)/map")
	if err != nil {
		return err
	}
	for _, kind := range []string{"device-event", "detect"} {
		n := results["Mapping/"+kind+"/map"]["allocs/op"]
		if n == 0 {
			return fmt.Errorf("no benchmark maps %s", kind)
		}
		c.alone("allocations to map, "+kind, fmt.Sprintf("%.0f", n), judge(n, 40))
	}
	return nil
}
