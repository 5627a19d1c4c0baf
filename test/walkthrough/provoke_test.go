package walkthrough

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// provocation is a run of `defenderhub provoke`.
type provocation struct {
	command *exec.Cmd
	out     output
	ended   chan error
}

// output may be read while a program writes it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// says waits until the command prints a text.
func (p *provocation) says(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !strings.Contains(p.out.String(), text) {
		select {
		case <-poll.C:
		case err := <-p.ended:
			if p.ended <- err; !strings.Contains(p.out.String(), text) {
				t.Fatalf("%v ended before %q, error %v:\n%s", p.command.Args, text, err, &p.out)
			}
		case <-ctx.Done():
			t.Fatalf("%v did not print %q:\n%s", p.command.Args, text, &p.out)
		}
	}
}

// succeeds waits until the command ends, and returns its output.
func (p *provocation) succeeds(ctx context.Context, t *testing.T) string {
	t.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			t.Fatalf("%v: %v\n%s", p.command.Args, err, &p.out)
		}
	case <-ctx.Done():
		t.Fatalf("%v did not end:\n%s", p.command.Args, &p.out)
	}
	return p.out.String()
}

// provoke runs the command's experiments with devices. It passes the cloud's time until their
// findings have appeared and are archived.
func provoke(ctx context.Context, t *testing.T, s *story) {
	t.Helper()
	program, ca := filepath.Join(t.TempDir(), "defenderhub"), filepath.Join(t.TempDir(), "ca.pem")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
	build.Dir, build.Env = filepath.Join(s.Repository, "cmd", "defenderhub"), append(os.Environ(), "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, port, err := net.SplitHostPort(s.cloud.Broker.TLSAddress())
	if err := errors.Join(err, os.WriteFile(ca, []byte(s.cloud.IoT.CA().PEM()), 0o600), s.toNextWindow(ctx)); err != nil {
		t.Fatal(err)
	}
	defer s.cloud.Hurry()()
	start := func(experiment string) *provocation {
		p := &provocation{command: exec.CommandContext(ctx, program, "provoke", experiment, "--yes", "--interval", "1s", "--ca-file", ca, "--port", port), ended: make(chan error, 1)}
		p.command.Env, p.command.Stdout, p.command.Stderr = s.cloud.Env(), &p.out, &p.out
		if err := p.command.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { p.ended <- p.command.Wait() }()
		return p
	}
	size, telnet, disconnect := start("message-size"), start("telnet"), start("disconnect")
	size.says(ctx, t, "published 4 and 26 bytes")
	telnet.says(ctx, t, "reporting the open ports [22 23] to fleet/defenderhub-provoke-")
	if got := disconnect.succeeds(ctx, t); !strings.Contains(got, "MEDIUM\tACTIVE") || !strings.Contains(got, "DUPLICATE_CLIENTID") {
		t.Errorf("provoke disconnect:\n%s", got)
	}
	if err := s.pass(ctx, 9*time.Minute); err != nil {
		t.Fatal(err)
	}
	size.says(ctx, t, "ACTIVE after")
	telnet.says(ctx, t, "reporting the open ports [22] to fleet/defenderhub-provoke-")
	if err := s.pass(ctx, 16*time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := size.succeeds(ctx, t); !strings.Contains(got, "MEDIUM\tARCHIVED") || !strings.Contains(got, "small-messages") {
		t.Errorf("provoke message-size:\n%s", got)
	}
	if got := telnet.succeeds(ctx, t); !strings.Contains(got, "HIGH\tARCHIVED") || !strings.Contains(got, "no-telnet") {
		t.Errorf("provoke telnet:\n%s", got)
	}
	left, err := s.iot.ListThings(ctx, &iot.ListThingsInput{})
	if err != nil || len(left.Things) > 0 {
		t.Errorf("the experiments left the things %v, error %v", left.Things, err)
	}

	// doctor finds nothing to fix in a deployment that works.
	doctor := exec.CommandContext(ctx, program, "doctor", "--stack", "DefenderHub")
	doctor.Env = s.cloud.Env()
	out, err := doctor.CombinedOutput()
	if err != nil {
		t.Errorf("doctor: %v", err)
	}
	for _, want := range []string{"ok\tstack\tthe stack DefenderHub has ", "ok\talarms\tnone of ", "ok\tqueues\t0 messages wait in ", "ok\timports\tthe last findings were imported in the hour from ", "ok\tengine\tthe self-managed engine last judged telemetry at "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
}
