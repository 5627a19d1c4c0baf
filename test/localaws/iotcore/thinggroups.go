package iotcore

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// maxGroupsOfThing is the most groups that a thing can be in directly
// (AWS General Reference, AWS IoT Core thing group quotas).
const maxGroupsOfThing = 10

type thingGroup struct {
	name, id, arn, parent string
	description           string
	attributes            map[string]string
	created               time.Time
	things                map[string]bool
}

// createThingGroup creates a static thing group. It succeeds if the same group exists, and fails
// if another group has the name.
func (s *Service) createThingGroup(in *iot.CreateThingGroupInput) (*iot.CreateThingGroupOutput, error) {
	name, parent := *in.ThingGroupName, aws.ToString(in.ParentGroupName)
	if err := checkName("thingGroupName", name); err != nil {
		return nil, err
	}
	if parent != "" && s.groups[parent] == nil {
		return nil, errInvalidRequest.new("The parent group %s does not exist", parent)
	}
	given := in.ThingGroupProperties
	if given == nil {
		given = &types.ThingGroupProperties{}
	}
	description, attributes := aws.ToString(given.ThingGroupDescription), attributesOf(given.AttributePayload)
	g, exists := s.groups[name]
	if exists && (g.parent != parent || g.description != description || !maps.Equal(g.attributes, attributes)) {
		return nil, errAlreadyExists.of(g.name, g.arn, "Thing Group %s already exists in current account with different properties", g.name)
	}
	if !exists {
		g = &thingGroup{
			name: name, id: newUUID(), arn: s.ARN("thinggroup/" + name), parent: parent, description: description, attributes: attributes,
			created: s.now(), things: map[string]bool{},
		}
		s.groups[name] = g
	}
	return &iot.CreateThingGroupOutput{ThingGroupName: &g.name, ThingGroupArn: &g.arn, ThingGroupId: &g.id}, nil
}

func (s *Service) group(name string) (*thingGroup, error) {
	return find(s.groups, name, errNotFound, "No thing group exists with name %s")
}

func (s *Service) describeThingGroup(in *iot.DescribeThingGroupInput) (*iot.DescribeThingGroupOutput, error) {
	g, err := s.group(*in.ThingGroupName)
	if err != nil {
		return nil, err
	}
	metadata := &types.ThingGroupMetadata{CreationDate: &g.created}
	if g.parent != "" {
		metadata.ParentGroupName = &g.parent
	}
	for _, a := range s.lineage(g)[1:] {
		metadata.RootToParentThingGroups = append(metadata.RootToParentThingGroups, types.GroupNameAndArn{GroupName: &a.name, GroupArn: &a.arn})
	}
	slices.Reverse(metadata.RootToParentThingGroups)
	return &iot.DescribeThingGroupOutput{
		ThingGroupName: &g.name, ThingGroupId: &g.id, ThingGroupArn: &g.arn, Version: 1, ThingGroupMetadata: metadata,
		ThingGroupProperties: &types.ThingGroupProperties{
			ThingGroupDescription: &g.description, AttributePayload: &types.AttributePayload{Attributes: maps.Clone(g.attributes)},
		},
	}, nil
}

// lineage returns the group, its parent, and so on up to the root. It needs the lock.
func (s *Service) lineage(g *thingGroup) []*thingGroup {
	var out []*thingGroup
	for ; g != nil; g = s.groups[g.parent] {
		out = append(out, g)
	}
	return out
}

// deleteThingGroup deletes a group without children, but not its things. It succeeds for a group
// that does not exist.
func (s *Service) deleteThingGroup(in *iot.DeleteThingGroupInput) error {
	g, ok := s.groups[*in.ThingGroupName]
	if !ok {
		return nil
	}
	for _, child := range s.groups {
		if child.parent == g.name {
			return errInvalidRequest.new("Cannot delete thing group : %s when there are still child groups attached to it", g.name)
		}
	}
	for _, p := range s.policies {
		delete(p.targets, g.arn)
	}
	delete(s.groups, g.name)
	return nil
}

// member returns a thing and a group. It needs the lock.
func (s *Service) member(thingName, groupName *string) (*thing, *thingGroup, error) {
	t, err := s.thing(aws.ToString(thingName))
	if err != nil {
		return nil, nil, err
	}
	g, err := s.group(aws.ToString(groupName))
	return t, g, err
}

// addThingToThingGroup adds a thing to a group. A thing can be in at most 10 groups, of which no
// two are in one hierarchy.
func (s *Service) addThingToThingGroup(in *iot.AddThingToThingGroupInput) error {
	t, g, err := s.member(in.ThingName, in.ThingGroupName)
	if err != nil || g.things[t.name] {
		return err
	}
	groups := s.groupsOf(t.name)
	if len(groups) >= maxGroupsOfThing {
		return errInvalidRequest.new("Thing %s is in %d thing groups, which is the limit", t.name, len(groups))
	}
	root := func(g *thingGroup) *thingGroup { lineage := s.lineage(g); return lineage[len(lineage)-1] }
	for _, other := range groups {
		if root(other) == root(g) {
			return errInvalidRequest.new("Thing %s is in group %s of the same hierarchy", t.name, other.name)
		}
	}
	g.things[t.name] = true
	return nil
}

// groupsOf returns the groups that a thing is in directly. It needs the lock.
func (s *Service) groupsOf(thingName string) []*thingGroup {
	var out []*thingGroup
	for _, g := range s.groups {
		if g.things[thingName] {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b *thingGroup) int { return strings.Compare(a.name, b.name) })
	return out
}

func (s *Service) removeThingFromThingGroup(in *iot.RemoveThingFromThingGroupInput) error {
	t, g, err := s.member(in.ThingName, in.ThingGroupName)
	if err == nil {
		delete(g.things, t.name)
	}
	return err
}

func (s *Service) listThingGroupsForThing(in *iot.ListThingGroupsForThingInput) (*iot.ListThingGroupsForThingOutput, error) {
	if _, err := s.thing(*in.ThingName); err != nil {
		return nil, err
	}
	groups, next, err := Page(s.groupsOf(*in.ThingName), in.NextToken, in.MaxResults, DefaultPage)
	out := &iot.ListThingGroupsForThingOutput{NextToken: next}
	for _, g := range groups {
		out.ThingGroups = append(out.ThingGroups, types.GroupNameAndArn{GroupName: &g.name, GroupArn: &g.arn})
	}
	return out, err
}
