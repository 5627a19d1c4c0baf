package providers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
)

type object = map[string]any

// iotType is a type that is created with the API of AWS IoT, which validates it.
type iotType struct {
	name, path string // the property with its name, and its path in the API
	body       func(properties object) any
	attributes func(r cloudformation.Request, name string, answer object) object
	replace    bool // it is updated at the same path
}

func (a Account) iot() map[string]cloudformation.Declared {
	all := map[string]cloudformation.Declared{}
	for resourceType, t := range map[string]iotType{
		"AWS::IoT::TopicRule": {"RuleName", "/rules/", func(p object) any { return lowerCamel(p["TopicRulePayload"], "Headers") },
			func(r cloudformation.Request, name string, _ object) object {
				return object{"Arn": r.ARN("iot", "rule/"+name)}
			}, true},
		"AWS::IoT::ThingGroup": {"ThingGroupName", "/thing-groups/", func(p object) any { return without(p, "ThingGroupName") },
			func(_ cloudformation.Request, _ string, answer object) object {
				return object{"Arn": answer["thingGroupArn"], "Id": answer["thingGroupId"]}
			}, false},
		"AWS::IoT::Policy": {"PolicyName", "/policies/", func(p object) any { return object{"policyDocument": asText(p["PolicyDocument"])} },
			func(_ cloudformation.Request, name string, answer object) object {
				return object{"Arn": answer["policyArn"], "Id": name}
			}, false},
		"AWS::IoT::Thing": {"ThingName", "/things/", func(p object) any { return without(p, "ThingName") },
			func(_ cloudformation.Request, _ string, answer object) object {
				return object{"Arn": answer["thingArn"], "Id": answer["thingId"]}
			}, false},
	} {
		d := cloudformation.Declared{
			Make: func(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
				name := named(r, t.name, 128)
				if t.replace { // names of rules cannot have hyphens
					name = strings.ReplaceAll(name, "-", "_")
				}
				if err := a.unique(r, name); err != nil {
					return cloudformation.Resource{}, err
				}
				return a.write(ctx, r, t, http.MethodPost, name)
			},
			Remove: func(ctx context.Context, r cloudformation.Request) error {
				return a.API.REST(ctx, "iot", http.MethodDelete, t.path+url.PathEscape(r.PhysicalResourceID), nil, nil)
			},
		}
		if t.replace {
			d.Change = func(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
				if wanted := text(r, t.name); wanted != "" && wanted != r.PhysicalResourceID {
					return cloudformation.Resource{}, fmt.Errorf("the local AWS does not rename the rule %s: start a new local AWS and deploy to it", r.PhysicalResourceID)
				}
				return a.write(ctx, r, t, http.MethodPatch, r.PhysicalResourceID)
			}
		}
		all[resourceType] = d
	}
	return all
}

func (a Account) write(ctx context.Context, r cloudformation.Request, t iotType, method, name string) (cloudformation.Resource, error) {
	var answer object
	if err := a.API.REST(ctx, "iot", method, t.path+url.PathEscape(name), t.body(r.ResourceProperties), &answer); err != nil {
		return cloudformation.Resource{}, err
	}
	return kept(name, t.attributes(r, name, answer), ""), nil
}

// without returns the properties without the name, and without tags, which have no effect here.
func without(properties object, name string) any {
	rest := object{}
	for key, value := range properties {
		if key != name && key != "Tags" {
			rest[key] = value
		}
	}
	return lowerCamel(rest, "Attributes")
}

// asText returns a document as JSON text, which it may already be.
func asText(document any) string {
	if text, ok := document.(string); ok {
		return text
	}
	text, _ := json.Marshal(document) // it came as JSON
	return string(text)
}
