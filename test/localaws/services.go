package localaws

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/defenderhub/defenderhub/internal/securityhubtest"
	"github.com/defenderhub/defenderhub/test/localaws/cloudwatch"
	"github.com/defenderhub/defenderhub/test/localaws/devicedefender"
	"github.com/defenderhub/defenderhub/test/localaws/edge"
	"github.com/defenderhub/defenderhub/test/localaws/eventbridge"
	"github.com/defenderhub/defenderhub/test/localaws/eventsource"
	"github.com/defenderhub/defenderhub/test/localaws/functions"
	"github.com/defenderhub/defenderhub/test/localaws/providers"
)

// serveFunctions serves AWS Lambda. It builds the Runtime Interface Emulator in the background.
func (c *Cloud) serveFunctions() {
	var rie string
	var rieErr error
	built := make(chan struct{})
	c.background.Go(func() {
		defer close(built)
		rie, rieErr = functions.BuildRIE(c.ctx, filepath.Join(c.repository, "test", "localaws", "rie"), c.temp())
	})
	c.Functions = &functions.Runner{
		Endpoint: c.Endpoint, Account: c.Account, Region: c.Region, Dir: c.dir,
		Lookup: func(name string) (functions.Function, error) { return providers.Function(c.Resources, name) },
		Code: func(ctx context.Context, bucket, key string) ([]byte, error) {
			return c.api(c.Endpoint).Send(ctx, "s3", http.MethodGet, "/"+bucket+"/"+key, "", nil, nil)
		},
		Credentials: c.executionRole,
		RIE: func() (string, error) {
			<-built
			return rie, rieErr
		},
		Failed: func(function string, dropped bool) {
			metric := cloudwatch.FunctionErrors
			if dropped {
				metric = cloudwatch.AsyncEventsDropped
			}
			c.passing.metrics.Put(cloudwatch.FunctionMetric(metric, function), c.Clock.Now(), 1)
		},
	}
	c.Edge.Wrap("lambda", func(next http.Handler) http.Handler {
		c.lambda = functions.NewAPI(c.ctx, c.Functions, next)
		return c.lambda
	})
}

func (c *Cloud) serveSecurityHub() {
	c.SecurityHub = securityhubtest.New(securityhubtest.Config{Account: c.Account, Now: c.Clock.Now, OnImported: func(i securityhubtest.Imported) {
		c.importedMu.Lock()
		listeners := slices.Clone(c.imported)
		c.importedMu.Unlock()
		for _, f := range listeners {
			f(i)
		}
	}})
	c.Edge.Handle("securityhub", c.SecurityHub)
}

// OnImported registers f, which is called with each finding that an import or an update changed. It
// runs before the call returns, when Security Hub sends its event.
func (c *Cloud) OnImported(f func(securityhubtest.Imported)) {
	c.importedMu.Lock()
	defer c.importedMu.Unlock()
	c.imported = append(c.imported, f)
}

func (c *Cloud) provide() {
	custom := &providers.CustomResources{Invoke: c.Functions.Invoke}
	custom.ResponseURL = c.Endpoint + c.Edge.HandleInternal("custom-resource-response", custom)
	providers.Register(providers.Account{API: c.api(c.Endpoint), Emulator: c.emulatorAPI(), Registry: c.Resources, CustomResources: custom, MayBeFed: c.mayBeFed})

	c.serveEventSources()
	devicedefender.RegisterProviders(c.Resources, c.Defender)
}

func (c *Cloud) serveEventSources() {
	invoke := func(ctx context.Context, function string, payload []byte) ([]byte, error, error) {
		result, err := c.Functions.Invoke(ctx, function, payload)
		if err == nil && result.FunctionError != "" {
			return nil, fmt.Errorf("the function failed: %s", result.Reason()), nil
		}
		return result.Payload, nil, err
	}
	report := func(function string, err error) {
		if err != nil && c.ctx.Err() == nil {
			c.say("event source of function %s: %v", functions.Name(function), err)
		}
	}
	c.sources = &eventsource.Sources{
		Queue: c.queues(), Stream: c.streamsAPI(), Invoke: invoke, May: c.mayFeed, At: c.Clock.At, Hurry: c.hurried,
		Discard: func(ctx context.Context, function, queueARN string, message []byte) error {
			if err := c.functionMay(ctx, function, queueARN, "sqs:SendMessage"); err != nil {
				return err
			}
			return c.send(ctx, eventbridge.Origin{}, queueARN, message)
		},
		Report: func(b eventsource.Batch) { report(b.Mapping.Function, b.Err) },
	}
	c.Edge.Wrap("kinesis", edge.OneAtATime)
	c.Edge.Wrap("kinesis", eventsource.StreamAPI)
	c.Resources.OnChange(func() {
		c.sources.Set(c.ctx, providers.Mappings(c.Resources, c.Endpoint))
	})
}

func (c *Cloud) streamsAPI() *kinesis.Client { return kinesis.NewFromConfig(c.Config()) }

func (c *Cloud) queues() *sqs.Client { return sqs.NewFromConfig(c.Config()) }

// Inert returns one line for each type and reason of deployed resources that do nothing here.
func (c *Cloud) Inert() []string {
	type kind struct{ resourceType, reason string }
	count := map[kind]int{}
	for _, d := range c.Resources.Deployed("") {
		if d.Inert != "" {
			count[kind{d.Type, d.Inert}]++
		}
	}
	var lines []string
	for k, n := range count {
		lines = append(lines, fmt.Sprintf("%s (%d): %s", k.resourceType, n, k.reason))
	}
	slices.Sort(lines)
	return lines
}

// Hurry ends batches for functions as soon as their source is empty, before the end of their window,
// until done is called. So a test does not wait for the windows.
func (c *Cloud) Hurry() (done func()) {
	c.hurries.Add(1)
	return sync.OnceFunc(func() { c.hurries.Add(-1) })
}

func (c *Cloud) hurried() bool { return c.hurries.Load() > 0 }

// Drained waits until no event is in delivery, and until the queues and streams of functions have
// nothing for them: every message was handled, discarded, or moved to a dead-letter queue. It does
// not wait for delayed messages, nor for messages that a function hides: a step of the clock ends
// both. It does not wait for windows of batches, see [Cloud.Hurry]. If a role was denied something,
// Drained returns an error at once, because the cloud would retry as long as AWS does.
func (c *Cloud) Drained(ctx context.Context) error {
	defer c.Hurry()()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if err := c.Denied(); err != nil {
			return err
		}
		holding, err := c.holding(ctx)
		if err == nil && len(holding) == 0 {
			// The last function may have imported a finding whose event is not in a queue yet.
			if err = c.Settle(ctx); err == nil {
				holding, err = c.holding(ctx)
			}
		}
		if err != nil || len(holding) == 0 {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("messages for functions are still in %s: %w", strings.Join(holding, ", "), ctx.Err())
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	}
}

// holding returns the queues and streams with messages for functions. A function sends messages
// before its own message is deleted, so no message is missed between two queues.
func (c *Cloud) holding(ctx context.Context) ([]string, error) {
	c.Rules.Settle()                     // rules may still send to queues and streams
	behind, err := c.sources.Behind(ctx) // before the queues, to which the functions of streams send
	if err != nil {
		return nil, err
	}
	var holding []string
	if behind > 0 {
		holding = append(holding, fmt.Sprintf("streams (%d records)", behind))
	}
	queues, err := c.emulator.Queues(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range c.sources.Mappings() {
		if queues[m.SourceARN].Waiting {
			holding = append(holding, m.SourceARN)
		}
	}
	return holding, nil
}
