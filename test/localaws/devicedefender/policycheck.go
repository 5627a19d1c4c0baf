package devicedefender

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// otherDevice is the name of a device for which no policy is meant.
const otherDevice = "any-other-device"

// probes are requests for resources of another device. If a policy allows one of an action's
// requests, it allows the action too broadly (AWS IoT Device Defender Developer Guide, "AWS IoT
// policies overly permissive": MQTT permissions, shadow and job permissions).
var probes = []struct {
	action    string
	resources []string
	// own is the prefix of resources that are devices. There, any wildcard is too broad, whatever
	// the text before it.
	own string
}{
	{"iot:Connect", []string{"client/" + otherDevice}, ":client/"},
	{"iot:Publish", []string{"topic/$aws/things/" + otherDevice + "/shadow/update", "topic/$aws/things/" + otherDevice + "/jobs/get"}, ""},
	{"iot:Subscribe", []string{
		"topicfilter/$aws/things/" + otherDevice + "/shadow/update/accepted", "topicfilter/$aws/things/" + otherDevice + "/jobs/notify",
		"topicfilter/$aws/things/#", "topicfilter/$aws/things/+/shadow/update",
	}, ""},
	{"iot:DeleteThingShadow", []string{"thing/" + otherDevice}, ":thing/"},
	{"iot:GetThingShadow", []string{"thing/" + otherDevice}, ":thing/"},
	{"iot:UpdateThingShadow", []string{"thing/" + otherDevice}, ":thing/"},
	{"iot:DescribeJobExecution", []string{"thing/" + otherDevice}, ":thing/"},
	{"iot:GetPendingJobExecutions", []string{"thing/" + otherDevice}, ":thing/"},
	{"iot:StartNextPendingJobExecution", []string{"thing/" + otherDevice}, ":thing/"},
	{"iot:UpdateJobExecution", []string{"thing/" + otherDevice}, ":thing/"},
}

func policyIssue(p iotcore.Policy, code, reason string) issue {
	return issue{
		resource: types.NonCompliantResource{ResourceType: types.ResourceTypeIotPolicy, ResourceIdentifier: &types.ResourceIdentifier{
			PolicyVersionIdentifier: &types.PolicyVersionIdentifier{PolicyName: &p.Name, PolicyVersionId: &p.VersionID},
		}},
		code: code, reason: reason,
	}
}

// overlyPermissivePolicies checks the default version of each policy.
func overlyPermissivePolicies(s *Service, _ checkRun) (int, []issue, error) {
	policies := s.config.Registry.Policies()
	var issues []issue
	for _, p := range policies {
		if actions := broadActions(s.config.Registry, p.Document); len(actions) > 0 {
			issues = append(issues, policyIssue(p, "ALLOWS_BROAD_ACCESS_TO_IOT_DATA_PLANE_ACTIONS",
				fmt.Sprintf("Policy allows broad access to IoT data plane actions: [%s].", strings.Join(actions, ", "))))
		}
	}
	return len(policies), issues, nil
}

// broadActions returns the actions that a policy allows on resources of other devices.
func broadActions(registry Registry, document *policy.Document) []string {
	var actions []string
	for _, probe := range probes {
		connect := probe.action == "iot:Connect"
		documents := []*policy.Document{underAnyCircumstances(document, connect)}
		resources := probe.resources
		if probe.own != "" {
			for _, id := range matchingNames(document, probe.own) {
				resources = append(slices.Clone(resources), strings.TrimPrefix(probe.own, ":")+id)
			}
		}
		if slices.ContainsFunc(resources, func(resource string) bool {
			values := policy.Values{}
			if connect { // the client chooses its ID, so the connection may have no thing
				values[policy.KeyClientID] = []string{strings.TrimPrefix(resource, "client/")}
				values[policy.KeyThingIsAttached] = []string{"false"}
			}
			return policy.Evaluate(documents, policy.Request{Action: probe.action, Resource: registry.ARN(resource), Values: values}).Allowed
		}) {
			actions = append(actions, probe.action)
		}
	}
	return actions
}

// underAnyCircumstances returns the document as it applies in the best case for an intruder: the
// conditions of an Allow hold, and a Deny with conditions does not apply. If bound is true, it
// keeps conditions on the thing and the client ID.
func underAnyCircumstances(document *policy.Document, bound bool) *policy.Document {
	out := &policy.Document{}
	for _, s := range document.Statements {
		stay := slices.DeleteFunc(slices.Clone(s.Conditions), func(c policy.Condition) bool {
			return !bound || c.Key != policy.KeyClientID && !strings.HasPrefix(c.Key, "iot:Connection.Thing.")
		})
		if s.Effect == policy.Deny && len(stay) < len(s.Conditions) {
			continue
		}
		s.Conditions = stay
		out.Statements = append(out.Statements, s)
	}
	return out
}

// matchingNames returns a name for each pattern with wildcards that a policy has for devices. The
// name matches the pattern, unless that has a policy variable, which limits it to one device.
func matchingNames(document *policy.Document, prefix string) []string {
	var names []string
	for _, s := range document.Statements {
		if s.Effect != policy.Allow {
			continue
		}
		for _, r := range s.Resources {
			_, name, found := strings.Cut(r.String(), prefix)
			if found && strings.ContainsAny(name, "*?") {
				names = append(names, strings.NewReplacer("*", otherDevice, "?", "x").Replace(name))
			}
		}
	}
	return names
}

// misconfiguredPolicies finds denials with wildcards of MQTT, which are literal in policies (AWS IoT
// Device Defender Developer Guide, "AWS IoT policy potentially misconfigured"). It does not find
// topic filters that evade a denial.
func misconfiguredPolicies(s *Service, _ checkRun) (int, []issue, error) {
	policies := s.config.Registry.Policies()
	var issues []issue
	for _, p := range policies {
		if resource := mqttWildcardInDeny(p.Document); resource != "" {
			issues = append(issues, policyIssue(p, "POLICY_CONTAINS_MQTT_WILDCARDS_IN_DENY_STATEMENT",
				fmt.Sprintf("Policy contains MQTT wildcards in a deny statement, where they are literal: %s.", resource)))
		}
	}
	return len(policies), issues, nil
}

// mqttWildcardInDeny returns a denied topic or topic filter with + or #, or "" if there is none.
func mqttWildcardInDeny(document *policy.Document) string {
	for _, s := range document.Statements {
		if s.Effect != policy.Deny {
			continue
		}
		for _, r := range slices.Concat(s.Resources, s.NotResources) {
			text := r.String()
			if strings.ContainsAny(text, "+#") && (strings.Contains(text, ":topic/") || strings.Contains(text, ":topicfilter/")) {
				return text
			}
		}
	}
	return ""
}
