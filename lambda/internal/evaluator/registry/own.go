package registry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// Own is the registry of the function's own account and Region, which the first invocation
// names. It is safe for concurrent use.
type Own struct {
	api    API
	config Config

	mu       sync.Mutex
	registry *Registry
}

// NewOwn returns the registry behind api. The function's ARN gives Partition, Region and
// Account.
func NewOwn(api API, c Config) *Own { return &Own{api: api, config: c} }

// Resolve is [Registry.Resolve].
func (o *Own) Resolve(ctx context.Context, clientID, principal string, at time.Time) (Thing, error) {
	r, err := o.of(ctx)
	if err != nil {
		return Thing{}, err
	}
	return r.Resolve(ctx, clientID, principal, at)
}

// Join is [Registry.Join].
func (o *Own) Join(ctx context.Context, clientID, principal string, at time.Time) (string, error) {
	if o.config.Clients.Thing(clientID) == "" {
		return "", nil
	}
	r, err := o.of(ctx)
	if err != nil {
		return "", err
	}
	return r.Join(ctx, clientID, principal, at)
}

func (o *Own) of(ctx context.Context) (*Registry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.registry != nil {
		return o.registry, nil
	}
	lc, ok := lambdacontext.FromContext(ctx)
	if !ok {
		return nil, fmt.Errorf("%w: the invocation does not say which function it is of", ErrUnresolved)
	}
	function, err := arn.Parse(lc.InvokedFunctionArn)
	if err != nil {
		return nil, fmt.Errorf("%w: the invoked function: %w", ErrUnresolved, err)
	}
	c := o.config
	c.Partition, c.Region, c.Account = function.Partition, function.Region, function.AccountID
	o.registry, err = New(o.api, c)
	return o.registry, err
}
