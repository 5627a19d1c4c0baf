// Package process runs programs that never outlive the one that started them:
// each has a process group of its own, so that Ctrl-C reaches it through Stop only
// and Stop reaches its children, and a leash, so that it also ends when its starter
// is killed.
package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Grace is how long Stop waits between asking and killing.
const Grace = 2 * time.Second

// leash runs its arguments and asks them to end once standard input ends, which is
// what happens when the other end of the pipe dies with the process that holds it.
// Its trap leaves the program the time that Stop gives.
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
		return nil, fmt.Errorf("pipe that ties a child to this process: %w", err)
	}
	var out outputs
	if cmd.Stdout, err = out.to(spec.Stdout); err == nil && spec.Stderr == spec.Stdout {
		cmd.Stderr = cmd.Stdout
	} else if err == nil {
		cmd.Stderr, err = out.to(spec.Stderr)
	}
	if err == nil {
		err = cmd.Start()
	}
	out.passed()
	if err != nil {
		held.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		// What the program left behind in its group, the leash's reader included, which may
		// keep the pipes of its output open.
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		out.finish()
		close(p.done)
	}()
	return p, nil
}

// outputs are the pipes from a program to writers that are no files. Package exec would
// stop reading a while after the program's end, though there may be more to read.
type outputs struct {
	ours, theirs []*os.File
	copied       sync.WaitGroup
}

func (o *outputs) to(w io.Writer) (io.Writer, error) {
	if _, file := w.(*os.File); file || w == nil {
		return w, nil
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe for a child's output: %w", err)
	}
	o.ours, o.theirs = append(o.ours, ours), append(o.theirs, theirs)
	o.copied.Go(func() {
		defer ours.Close()
		io.Copy(w, ours)
	})
	return theirs, nil
}

// finish reads all that is left. A program that left the group may keep a pipe open.
func (o *outputs) finish() {
	for _, f := range o.ours {
		f.SetReadDeadline(time.Now().Add(time.Minute))
	}
	o.copied.Wait()
}

// passed closes what the program has got.
func (o *outputs) passed() {
	for _, f := range o.theirs {
		f.Close()
	}
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns how the program ended: nil for exit status 0. When ctx ends first,
// the program is stopped and the error is ctx's.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		p.Stop()
		return ctx.Err()
	}
}

// Stop asks the whole process group to end, kills it after [Grace], and returns when
// it is gone. It may be called at any time and repeatedly.
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
