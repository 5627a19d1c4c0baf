// Package certificate finds the thing in the AWS IoT registry to which a certificate is attached.
//
// A certificate costs one ListPrincipalThings, then nothing while the answer is cached. A
// Region's quota is 10 calls per second (unverified, from a listing of Service Quotas;
// adjustable). So a function can look up about 10 new certificates per second, and should only do
// so for clients that need it.
package certificate

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awsretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/lambda/internal/memory"
)

// API is the part of the AWS IoT client that [Certificates] call. Certificates do not retry; the
// client may.
type API interface {
	ListPrincipalThings(context.Context, *iot.ListPrincipalThingsInput, ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error)
}

// ErrUnresolved is wrapped by every error of a lookup: AWS IoT could not answer now, for example
// because it throttled. Nothing is known about the client, and the lookup may be retried.
var ErrUnresolved = errors.New("thing cannot be resolved now")

// Config of [Certificates]. MaxAge and Size are required.
type Config struct {
	// MaxAge is how long an answer is cached.
	MaxAge time.Duration
	// Size is how many clients, and how many certificates, are cached.
	Size int
	// Clients matches the client IDs that may be additional connections of a thing; the zero
	// value means none.
	Clients contract.ClientPattern
}

// Certificates look up certificates of the function's own account and Region, which the context
// of an invocation has. They are safe for concurrent use.
type Certificates struct {
	api    API
	config Config
	// only caches the result of [Certificates.Thing], so that a device that connects with ever new
	// client IDs causes one lookup.
	only *memory.Answers[string]
	// joined has the things of additional connections, "" if the certificate does not prove it.
	joined *memory.Answers[string]
}

// thingAge is how long a certificate's thing is cached for its other client IDs. It is short,
// because answers derived from it are cached for [Config.MaxAge] again. AWS IoT's quota allows
// some 600 lookups in this time, so answers beyond mostOnly would be expired.
const (
	thingAge = time.Minute
	mostOnly = 10_000
)

// New returns the certificates behind api.
func New(api API, c Config) (*Certificates, error) {
	only, err1 := memory.New[string](min(c.Size, mostOnly), min(c.MaxAge, thingAge))
	joined, err2 := memory.New[string](c.Size, c.MaxAge)
	return &Certificates{api, c, only, joined}, errors.Join(err1, err2)
}

// idForm matches the ID of an X.509 certificate. Only for these is principal() of IoT SQL a
// principal of the registry.
var idForm = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// IsID reports whether a principal, as principal() of IoT SQL returns it, is a certificate.
func IsID(principal string) bool { return idForm.MatchString(principal) }

// Join returns the thing whose additional connection a client is: the one to which
// [Config.Clients] maps the client ID, if the client's certificate is attached to that thing
// alone. It returns "" for any other client, which is its own device.
//
// Each pair of client ID and certificate is looked up once per [Config.MaxAge]. An error wraps
// [ErrUnresolved]. clientID and principal are clientid() and principal() of IoT SQL. at is when the
// client sent the message; cached answers expire by this time.
func (c *Certificates) Join(ctx context.Context, clientID, principal string, at time.Time) (string, error) {
	thing := c.config.Clients.Thing(clientID)
	if thing == "" || !IsID(principal) {
		return "", nil
	}
	return c.joined.Get(clientID+"\x00"+principal, at, func() (string, error) {
		only, err := c.Thing(ctx, principal, at)
		if only != thing {
			return "", err
		}
		return only, err
	})
}

// Thing returns the only thing of a certificate, "" if it has none or several. An error wraps
// [ErrUnresolved].
func (c *Certificates) Thing(ctx context.Context, id string, at time.Time) (string, error) {
	thing, err := c.only.Get(id, at, func() (string, error) { return c.ask(ctx, id) })
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnresolved, err)
	}
	return thing, nil
}

func (c *Certificates) ask(ctx context.Context, id string) (string, error) {
	lc, ok := lambdacontext.FromContext(ctx)
	if !ok {
		return "", errors.New("the invocation has no function ARN")
	}
	function, err := arn.Parse(lc.InvokedFunctionArn)
	if err != nil {
		return "", fmt.Errorf("the invoked function: %w", err)
	}
	principal := arn.ARN{Partition: function.Partition, Service: "iot", Region: function.Region, AccountID: function.AccountID, Resource: "cert/" + id}.String()
	pages := iot.NewListPrincipalThingsPaginator(c.api, &iot.ListPrincipalThingsInput{Principal: &principal, MaxResults: aws.Int32(2)})
	var things []string
	for pages.HasMorePages() && len(things) < 2 {
		page, err := pages.NextPage(ctx)
		var missing *types.ResourceNotFoundException
		if errors.As(err, &missing) {
			return "", nil // a certificate of another account, or deleted since
		}
		if err != nil {
			return "", fmt.Errorf("ListPrincipalThings: %w", err)
		}
		things = append(things, page.Things...)
	}
	if len(things) != 1 {
		return "", nil
	}
	return things[0], nil
}

// CanRetry reports whether an error of AWS IoT may be temporary: all except those that mean that
// the request is wrong or not allowed. Errors that AWS IoT's model lacks, such as
// AccessDeniedException, are recognized only by their status.
func CanRetry(err error) bool {
	var api smithy.APIError
	var answer interface{ HTTPStatusCode() int }
	if !errors.As(err, &api) || !errors.As(err, &answer) || answer.HTTPStatusCode()/100 != 4 {
		return true
	}
	_, throttled := awsretry.DefaultThrottleErrorCodes[api.ErrorCode()]
	return throttled
}
