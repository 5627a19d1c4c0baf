package iotcore

import (
	"maps"
	"slices"
)

// Tag is a tag of a resource.
type Tag struct {
	Key   string `json:"Key"`
	Value string `json:"Value"`
}

// setTags needs the lock.
func (s *Service) setTags(arn string, tags []Tag) {
	for _, t := range tags {
		if s.tags[arn] == nil {
			s.tags[arn] = map[string]string{}
		}
		s.tags[arn][t.Key] = t.Value
	}
}

// taggable needs the lock.
func (s *Service) taggable(arn string) error {
	for _, g := range s.groups {
		if g.arn == arn {
			return nil
		}
	}
	for _, p := range s.policies {
		if p.arn == arn {
			return nil
		}
	}
	for _, r := range s.rules {
		if r.ARN == arn {
			return nil
		}
	}
	return errNotFound.new("No thing group, policy or topic rule has the ARN %s", arn)
}

// TagResourceInput is the operation's input.
type TagResourceInput struct {
	ResourceARN string `json:"resourceArn"`
	Tags        []Tag  `json:"tags"`
}

// TagResource sets tags of a thing group, policy or topic rule.
func (s *Service) TagResource(in *TagResourceInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.taggable(in.ResourceARN); err != nil {
		return nil, err
	}
	s.setTags(in.ResourceARN, in.Tags)
	return nil, nil
}

// UntagResourceInput is the operation's input.
type UntagResourceInput struct {
	ResourceARN string   `json:"resourceArn"`
	TagKeys     []string `json:"tagKeys"`
}

// UntagResource removes tags.
func (s *Service) UntagResource(in *UntagResourceInput) (*struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.taggable(in.ResourceARN); err != nil {
		return nil, err
	}
	for _, key := range in.TagKeys {
		delete(s.tags[in.ResourceARN], key)
	}
	return nil, nil
}

// ListTagsForResourceInput is the operation's input.
type ListTagsForResourceInput struct {
	ResourceARN string `query:"resourceArn"`
	NextToken   string `query:"nextToken"`
}

// ListTagsForResourceOutput is the operation's output.
type ListTagsForResourceOutput struct {
	Tags      []Tag  `json:"tags"`
	NextToken string `json:"nextToken,omitempty"`
}

// ListTagsForResource lists the tags of a thing group, policy or topic rule.
func (s *Service) ListTagsForResource(in *ListTagsForResourceInput) (*ListTagsForResourceOutput, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.taggable(in.ResourceARN); err != nil {
		return nil, err
	}
	tags := s.tags[in.ResourceARN]
	keys, next, err := TokenInput{NextToken: in.NextToken}.pageOfNames(slices.Sorted(maps.Keys(tags)))
	if err != nil {
		return nil, err
	}
	out := &ListTagsForResourceOutput{Tags: []Tag{}, NextToken: next}
	for _, k := range keys {
		out.Tags = append(out.Tags, Tag{k, tags[k]})
	}
	return out, nil
}
