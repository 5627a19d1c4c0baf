package functions

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/process"
)

// BuildRIE builds AWS's Lambda Runtime Interface Emulator in Go's build cache, and returns its path.
// It is the only tool of the Go module in dir. Temporary files are in temp. If it was built before,
// this takes half a second.
func BuildRIE(ctx context.Context, dir, temp string) (string, error) {
	// go run keeps the program in the build cache. When it builds the program, it prints another path.
	for range 2 {
		// go tool ignores -trimpath, and would compile the standard library again.
		cmd := exec.CommandContext(ctx, "go", "run", "-trimpath", "-exec", "echo", "tool")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOOS=", "GOARCH=", "CGO_ENABLED=0", "TMPDIR="+temp)
		out, err := cmd.Output()
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
			}
			return "", fmt.Errorf("build the Lambda Runtime Interface Emulator in %s: it needs Go and, once, its module proxy: %w", dir, err)
		}
		path := strings.TrimSpace(string(out))
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("build the Lambda Runtime Interface Emulator in %s: it is not in the build cache of Go, which go env GOCACHE names", dir)
}

// invoked is the header of the runtime API with the function's ARN.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
const invoked = "Lambda-Runtime-Invoked-Function-Arn"

// instance is the emulator and the function that it runs.
type instance struct {
	*process.Process
	url     string
	runtime *http.Server
}

// Stop ends the function and the emulator.
func (i *instance) Stop() {
	i.Process.Stop()
	i.runtime.Close()
}

// named serves the runtime API at address, with the function's ARN in each invocation. The emulator's
// own ARN has an account that does not exist.
func named(address, arn string) *http.Server {
	to := &url.URL{Scheme: "http", Host: address}
	return &http.Server{ReadHeaderTimeout: time.Minute, Handler: &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) },
		ModifyResponse: func(r *http.Response) error {
			if r.Header.Get(invoked) != "" {
				r.Header.Set(invoked, arn)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }, // the emulator is stopping
	}}
}

// startInstance starts the emulator, and returns when it accepts invocations. The function itself
// starts with the first invocation.
func startInstance(ctx context.Context, rie string, spec process.Spec, bootstrap, arn string) (_ *instance, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	// Another process may take a port that was just free. The emulator then exits, and we try other
	// ports.
	const attempts = 5
	for range attempts {
		invoke, err := freeAddress()
		if err != nil {
			return nil, err
		}
		runtimeAPI, err := freeAddress()
		if err != nil {
			return nil, err
		}
		spec.Path = rie
		spec.Args = []string{"--log-level", "error", "--runtime-interface-emulator-address", invoke, "--runtime-api-address", runtimeAPI,
			"/usr/bin/env", "AWS_LAMBDA_RUNTIME_API=" + l.Addr().String(), bootstrap}
		p, err := process.Start(spec)
		if err != nil {
			return nil, err
		}
		ready, err := accepts(ctx, p, invoke)
		if err != nil {
			p.Stop()
			return nil, err
		}
		if ready {
			runtime := named(runtimeAPI, arn)
			go runtime.Serve(l) // until Stop
			return &instance{Process: p, runtime: runtime, url: "http://" + invoke + "/2015-03-31/functions/function/invocations"}, nil
		}
	}
	return nil, fmt.Errorf("the Lambda Runtime Interface Emulator did not start in %d attempts: its log has the reason", attempts)
}

// accepts waits until the address accepts connections. It returns false if p ends first.
func accepts(ctx context.Context, p *process.Process, address string) (bool, error) {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			select {
			case <-p.Done():
				return false, nil
			default:
				return true, nil
			}
		}
		select {
		case <-poll.C:
		case <-p.Done():
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
