// Command prepare installs and compiles what the demo needs: the CDK CLI and Node.js, the
// emulator moto, and all programs. The first time that takes minutes, so it does everything at
// once, and prints every five seconds what is still running. It uses only the standard library,
// so that it compiles fast.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/moto/python"
)

// heartbeat is how often it prints what is still running.
const heartbeat = 5 * time.Second

func main() {
	out := flag.String("o", "", "the `path` of the demo's executable")
	makeTool := flag.String("make", "make", "the make `program`, which installs the CDK CLI and Node.js")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := prepare(ctx, os.Stdout, *out, *makeTool)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "interrupted: what was compiled is kept, so the next run continues from there")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// prepare runs in the directory test, as make does.
func prepare(ctx context.Context, to io.Writer, demo, makeTool string) error {
	repository, err := filepath.Abs("..")
	if err != nil {
		return err
	}
	if demo, err = filepath.Abs(demo); err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "defenderhub-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp) // removes files that an interrupted program leaves
	work := filepath.Join(temp, "go.work")
	text, err := workspace(repository)
	if err != nil {
		return err
	}
	if err := os.WriteFile(work, text, 0o644); err != nil {
		return err
	}
	run := programs{repository: repository, temp: temp, work: work}
	var compiled atomic.Int64
	p := preparation{to: to, began: time.Now()}
	return p.run(ctx, []task{
		{func() string { return "installing the CDK CLI and Node.js" }, func(ctx context.Context) error {
			return run.command(ctx, ".", nil, nil, makeTool, "--no-print-directory", "node_modules/.ready")
		}},
		{func() string { return "looking for Python with moto " + python.Moto }, func(ctx context.Context) error {
			_, err := python.Find(ctx, filepath.Join(repository, ".venv"), temp, &p)
			return err
		}},
		{func() string { return fmt.Sprintf("compiling, packages so far: %d", compiled.Load()) }, func(ctx context.Context) error {
			return run.compile(ctx, demo, func() { compiled.Add(1) })
		}},
	})
}

// workspace combines the modules of the demo, of the local AWS and of the product in one build. A
// build in one module would lack the checksums of the others.
func workspace(repository string) ([]byte, error) {
	mod, err := os.ReadFile(filepath.Join(repository, "go.mod"))
	if err != nil {
		return nil, err
	}
	version := regexp.MustCompile(`(?m)^go .+$`).Find(mod)
	return fmt.Appendf(nil, "%s\n\nuse (\n\t%q\n\t%q\n\t%q\n)\n", version, repository, filepath.Join(repository, "test"), filepath.Join(repository, "test", "localaws")), nil
}

// programs runs the tools of the preparation.
type programs struct{ repository, temp, work string }

// compile builds the demo, the CDK app, the Lambda functions, the command that writes the report,
// and the emulator of the functions' runtime.
// The first command compiles nearly all packages, which keeps all cores busy. It names no program,
// because go build would link each, and discard it. Synthesis then finds the functions' packages in
// the build cache, because make sets the same flags as internal/gobuild/build.go.
func (p programs) compile(ctx context.Context, demo string, compiled func()) error {
	count := func(line string) {
		if !strings.HasPrefix(line, "go: ") {
			compiled()
		}
	}
	shared := []string{"GOWORK=" + p.work}
	for _, c := range []struct {
		dir  string
		env  []string
		args []string
	}{
		{".", shared, []string{"build", "-v", "-tags=lambda.norpc", "./test/walkthrough", "./constructs/...", "./lambda/internal/...", "github.com/aws/aws-lambda-go/lambda"}},
		{".", shared, []string{"build", "-v", "-o", demo, "./test/demo"}},
		{"cmd/defenderhub", []string{"GOWORK=" + filepath.Join(p.repository, "cmd", "go.work")}, []string{"build", "-v", "-o", filepath.Join(filepath.Dir(demo), "defenderhub"), "."}},
		{"test/localaws/rie", []string{"GOWORK=off", "GOFLAGS="}, []string{"run", "-v", "-trimpath", "-exec", "true", "tool"}},
	} {
		if err := p.command(ctx, c.dir, append(c.env, "GOGC="+collections()), count, "go", c.args...); err != nil {
			return err
		}
	}
	return nil
}

// collections is the value of GOGC for the compiler. With 200, a package of the AWS SDK takes an
// eighth less processor time, and a quarter more memory: at most 1.2 GB.
func collections() string { return cmp.Or(os.Getenv("GOGC"), "200") }

// command runs a program in a directory of the repository and waits for it. It calls line with
// each line of output, and its error includes the output.
func (p programs) command(ctx context.Context, dir string, env []string, line func(string), name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = filepath.Join(p.repository, dir)
	c.Env = append(append(os.Environ(), "TMPDIR="+p.temp), env...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	r, w := io.Pipe()
	c.Stdout, c.Stderr = w, w
	var printed bytes.Buffer
	var read sync.WaitGroup
	read.Go(func() {
		for lines := bufio.NewScanner(io.TeeReader(r, &printed)); lines.Scan(); {
			if line != nil {
				line(lines.Text())
			}
		}
		_, _ = io.Copy(&printed, r) // needed after a line that is too long for the scanner
	})
	err := c.Run()
	w.Close()
	read.Wait()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, strings.TrimSpace(printed.String()))
	}
	return nil
}

// task is a task that runs at the same time as others.
type task struct {
	what func() string // in the present tense
	do   func(context.Context) error
}

type preparation struct {
	began time.Time

	mu sync.Mutex
	to io.Writer
}

// run runs all tasks at once and returns the first error.
func (p *preparation) run(ctx context.Context, tasks []task) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	running := make([]atomic.Bool, len(tasks))
	var all sync.WaitGroup
	for i, t := range tasks {
		running[i].Store(true)
		all.Go(func() {
			defer running[i].Store(false)
			if err := t.do(ctx); err != nil {
				cancel(err) // only the first cause counts
			}
		})
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-done:
			if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
				return cause
			}
			return ctx.Err()
		case <-beat.C:
			var still []string
			for i, t := range tasks {
				if running[i].Load() {
					still = append(still, t.what())
				}
			}
			p.say(strings.Join(still, "; "))
		}
	}
}

// Write prints a task's message, one line per call.
func (p *preparation) Write(line []byte) (int, error) {
	p.say(strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

func (p *preparation) say(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.to, "%5.1fs  %s\n", time.Since(p.began).Seconds(), line)
}
