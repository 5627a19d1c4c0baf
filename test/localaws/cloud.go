// Package localaws is a local AWS for tests, for the demo and for users' own clients. The real CDK
// CLI deploys to it, and functions run from the uploaded code. The emulator moto serves what it
// does well, and this module serves the rest. An unsupported call is refused, and the error names
// it.
package localaws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/clock"
	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
	"github.com/defenderhub/defenderhub/test/localaws/edge"
	"github.com/defenderhub/defenderhub/test/localaws/eventsource"
	"github.com/defenderhub/defenderhub/test/localaws/functions"
	"github.com/defenderhub/defenderhub/test/localaws/iam"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/moto"
	"github.com/defenderhub/defenderhub/test/localaws/moto/python"
	"github.com/defenderhub/defenderhub/test/localaws/mqtt"
	"github.com/defenderhub/defenderhub/test/localaws/rules"
	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

// AccountID is the one account of every local AWS.
const AccountID = "123456789012"

// emulated are the services that the emulator may serve. It has hundreds more, which would accept
// calls and do nothing.
var emulated = []string{
	"cloudformation", "dynamodb", "ecr", "iam", "kinesis", "kms", "lambda", "logs", "monitoring",
	"s3", "secretsmanager", "sns", "sqs", "ssm", "sts", "tagging",
}

// Options configure a cloud. The zero value is right for tests.
type Options struct {
	// Region is the one Region of the cloud. Default: us-east-1.
	Region string
	// Progress receives a line for each long step and each failed invocation. Default: nil,
	// nothing is printed.
	Progress io.Writer
	// Repository is the checkout whose pinned tools are used. Default: the one that contains the
	// working directory.
	Repository string
}

// Cloud is a running local AWS.
type Cloud struct {
	// Endpoint is the value of AWS_ENDPOINT_URL.
	Endpoint string
	Region   string
	Account  string
	// Edge routes requests by service. It has the handlers of services that the emulator lacks.
	Edge *edge.Edge
	// Resources has the providers of resource types, and the deployed resources.
	Resources *cloudformation.Registry
	// Functions runs the deployed functions.
	Functions *functions.Runner
	// Permissions enforces the policies of roles, queues and topics.
	Permissions *iam.Enforcer
	// SecurityHub is the service behind the API. Tests inject faults here, and read what no API
	// returns.
	SecurityHub *securityhubtest.Service
	// IoT is AWS IoT Core, with its message broker and its rules engine.
	IoT    *iotcore.Service
	Broker *mqtt.Broker
	Rules  *rules.Engine
	// Defender has the audits of Device Defender.
	Defender *devicedefender.Service
	// Detect has the security profiles that no stack deployed.
	Detect Detect
	// Clock is the clock of all services except the emulator's.
	Clock *clock.Clock

	ctx        context.Context
	cancel     context.CancelCauseFunc
	dir        string
	repository string
	progress   *locked
	emulator   *moto.Moto
	server     *http.Server
	sources    *eventsource.Sources
	lambda     *functions.API
	logs       []*os.File
	background sync.WaitGroup
	stop       sync.Once
	hurries    atomic.Int32           // how many callers of Hurry are not done
	cdkSays    atomic.Pointer[string] // the last output of a running CDK CLI

	delivery delivery
	passing  passing

	syncMu  sync.Mutex
	running map[string]iottypes.TopicRulePayload // the topic rules in the engine

	importedMu sync.Mutex
	imported   []func(securityhubtest.Imported)
}

// Start starts an empty cloud, which runs until Stop or until ctx ends. Each cloud has its own free
// ports and its own directory, so that any number can run at once.
func Start(ctx context.Context, o Options) (_ *Cloud, err error) {
	if o.Region == "" {
		o.Region = "us-east-1"
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Repository == "" {
		wd, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		if o.Repository, err = repository(wd); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "localaws-")
	if err != nil {
		return nil, err
	}
	c := &Cloud{
		Region: o.Region, Account: AccountID, Edge: &edge.Edge{}, Resources: &cloudformation.Registry{},
		Clock: &clock.Clock{}, dir: dir, repository: o.Repository, progress: &locked{to: o.Progress},
	}
	c.Resources.Now = c.Clock.Now
	c.cdkSays.Store(new(string))
	c.Permissions = &iam.Enforcer{Account: c.Account, Region: c.Region, Denied: func(err error) { c.say("denied: %v", err) }}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	if err := os.Mkdir(c.temp(), 0o755); err != nil {
		return nil, err
	}
	if err := c.listen(); err != nil {
		return nil, err
	}
	c.serveSecurityHub()
	c.serveFunctions()
	if err := c.serveIoT(); err != nil {
		return nil, err
	}
	if err := c.startEmulator(); err != nil {
		return nil, err
	}
	c.serveRoles()
	c.serveEvents()
	c.serveTime()
	c.provide()
	context.AfterFunc(c.ctx, c.Stop)
	return c, nil
}

// Stop ends everything that the cloud started, and removes its files. It may be called more than
// once, and returns when everything has ended.
func (c *Cloud) Stop() {
	c.stop.Do(func() {
		c.cancel(errStopped)
		if c.Broker != nil {
			c.Broker.Close()
			c.Rules.Settle()
		}
		if c.Defender != nil {
			c.Defender.Close()
		}
		c.passing.wait()
		c.delivery.lanes.Settle(context.Background())
		if c.sources != nil {
			c.sources.Wait()
		}
		if c.lambda != nil {
			c.lambda.Wait()
		}
		if c.Functions != nil {
			c.Functions.Stop()
		}
		if c.server != nil {
			c.server.Close()
		}
		if c.emulator != nil {
			c.emulator.Stop()
		}
		c.background.Wait()
		for _, f := range c.logs {
			f.Close()
		}
		// A process that was just killed may still create files.
		for range 50 {
			if os.RemoveAll(c.dir) == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
}

// temp returns the directory for temporary files of programs. A program that is killed, such as a
// compiler, does not remove its files.
func (c *Cloud) temp() string { return filepath.Join(c.dir, "tmp") }

// Config returns an AWS SDK configuration for this cloud.
func (c *Cloud) Config() aws.Config {
	return aws.Config{
		Region: c.Region, BaseEndpoint: &c.Endpoint, HTTPClient: awsapi.HTTPClient,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return awsapi.Credentials, nil }),
	}
}

// Dir returns the cloud's directory. Until Stop it has the logs of the emulator, the CDK CLI and the
// functions.
func (c *Cloud) Dir() string { return c.dir }

func (c *Cloud) listen() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen on loopback: %w", err)
	}
	// A host name, not an address: for an address, the CLI would not put the bucket into the path.
	c.Endpoint = "http://localhost:" + strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	c.server = &http.Server{Handler: c.Permissions.Handler(c.Edge), ReadHeaderTimeout: time.Minute}
	c.background.Go(func() {
		if err := c.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			c.say("the edge ended: %v", err)
		}
	})
	return nil
}

func (c *Cloud) startEmulator() error {
	interpreter, err := python.Find(c.ctx, filepath.Join(c.repository, ".venv"), c.temp(), c.progress)
	if err != nil {
		return err
	}
	hook := c.Edge.HandleInternal("resources", c.Resources)
	delivery := c.Edge.HandleInternal("topic-delivery", http.HandlerFunc(c.mayDeliver))
	c.emulator, err = moto.Start(c.ctx, moto.Config{
		Python: interpreter, Dir: c.dir, ProviderURL: c.Endpoint + hook, DeliveryURL: c.Endpoint + delivery, Native: schema.Native(), Replacing: schema.Replacing(),
		Log: c.log("moto.log"), Region: c.Region,
	})
	if err != nil {
		return err
	}
	c.Edge.SetEmulator(edge.Emulator(c.emulator.URL), emulated...)
	c.background.Go(func() {
		<-c.emulator.Done()
		if c.ctx.Err() == nil {
			c.say("the emulator ended unexpectedly; its log is %s", filepath.Join(c.dir, "moto.log"))
		}
	})
	return nil
}

// api returns a client of the cloud, or of a part of it.
func (c *Cloud) api(endpoint string) awsapi.Client {
	return awsapi.Client{Endpoint: endpoint, Region: c.Region}
}

func (c *Cloud) emulatorAPI() awsapi.Client {
	u := url.URL{Scheme: c.emulator.URL.Scheme, Host: c.emulator.URL.Host}
	return c.api(u.String())
}

func (c *Cloud) say(format string, args ...any) { fmt.Fprintf(c.progress, format+"\n", args...) }

func (c *Cloud) log(name string) io.Writer {
	f, err := os.OpenFile(filepath.Join(c.dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		c.say("the log %s cannot be written: %v", name, err)
		return io.Discard
	}
	c.progress.mu.Lock()
	defer c.progress.mu.Unlock()
	c.logs = append(c.logs, f)
	return f
}

// OneAtATime returns a writer to w that is safe for concurrent use.
func OneAtATime(w io.Writer) io.Writer { return &locked{to: w} }

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

type locked struct {
	mu sync.Mutex
	to io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}
