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

// serveFunctions prepares what runs functions. The Runtime Interface Emulator is built
// meanwhile.
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

// OnImported has f called with each finding that an import or an update changed, before
// the call is answered: where Security Hub sends its events.
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
			c.say("event source of %s: %v", functions.Name(function), err)
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

// Inert lists what is deployed and does nothing here, one line a type.
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

// Hurry ends, until done is called, the windows in which batches for functions are
// gathered as soon as nothing more waits, so that a test does not sit them out.
func (c *Cloud) Hurry() (done func()) {
	c.hurries.Add(1)
	return sync.OnceFunc(func() { c.hurries.Add(-1) })
}

func (c *Cloud) hurried() bool { return c.hurries.Load() > 0 }

// Drained waits until no event is on its way, and until the queues and streams that feed
// functions hold nothing for them: all that was sent is handled, has gone to a dead-letter
// queue or was discarded. A message that a queue delays, or that a function hides, is not waited
// for until a step of the clock, or the machine's own time, ends that. Drained waits in a [Cloud.Hurry], for no window of a batch. It is an
// error at once when a role was denied something: the cloud tries again as long as AWS would.
func (c *Cloud) Drained(ctx context.Context) error {
	defer c.Hurry()()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		if err := c.Denied(); err != nil {
			return err
		}
		holding, err := c.holding(ctx)
		if err == nil && len(holding) == 0 {
			// What the last function imported may be an event that no queue has yet.
			if err = c.Settle(ctx); err == nil {
				holding, err = c.holding(ctx)
			}
		}
		if err != nil || len(holding) == 0 {
			return err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("messages are still in %s, which functions are fed from: %w", strings.Join(holding, ", "), ctx.Err())
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	}
}

// holding names the queues and streams with messages for functions. Functions send on
// before a message of theirs is deleted, so nothing is between two queues.
func (c *Cloud) holding(ctx context.Context) ([]string, error) {
	c.Rules.Settle()                     // what it sends is not yet in a queue or stream
	behind, err := c.sources.Behind(ctx) // before the queues, into which the functions of streams send
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
