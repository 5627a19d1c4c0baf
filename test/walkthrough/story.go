// Package walkthrough demonstrates the product over real connections. The real CDK CLI deploys
// the app to a local AWS, devices use MQTT with certificates, audits check real policies, and the
// findings are read from Security Hub. `make demo` prints it, and a test checks it.
package walkthrough

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/securityhub"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/test/localaws"
)

// Options configure the story.
type Options struct {
	// Out receives each step as it happens.
	Out io.Writer
	// Repository is the checkout whose app is deployed.
	Repository string
	// Color highlights severe findings; leave it out if Out is not a terminal.
	Color bool
	// Record receives what is published after the deployment, as lines for defenderhub replay.
	// Default: nil, nothing is recorded.
	Record io.Writer
	// Command is the path of the command defenderhub, which writes Report, an HTML file, after the
	// last step of Run.
	// Default: "", no report is written.
	Command, Report string
}

// story is one run.
type story struct {
	Options
	began   time.Time
	cloud   *localaws.Cloud
	started atomic.Pointer[localaws.Cloud] // the same, for goroutines beside the steps
	iot     *iot.Client
	hub     *securityhub.Client
	queues  *sqs.Client
	outputs map[string]string
	// recording is true once [Options.Record] receives messages.
	recording bool
	fleet     map[string]*device // by the name of the thing
	people    string             // the queue that receives the messages for people
}

func newStory(o Options) *story {
	o.Out = localaws.OneAtATime(o.Out) // the cloud prints from the background
	return &story{Options: o, began: time.Now(), fleet: map[string]*device{}}
}

// step is one step of the story, and what the user should do if it fails.
type step struct {
	what string
	do   func(ctx context.Context) error
	hint string
}

// Serve starts a local AWS, deploys to it, prints the endpoints, and waits for ctx to end.
func Serve(ctx context.Context, o Options) error {
	s := newStory(o)
	defer s.stop()
	if err := s.run(ctx, s.beginning()); err != nil {
		return err
	}
	s.watchStacks()
	if err := s.endpoints(); err != nil {
		return err
	}
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	for {
		select {
		case <-minute.C:
			s.cloud.Pass()
		case <-ctx.Done():
			fmt.Fprintln(s.Out, "stopping")
			return nil
		}
	}
}

// Run runs the whole story. Its error names the step that failed.
func Run(ctx context.Context, o Options) error {
	s := newStory(o)
	defer s.stop()
	if err := s.run(ctx, slices.Concat(s.beginning(), s.auditing(), s.experiment(), s.devices(), s.incidents(), s.ending())); err != nil {
		return err
	}
	return s.report(ctx)
}

// report writes the report of what the story did.
func (s *story) report(ctx context.Context) error {
	if s.Command == "" {
		return nil
	}
	command := exec.CommandContext(ctx, s.Command, "report", "--out", s.Report)
	command.Env = s.cloud.Env()
	out, err := command.CombinedOutput()
	if _, missing := os.Stat(s.Report); missing != nil {
		return fmt.Errorf("the report was not written: %w: %s", errors.Join(err, missing), out)
	}
	if err != nil {
		s.note("parts of the report are missing: %s", out)
	}
	fmt.Fprintf(s.Out, "\nA report of this is in %s\n", s.Report)
	return nil
}

func (s *story) stop() {
	if s.cloud != nil {
		s.cloud.Stop()
	}
}

// run runs the steps in order.
func (s *story) run(ctx context.Context, steps []step) error {
	for i, st := range steps {
		fmt.Fprintf(s.Out, "%5.1fs  %2d/%d  %s\n", time.Since(s.began).Seconds(), i+1, len(steps), st.what)
		if err := s.withProgress(func() error { return st.do(ctx) }); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return fmt.Errorf("interrupted at step %d (%s): %w", i+1, st.what, cause)
			}
			return fmt.Errorf("step %d failed (%s): %w\n%s", i+1, st.what, err, st.hint)
		}
	}
	fmt.Fprintf(s.Out, "%5.1fs  done\n", time.Since(s.began).Seconds())
	return nil
}

// heartbeat is how often a long step prints that it is still running.
const heartbeat = 8 * time.Second

// withProgress runs do and meanwhile prints its progress.
func (s *story) withProgress(do func() error) error {
	done := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		beat := time.NewTicker(heartbeat)
		defer beat.Stop()
		for began := time.Now(); ; {
			select {
			case <-beat.C:
				s.note("… for %.0f s%s", time.Since(began).Seconds(), s.at())
			case <-done:
				return
			}
		}
	})
	defer ticking.Wait()
	defer close(done)
	return do()
}

// at returns what a long step is doing, as far as known.
func (s *story) at() string {
	cloud := s.started.Load()
	if cloud == nil {
		return ""
	}
	line := cloud.CDKSays()
	if line == "" {
		return ""
	}
	return ", the CDK CLI says: " + shortened(line, 100)
}

// note prints a line below the current step.
func (s *story) note(format string, args ...any) {
	fmt.Fprintf(s.Out, "               "+format+"\n", args...)
}

const (
	hintTools  = "npm installs missing tools into node_modules and pip into .venv. That needs a network the first time."
	hintDeploy = "Run `make test-cdk` to see whether the app itself fails."
	hintIssue  = "You did nothing wrong: please report this with the output above."
)

func (s *story) beginning() []step {
	return []step{
		{"start a local AWS: services, MQTT broker, rules engine, Device Defender, Security Hub", s.startCloud, hintTools},
		{"cdk bootstrap", func(ctx context.Context) error { return s.cloud.Bootstrap(ctx) }, hintTools},
		{"cdk deploy: compile the Lambda functions (minutes the first time), synthesize, deploy the stack", s.deploy, hintDeploy},
	}
}

func (s *story) startCloud(ctx context.Context) error {
	cloud, err := localaws.Start(ctx, localaws.Options{Progress: notes{s}, Repository: s.Repository})
	if err != nil {
		return err
	}
	s.cloud = cloud
	s.started.Store(cloud)
	s.iot = iot.NewFromConfig(cloud.Config())
	s.hub = securityhub.NewFromConfig(cloud.Config())
	s.queues = sqs.NewFromConfig(cloud.Config())
	return nil
}

func (s *story) deploy(ctx context.Context) error {
	return s.deployWith(ctx, map[string]string{
		"engine": "self-managed", "profile": "demo,starter", "audit-subscription": "off", "enable-security-hub": "true", "audit-on-deploy": "true",
		"known-networks": "127.0.0.1/32", "correlate": "true", "correlate-attributes": "instanceId", "notify": "true", "notify-hold": "15m",
	})
}

// deployWith deploys the app with these settings instead of those of cdk.json.
func (s *story) deployWith(ctx context.Context, settings map[string]string) error {
	return s.deployFrom(ctx, s.Repository, settings)
}

// deployFrom is deployWith for the app of another checkout.
func (s *story) deployFrom(ctx context.Context, repository string, settings map[string]string) error {
	out := filepath.Join(s.cloud.Dir(), "cdk.out")
	if err := shareZips(out, filepath.Join(s.Repository, ".local", "zips")); err != nil {
		return fmt.Errorf("share zipped assets: %w", err)
	}
	args := []string{"--output", out, "-c", "defenderhub:architecture=" + runtime.GOARCH}
	for k, v := range settings {
		args = append(args, "-c", "defenderhub:"+k+"="+v)
	}
	if _, err := s.cloud.Deploy(ctx, repository, nil, args...); err != nil {
		return err
	}
	outputs, err := stackOutputs(ctx, s.cloud, "DefenderHub")
	if err != nil {
		return err
	}
	s.outputs = outputs
	s.record()
	if s.outputs["DeadLetterQueueUrl"] == "" {
		return errors.New("the stack has no output DeadLetterQueueUrl")
	}
	if inert := s.cloud.Inert(); len(inert) > 0 {
		s.note("deployed, but without effect here: %s", strings.Join(inert, "; "))
	}
	return nil
}

// notes prints the cloud's progress.
type notes struct{ s *story }

func (n notes) Write(p []byte) (int, error) {
	n.s.note("%s", trimNewline(p))
	return len(p), nil
}

func trimNewline(p []byte) []byte {
	if len(p) > 0 && p[len(p)-1] == '\n' {
		return p[:len(p)-1]
	}
	return p
}
