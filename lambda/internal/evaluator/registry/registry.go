// Package registry tells which thing of the AWS IoT registry a client is, and in which
// thing groups. It asks by the principal first, as AWS IoT authenticated it, and by the
// client id second.
//
// A principal costs one ListPrincipalThings, a client at most one DescribeThing, with groups
// one ListThingGroupsForThing more, and each group one DescribeThingGroup for all its
// things; then nothing while the answer is believed. A Region's quotas are 10 calls a second of
// the first, 350 of DescribeThing and 100 of either call for groups (unverified, from a
// listing of Service Quotas; all adjustable). So one function learns about 10 new principals
// a second, and only clients that are to be looked up should be asked for.
package registry

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awsretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
)

// API is the part of the AWS IoT client that a [Registry] calls. Calls are not repeated here: the
// client may retry.
type API interface {
	ListPrincipalThings(context.Context, *iot.ListPrincipalThingsInput, ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error)
	DescribeThing(context.Context, *iot.DescribeThingInput, ...func(*iot.Options)) (*iot.DescribeThingOutput, error)
	ListThingGroupsForThing(context.Context, *iot.ListThingGroupsForThingInput, ...func(*iot.Options)) (*iot.ListThingGroupsForThingOutput, error)
	DescribeThingGroup(context.Context, *iot.DescribeThingGroupInput, ...func(*iot.Options)) (*iot.DescribeThingGroupOutput, error)
}

// ErrUnresolved is in every error of [Registry.Resolve]: AWS IoT could not answer now,
// as when it throttles. Such a client may be asked for again; nothing is known of it.
var ErrUnresolved = errors.New("thing cannot be resolved now")

// Thing is what the registry knows of a client.
type Thing struct {
	// Name of the thing, or the client id where no thing is registered. It is "" for a
	// message that did not come over MQTT and whose principal has not exactly one thing.
	Name       string
	Registered bool
	// Groups are the names of the thing's groups and of all their ancestors, sorted; nil
	// where [Config.Groups] does not ask for them.
	Groups []string
}

// Config of a [Registry]. All fields but Clients are needed.
type Config struct {
	// Partition, Region and Account hold the certificates.
	Partition, Region, Account string
	// Groups asks for thing groups as well.
	Groups bool
	// MaxAge is how long an answer is believed.
	MaxAge time.Duration
	// Size is how many clients, how many principals, and how many groups are remembered.
	Size int
	// Clients says which client IDs may be further connections of a thing; the zero value:
	// none.
	Clients contract.ClientPattern
}

// Registry is safe for concurrent use.
type Registry struct {
	api    API
	config Config
	things *memory[Thing]
	// only are the things of principals that have one alone: a device that connects by ever
	// new client ids asks for its certificate once.
	only *memory[string]
	// joined are the things of further connections, "" where the certificate does not prove it.
	joined *memory[string]
	// lines are groups with their ancestors, by the group's name.
	lines *memory[[]string]
}

// principalAge is how long the thing of a principal is believed for its other client ids:
// short, because what follows from it is believed for [Config.MaxAge] again.
const principalAge = time.Minute

// New returns the registry behind api.
func New(api API, c Config) (*Registry, error) {
	things, err1 := newMemory[Thing](c.Size, c.MaxAge)
	only, err2 := newMemory[string](c.Size, min(c.MaxAge, principalAge))
	joined, err3 := newMemory[string](c.Size, c.MaxAge)
	lines, err4 := newMemory[[]string](c.Size, c.MaxAge)
	return &Registry{api, c, things, only, joined, lines}, errors.Join(err1, err2, err3, err4)
}

// certificateID is the id of an X.509 certificate, the one kind of principal that
// principal() gives in a form that names a principal of the registry.
var certificateID = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)

// Resolve tells who a client is. clientID and principal are clientid() and principal()
// of IoT SQL: [defender.NotMQTT] for a message over HTTPS, a certificate's id or anything
// else. at is the time of what the client sent, by which answers age. Concurrent calls
// about one client share one lookup, and its context.
func (r *Registry) Resolve(ctx context.Context, clientID, principal string, at time.Time) (Thing, error) {
	if !certificateID.MatchString(principal) {
		principal = ""
	}
	t, err := r.things.get(clientID+"\x00"+principal, at, func() (Thing, error) { return r.lookUp(ctx, clientID, principal, at) })
	if err != nil {
		return Thing{}, fmt.Errorf("%w: %w", ErrUnresolved, err)
	}
	t.Groups = slices.Clone(t.Groups)
	return t, nil
}

// Join returns the thing that a client is a further connection of: the one that
// [Config.Clients] maps the client ID to, if the certificate that it used is attached to that
// thing alone. It returns "" for any other client: a device of its own. Each client ID and
// certificate is looked up once in [Config.MaxAge]. An error wraps [ErrUnresolved].
func (r *Registry) Join(ctx context.Context, clientID, principal string, at time.Time) (string, error) {
	thing := r.config.Clients.Thing(clientID)
	if thing == "" || !certificateID.MatchString(principal) {
		return "", nil
	}
	joined, err := r.joined.get(clientID+"\x00"+principal, at, func() (string, error) {
		only, err := r.only.get(principal, at, func() (string, error) { return r.onlyThing(ctx, principal) })
		if only != thing {
			return "", err
		}
		return only, err
	})
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnresolved, err)
	}
	return joined, nil
}

func (r *Registry) lookUp(ctx context.Context, clientID, principal string, at time.Time) (Thing, error) {
	t, err := r.find(ctx, clientID, principal, at)
	if err == nil && t.Registered && r.config.Groups {
		t.Groups, err = r.groups(ctx, t.Name, at)
	}
	return t, err
}

func (r *Registry) find(ctx context.Context, clientID, principal string, at time.Time) (Thing, error) {
	if principal != "" {
		name, err := r.only.get(principal, at, func() (string, error) { return r.onlyThing(ctx, principal) })
		if err != nil || name != "" {
			return Thing{Name: name, Registered: true}, err
		}
	}
	if clientID == iotrule.NotMQTT {
		return Thing{}, nil
	}
	// Of several things of one principal it is the one named like the client, if any.
	if !thingName.MatchString(clientID) {
		return Thing{Name: clientID}, nil
	}
	_, err := r.api.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &clientID})
	switch {
	case missing(err):
		return Thing{Name: clientID}, nil
	case err != nil:
		return Thing{}, fmt.Errorf("DescribeThing: %w", err)
	}
	return Thing{Name: clientID, Registered: true}, nil
}

// thingName is what a thing may be called.
// https://docs.aws.amazon.com/iot/latest/apireference/API_DescribeThing.html
var thingName = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

// onlyThing is the one thing of a certificate, "" where it has none or several.
func (r *Registry) onlyThing(ctx context.Context, id string) (string, error) {
	certificate := arn.ARN{
		Partition: r.config.Partition, Service: "iot", Region: r.config.Region, AccountID: r.config.Account, Resource: "cert/" + id,
	}.String()
	pages := iot.NewListPrincipalThingsPaginator(r.api, &iot.ListPrincipalThingsInput{Principal: &certificate, MaxResults: aws.Int32(2)})
	var things []string
	for pages.HasMorePages() && len(things) < 2 {
		page, err := pages.NextPage(ctx)
		if missing(err) {
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

// groups are a thing's groups and their ancestors.
func (r *Registry) groups(ctx context.Context, thing string, at time.Time) ([]string, error) {
	pages := iot.NewListThingGroupsForThingPaginator(r.api, &iot.ListThingGroupsForThingInput{ThingName: &thing, MaxResults: aws.Int32(250)})
	all := []string{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("ListThingGroupsForThing: %w", err)
		}
		for _, g := range page.ThingGroups {
			name := aws.ToString(g.GroupName)
			line, err := r.lines.get(name, at, func() ([]string, error) { return r.lineOf(ctx, name) })
			if err != nil {
				return nil, err
			}
			all = append(all, line...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// lineOf is a group and its ancestors; none where it was deleted since.
func (r *Registry) lineOf(ctx context.Context, group string) ([]string, error) {
	out, err := r.api.DescribeThingGroup(ctx, &iot.DescribeThingGroupInput{ThingGroupName: &group})
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("DescribeThingGroup: %w", err)
	}
	line := []string{group}
	if m := out.ThingGroupMetadata; m != nil {
		for _, g := range m.RootToParentThingGroups {
			line = append(line, aws.ToString(g.GroupName))
		}
	}
	return line, nil
}

func missing(err error) bool {
	var missing *types.ResourceNotFoundException
	return errors.As(err, &missing)
}

// CanRetry reports whether an error may pass: all but those that say that the request is
// wrong or not allowed. Of one that AWS IoT's model does not have, such as AccessDeniedException, the
// SDK says so by the status alone.
func CanRetry(err error) bool {
	var api smithy.APIError
	var answer interface{ HTTPStatusCode() int }
	if !errors.As(err, &api) || !errors.As(err, &answer) || answer.HTTPStatusCode()/100 != 4 {
		return true
	}
	_, throttled := awsretry.DefaultThrottleErrorCodes[api.ErrorCode()]
	return throttled
}
