package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
	chunks  chan []byte
	shown   []byte
}

// onTerminal starts the program. It writes to a terminal of that width, and reads from a pipe.
func onTerminal(t *testing.T, columns uint16, env []string, args ...string) *terminal {
	t.Helper()
	return begin(t, columns, false, env, args...)
}

// begin is onTerminal. With keyboard, the program also reads from the terminal.
func begin(t *testing.T, columns uint16, keyboard bool, env []string, args ...string) *terminal {
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
	w := &terminal{T: t, command: exec.CommandContext(t.Context(), program, args...), screen: screen, chunks: make(chan []byte, 1)}
	w.resize(columns)
	w.command.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), env...)
	w.command.Stdout, w.command.Stderr = tty, tty
	w.command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1} // so that Ctrl-C sends a signal
	if keyboard {
		w.command.Stdin = tty
	} else if w.stdin, err = w.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := w.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.chunks)
		for {
			chunk := make([]byte, 4096)
			n, err := screen.Read(chunk)
			w.chunks <- chunk[:n]
			if err != nil { // the program has ended
				return
			}
		}
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
	for chunk := range w.chunks {
		w.shown = append(w.shown, chunk...)
	}
	w.command.Wait()
	return w.command.ProcessState.ExitCode(), strings.ReplaceAll(string(w.shown), "\r\n", "\n")
}

// await waits until the program has written a text.
func (w *terminal) await(text string) {
	w.Helper()
	for chunk := range w.chunks {
		if w.shown = append(w.shown, chunk...); bytes.Contains(w.shown, []byte(text)) {
			return
		}
	}
	w.Fatalf("the program has ended without %q:\n%s", text, w.shown)
}

// interrupt types Ctrl-C.
func (w *terminal) interrupt() {
	w.Helper()
	if _, err := w.screen.Write([]byte("\x03")); err != nil {
		w.Fatal(err)
	}
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
	w.interrupt()
	if status, shown := w.end(); status != 130 || !strings.Contains(shown, "interrupted") {
		t.Errorf("status %d, want 130, and interrupted in: %s", status, shown)
	}
}

// The user can interrupt a command that waits for the next record of a pipe.
func TestInterruptionEndsAReplayOfStandardInput(t *testing.T) {
	w := onTerminal(t, 80, nil, "replay", "--behaviors", behaviorFile(t), "-")
	// A pipe holds 64 KiB, so the program reads when it has taken all of this.
	if _, err := io.WriteString(w.stdin, strings.Repeat(" ", 1<<20)); err != nil {
		t.Fatal(err)
	}
	w.interrupt()
	if status, shown := w.end(); status != 130 || !strings.Contains(shown, "interrupted") {
		t.Errorf("status %d, want 130, and interrupted in: %s", status, shown)
	}
}

// The user can interrupt a question. An answer without Enter counts as no.
func TestInterruptionEndsAQuestion(t *testing.T) {
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
	}))
	defer sts.Close()
	for _, typed := range []string{"", "123456789012\x04"} { // Ctrl-D sends the line without its end
		w := begin(t, 80, true, []string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true"},
			"provoke", "policy", "--endpoint-url", sts.URL)
		w.await("to continue: ")
		if _, err := io.WriteString(w.screen, typed); err != nil {
			t.Fatal(err)
		}
		w.interrupt()
		if status, shown := w.end(); status != 130 || !strings.Contains(shown, "nothing was changed") {
			t.Errorf("status %d, want 130, and that nothing was changed in: %s", status, shown)
		}
	}
}
