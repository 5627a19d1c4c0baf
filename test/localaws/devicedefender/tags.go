package devicedefender

import (
	"maps"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
)

// Tagger keeps the tags of what is not Device Defender's. An *iotcore.Service is one.
type Tagger interface {
	TagResource(*iotcore.TagResourceInput) (*struct{}, error)
	UntagResource(*iotcore.UntagResourceInput) (*struct{}, error)
	ListTagsForResource(*iotcore.ListTagsForResourceInput) (*iotcore.ListTagsForResourceOutput, error)
}

func registerTags(h *iotcore.Handler, s *Service, others Tagger) {
	iotcore.Handle(h, "TagResource", func(in *iotcore.TagResourceInput) (*struct{}, error) {
		if !ofScheduledAudit(in.ResourceARN) {
			return others.TagResource(in)
		}
		return nil, s.changeTags(in.ResourceARN, func(tags map[string]string) {
			for _, t := range in.Tags {
				tags[t.Key] = t.Value
			}
		})
	})
	iotcore.Handle(h, "UntagResource", func(in *iotcore.UntagResourceInput) (*struct{}, error) {
		if !ofScheduledAudit(in.ResourceARN) {
			return others.UntagResource(in)
		}
		return nil, s.changeTags(in.ResourceARN, func(tags map[string]string) {
			for _, key := range in.TagKeys {
				delete(tags, key)
			}
		})
	})
	iotcore.Handle(h, "ListTagsForResource", func(in *iotcore.ListTagsForResourceInput) (*iotcore.ListTagsForResourceOutput, error) {
		if !ofScheduledAudit(in.ResourceARN) {
			return others.ListTagsForResource(in)
		}
		out := &iotcore.ListTagsForResourceOutput{Tags: []iotcore.Tag{}}
		return out, s.changeTags(in.ResourceARN, func(tags map[string]string) {
			for _, key := range slices.Sorted(maps.Keys(tags)) {
				out.Tags = append(out.Tags, iotcore.Tag{Key: key, Value: tags[key]})
			}
		})
	})
}

func ofScheduledAudit(arn string) bool { return strings.Contains(arn, ":scheduledaudit/") }

// changeTags has change called with the tags of a scheduled audit.
func (s *Service) changeTags(arn string, change func(map[string]string)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.schedules {
		if a.arn != arn {
			continue
		}
		tags := maps.Clone(a.tags)
		if change(tags); len(tags) > maxTags {
			return invalidRequest("a scheduled audit can have %d tags, not %d", maxTags, len(tags))
		}
		a.tags = tags
		return nil
	}
	return notFound("No scheduled audit has the ARN %s", arn)
}
