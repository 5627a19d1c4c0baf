package process_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/process"
)

func start(t *testing.T, out io.Writer, script string) *process.Process {
	t.Helper()
	p, err := process.Start(process.Spec{Path: "/bin/sh", Args: []string{"-c", script}, Env: os.Environ(), Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func TestExitStatusIsReported(t *testing.T) {
	var out strings.Builder
	if err := start(t, &out, "echo fine").Wait(t.Context()); err != nil || out.String() != "fine\n" {
		t.Errorf("output %q, error %v, want fine and no error", out.String(), err)
	}
	var exit *exec.ExitError
	if err := start(t, nil, "exit 3").Wait(t.Context()); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("got %v, want exit status 3", err)
	}
}

// late is a writer that accepts the first line, creates a file for which the program waits, and
// accepts more only after the program's end.
type late struct {
	strings.Builder
	file string
}

func (l *late) Write(p []byte) (int, error) {
	first := l.Len() == 0
	n, err := l.Builder.Write(p)
	if first {
		program, _ := strconv.Atoi(strings.TrimSpace(string(p)))
		os.WriteFile(l.file, nil, 0o600)
		for !errors.Is(syscall.Kill(program, 0), syscall.ESRCH) {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond) // a reader that stops with the program would stop now
	}
	return n, err
}

func TestOutputIsReadToItsEnd(t *testing.T) {
	out := &late{file: filepath.Join(t.TempDir(), "on")}
	err := start(t, out, `echo $$; until [ -e "`+out.file+`" ]; do sleep 0.01; done; echo the rest`).Wait(t.Context())
	if _, rest, _ := strings.Cut(out.String(), "\n"); err != nil || rest != "the rest\n" {
		t.Errorf("after the first line got %q, error %v, want \"the rest\"", rest, err)
	}
}

func TestStopEndsGrandchildrenToo(t *testing.T) {
	r, w := io.Pipe()
	p := start(t, w, "sleep 1000 & echo $!; wait")
	grandchild := readPID(t, r)
	go io.Copy(io.Discard, r)
	p.Stop()
	p.Stop()
	if err := syscall.Kill(grandchild, 0); !errors.Is(err, syscall.ESRCH) && !zombie(t, grandchild) {
		t.Errorf("grandchild %d still runs after Stop", grandchild)
	}
}

func TestCanceledContextStopsTheProgram(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := start(t, nil, "sleep 1000")
	cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	<-p.Done()
}

// TestProgramEndsWithItsStarter runs this test binary as a starter, kills it with SIGKILL, and
// waits for the end of its program.
func TestProgramEndsWithItsStarter(t *testing.T) {
	if os.Getenv("PROCESS_TEST_STARTER") != "" {
		p, err := process.Start(process.Spec{Path: "/bin/sh", Args: []string{"-c", "echo $$; exec sleep 1000"}, Env: os.Environ(), Stdout: os.Stdout})
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		return
	}
	starter := exec.Command(os.Args[0], "-test.run=^TestProgramEndsWithItsStarter$")
	starter.Env = append(os.Environ(), "PROCESS_TEST_STARTER=1")
	out, err := starter.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := starter.Start(); err != nil {
		t.Fatal(err)
	}
	program := readPID(t, out)
	if err := starter.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The program has the other end of this pipe, so the copy ends when the program does.
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	starter.Wait()
	if err := syscall.Kill(program, 0); err == nil && !zombie(t, program) {
		t.Errorf("program %d outlived its starter", program)
	}
}

func readPID(t *testing.T, r io.Reader) int {
	t.Helper()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// zombie reports whether a process has ended, but its parent has not waited for it yet. The parent
// may be the machine's init.
func zombie(t *testing.T, pid int) bool {
	t.Helper()
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("ps is not installed")
	}
	return err != nil || strings.HasPrefix(strings.TrimSpace(string(state)), "Z")
}
