// Command bench measures, in one run, what the product costs its users: synthesis, the
// Lambda function's size and start, its compilation, and the work for each finding.
// Each number stands beside what it is measured against.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	quick := flag.Bool("quick", false, "leave out the compilation with an empty cache")
	pairs := flag.Int("pairs", 5, "how many pairs of measurements a ratio is the median of")
	flag.Parse()
	if err := run(*quick, *pairs); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	repository, dir string
	pairs           int
	table           *tabwriter.Writer
}

func run(quick bool, pairs int) error {
	repository, err := filepath.Abs("..") // make runs this in test/
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{repository, dir, max(pairs, 1), tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(b.table, "WHAT\tVALUE\tAGAINST\tRATIO\tGOAL")
	steps := []func() error{b.synthesis, b.function, b.work}
	if !quick {
		steps = append(steps, b.compilation)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
		b.table.Flush()
	}
	return nil
}

func (b *bench) row(what, value, against, ratio, goal string) {
	fmt.Fprintf(b.table, "%s\t%s\t%s\t%s\t%s\n", what, value, against, ratio, goal)
}

// compare takes the two measurements in turn, once to warm up and then pair by pair,
// and prints the medians and the median of the ratios.
func (b *bench) compare(what, goal string, ours, theirs func() (time.Duration, error)) error {
	var a, z, ratios []float64
	for i := range b.pairs + 1 {
		x, errA := ours()
		y, errB := theirs()
		if err := errors.Join(errA, errB); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if i > 0 {
			a, z, ratios = append(a, x.Seconds()), append(z, y.Seconds()), append(ratios, x.Seconds()/y.Seconds())
		}
	}
	b.row(what, fmt.Sprintf("%.3f s", median(a)), fmt.Sprintf("%.3f s", median(z)), fmt.Sprintf("%.2f", median(ratios)), goal)
	return nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// build compiles a package of the module in dir and returns the executable.
func (b *bench) build(dir, pkg, name string, env ...string) (string, error) {
	out := filepath.Join(b.dir, name)
	return out, b.command(dir, env, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-tags=lambda.norpc", "-o", out, pkg)
}

func (b *bench) command(dir string, env []string, name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func (b *bench) timed(dir string, env []string, name string, args ...string) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		err := b.command(dir, env, name, args...)
		return time.Since(start), err
	}
}

// synthesis runs the app as the CDK CLI would, the Lambda function's build included.
func (b *bench) synthesis() error {
	test := filepath.Join(b.repository, "test")
	app := filepath.Join(b.dir, "app")
	if err := b.command(b.repository, nil, "go", "build", "-o", app, "."); err != nil {
		return err
	}
	empty := filepath.Join(b.dir, "emptyapp")
	if err := b.command(test, nil, "go", "build", "-o", empty, "./bench/emptyapp"); err != nil {
		return err
	}
	env := []string{"CDK_OUTDIR=" + filepath.Join(b.dir, "cdk.out"), `CDK_CONTEXT_JSON={"defenderhub:engine":"native","defenderhub:profile":"demo"}`}
	return b.compare("synthesis, warm, function built / empty app", "at most 1.3", b.timed(b.repository, env, app), b.timed(test, env, empty))
}

var benchmarkLine = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)$`)

// work runs the benchmarks beside the functions' packages, whose internals no other
// module may import.
func (b *bench) work() error {
	for _, p := range []struct{ pkg, time string }{{"./lambda/internal/mapping", "0.5s"}, {"./lambda/internal/ingest", "5x"}} {
		c := exec.Command("go", "test", "-run", "^$", "-bench", ".", "-benchtime", p.time, p.pkg)
		c.Dir = b.repository
		out, err := c.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", p.pkg, err, out)
		}
		for line := range strings.Lines(string(out)) {
			if m := benchmarkLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
				b.row(m[1], strings.Join(strings.Fields(m[2]), " "), "", "", "")
			}
		}
	}
	return nil
}

// compilation fills an empty build cache, and then finds everything in it.
func (b *bench) compilation() error {
	test := filepath.Join(b.repository, "test")
	caches := [2]string{filepath.Join(b.dir, "cache-ours"), filepath.Join(b.dir, "cache-theirs")}
	compile := func(dir, pkg, name, cache string) (time.Duration, error) {
		start := time.Now()
		_, err := b.build(dir, pkg, name, "GOCACHE="+cache, "GOOS=linux", "CGO_ENABLED=0")
		return time.Since(start), err
	}
	for _, state := range []string{"cold", "warm"} {
		ours, errA := compile(b.repository, "./lambda/forwarder", "cold-forwarder", caches[0])
		theirs, errB := compile(test, "./bench/emptyfunction", "cold-empty", caches[1])
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		b.row("compilation of the function, "+state+" / empty function", fmt.Sprintf("%.2f s", ours.Seconds()), fmt.Sprintf("%.2f s", theirs.Seconds()),
			fmt.Sprintf("%.2f", ours.Seconds()/theirs.Seconds()), "")
	}
	return nil
}
