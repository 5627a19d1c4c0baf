package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/jedib0t/go-pretty/v6/text"
)

// terminal is a run of the program on a pseudo-terminal.
type terminal struct {
	*testing.T
	command *exec.Cmd
	stdin   io.WriteCloser
	screen  *os.File
	shown   chan []byte
}

// onTerminal starts the program. It writes to a terminal of that width, and reads from a pipe.
func onTerminal(t *testing.T, columns uint16, env []string, args ...string) *terminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "defenderhub") // by this name the test binary is the program
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	screen, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	defer tty.Close()
	w := &terminal{T: t, command: exec.CommandContext(t.Context(), program, args...), screen: screen, shown: make(chan []byte, 1)}
	w.resize(columns)
	w.command.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), env...)
	w.command.Stdout, w.command.Stderr = tty, tty
	w.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1} // so that Ctrl-C sends a signal
	if w.stdin, err = w.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := w.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		var all bytes.Buffer
		io.Copy(&all, screen) // ends with an error when the program ends
		w.shown <- all.Bytes()
	}()
	return w
}

func (w *terminal) resize(columns uint16) {
	w.Helper()
	if err := pty.Setsize(w.screen, &pty.Winsize{Rows: 50, Cols: columns}); err != nil {
		w.Fatal(err)
	}
}

// end returns the exit status and the output.
func (w *terminal) end() (status int, shown string) {
	w.command.Wait()
	return w.command.ProcessState.ExitCode(), strings.ReplaceAll(string(<-w.shown), "\r\n", "\n")
}

var ansi = regexp.MustCompile("\x1b\\[[0-9;]*m")

func widest(shown string) int {
	most := 0
	for line := range strings.Lines(ansi.ReplaceAllString(shown, "")) {
		most = max(most, text.StringWidth(strings.TrimRight(line, "\n")))
	}
	return most
}

const longName = "a behavior test whose name is long enough that it does not fit into the eighty columns of a small terminal, so that it is wrapped"

func behaviorFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.yaml")
	content := "behaviors: [{name: small, metric: aws:message-byte-size, criteria: {comparisonOperator: less-than, value: {count: 8}}}]\ntests: [{name: \"" + longName + "\"}]\n"
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTablesFitTheTerminal(t *testing.T) {
	for _, columns := range []uint16{80, 200} {
		w := onTerminal(t, columns, nil, "test", filepath.Base(behaviorFile(t)))
		w.end() // the relative path does not exist; the error must not break the terminal
		path := behaviorFile(t)
		w = onTerminal(t, columns, nil, "test", path)
		status, shown := w.end()
		if status != 0 || widest(shown) > int(columns) || !strings.Contains(shown, "\x1b[32mok\x1b[0m") || !strings.Contains(ansi.ReplaceAllString(shown, ""), "FILE") {
			t.Errorf("%d columns: status %d, want 0; the widest line has %d:\n%s", columns, status, widest(shown), shown)
		}
		if whole := strings.Contains(shown, longName); whole != (columns == 200 && len(path)+len(longName) < 180) {
			t.Errorf("%d columns: the name is on one line: %v, want %v\n%s", columns, whole, !whole, shown)
		}
	}
	w := onTerminal(t, 80, []string{"NO_COLOR=1"}, "test", behaviorFile(t))
	if _, shown := w.end(); strings.Contains(shown, "\x1b") {
		t.Errorf("colors in spite of NO_COLOR: %q", shown)
	}
}

// The program measures the terminal when it prints.
func TestTablesFitAResizedTerminal(t *testing.T) {
	w := onTerminal(t, 200, nil, "replay", "--behaviors", behaviorFile(t), "-")
	w.resize(60)
	io.WriteString(w.stdin, `{"kind":"message","client":"`+strings.Repeat("long-client-id-", 8)+`","time":"2026-01-01T00:01:00Z","topic":"t","bytes":9}`)
	w.stdin.Close()
	if status, shown := w.end(); status != 0 || widest(strings.SplitN(shown, "BEHAVIOR", 2)[1]) > 60+10 {
		t.Errorf("60 columns: status %d, want 0; the widest line has %d:\n%s", status, widest(shown), shown)
	}
}

// The user can interrupt a command while a service does not answer.
func TestInterruptionEndsAWaitingCommand(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	connected := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			connected <- c
		}
	}()
	w := onTerminal(t, 80, []string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true"},
		"doctor", "--endpoint-url", "http://"+silent.Addr().String())
	select {
	case c := <-connected:
		defer c.Close()
	case <-time.After(5 * time.Minute):
		t.Fatal("the command calls no service")
	}
	if _, err := w.screen.Write([]byte("\x03")); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	if status, shown := w.end(); status != 130 || !strings.Contains(shown, "interrupted") {
		t.Errorf("status %d, want 130, and interrupted in: %s", status, shown)
	}
}
