// Package process runs programs that never outlive the program that started them. Each has
// its own process group: Ctrl-C reaches it only through Stop, and Stop reaches its children.
// A leash ends it also when its starter is killed.
package process

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Grace is how long Stop waits after SIGTERM before it sends SIGKILL.
const Grace = 2 * time.Second

// leash runs its arguments, and ends them when its standard input ends: the starter holds the
// other end of that pipe until it exits. The trap keeps the leash alive after SIGTERM, so that
// the program has the time that Stop allows.
const leash = `trap : TERM
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
(cat <&3; kill "$child") >/dev/null 2>&1 &
exec 3<&-
wait "$child"; status=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
exit "$status"`

// Spec is a program to run.
type Spec struct {
	Path string
	Args []string
	Dir  string
	// Env is the whole environment; nothing is inherited.
	Env []string
	// Stdout and Stderr receive what the program prints. Default: nil, discarded.
	Stdout, Stderr io.Writer
}

// Process is a running program.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	stop sync.Once
}

// Start runs spec until Stop, or until this process ends.
func Start(spec Spec) (*Process, error) {
	cmd := exec.Command("/bin/sh", append([]string{"-c", leash, "sh", spec.Path}, spec.Args...)...)
	cmd.Dir, cmd.Env = spec.Dir, spec.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	held, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("create the pipe that ties the program to this process: %w", err)
	}
	// A program that left the group may keep an output open for ever.
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = spec.Stdout, spec.Stderr, time.Minute
	if err := cmd.Start(); err != nil {
		held.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		state, err := cmd.Process.Wait()
		if p.err = err; err == nil && !state.Success() {
			p.err = &exec.ExitError{ProcessState: state}
		}
		// Children that outlive the program, such as the leash's reader, keep its outputs open.
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait() // reads the rest of the outputs; that the program has ended is no error here
		close(p.done)
	}()
	return p, nil
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns nil if the program exits with status 0, and otherwise its error. If ctx ends
// first, Wait stops the program and returns the error of ctx.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		p.Stop()
		return ctx.Err()
	}
}

// Stop sends SIGTERM to the whole process group, kills it after [Grace], and returns when the
// program has ended. It may be called at any time, and more than once.
func (p *Process) Stop() {
	p.stop.Do(func() {
		select {
		case <-p.done:
			return
		default:
		}
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(Grace):
			syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	<-p.done
}
