package iotcore

import (
	"maps"
	"regexp"
	"slices"
)

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

type thing struct {
	name, id, arn string
	attributes    map[string]string
	version       int64
	principals    map[string]string // type of attachment by principal ARN
}

// AttributePayload holds the attributes of a thing or thing group; Merge keeps
// the attributes that it does not name, and an empty value then removes one.
type AttributePayload struct {
	Attributes map[string]string `json:"attributes"`
	Merge      bool              `json:"merge,omitempty"`
}

func (p *AttributePayload) applyTo(old map[string]string) map[string]string {
	if p == nil {
		return old
	}
	out := map[string]string{}
	if p.Merge {
		maps.Copy(out, old)
	}
	for k, v := range p.Attributes {
		if out[k] = v; v == "" {
			delete(out, k)
		}
	}
	return out
}

// CreateThingInput is the operation's input.
type CreateThingInput struct {
	ThingName        string            `uri:"thingName"`
	ThingTypeName    string            `json:"thingTypeName"`
	BillingGroupName string            `json:"billingGroupName"`
	AttributePayload *AttributePayload `json:"attributePayload"`
}

// CreateThingOutput is the operation's output.
type CreateThingOutput struct {
	ThingName string `json:"thingName"`
	ThingARN  string `json:"thingArn"`
	ThingID   string `json:"thingId"`
}

// CreateThing creates a thing. Creating the same thing again succeeds, creating
// a different one of that name does not.
func (s *Service) CreateThing(in *CreateThingInput) (*CreateThingOutput, error) {
	if err := checkName("thingName", in.ThingName); err != nil {
		return nil, err
	}
	if in.ThingTypeName != "" {
		return nil, errUnknownHere.new("thing types (thingTypeName %q) are not known to the local AWS IoT", in.ThingTypeName)
	}
	if in.BillingGroupName != "" {
		return nil, errUnknownHere.new("billing groups (billingGroupName %q) are not known to the local AWS IoT", in.BillingGroupName)
	}
	attributes := in.AttributePayload.applyTo(map[string]string{})
	s.mu.Lock()
	defer s.mu.Unlock()
	t, exists := s.things[in.ThingName]
	if exists && !maps.Equal(t.attributes, attributes) {
		err := errAlreadyExists.new("Thing %s already exists in account with different attributes", in.ThingName)
		err.ResourceARN, err.ResourceID = t.arn, t.name
		return nil, err
	}
	if !exists {
		t = &thing{
			name: in.ThingName, id: newUUID(), arn: s.ARN("thing/" + in.ThingName),
			attributes: attributes, version: 1, principals: map[string]string{},
		}
		s.things[t.name] = t
	}
	return &CreateThingOutput{ThingName: t.name, ThingARN: t.arn, ThingID: t.id}, nil
}

func checkName(field, name string) error {
	if !nameForm.MatchString(name) {
		return errInvalidRequest.new("1 validation error detected: Value %q at '%s' failed to satisfy constraint: want 1 to 128 of a-z A-Z 0-9 : _ -", name, field)
	}
	return nil
}

// thing needs the lock.
func (s *Service) thing(name string) (*thing, error) {
	t, ok := s.things[name]
	if !ok {
		return nil, errNotFound.new("Thing %s not found", name)
	}
	return t, nil
}

// ThingInput names a thing.
type ThingInput struct {
	ThingName string `uri:"thingName"`
}

// DescribeThingOutput is the operation's output.
type DescribeThingOutput struct {
	DefaultClientID string            `json:"defaultClientId"`
	ThingName       string            `json:"thingName"`
	ThingID         string            `json:"thingId"`
	ThingARN        string            `json:"thingArn"`
	Attributes      map[string]string `json:"attributes"`
	Version         int64             `json:"version"`
}

// DescribeThing tells of a thing.
func (s *Service) DescribeThing(in *ThingInput) (*DescribeThingOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, err := s.thing(in.ThingName)
	if err != nil {
		return nil, err
	}
	return &DescribeThingOutput{
		DefaultClientID: t.name, ThingName: t.name, ThingID: t.id, ThingARN: t.arn,
		Attributes: maps.Clone(t.attributes), Version: t.version,
	}, nil
}

// UpdateThingInput is the operation's input.
type UpdateThingInput struct {
	ThingName        string            `uri:"thingName"`
	ThingTypeName    string            `json:"thingTypeName"`
	AttributePayload *AttributePayload `json:"attributePayload"`
	ExpectedVersion  int64             `json:"expectedVersion"`
	RemoveThingType  bool              `json:"removeThingType"`
}

// UpdateThing changes the attributes of a thing.
func (s *Service) UpdateThing(in *UpdateThingInput) (*struct{}, error) {
	if in.ThingTypeName != "" || in.RemoveThingType {
		return nil, errUnknownHere.new("thing types are not known to the local AWS IoT")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.thing(in.ThingName)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(in.ExpectedVersion, t.version); err != nil {
		return nil, err
	}
	t.attributes = in.AttributePayload.applyTo(t.attributes)
	t.version++
	return nil, nil
}

// checkVersion accepts 0 as "any".
func checkVersion(expected, current int64) error {
	if expected != 0 && expected != current {
		return errVersionConflict.new("The version for resource is %d, not %d", current, expected)
	}
	return nil
}

// DeleteThingInput is the operation's input.
type DeleteThingInput struct {
	ThingName       string `uri:"thingName"`
	ExpectedVersion int64  `query:"expectedVersion"`
}

// DeleteThing removes a thing that has no principals. It succeeds for a thing
// that does not exist.
func (s *Service) DeleteThing(in *DeleteThingInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.things[in.ThingName]
	if !ok {
		return nil, nil
	}
	if err := checkVersion(in.ExpectedVersion, t.version); err != nil {
		return nil, err
	}
	if len(t.principals) > 0 {
		return nil, errInvalidRequest.new("Cannot delete. Thing %s is still attached to one or more principals", t.name)
	}
	for _, g := range s.groups {
		delete(g.things, t.name)
	}
	delete(s.things, t.name)
	return nil, nil
}

// ListThingsInput is the operation's input.
type ListThingsInput struct {
	TokenInput
	AttributeName  string `query:"attributeName"`
	AttributeValue string `query:"attributeValue"`
	ThingTypeName  string `query:"thingTypeName"`
	UsePrefix      bool   `query:"usePrefixAttributeValue"`
}

// ListedThing is an element of ListThingsOutput.
type ListedThing struct {
	ThingName  string            `json:"thingName"`
	ThingARN   string            `json:"thingArn"`
	Attributes map[string]string `json:"attributes"`
	Version    int64             `json:"version"`
}

// ListThingsOutput is the operation's output.
type ListThingsOutput struct {
	Things    []ListedThing `json:"things"`
	NextToken string        `json:"nextToken,omitempty"`
}

// ListThings lists things by name, filtered by one attribute.
func (s *Service) ListThings(in *ListThingsInput) (*ListThingsOutput, error) {
	if in.ThingTypeName != "" || in.UsePrefix {
		return nil, errUnknownHere.new("thingTypeName and usePrefixAttributeValue of ListThings are not known to the local AWS IoT")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []ListedThing
	for _, name := range slices.Sorted(maps.Keys(s.things)) {
		t := s.things[name]
		value, has := t.attributes[in.AttributeName]
		if in.AttributeName != "" && (!has || value != in.AttributeValue) {
			continue
		}
		all = append(all, ListedThing{ThingName: name, ThingARN: t.arn, Attributes: maps.Clone(t.attributes), Version: t.version})
	}
	indexes, next, err := in.page(len(all), func(i int) string { return all[i].ThingName })
	if err != nil {
		return nil, err
	}
	return &ListThingsOutput{Things: pick(all, indexes), NextToken: next}, nil
}
