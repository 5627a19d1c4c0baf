package iotcore

import (
	"slices"
	"strings"
)

// ThingInGroupInput is the input of AddThingToThingGroup and
// RemoveThingFromThingGroup. Thing and group are each given by name or ARN.
type ThingInGroupInput struct {
	ThingGroupName string `json:"thingGroupName"`
	ThingGroupARN  string `json:"thingGroupArn"`
	ThingName      string `json:"thingName"`
	ThingARN       string `json:"thingArn"`
	// OverrideDynamicGroups has no effect here: there are no dynamic groups.
	OverrideDynamicGroups bool `json:"overrideDynamicGroups"`
}

// resolve needs the lock.
func (s *Service) resolve(in *ThingInGroupInput) (*thing, *thingGroup, error) {
	thingName, groupName := in.ThingName, in.ThingGroupName
	if thingName == "" {
		thingName = strings.TrimPrefix(in.ThingARN, s.ARN("thing/"))
	}
	if groupName == "" {
		groupName = strings.TrimPrefix(in.ThingGroupARN, s.ARN("thinggroup/"))
	}
	t, err := s.thing(thingName)
	if err != nil {
		return nil, nil, err
	}
	g, err := s.group(groupName)
	return t, g, err
}

// AddThingToThingGroup adds a thing to a group. A thing is in at most 10 groups,
// and in no two of one hierarchy.
func (s *Service) AddThingToThingGroup(in *ThingInGroupInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, g, err := s.resolve(in)
	if err != nil {
		return nil, err
	}
	if g.things[t.name] {
		return nil, nil
	}
	groups := s.groupsOf(t.name)
	if len(groups) >= maxGroupsOfThing {
		return nil, errInvalidRequest.new("Thing %s is in %d thing groups, which is the limit", t.name, len(groups))
	}
	root := s.rootOf(g)
	for _, other := range groups {
		if s.rootOf(other) == root {
			return nil, errInvalidRequest.new("Thing %s is in group %s of the same hierarchy", t.name, other.name)
		}
	}
	g.things[t.name] = true
	return nil, nil
}

func (s *Service) rootOf(g *thingGroup) *thingGroup {
	lineage := s.lineage(g)
	return lineage[len(lineage)-1]
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

// RemoveThingFromThingGroup takes a thing out of a group.
func (s *Service) RemoveThingFromThingGroup(in *ThingInGroupInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, g, err := s.resolve(in)
	if err != nil {
		return nil, err
	}
	delete(g.things, t.name)
	return nil, nil
}

// ListThingsInThingGroupInput is the operation's input.
type ListThingsInThingGroupInput struct {
	TokenInput
	ThingGroupName string `uri:"thingGroupName"`
	Recursive      bool   `query:"recursive"`
}

// ListThingsInThingGroupOutput is the operation's output.
type ListThingsInThingGroupOutput struct {
	Things    []string `json:"things"`
	NextToken string   `json:"nextToken,omitempty"`
}

// ListThingsInThingGroup lists the things of a group, with Recursive also those
// of its child groups.
func (s *Service) ListThingsInThingGroup(in *ListThingsInThingGroupInput) (*ListThingsInThingGroupOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	g, err := s.group(in.ThingGroupName)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range s.things {
		for _, of := range s.groupsOf(name) {
			if of == g || in.Recursive && slices.Contains(s.lineage(of), g) {
				names = append(names, name)
				break
			}
		}
	}
	slices.Sort(names)
	names, next, err := in.pageOfNames(names)
	if err != nil {
		return nil, err
	}
	return &ListThingsInThingGroupOutput{Things: names, NextToken: next}, nil
}

// ListThingGroupsForThingInput is the operation's input.
type ListThingGroupsForThingInput struct {
	TokenInput
	ThingName string `uri:"thingName"`
}

// ListThingGroupsForThing lists the groups that a thing is in directly.
func (s *Service) ListThingGroupsForThing(in *ListThingGroupsForThingInput) (*ListThingGroupsOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if _, err := s.thing(in.ThingName); err != nil {
		return nil, err
	}
	var names []string
	for _, g := range s.groupsOf(in.ThingName) {
		names = append(names, g.name)
	}
	return s.listGroups(in.TokenInput, names)
}
