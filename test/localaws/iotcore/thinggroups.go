package iotcore

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// maxGroupsOfThing is the most groups that a thing can be in directly
// (AWS General Reference, AWS IoT Core thing group quotas).
const maxGroupsOfThing = 10

type thingGroup struct {
	name, id, arn, parent string
	properties            ThingGroupProperties
	version               int64
	created               time.Time
	things                map[string]bool
}

// ThingGroupProperties are the free properties of a thing group.
type ThingGroupProperties struct {
	Description      string            `json:"thingGroupDescription,omitempty"`
	AttributePayload *AttributePayload `json:"attributePayload,omitempty"`
}

func (p ThingGroupProperties) equal(q ThingGroupProperties) bool {
	empty := map[string]string{}
	return p.Description == q.Description &&
		maps.Equal(p.AttributePayload.applyTo(empty), q.AttributePayload.applyTo(empty))
}

// CreateThingGroupInput is the operation's input.
type CreateThingGroupInput struct {
	ThingGroupName  string               `uri:"thingGroupName"`
	ParentGroupName string               `json:"parentGroupName"`
	Properties      ThingGroupProperties `json:"thingGroupProperties"`
	Tags            []Tag                `json:"tags"`
}

// CreateThingGroupOutput is the operation's output.
type CreateThingGroupOutput struct {
	ThingGroupName string `json:"thingGroupName"`
	ThingGroupARN  string `json:"thingGroupArn"`
	ThingGroupID   string `json:"thingGroupId"`
}

// CreateThingGroup creates a static thing group. Creating the same group again
// succeeds, creating a different one of that name does not.
func (s *Service) CreateThingGroup(in *CreateThingGroupInput) (*CreateThingGroupOutput, error) {
	if err := checkName("thingGroupName", in.ThingGroupName); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.ParentGroupName != "" && s.groups[in.ParentGroupName] == nil {
		return nil, errInvalidRequest.new("The parent group %s does not exist", in.ParentGroupName)
	}
	g, exists := s.groups[in.ThingGroupName]
	if exists && (g.parent != in.ParentGroupName || !g.properties.equal(in.Properties)) {
		err := errAlreadyExists.new("Thing Group %s already exists in current account with different properties", g.name)
		err.ResourceARN, err.ResourceID = g.arn, g.name
		return nil, err
	}
	if !exists {
		g = &thingGroup{
			name: in.ThingGroupName, id: newUUID(), arn: s.ARN("thinggroup/" + in.ThingGroupName),
			parent: in.ParentGroupName, properties: in.Properties, version: 1, created: s.now(), things: map[string]bool{},
		}
		s.groups[g.name] = g
		s.setTags(g.arn, in.Tags)
	}
	return &CreateThingGroupOutput{ThingGroupName: g.name, ThingGroupARN: g.arn, ThingGroupID: g.id}, nil
}

// group needs the lock.
func (s *Service) group(name string) (*thingGroup, error) {
	g, ok := s.groups[name]
	if !ok {
		return nil, errNotFound.new("No thing group exists with name %s", name)
	}
	return g, nil
}

// ThingGroupInput names a thing group.
type ThingGroupInput struct {
	ThingGroupName string `uri:"thingGroupName"`
}

// GroupNameAndARN names a thing group in lists.
type GroupNameAndARN struct {
	GroupName string `json:"groupName"`
	GroupARN  string `json:"groupArn"`
}

// ThingGroupMetadata tells where a group is in its hierarchy.
type ThingGroupMetadata struct {
	ParentGroupName         string            `json:"parentGroupName,omitempty"`
	RootToParentThingGroups []GroupNameAndARN `json:"rootToParentThingGroups,omitempty"`
	CreationDate            Timestamp         `json:"creationDate"`
}

// DescribeThingGroupOutput is the operation's output.
type DescribeThingGroupOutput struct {
	ThingGroupName string               `json:"thingGroupName"`
	ThingGroupID   string               `json:"thingGroupId"`
	ThingGroupARN  string               `json:"thingGroupArn"`
	Version        int64                `json:"version"`
	Properties     ThingGroupProperties `json:"thingGroupProperties"`
	Metadata       ThingGroupMetadata   `json:"thingGroupMetadata"`
}

// DescribeThingGroup tells of a thing group.
func (s *Service) DescribeThingGroup(in *ThingGroupInput) (*DescribeThingGroupOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g, err := s.group(in.ThingGroupName)
	if err != nil {
		return nil, err
	}
	out := &DescribeThingGroupOutput{
		ThingGroupName: g.name, ThingGroupID: g.id, ThingGroupARN: g.arn, Version: g.version, Properties: g.properties,
		Metadata: ThingGroupMetadata{ParentGroupName: g.parent, CreationDate: Timestamp(g.created)},
	}
	ancestors := s.lineage(g)[1:]
	slices.Reverse(ancestors)
	for _, a := range ancestors {
		out.Metadata.RootToParentThingGroups = append(out.Metadata.RootToParentThingGroups, GroupNameAndARN{a.name, a.arn})
	}
	return out, nil
}

// lineage returns the group, its parent, and so on up to the root. It needs the lock.
func (s *Service) lineage(g *thingGroup) []*thingGroup {
	var out []*thingGroup
	for ; g != nil; g = s.groups[g.parent] {
		out = append(out, g)
	}
	return out
}

// UpdateThingGroupInput is the operation's input.
type UpdateThingGroupInput struct {
	ThingGroupName  string               `uri:"thingGroupName"`
	Properties      ThingGroupProperties `json:"thingGroupProperties"`
	ExpectedVersion int64                `json:"expectedVersion"`
}

// UpdateThingGroupOutput is the operation's output.
type UpdateThingGroupOutput struct {
	Version int64 `json:"version"`
}

// UpdateThingGroup replaces the properties of a thing group.
func (s *Service) UpdateThingGroup(in *UpdateThingGroupInput) (*UpdateThingGroupOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.group(in.ThingGroupName)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(in.ExpectedVersion, g.version); err != nil {
		return nil, err
	}
	attributes := in.Properties.AttributePayload.applyTo(g.properties.AttributePayload.applyTo(map[string]string{}))
	g.properties = ThingGroupProperties{Description: in.Properties.Description, AttributePayload: &AttributePayload{Attributes: attributes}}
	g.version++
	return &UpdateThingGroupOutput{Version: g.version}, nil
}

// DeleteThingGroupInput is the operation's input.
type DeleteThingGroupInput struct {
	ThingGroupName  string `uri:"thingGroupName"`
	ExpectedVersion int64  `query:"expectedVersion"`
}

// DeleteThingGroup removes a group without children; its things stay. It
// succeeds for a group that does not exist.
func (s *Service) DeleteThingGroup(in *DeleteThingGroupInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.groups[in.ThingGroupName]
	if !ok {
		return nil, nil
	}
	if err := checkVersion(in.ExpectedVersion, g.version); err != nil {
		return nil, err
	}
	for _, child := range s.groups {
		if child.parent == g.name {
			return nil, errInvalidRequest.new("Cannot delete thing group : %s when there are still child groups attached to it", g.name)
		}
	}
	for _, p := range s.policies {
		delete(p.targets, g.arn)
	}
	delete(s.tags, g.arn)
	delete(s.groups, g.name)
	return nil, nil
}

// ListThingGroupsInput is the operation's input.
type ListThingGroupsInput struct {
	TokenInput
	ParentGroup      string `query:"parentGroup"`
	NamePrefixFilter string `query:"namePrefixFilter"`
	Recursive        *bool  `query:"recursive"`
}

// ListThingGroupsOutput is the output of ListThingGroups and ListThingGroupsForThing.
type ListThingGroupsOutput struct {
	ThingGroups []GroupNameAndARN `json:"thingGroups"`
	NextToken   string            `json:"nextToken,omitempty"`
}

// ListThingGroups lists groups by name: all, those under a parent, or with
// Recursive false only the direct children.
func (s *Service) ListThingGroups(in *ListThingGroupsInput) (*ListThingGroupsOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if in.ParentGroup != "" {
		if _, err := s.group(in.ParentGroup); err != nil {
			return nil, err
		}
	}
	direct := in.Recursive != nil && !*in.Recursive
	var names []string
	for name, g := range s.groups {
		under := in.ParentGroup == "" && (!direct || g.parent == "") || in.ParentGroup != "" && g.parent == in.ParentGroup
		if !under && !direct && in.ParentGroup != "" {
			under = slices.ContainsFunc(s.lineage(g)[1:], func(a *thingGroup) bool { return a.name == in.ParentGroup })
		}
		if under && strings.HasPrefix(name, in.NamePrefixFilter) {
			names = append(names, name)
		}
	}
	return s.listGroups(in.TokenInput, names)
}

func (s *Service) listGroups(paging TokenInput, names []string) (*ListThingGroupsOutput, error) {
	slices.Sort(names)
	names, next, err := paging.pageOfNames(names)
	if err != nil {
		return nil, err
	}
	out := &ListThingGroupsOutput{ThingGroups: []GroupNameAndARN{}, NextToken: next}
	for _, n := range names {
		out.ThingGroups = append(out.ThingGroups, GroupNameAndARN{n, s.groups[n].arn})
	}
	return out, nil
}
