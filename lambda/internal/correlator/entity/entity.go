// Package entity finds the devices that a finding is about, what they use, and what belongs to
// them.
//
// Identity comes from the finding's resources and product fields, and from the AWS IoT registry,
// never from a title. Answers of the registry are cached. Findings of another account or Region are
// not looked up: the registry does not have their devices.
package entity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
	"github.com/defenderhub/defenderhub/internal/correlation"
	"github.com/defenderhub/defenderhub/internal/findingevent"
	"github.com/defenderhub/defenderhub/lambda/internal/certificate"
	"github.com/defenderhub/defenderhub/lambda/internal/correlator/incident"
	"github.com/defenderhub/defenderhub/lambda/internal/memory"
)

// API is the part of the AWS IoT client that a [Resolver] calls.
type API interface {
	DescribeThing(context.Context, *iot.DescribeThingInput, ...func(*iot.Options)) (*iot.DescribeThingOutput, error)
	ListThings(context.Context, *iot.ListThingsInput, ...func(*iot.Options)) (*iot.ListThingsOutput, error)
	ListPrincipalThings(context.Context, *iot.ListPrincipalThingsInput, ...func(*iot.Options)) (*iot.ListPrincipalThingsOutput, error)
	ListThingPrincipals(context.Context, *iot.ListThingPrincipalsInput, ...func(*iot.Options)) (*iot.ListThingPrincipalsOutput, error)
	GetEffectivePolicies(context.Context, *iot.GetEffectivePoliciesInput, ...func(*iot.Options)) (*iot.GetEffectivePoliciesOutput, error)
	DescribeRoleAlias(context.Context, *iot.DescribeRoleAliasInput, ...func(*iot.Options)) (*iot.DescribeRoleAliasOutput, error)
}

// Home is the account and Region of the function and of its registry.
type Home struct{ Partition, Account, Region string }

// at reports whether a finding is about the account and Region.
func (h Home) at(e findingevent.Event) bool { return e.Account == h.Account && e.Region == h.Region }

func (h Home) arn(resource string) string {
	return "arn:" + h.Partition + ":iot:" + h.Region + ":" + h.Account + ":" + resource
}

// Config of a [Resolver]. MaxAge and Size are required.
type Config struct {
	// MaxAge is how long an answer of the registry is cached.
	MaxAge time.Duration
	// Size is how many answers of each kind are cached.
	Size int
	// Attributes are the names of attributes that name a thing's resources.
	Attributes []string
	// Clients matches the client IDs that may be further connections of a thing.
	Clients contract.ClientPattern
}

// Resolver is safe for concurrent use.
type Resolver struct {
	api    API
	config Config
	// things has the things of a certificate, named the things with an attribute's value.
	things, named *memory.Answers[[]string]
	described     *memory.Answers[thing]
	used          *memory.Answers[use]
}

// thing is the registry's description of a thing.
type thing struct {
	registered bool
	clientID   string
	attributes map[string]string
	principals []string
}

// New returns the resolver behind api.
func New(api API, c Config) (*Resolver, error) {
	things, err1 := memory.New[[]string](c.Size, c.MaxAge)
	named, err2 := memory.New[[]string](c.Size, c.MaxAge)
	described, err3 := memory.New[thing](c.Size, c.MaxAge)
	used, err4 := memory.New[use](c.Size, c.MaxAge)
	return &Resolver{api, c, things, named, described, used}, errors.Join(err1, err2, err3, err4)
}

// MaxDevices is the maximum number of devices of one finding. The others are left out.
const MaxDevices = 10

// Devices returns the devices that a finding is about, each once, and whether there are more than
// [MaxDevices]. now is the invocation's time.
func (r *Resolver) Devices(ctx context.Context, home Home, e findingevent.Event, now time.Time) (all []incident.Entity, more bool, err error) {
	l := lookup{r, ctx, home, e, now, map[string]correlation.Kind{}}
	if source, ok := e.DeviceSource(); ok {
		err = l.own(source)
	} else if home.at(e) {
		err = l.others()
	}
	if err != nil {
		return nil, false, err
	}
	for name, kind := range l.found {
		all = append(all, incident.Entity{Account: e.Account, Region: e.Region, Kind: kind, Name: name})
	}
	slices.SortFunc(all, func(a, b incident.Entity) int { return cmp.Compare(a.Name, b.Name) })
	if len(all) > MaxDevices {
		return all[:MaxDevices], true, nil
	}
	return all, false, nil
}

// lookup is the search for the devices of one finding.
type lookup struct {
	*Resolver
	ctx   context.Context
	home  Home
	event findingevent.Event
	now   time.Time
	found map[string]correlation.Kind
}

// The ASFF types of a registered thing and of a policy.
const (
	thingType  = "AwsIotRegisteredThing"
	policyType = "AwsIotPolicy"
)

// own finds the devices of a finding of defenderhub or of Device Defender's integration.
func (l *lookup) own(source defender.Source) error {
	fields := l.event.ProductFields
	if by := fields["PublishedBy"]; by != "" { // another client published an event of AWS: it is about the publisher
		return l.client(by, "")
	}
	if name := fields["ThingName"]; name != "" {
		kind := correlation.Thing
		for _, r := range l.event.Resources {
			if r.ID == name && r.Type != thingType && r.Details["IsRegisteredThing"] == "false" {
				kind = correlation.Client
			}
		}
		l.found[name] = kind
		return nil
	}
	if source != defender.AuditNotifications {
		if l.registered(); len(l.found) > 0 {
			return nil
		}
		return l.client(fields["ClientId"], fields["Principal"])
	}
	return l.audited()
}

// registered adds the finding's resources that are things. Their IDs are names; an ARN is read too.
func (l *lookup) registered() {
	there := Home{l.home.Partition, l.event.Account, l.event.Region}
	for _, res := range l.event.Resources {
		if name := strings.TrimPrefix(res.ID, there.arn("thing/")); res.Type == thingType && name != "" {
			l.found[name] = correlation.Thing
		}
	}
}

// audited finds the devices of an audit finding: its resources are things, client IDs or device
// certificates.
func (l *lookup) audited() error {
	l.registered()
	for _, fields := range described(l.home, l.event) {
		if client := fields["ClientId"]; client != "" {
			if err := l.connected(client); err != nil {
				return err
			}
		}
		if id := fields["DeviceCertificateId"]; certificate.IsID(id) && l.home.at(l.event) {
			things, err := l.certified(id)
			if err != nil {
				return err
			}
			for _, t := range things {
				l.found[t] = correlation.Thing
			}
		}
	}
	return nil
}

// connected adds the device of a client ID in an audit finding, which does not name a certificate.
// AWS IoT saw the client connect, so a further connection counts for its thing.
func (l *lookup) connected(client string) error {
	if name := l.config.Clients.Thing(client); name != "" && l.home.at(l.event) {
		t, err := l.describe(name)
		if err != nil {
			return err
		}
		if t.registered {
			l.found[name] = correlation.Thing
			return nil
		}
	}
	return l.client(client, "")
}

// client adds the device with a client ID: the only thing of its certificate, else the thing of the
// same name, else the client itself. There is none if both are "".
func (l *lookup) client(id, principal string) error {
	if !l.home.at(l.event) && id != "" {
		l.found[id] = correlation.Client
	}
	if !l.home.at(l.event) {
		return nil
	}
	if certificate.IsID(principal) {
		things, err := l.certified(principal)
		if err != nil {
			return err
		}
		if len(things) == 1 {
			l.found[things[0]] = correlation.Thing
			return nil
		}
	}
	if id == "" {
		return nil
	}
	t, err := l.describe(id)
	if err != nil {
		return err
	}
	l.found[id] = correlation.Client
	if t.registered {
		l.found[id] = correlation.Thing
	}
	return nil
}

// certified returns the things of a certificate, a few more than [MaxDevices].
func (l *lookup) certified(id string) ([]string, error) {
	return l.things.Get(id, l.now, func() ([]string, error) {
		out, err := l.api.ListPrincipalThings(l.ctx, &iot.ListPrincipalThingsInput{Principal: aws.String(l.home.arn("cert/" + id)), MaxResults: aws.Int32(MaxDevices + 1)})
		if missing(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("ListPrincipalThings: %w", err)
		}
		return out.Things, nil
	})
}

func (l *lookup) describe(name string) (thing, error) {
	return l.Resolver.describe(l.ctx, name, l.now)
}

func (r *Resolver) describe(ctx context.Context, name string, now time.Time) (thing, error) {
	if !contract.IsThingName(name) {
		return thing{}, nil
	}
	return r.described.Get(name, now, func() (thing, error) {
		out, err := r.api.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name})
		if missing(err) {
			return thing{}, nil
		}
		if err != nil {
			return thing{}, fmt.Errorf("DescribeThing: %w", err)
		}
		principals, err := r.api.ListThingPrincipals(ctx, &iot.ListThingPrincipalsInput{ThingName: &name, MaxResults: aws.Int32(maxPrincipals)})
		if missing(err) {
			return thing{}, nil
		}
		if err != nil {
			return thing{}, fmt.Errorf("ListThingPrincipals: %w", err)
		}
		return thing{true, aws.ToString(out.DefaultClientId), out.Attributes, principals.Principals}, nil
	})
}

// maxPrincipals is how many principals of a thing are read.
const maxPrincipals = 10

// attributeValue matches the values of attributes.
// https://docs.aws.amazon.com/iot/latest/apireference/API_AttributePayload.html
var attributeValue = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#=\[\]-]{1,800}$`)

// others finds the devices of a finding of another product: things with an attribute that names one
// of its resources.
func (l *lookup) others() error {
	for _, res := range l.event.Resources {
		for _, value := range Names(res.ID) {
			if !attributeValue.MatchString(value) {
				continue
			}
			for _, attribute := range l.config.Attributes {
				things, err := l.withAttribute(attribute, value)
				if err != nil {
					return err
				}
				for _, t := range things {
					l.found[t] = correlation.Thing
				}
			}
		}
	}
	return nil
}

// Names returns the forms in which an attribute may name a resource: its ID, and the last part of
// an ARN, such as the instance ID.
func Names(id string) []string {
	if !strings.HasPrefix(id, "arn:") {
		return []string{id}
	}
	last := id[strings.LastIndexAny(id, ":/")+1:]
	return []string{id, last}
}

func (l *lookup) withAttribute(attribute, value string) ([]string, error) {
	return l.named.Get(attribute+"\x00"+value, l.now, func() ([]string, error) {
		out, err := l.api.ListThings(l.ctx, &iot.ListThingsInput{AttributeName: &attribute, AttributeValue: &value, MaxResults: aws.Int32(MaxDevices + 1)})
		if err != nil {
			return nil, fmt.Errorf("ListThings: %w", err)
		}
		var names []string
		for _, t := range out.Things {
			names = append(names, aws.ToString(t.ThingName))
		}
		return names, nil
	})
}

// missing reports whether the registry does not have what was asked for.
func missing(err error) bool {
	var missing *types.ResourceNotFoundException
	return errors.As(err, &missing)
}
