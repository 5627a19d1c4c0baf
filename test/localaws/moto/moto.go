// Package moto runs the emulator moto with our own launcher. The launcher deploys, updates and deletes
// stacks as CloudFormation does. It requests each resource type that moto lacks from a provider,
// where moto would skip the resource.
package moto

import (
	"bufio"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/test/localaws/process"
)

//go:embed *.py
var programs embed.FS

// Config configures moto.
type Config struct {
	Python      string   // the interpreter, from package python
	Dir         string   // for the launcher's files; the caller removes it
	ProviderURL string   // creates resources
	DeliveryURL string   // reports whether a topic may send to a queue
	Native      []string // the types that moto itself creates; ProviderURL creates all others
	// Replacing has the properties of each type whose change replaces a resource.
	Replacing map[string][]string
	Log       io.Writer // receives moto's output
	Region    string
}

// Moto is a running emulator.
type Moto struct {
	*process.Process
	URL *url.URL
}

// Start starts moto with an empty AWS account on a free port, and returns when it serves requests.
func Start(ctx context.Context, c Config) (*Moto, error) {
	dir := filepath.Join(c.Dir, "moto")
	settings, err := json.Marshal(map[string]any{"ProviderURL": c.ProviderURL, "DeliveryURL": c.DeliveryURL, "Native": c.Native, "Replacing": c.Replacing})
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(dir, programs); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "settings.json"), settings, 0o644); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	var complaint strings.Builder
	p, err := process.Start(process.Spec{
		Path: c.Python, Args: []string{filepath.Join(dir, "launcher.py"), filepath.Join(dir, "settings.json")}, Dir: c.Dir,
		Env: []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + c.Dir, "TMPDIR=" + c.Dir, "PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore", "MOTO_IAM_LOAD_MANAGED_POLICIES=true",
			"AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local", "AWS_DEFAULT_REGION=" + c.Region,
		},
		Stdout: w, Stderr: io.MultiWriter(c.Log, &head{to: &complaint}),
	})
	if err != nil {
		return nil, err
	}
	go func() {
		<-p.Done()
		w.Close()
	}()
	port := make(chan int, 1)
	go func() {
		out := bufio.NewReader(r)
		line, _ := out.ReadString('\n')
		n, _ := strconv.Atoi(strings.TrimSpace(line))
		port <- n
		io.Copy(c.Log, out)
	}()
	select {
	case n := <-port:
		if n == 0 {
			p.Stop()
			return nil, fmt.Errorf("moto did not start (%s): %s", c.Python, strings.TrimSpace(complaint.String()))
		}
		return &Moto{Process: p, URL: &url.URL{Scheme: "http", Host: "127.0.0.1:" + strconv.Itoa(n)}}, nil
	case <-ctx.Done():
		p.Stop()
		return nil, ctx.Err()
	}
}

// head keeps the first 4 KB of its input.
type head struct{ to *strings.Builder }

func (h *head) Write(p []byte) (int, error) {
	if room := 4096 - h.to.Len(); room > 0 {
		h.to.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// Queue is the state of a queue that no API of SQS returns without receiving messages.
type Queue struct {
	// Oldest is when the oldest message was sent, by the machine's clock. Delayed messages do not
	// count.
	Oldest time.Time
	// Waiting reports whether the queue has a message that waits for a receiver or is in flight.
	// Delayed messages, and messages that a function hid, do not count.
	Waiting bool
}

// Queues returns the queues that have messages which are not delayed, by ARN.
func (m *Moto) Queues(ctx context.Context) (map[string]Queue, error) {
	var answer map[string]struct {
		Oldest  int64 // ms
		Waiting bool
	}
	if err := m.ask(ctx, "queues", nil, &answer); err != nil {
		return nil, fmt.Errorf("ask the emulator for its queues: %w", err)
	}
	queues := map[string]Queue{}
	for arn, q := range answer {
		queues[arn] = Queue{time.UnixMilli(q.Oldest), q.Waiting}
	}
	return queues, nil
}

// PassDelays shortens by d the delay of delayed messages, and the time for which receivers hid
// messages with a timeout of their own. The emulator uses the machine's clock for both, and no
// step changes that.
func (m *Moto) PassDelays(ctx context.Context, d time.Duration) error {
	var nothing struct{}
	query := url.Values{"seconds": {strconv.FormatFloat(d.Seconds(), 'f', 3, 64)}}
	if err := m.ask(ctx, "pass-delays", query, &nothing); err != nil {
		return fmt.Errorf("pass the delays of the emulator's messages: %w", err)
	}
	return nil
}

// ask gets a page of the launcher.
func (m *Moto) ask(ctx context.Context, page string, query url.Values, answer any) error {
	at := m.URL.JoinPath("_localaws", page)
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	return nil
}
