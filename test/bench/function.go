package main

import (
	"archive/zip"
	"compress/flate"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/engine"
)

// functions measures the executables, their zips and their start, compared with a function that
// does nothing.
func (b *bench) functions() error {
	theirs, err := b.build(b.test, "./bench/emptyfunction", "emptyfunction")
	if err != nil {
		return err
	}
	behaviors, err := json.Marshal(engine.Config{
		Profiles: []engine.ProfileConfig{{Name: "Profile", Behaviors: []defender.Behavior{{Name: "tcp", Criteria: defender.ListeningTCPPorts.InPorts(443)}}}},
		Reports:  true, BatchSeconds: 10, MembershipMinutes: 15,
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.dir, contract.ConfigFile), behaviors, 0o644); err != nil {
		return err
	}
	const queue = "https://sqs.us-east-1.amazonaws.com/123456789012/bench"
	for _, f := range []struct {
		name string
		env  []string
	}{
		{"forwarder", []string{contract.EnvLedgerTable + "=bench", contract.EnvDeadLetterQueueURL + "=" + queue}},
		{"evaluator", []string{
			contract.EnvStateTable + "=bench", contract.EnvIngestQueueURL + "=" + queue, contract.EnvDeadLetterQueueURL + "=" + queue,
			contract.EnvTelemetryQueueURL + "=" + queue, contract.EnvReportsRule + "=bench", "LAMBDA_TASK_ROOT=" + b.dir,
		}},
	} {
		ours, err := b.build(b.repository, "./lambda/"+f.name, f.name)
		if err != nil {
			return err
		}
		env := append(f.env, "AWS_REGION=us-east-1", "AWS_LAMBDA_FUNCTION_NAME=bench", "AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench")
		if err := b.function(f.name, ours, theirs, env); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) function(name, ours, theirs string, env []string) error {
	for _, m := range []struct {
		what    string
		measure func(path string) (int64, error)
	}{{"executable", fileSize}, {"zip", zipSize}} {
		a, err := m.measure(ours)
		if err != nil {
			return err
		}
		z, err := m.measure(theirs)
		if err != nil {
			return err
		}
		b.row(name+", "+m.what, fmt.Sprintf("%.1f MB", float64(a)/1e6), fmt.Sprintf("%.1f MB empty function", float64(z)/1e6), number(float64(a)/float64(z)), "")
	}
	// A start is short: one measurement is the fastest of several.
	return b.compare(name+", start until it asks for work", "empty function", 0,
		func() (time.Duration, error) { return b.fastestStart(ours, env) }, func() (time.Duration, error) { return b.fastestStart(theirs, env) })
}

func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// zipSize returns the size of the function's zip.
func zipSize(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var size counter
	archive := zip.NewWriter(&size)
	archive.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	entry, err := archive.Create("bootstrap")
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(entry, f); err != nil {
		return 0, err
	}
	return int64(size), archive.Close()
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func (b *bench) fastestStart(executable string, env []string) (time.Duration, error) {
	fastest := time.Duration(math.MaxInt64)
	for range 5 {
		took, err := b.start(executable, env)
		if err != nil {
			return 0, err
		}
		fastest = min(fastest, took)
	}
	return fastest, nil
}

// start runs a function with a local runtime API, and returns how long it takes to ask for its
// first event.
func (b *bench) start(executable string, env []string) (time.Duration, error) {
	asked := make(chan time.Time, 1)
	release := make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/invocation/next") {
			select {
			case asked <- time.Now():
			default:
			}
			<-release
		}
	}))
	defer api.Close()
	defer close(release)
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, executable)
	c.Env = append(os.Environ(), append(env, "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(api.URL, "http://"))...)
	began := time.Now()
	if err := c.Start(); err != nil {
		return 0, err
	}
	defer c.Wait()
	defer c.Process.Kill()
	select {
	case at := <-asked:
		return at.Sub(began), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("%s asked for no event: %w", filepath.Base(executable), ctx.Err())
	}
}
