package iotcore

import (
	"maps"
	"slices"
	"strings"
)

// The two ways to attach a principal to a thing. Only an exclusive thing is
// named in lifecycle events, and only it may have another client id than its
// name (AWS IoT Core Developer Guide, "Associating a thing to a connection").
const (
	ExclusiveThing    = "EXCLUSIVE_THING"
	NonExclusiveThing = "NON_EXCLUSIVE_THING"
)

// ConnectionThing returns the thing that a connection belongs to: the exclusive
// thing of its certificate, else the thing that is named like the client and has
// the certificate attached.
func (s *Service) ConnectionThing(certificateID, clientID string) (name string, exclusive bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	arn := s.ARN("cert/" + certificateID)
	for _, t := range s.things {
		if t.principals[arn] == ExclusiveThing {
			return t.name, true
		}
	}
	if t, ok := s.things[clientID]; ok && t.principals[arn] != "" {
		return t.name, false
	}
	return "", false
}

// AttachThingPrincipalInput is the operation's input.
type AttachThingPrincipalInput struct {
	ThingName          string `uri:"thingName"`
	Principal          string `header:"x-amzn-principal"`
	ThingPrincipalType string `query:"thingPrincipalType"`
}

// AttachThingPrincipal attaches a certificate to a thing, as NON_EXCLUSIVE_THING
// unless the input says otherwise.
func (s *Service) AttachThingPrincipal(in *AttachThingPrincipalInput) (*struct{}, error) {
	switch in.ThingPrincipalType {
	case "":
		in.ThingPrincipalType = NonExclusiveThing
	case ExclusiveThing, NonExclusiveThing:
	default:
		return nil, errInvalidRequest.new("thingPrincipalType is %q, want EXCLUSIVE_THING or NON_EXCLUSIVE_THING", in.ThingPrincipalType)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.thing(in.ThingName)
	if err != nil {
		return nil, err
	}
	if _, err := s.certificateByARN(in.Principal); err != nil {
		return nil, err
	}
	for _, other := range s.things {
		kind, attached := other.principals[in.Principal]
		if attached && other != t && (kind == ExclusiveThing || in.ThingPrincipalType == ExclusiveThing) {
			return nil, errInvalidRequest.new("The principal is attached to thing %s, and one of the two attachments is exclusive", other.name)
		}
	}
	t.principals[in.Principal] = in.ThingPrincipalType
	return nil, nil
}

// certificateByARN needs the lock. Its message is the one that AWS gives for
// ARNs of other resources.
func (s *Service) certificateByARN(arn string) (*Certificate, error) {
	id, ok := strings.CutPrefix(arn, s.ARN("cert/"))
	if !ok {
		return nil, errInvalidRequest.new("The given ARN does not represent a cert")
	}
	return s.certificate(id)
}

// DetachThingPrincipalInput is the operation's input.
type DetachThingPrincipalInput struct {
	ThingName string `uri:"thingName"`
	Principal string `header:"x-amzn-principal"`
}

// DetachThingPrincipal undoes AttachThingPrincipal.
func (s *Service) DetachThingPrincipal(in *DetachThingPrincipalInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.thing(in.ThingName)
	if err != nil {
		return nil, err
	}
	if _, ok := t.principals[in.Principal]; !ok {
		return nil, errNotFound.new("Principal %s is not attached to thing %s", in.Principal, t.name)
	}
	delete(t.principals, in.Principal)
	return nil, nil
}

// ListThingPrincipalsInput is the input of ListThingPrincipals and its V2.
type ListThingPrincipalsInput struct {
	TokenInput
	ThingName          string `uri:"thingName"`
	ThingPrincipalType string `query:"thingPrincipalType"`
}

// ListThingPrincipalsOutput is the operation's output.
type ListThingPrincipalsOutput struct {
	Principals []string `json:"principals"`
	NextToken  string   `json:"nextToken,omitempty"`
}

// ListThingPrincipals lists the certificates of a thing.
func (s *Service) ListThingPrincipals(in *ListThingPrincipalsInput) (*ListThingPrincipalsOutput, error) {
	out, err := s.ListThingPrincipalsV2(in)
	if err != nil {
		return nil, err
	}
	v1 := &ListThingPrincipalsOutput{Principals: []string{}, NextToken: out.NextToken}
	for _, p := range out.ThingPrincipalObjects {
		v1.Principals = append(v1.Principals, p.Principal)
	}
	return v1, nil
}

// ThingPrincipalObject is an element of ListThingPrincipalsV2Output.
type ThingPrincipalObject struct {
	Principal          string `json:"principal"`
	ThingPrincipalType string `json:"thingPrincipalType"`
}

// ListThingPrincipalsV2Output is the operation's output.
type ListThingPrincipalsV2Output struct {
	ThingPrincipalObjects []ThingPrincipalObject `json:"thingPrincipalObjects"`
	NextToken             string                 `json:"nextToken,omitempty"`
}

// ListThingPrincipalsV2 lists the certificates of a thing with the type of each attachment.
func (s *Service) ListThingPrincipalsV2(in *ListThingPrincipalsInput) (*ListThingPrincipalsV2Output, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, err := s.thing(in.ThingName)
	if err != nil {
		return nil, err
	}
	var all []ThingPrincipalObject
	for _, arn := range slices.Sorted(maps.Keys(t.principals)) {
		if in.ThingPrincipalType == "" || in.ThingPrincipalType == t.principals[arn] {
			all = append(all, ThingPrincipalObject{Principal: arn, ThingPrincipalType: t.principals[arn]})
		}
	}
	indexes, next, err := in.page(len(all), func(i int) string { return all[i].Principal })
	if err != nil {
		return nil, err
	}
	return &ListThingPrincipalsV2Output{ThingPrincipalObjects: pick(all, indexes), NextToken: next}, nil
}

// ListPrincipalThingsInput is the input of ListPrincipalThings and its V2.
type ListPrincipalThingsInput struct {
	TokenInput
	Principal          string `header:"x-amzn-principal"`
	ThingPrincipalType string `query:"thingPrincipalType"`
}

// ListPrincipalThingsOutput is the operation's output.
type ListPrincipalThingsOutput struct {
	Things    []string `json:"things"`
	NextToken string   `json:"nextToken,omitempty"`
}

// ListPrincipalThings lists the things of a certificate.
func (s *Service) ListPrincipalThings(in *ListPrincipalThingsInput) (*ListPrincipalThingsOutput, error) {
	out, err := s.ListPrincipalThingsV2(in)
	if err != nil {
		return nil, err
	}
	v1 := &ListPrincipalThingsOutput{Things: []string{}, NextToken: out.NextToken}
	for _, t := range out.PrincipalThingObjects {
		v1.Things = append(v1.Things, t.ThingName)
	}
	return v1, nil
}

// PrincipalThingObject is an element of ListPrincipalThingsV2Output.
type PrincipalThingObject struct {
	ThingName          string `json:"thingName"`
	ThingPrincipalType string `json:"thingPrincipalType"`
}

// ListPrincipalThingsV2Output is the operation's output.
type ListPrincipalThingsV2Output struct {
	PrincipalThingObjects []PrincipalThingObject `json:"principalThingObjects"`
	NextToken             string                 `json:"nextToken,omitempty"`
}

// ListPrincipalThingsV2 lists the things of a certificate with the type of each attachment.
func (s *Service) ListPrincipalThingsV2(in *ListPrincipalThingsInput) (*ListPrincipalThingsV2Output, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, err := s.certificateByARN(in.Principal); err != nil {
		return nil, err
	}
	var all []PrincipalThingObject
	for _, name := range slices.Sorted(maps.Keys(s.things)) {
		kind := s.things[name].principals[in.Principal]
		if kind != "" && (in.ThingPrincipalType == "" || in.ThingPrincipalType == kind) {
			all = append(all, PrincipalThingObject{ThingName: name, ThingPrincipalType: kind})
		}
	}
	indexes, next, err := in.page(len(all), func(i int) string { return all[i].ThingName })
	if err != nil {
		return nil, err
	}
	return &ListPrincipalThingsV2Output{PrincipalThingObjects: pick(all, indexes), NextToken: next}, nil
}
