package iotcore

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

type thing struct {
	name, id, arn string
	attributes    map[string]string
	principals    map[string]types.ThingPrincipalType // by principal ARN
}

// attributesOf returns the attributes in a request, without those whose value is empty.
func attributesOf(p *types.AttributePayload) map[string]string {
	out := map[string]string{}
	if p != nil {
		maps.Copy(out, p.Attributes)
	}
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	return out
}

// createThing creates a thing. It succeeds if the same thing exists, and fails if another thing has
// the name.
func (s *Service) createThing(in *iot.CreateThingInput) (*iot.CreateThingOutput, error) {
	name := *in.ThingName
	if err := checkName("thingName", name); err != nil {
		return nil, err
	}
	attributes := attributesOf(in.AttributePayload)
	t, exists := s.things[name]
	if exists && !maps.Equal(t.attributes, attributes) {
		return nil, errAlreadyExists.of(t.name, t.arn, "Thing %s already exists in account with different attributes", name)
	}
	if !exists {
		t = &thing{
			name: name, id: newUUID(), arn: s.ARN("thing/" + name), attributes: attributes,
			principals: map[string]types.ThingPrincipalType{},
		}
		s.things[name] = t
	}
	return &iot.CreateThingOutput{ThingName: &t.name, ThingArn: &t.arn, ThingId: &t.id}, nil
}

func checkName(field, name string) error {
	if !nameForm.MatchString(name) {
		return errInvalidRequest.new("1 validation error detected: Value %q at '%s' failed to satisfy constraint: want 1 to 128 of a-z A-Z 0-9 : _ -", name, field)
	}
	return nil
}

// find returns an entry of a table, or an error with the name in its message. It needs the lock.
func find[T any](all map[string]*T, name string, missing errorKind, message string) (*T, error) {
	if found, ok := all[name]; ok {
		return found, nil
	}
	return nil, missing.new(message, name)
}

func (s *Service) thing(name string) (*thing, error) {
	return find(s.things, name, errNotFound, "Thing %s not found")
}

// Attributes returns the attributes of a thing, and whether it exists.
func (s *Service) Attributes(thingName string) (attributes map[string]string, exists bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, exists := s.things[thingName]
	if exists {
		attributes = maps.Clone(t.attributes)
	}
	return attributes, exists
}

func (s *Service) describeThing(in *iot.DescribeThingInput) (*iot.DescribeThingOutput, error) {
	t, err := s.thing(*in.ThingName)
	if err != nil {
		return nil, err
	}
	return &iot.DescribeThingOutput{
		DefaultClientId: &t.name, ThingName: &t.name, ThingId: &t.id, ThingArn: &t.arn, Attributes: maps.Clone(t.attributes), Version: 1,
	}, nil
}

// deleteThing deletes a thing that has no principals. It succeeds for a thing that does not exist.
func (s *Service) deleteThing(in *iot.DeleteThingInput) error {
	t, ok := s.things[*in.ThingName]
	if !ok {
		return nil
	}
	if len(t.principals) > 0 {
		return errInvalidRequest.new("Cannot delete. Thing %s is still attached to one or more principals", t.name)
	}
	for _, g := range s.groups {
		delete(g.things, t.name)
	}
	delete(s.things, t.name)
	return nil
}

func (s *Service) listThings(in *iot.ListThingsInput) (out *iot.ListThingsOutput, err error) {
	var all []types.ThingAttribute
	for _, name := range slices.Sorted(maps.Keys(s.things)) {
		t := s.things[name]
		value, has := t.attributes[aws.ToString(in.AttributeName)]
		if in.AttributeName == nil || has && value == aws.ToString(in.AttributeValue) {
			all = append(all, types.ThingAttribute{ThingName: &t.name, ThingArn: &t.arn, Attributes: maps.Clone(t.attributes), Version: 1})
		}
	}
	out = &iot.ListThingsOutput{}
	out.Things, out.NextToken, err = Page(all, in.NextToken, in.MaxResults, DefaultPage)
	return out, err
}

// The two ways to attach a principal to a thing. Only for an exclusive thing do lifecycle events
// have the thing's name, and only then may the client ID differ from it (AWS IoT Core Developer
// Guide, "Associating a thing to a connection").
const (
	exclusiveThing    = types.ThingPrincipalTypeExclusiveThing
	nonExclusiveThing = types.ThingPrincipalTypeNonExclusiveThing
)

// ConnectionThing returns the thing of a connection: the exclusive thing of its certificate, or
// else the thing whose name is the client ID, if the certificate is attached to it.
func (s *Service) ConnectionThing(certificateID, clientID string) (name string, exclusive bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	arn := s.ARN("cert/" + certificateID)
	for _, t := range s.things {
		if t.principals[arn] == exclusiveThing {
			return t.name, true
		}
	}
	if t, ok := s.things[clientID]; ok && t.principals[arn] != "" {
		return t.name, false
	}
	return "", false
}

// attachThingPrincipal attaches a certificate to a thing, as NON_EXCLUSIVE_THING
// unless the input says otherwise.
func (s *Service) attachThingPrincipal(in *iot.AttachThingPrincipalInput) error {
	kind := in.ThingPrincipalType
	switch kind {
	case "":
		kind = nonExclusiveThing
	case exclusiveThing, nonExclusiveThing:
	default:
		return errInvalidRequest.new("thingPrincipalType is %q, want EXCLUSIVE_THING or NON_EXCLUSIVE_THING", kind)
	}
	t, err := s.thing(*in.ThingName)
	if err != nil {
		return err
	}
	c, err := s.certificateByARN(in.Principal)
	if err != nil {
		return err
	}
	for _, other := range s.things {
		attached := other.principals[c.ARN]
		if other != t && attached != "" && (attached == exclusiveThing || kind == exclusiveThing) {
			return errInvalidRequest.new("The principal is attached to thing %s, and one of the two attachments is exclusive", other.name)
		}
	}
	t.principals[c.ARN] = kind
	return nil
}

// certificateByARN needs the lock. Its error for the ARN of another resource is AWS's.
func (s *Service) certificateByARN(arn *string) (*Certificate, error) {
	if arn != nil {
		if id, ok := strings.CutPrefix(*arn, s.ARN("cert/")); ok {
			return s.certificate(id)
		}
	}
	return nil, errInvalidRequest.new("The given ARN does not represent a cert")
}

func (s *Service) detachThingPrincipal(in *iot.DetachThingPrincipalInput) error {
	t, err := s.thing(*in.ThingName)
	if err != nil {
		return err
	}
	if in.Principal == nil || t.principals[*in.Principal] == "" {
		return errNotFound.new("The principal is not attached to thing %s", t.name)
	}
	delete(t.principals, *in.Principal)
	return nil
}

func (s *Service) listThingPrincipals(in *iot.ListThingPrincipalsInput) (out *iot.ListThingPrincipalsOutput, err error) {
	t, err := s.thing(*in.ThingName)
	if err != nil {
		return nil, err
	}
	out = &iot.ListThingPrincipalsOutput{}
	out.Principals, out.NextToken, err = Page(slices.Sorted(maps.Keys(t.principals)), in.NextToken, in.MaxResults, DefaultPage)
	return out, err
}

func (s *Service) listPrincipalThings(in *iot.ListPrincipalThingsInput) (out *iot.ListPrincipalThingsOutput, err error) {
	c, err := s.certificateByARN(in.Principal)
	if err != nil {
		return nil, err
	}
	var names []string
	for name, t := range s.things {
		if t.principals[c.ARN] != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out = &iot.ListPrincipalThingsOutput{}
	out.Things, out.NextToken, err = Page(names, in.NextToken, in.MaxResults, DefaultPage)
	return out, err
}
