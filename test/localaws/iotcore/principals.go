package iotcore

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// The two ways to attach a principal to a thing. Only an exclusive thing is
// named in lifecycle events, and only it may have another client id than its
// name (AWS IoT Core Developer Guide, "Associating a thing to a connection").
const (
	exclusiveThing    = types.ThingPrincipalTypeExclusiveThing
	nonExclusiveThing = types.ThingPrincipalTypeNonExclusiveThing
)

// ConnectionThing returns the thing that a connection belongs to: the exclusive
// thing of its certificate, else the thing that is named like the client and has
// the certificate attached.
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

// certificateByARN needs the lock. Its message is the one that AWS gives for
// ARNs of other resources.
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
	out.Principals, out.NextToken, err = Page(slices.Sorted(maps.Keys(t.principals)), itself, in.NextToken, in.MaxResults, DefaultPage)
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
	out.Things, out.NextToken, err = Page(names, itself, in.NextToken, in.MaxResults, DefaultPage)
	return out, err
}
