package providers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/cloudformation"
)

// ruleLimit is the largest rule: SQL, actions and description together.
// https://docs.aws.amazon.com/general/latest/gr/iot-core.html
const ruleLimit = 128 << 10

func (a Account) iot() map[string]cloudformation.Declared {
	return map[string]cloudformation.Declared{
		"AWS::IoT::TopicRule":  {Make: a.createRule, Change: a.replaceRule, Remove: a.deletes("/rules/")},
		"AWS::IoT::ThingGroup": {Make: a.createThingGroup, Remove: a.deletes("/thing-groups/")},
		"AWS::IoT::Policy":     {Make: a.createPolicy, Remove: a.deletes("/policies/")},
		"AWS::IoT::Thing":      {Make: a.createThing, Remove: a.deletes("/things/")},
	}
}

// rulePayload is the payload of a rule as AWS IoT takes it.
func rulePayload(r cloudformation.Request) (any, error) {
	payload := r.ResourceProperties["TopicRulePayload"].(map[string]any) // the schema has seen it
	encoded, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	if len(encoded) > ruleLimit {
		return nil, fmt.Errorf("the rule has %d bytes, AWS IoT takes %d (Service: Iot, Status Code: 400)", len(encoded), ruleLimit)
	}
	actions := payload["Actions"].([]any)
	if e, ok := payload["ErrorAction"]; ok {
		actions = append([]any{e}, actions...)
	}
	for _, action := range actions {
		if queue, ok := action.(map[string]any)["Sqs"].(map[string]any); ok && strings.HasSuffix(queue["QueueUrl"].(string), ".fifo") {
			return nil, errors.New("rules deliver to standard queues only, and the queue is FIFO (Service: Iot, Status Code: 400)")
		}
	}
	return lowerCamel(payload, "Headers"), nil
}

func (a Account) createRule(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	payload, err := rulePayload(r)
	if err != nil {
		return cloudformation.Resource{}, err
	}
	// Generated names have no hyphens either.
	name := strings.ReplaceAll(named(r, "RuleName", 128), "-", "_")
	if err := a.unique(r, name); err != nil {
		return cloudformation.Resource{}, err
	}
	return a.writeRule(ctx, r, http.MethodPost, name, payload)
}

func (a Account) replaceRule(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	name := r.PhysicalResourceID
	if wanted := text(r, "RuleName"); wanted != "" && wanted != name {
		return cloudformation.Resource{}, fmt.Errorf("the local AWS does not rename the rule %s: start a new one and deploy to it", name)
	}
	payload, err := rulePayload(r)
	if err != nil {
		return cloudformation.Resource{}, err
	}
	return a.writeRule(ctx, r, http.MethodPatch, name, payload)
}

func (a Account) writeRule(ctx context.Context, r cloudformation.Request, method, name string, payload any) (cloudformation.Resource, error) {
	if err := a.API.REST(ctx, "iot", method, "/rules/"+url.PathEscape(name), payload, nil); err != nil {
		return cloudformation.Resource{}, err
	}
	return kept(name, map[string]any{"Arn": r.ARN("iot", "rule/"+name)}, ""), nil
}

func (a Account) createThingGroup(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	if _, dynamic := r.ResourceProperties["QueryString"]; dynamic {
		return cloudformation.Resource{}, errors.New("the local AWS has no dynamic thing groups: leave QueryString out")
	}
	name := named(r, "ThingGroupName", 128)
	if err := a.unique(r, name); err != nil {
		return cloudformation.Resource{}, err
	}
	body := map[string]any{"thingGroupProperties": lowerCamel(r.ResourceProperties["ThingGroupProperties"], "Attributes")}
	if parent := text(r, "ParentGroupName"); parent != "" {
		body["parentGroupName"] = parent
	}
	var answer struct{ ThingGroupArn, ThingGroupId string }
	if err := a.API.REST(ctx, "iot", http.MethodPost, "/thing-groups/"+url.PathEscape(name), body, &answer); err != nil {
		return cloudformation.Resource{}, err
	}
	return kept(name, map[string]any{"Arn": answer.ThingGroupArn, "Id": answer.ThingGroupId}, ""), nil
}

func (a Account) createPolicy(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	name := named(r, "PolicyName", 128)
	if err := a.unique(r, name); err != nil {
		return cloudformation.Resource{}, err
	}
	document, isText := r.ResourceProperties["PolicyDocument"].(string)
	if !isText {
		encoded, err := json.Marshal(r.ResourceProperties["PolicyDocument"])
		if err != nil {
			return cloudformation.Resource{}, err
		}
		document = string(encoded)
	}
	var answer struct{ PolicyArn string }
	if err := a.API.REST(ctx, "iot", http.MethodPost, "/policies/"+url.PathEscape(name), map[string]string{"policyDocument": document}, &answer); err != nil {
		return cloudformation.Resource{}, err
	}
	return kept(name, map[string]any{"Arn": answer.PolicyArn, "Id": name}, ""), nil
}

func (a Account) createThing(ctx context.Context, r cloudformation.Request) (cloudformation.Resource, error) {
	name := named(r, "ThingName", 128)
	if err := a.unique(r, name); err != nil {
		return cloudformation.Resource{}, err
	}
	body := map[string]any{}
	if p, ok := r.ResourceProperties["AttributePayload"]; ok {
		body["attributePayload"] = lowerCamel(p, "Attributes")
	}
	if t := text(r, "ThingTypeName"); t != "" {
		body["thingTypeName"] = t
	}
	var answer struct{ ThingArn, ThingId string }
	if err := a.API.REST(ctx, "iot", http.MethodPost, "/things/"+url.PathEscape(name), body, &answer); err != nil {
		return cloudformation.Resource{}, err
	}
	return kept(name, map[string]any{"Arn": answer.ThingArn, "Id": answer.ThingId}, ""), nil
}

// deletes removes what is called as the resource's physical id says.
func (a Account) deletes(path string) func(context.Context, cloudformation.Request) error {
	return func(ctx context.Context, r cloudformation.Request) error {
		return a.API.REST(ctx, "iot", http.MethodDelete, path+url.PathEscape(r.PhysicalResourceID), nil, nil)
	}
}
