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

// AttachThingPrincipal attaches a certificate to a thing, as NON_EXCLUSIVE_THING
// unless the input says otherwise.
func (s *Service) AttachThingPrincipal(in *iot.AttachThingPrincipalInput) error {
	kind := in.ThingPrincipalType
	switch kind {
	case "":
		kind = nonExclusiveThing
	case exclusiveThing, nonExclusiveThing:
	default:
		return errInvalidRequest.new("thingPrincipalType is %q, want EXCLUSIVE_THING or NON_EXCLUSIVE_THING", kind)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
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

// DetachThingPrincipal undoes AttachThingPrincipal.
func (s *Service) DetachThingPrincipal(in *iot.DetachThingPrincipalInput) error {
	s.mu.Lock()
	defer s.mu.Unlock()
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

// ListThingPrincipals lists the certificates of a thing.
func (s *Service) ListThingPrincipals(in *iot.ListThingPrincipalsInput) (*iot.ListThingPrincipalsOutput, error) {
	out, err := s.ListThingPrincipalsV2(&iot.ListThingPrincipalsV2Input{ThingName: in.ThingName, NextToken: in.NextToken, MaxResults: in.MaxResults})
	if err != nil {
		return nil, err
	}
	v1 := &iot.ListThingPrincipalsOutput{NextToken: out.NextToken}
	for _, p := range out.ThingPrincipalObjects {
		v1.Principals = append(v1.Principals, *p.Principal)
	}
	return v1, nil
}

// ListThingPrincipalsV2 lists the certificates of a thing with the type of each attachment.
func (s *Service) ListThingPrincipalsV2(in *iot.ListThingPrincipalsV2Input) (out *iot.ListThingPrincipalsV2Output, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, err := s.thing(*in.ThingName)
	if err != nil {
		return nil, err
	}
	var all []types.ThingPrincipalObject
	for _, arn := range slices.Sorted(maps.Keys(t.principals)) {
		if kind := t.principals[arn]; in.ThingPrincipalType == "" || in.ThingPrincipalType == kind {
			all = append(all, types.ThingPrincipalObject{Principal: &arn, ThingPrincipalType: kind})
		}
	}
	out = &iot.ListThingPrincipalsV2Output{}
	out.ThingPrincipalObjects, out.NextToken, err = Page(all, func(p types.ThingPrincipalObject) string { return *p.Principal }, in.NextToken, in.MaxResults, DefaultPage)
	return out, err
}

// ListPrincipalThings lists the things of a certificate.
func (s *Service) ListPrincipalThings(in *iot.ListPrincipalThingsInput) (*iot.ListPrincipalThingsOutput, error) {
	out, err := s.ListPrincipalThingsV2(&iot.ListPrincipalThingsV2Input{Principal: in.Principal, NextToken: in.NextToken, MaxResults: in.MaxResults})
	if err != nil {
		return nil, err
	}
	v1 := &iot.ListPrincipalThingsOutput{NextToken: out.NextToken}
	for _, t := range out.PrincipalThingObjects {
		v1.Things = append(v1.Things, *t.ThingName)
	}
	return v1, nil
}

// ListPrincipalThingsV2 lists the things of a certificate with the type of each attachment.
func (s *Service) ListPrincipalThingsV2(in *iot.ListPrincipalThingsV2Input) (out *iot.ListPrincipalThingsV2Output, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c, err := s.certificateByARN(in.Principal)
	if err != nil {
		return nil, err
	}
	var all []types.PrincipalThingObject
	for _, name := range slices.Sorted(maps.Keys(s.things)) {
		kind := s.things[name].principals[c.ARN]
		if kind != "" && (in.ThingPrincipalType == "" || in.ThingPrincipalType == kind) {
			all = append(all, types.PrincipalThingObject{ThingName: &name, ThingPrincipalType: kind})
		}
	}
	out = &iot.ListPrincipalThingsV2Output{}
	out.PrincipalThingObjects, out.NextToken, err = Page(all, func(t types.PrincipalThingObject) string { return *t.ThingName }, in.NextToken, in.MaxResults, DefaultPage)
	return out, err
}
