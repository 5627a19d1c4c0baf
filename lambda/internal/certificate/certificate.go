// Package certificate tells which thing of the AWS IoT registry a certificate is attached to.
//
// A certificate costs one ListPrincipalThings, then nothing while the answer is believed. A
// Region's quota is 10 calls a second (unverified, from a listing of Service Quotas;
// adjustable). So one function learns about 10 new certificates a second, and only clients
// that are to be looked up should be asked for.
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

// API is the part of the AWS IoT client that [Certificates] call. Calls are not repeated
// here: the client may retry.
type API interface {
	ListPrincipalThings(context.Context, *iot.ListPrincipalThingsInput, ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error)
}

// ErrUnresolved is in every error: AWS IoT could not answer now, as when it throttles. The
// client may be asked for again; nothing is known of it.
var ErrUnresolved = errors.New("thing cannot be resolved now")

// Config of [Certificates]. MaxAge and Size are needed.
type Config struct {
	// MaxAge is how long an answer is believed.
	MaxAge time.Duration
	// Size is how many clients, and how many certificates, are remembered.
	Size int
	// Clients says which client IDs may be further connections of a thing; the zero value:
	// none.
	Clients contract.ClientPattern
}

// Certificates are those of the function's own account and Region, which the context of an
// invocation names. They are safe for concurrent use.
type Certificates struct {
	api    API
	config Config
	// only are the things of certificates that have one alone: a device that connects by ever
	// new client IDs asks for its certificate once.
	only *memory.Answers[string]
	// joined are the things of further connections, "" where the certificate does not prove it.
	joined *memory.Answers[string]
}

// thingAge is how long the thing of a certificate is believed for its other client IDs: short,
// because what follows from it is believed for [Config.MaxAge] again.
const thingAge = time.Minute

// New returns the certificates behind api.
func New(api API, c Config) (*Certificates, error) {
	only, err1 := memory.New[string](c.Size, min(c.MaxAge, thingAge))
	joined, err2 := memory.New[string](c.Size, c.MaxAge)
	return &Certificates{api, c, only, joined}, errors.Join(err1, err2)
}

// idForm is the id of an X.509 certificate, the one kind of principal that principal() of IoT
// SQL gives in a form that names a principal of the registry.
var idForm = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// IsID reports whether a principal, as principal() of IoT SQL gives it, is a certificate.
func IsID(principal string) bool { return idForm.MatchString(principal) }

// Join returns the thing that a client is a further connection of: the one that
// [Config.Clients] maps the client ID to, if the certificate that it used is attached to that
// thing alone. It returns "" for any other client: a device of its own. Each client ID and
// certificate is looked up once in [Config.MaxAge]. An error wraps [ErrUnresolved]. clientID
// and principal are clientid() and principal() of IoT SQL. at is the time of what the client
// sent, by which answers age.
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

// Thing is the one thing of a certificate, "" where it has none or several. An error wraps
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
		return "", errors.New("the invocation does not say which function it is of")
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

// CanRetry reports whether an error of AWS IoT may pass: all but those that say that the
// request is wrong or not allowed. Of one that AWS IoT's model does not have, such as
// AccessDeniedException, the SDK says so by the status alone.
func CanRetry(err error) bool {
	var api smithy.APIError
	var answer interface{ HTTPStatusCode() int }
	if !errors.As(err, &api) || !errors.As(err, &answer) || answer.HTTPStatusCode()/100 != 4 {
		return true
	}
	_, throttled := awsretry.DefaultThrottleErrorCodes[api.ErrorCode()]
	return throttled
}
