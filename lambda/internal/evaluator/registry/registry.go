// Package registry finds the thing of a client in the AWS IoT registry, and its thing groups. It
// uses the principal first, as AWS IoT authenticated it, and the client ID second.
//
// Besides the call for the certificate, a client costs at most one DescribeThing, with groups one
// more ListThingGroupsForThing, and each group one DescribeThingGroup for all its things. A cached
// answer costs nothing. A Region's quotas are 350 calls per second of DescribeThing and 100 of each
// call for groups (unverified, from a listing of Service Quotas; all adjustable).
package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/iotrule"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/memory"
)

// API is the part of the AWS IoT client that a [Registry] calls. The registry does not retry; the
// client may.
type API interface {
	certificate.API
	DescribeThing(context.Context, *iot.DescribeThingInput, ...func(*iot.Options)) (*iot.DescribeThingOutput, error)
	ListThingGroupsForThing(context.Context, *iot.ListThingGroupsForThingInput, ...func(*iot.Options)) (*iot.ListThingGroupsForThingOutput, error)
	DescribeThingGroup(context.Context, *iot.DescribeThingGroupInput, ...func(*iot.Options)) (*iot.DescribeThingGroupOutput, error)
}

// Thing is the registry's information about a client.
type Thing struct {
	// Name is the thing's name, or the client ID if no thing is registered. It is "" for a
	// message that was not sent over MQTT and whose principal has not exactly one thing.
	Name       string
	Registered bool
	// Groups are the names of the thing's groups and of all their ancestors, sorted; nil unless
	// [Config.Groups] is set.
	Groups []string
}

// Config of a [Registry].
type Config struct {
	certificate.Config
	// Groups requests thing groups as well.
	Groups bool
}

// Registry is safe for concurrent use. Errors wrap [certificate.ErrUnresolved].
type Registry struct {
	*certificate.Certificates
	api    API
	config Config
	things *memory.Answers[Thing]
	// lines are groups with their ancestors, by the group's name.
	lines *memory.Answers[[]string]
}

// New returns the registry behind api.
func New(api API, c Config) (*Registry, error) {
	certificates, err1 := certificate.New(api, c.Config)
	things, err2 := memory.New[Thing](c.Size, c.MaxAge)
	lines, err3 := memory.New[[]string](c.Size, c.MaxAge)
	return &Registry{certificates, api, c, things, lines}, errors.Join(err1, err2, err3)
}

// Resolve returns the thing of a client. clientID and principal are clientid() and principal() of
// IoT SQL: [iotrule.NotMQTT] for a message over HTTPS, a certificate's ID or anything else. at is
// when the client sent the message; cached answers expire by this time. Concurrent calls for one
// client share one lookup, and its context.
func (r *Registry) Resolve(ctx context.Context, clientID, principal string, at time.Time) (Thing, error) {
	if !certificate.IsID(principal) {
		principal = ""
	}
	t, err := r.things.Get(clientID+"\x00"+principal, at, func() (Thing, error) { return r.lookUp(ctx, clientID, principal, at) })
	if err != nil && !errors.Is(err, certificate.ErrUnresolved) {
		err = fmt.Errorf("%w: %w", certificate.ErrUnresolved, err)
	}
	if err != nil {
		return Thing{}, err
	}
	t.Groups = slices.Clone(t.Groups)
	return t, nil
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
		name, err := r.Certificates.Thing(ctx, principal, at)
		if err != nil || name != "" {
			return Thing{Name: name, Registered: true}, err
		}
	}
	if clientID == iotrule.NotMQTT {
		return Thing{}, nil
	}
	// Of several things of one principal, it is the one named like the client, if any.
	if !contract.IsThingName(clientID) {
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

// groups returns a thing's groups and their ancestors.
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
			line, err := r.lines.Get(name, at, func() ([]string, error) { return r.lineOf(ctx, name) })
			if err != nil {
				return nil, err
			}
			all = append(all, line...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// lineOf returns a group and its ancestors; none if it was deleted since.
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
