// Command bench measures what the product costs its users: synthesis, size, start and compilation
// of the Lambda functions, the work per finding, and the monthly cost of the engines. Each number
// is compared with a baseline.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	quick := flag.Bool("quick", false, "leave out the compilation with an empty cache")
	pairs := flag.Int("pairs", 3, "how many pairs of measurements a ratio is the median of")
	only := flag.String("only", "", "measure only the steps whose title contains this")
	base := flag.String("base", "8a3e870", "commit of this repository whose forwarder is compared; empty for none")
	peer := flag.String("peer", "", "directory src/functions of aws-samples/iot-device-defender-integration-with-securityhub, which is compared too")
	devices := flag.Int("storm", 0, "devices of the storm that is measured; 100000 take 10 minutes or more")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *quick, *pairs, *only, *base, *peer, *devices); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	ctx              context.Context
	repository, test string // the directories of the two modules
	dir              string // for files of this run
	pairs            int
	base, peer       string // see the flags
	devices          int
	table            *tabwriter.Writer
}

func run(ctx context.Context, quick bool, pairs int, only, base, peer string, devices int) error {
	test, err := filepath.Abs(".") // make runs this in test/
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "defenderhub-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{
		ctx: ctx, repository: filepath.Dir(test), test: test, dir: dir, pairs: max(pairs, 1), base: base, peer: peer, devices: devices,
		table: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0),
	}
	fmt.Printf("%s %s/%s, %d cores; each ratio is the median of %d pairs, taken in turn\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), b.pairs)
	type step struct {
		title string
		run   func() error
		// own reports whether the step prints its own column heads.
		own bool
	}
	steps := []step{
		{title: "synthesis of the full stack, warm, the functions' build included", run: b.synthesis},
		{title: "size and start of the functions", run: b.functions},
		{title: "mapping, one core", run: b.mapping},
		{title: "batches through the handler: decode, map, ledger, SDK, local Security Hub", run: b.batches},
		{title: "audits and events through the forwarder's executable, one core", run: b.forwarder, own: true},
		{title: "cost of the engines, USD in 30 days, list prices", run: b.costs, own: true},
	}
	if !quick {
		steps = append(steps, step{title: "compilation of the forwarder", run: b.compilation})
	}
	if !slices.ContainsFunc(steps, func(s step) bool { return strings.Contains(s.title, only) }) {
		var titles []string
		for _, s := range steps {
			titles = append(titles, s.title)
		}
		return fmt.Errorf("-only %q names no step, want a part of one of:\n%s", only, strings.Join(titles, "\n"))
	}
	for _, step := range steps {
		if !strings.Contains(step.title, only) {
			continue
		}
		fmt.Printf("\n%s\n", step.title)
		if !step.own {
			b.row("", "VALUE", "AGAINST", "RATIO", "GOAL")
		}
		if err := errors.Join(step.run(), b.ctx.Err()); err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
		if err := b.table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) row(cells ...string) {
	fmt.Fprintf(b.table, "  %s\n", strings.Join(cells, "\t"))
}

// compare measures both alternately, once to warm up and then in pairs. It prints the medians and
// the median of the ratios. A goal of 0 means none.
func (b *bench) compare(what, against string, goal float64, ours, theirs func() (time.Duration, error)) error {
	var a, z, ratios []float64
	for i := range b.pairs + 1 {
		x, errA := ours()
		y, errB := theirs()
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		if i > 0 {
			a, z, ratios = append(a, x.Seconds()), append(z, y.Seconds()), append(ratios, x.Seconds()/y.Seconds())
		}
	}
	ratio := median(ratios)
	b.row(what, seconds(median(a)), seconds(median(z))+" "+against, number(ratio), judge(ratio, goal))
	return nil
}

// judge returns the words that say whether a goal was reached.
func judge(value, atMost float64) string {
	switch {
	case atMost == 0:
		return ""
	case value > atMost:
		return fmt.Sprintf("at most %g: missed", atMost)
	}
	return fmt.Sprintf("at most %g: reached", atMost)
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func seconds(s float64) string { return fmt.Sprintf("%.3g s", s) }
func number(n float64) string  { return fmt.Sprintf("%.2f", n) }

// command runs a program and returns its output.
func (b *bench) command(dir string, env []string, name string, args ...string) (string, error) {
	c := exec.CommandContext(b.ctx, name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	c.WaitDelay = 5 * time.Second // a child process may hold the output open after Ctrl-C
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func (b *bench) timed(dir string, env []string, name string, args ...string) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		_, err := b.command(dir, env, name, args...)
		return time.Since(start), err
	}
}
