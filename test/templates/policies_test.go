package templates

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

func roleTrust(_ template, _ string, r resource) string {
	for _, s := range statementList(r.Properties["AssumeRolePolicyDocument"]) {
		principal := toJSON(s["Principal"])
		if strings.Contains(principal, `"vpc-flow-logs.amazonaws.com"`) {
			continue // the CDK's resources in the embedding stack
		}
		conditions := toJSON(s["Condition"])
		wanted := []string{"aws:SourceAccount", "aws:SourceArn"}
		if strings.Contains(principal, `"lambda.amazonaws.com"`) {
			wanted = wanted[:1] // no AWS page says that AWS Lambda sends the function's ARN
		}
		for _, want := range wanted {
			if !strings.Contains(conditions, want) {
				return fmt.Sprintf("%s may assume the role without a condition on %s", principal, want)
			}
		}
	}
	return ""
}

// managedPolicies forbids AWS managed policies, except the audit's own.
func managedPolicies(_ template, _ string, r resource) string {
	for _, policy := range list(r.Properties["ManagedPolicyArns"]) {
		arn := toJSON(policy)
		if !strings.Contains(arn, "/AWSIoTDeviceDefenderAudit") {
			return "has the managed policy " + arn
		}
	}
	return ""
}

// servicesFrom requires a source condition wherever a resource policy allows an AWS service. The
// requests of EventBridge to AWS KMS have no source: with a condition every event would be lost.
func servicesFrom(document any) string {
	for _, s := range statementList(document) {
		principal, conditions := toJSON(s["Principal"]), toJSON(s["Condition"])
		if s["Effect"] == "Allow" && strings.Contains(principal, `"Service"`) &&
			!strings.Contains(conditions, `"aws:SourceArn"`) && !strings.Contains(conditions, `"kms:EncryptionContext:`) &&
			!(strings.Contains(principal, `"events.amazonaws.com"`) && toJSON(s["Action"]) == `["kms:Decrypt","kms:GenerateDataKey"]`) {
			return fmt.Sprintf("allows %s for any source", principal)
		}
	}
	return ""
}

// unscoped are the actions for which AWS supports only *, or, for network interfaces, whose
// resource is unknown in advance.
// https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsiot.html
var unscoped = []string{
	"iot:DescribeAccountAuditConfiguration", "iot:ListAuditFindings", "iot:ListRelatedResourcesForAuditFinding", "iot:StartOnDemandAuditTask",
	"iot:PutVerificationStateOnViolation",
	"iot:CreateAuditSuppression", "iot:DeleteAuditSuppression", "iot:DescribeAuditSuppression", "iot:UpdateAuditSuppression",
	"iot:ListPrincipalThings", "iot:ListThings", "iot:GetEffectivePolicies", "securityhub:GetFindings",
	"xray:PutTraceSegments", "xray:PutTelemetryRecords",
	"ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
	"ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
}

// anyThing are the actions that a function may apply to any thing or client of the account: any
// may violate a behavior.
var anyThing = []string{"iot:GetConnection", "iot:DescribeThing", "iot:ListThingPrincipals", "iot:DescribeRoleAlias", "iot:ListThingGroupsForThing", "iot:DescribeThingGroup", "iot:Publish"}

// ofAnyThing matches the resources of anyThing: only a name may be a wildcard.
var ofAnyThing = regexp.MustCompile(`":(client|thing|thinggroup|rolealias)/\*"|":topic/fleet/\*/report/rejected"`)

func statements(document any) string {
	for _, s := range statementList(document) {
		if s["Effect"] != "Allow" {
			continue
		}
		actions := list(s["Action"])
		for _, a := range actions {
			if strings.Contains(fmt.Sprint(a), "*") {
				return fmt.Sprintf("allows %v", a)
			}
		}
		for _, resource := range list(s["Resource"]) {
			if !strings.Contains(toJSON(resource), "*") {
				continue
			}
			for _, a := range actions {
				if strings.HasPrefix(fmt.Sprint(a), "kms:") && strings.HasSuffix(toJSON(resource), `:key/*"]]}`) && strings.Contains(toJSON(s["Condition"]), `"kms:ResourceAliases":"alias/fleet"`) {
					continue // IAM does not know aliases as resources
				}
				if slices.Contains(anyThing, fmt.Sprint(a)) && ofAnyThing.MatchString(toJSON(resource)) {
					continue
				}
				if !slices.Contains(unscoped, fmt.Sprint(a)) {
					return fmt.Sprintf("allows %v on %s", a, toJSON(resource))
				}
			}
		}
	}
	return ""
}

// tlsOnly checks that the policies of a queue or topic deny plain HTTP.
func tlsOnly(tpl template, id, policyType, attached string) string {
	for _, r := range tpl.Resources {
		if r.Type != policyType || !strings.Contains(toJSON(r.Properties[attached]), `"`+id+`"`) {
			continue
		}
		for _, s := range statementList(r.Properties["PolicyDocument"]) {
			if s["Effect"] == "Deny" && strings.Contains(toJSON(s["Condition"]), `"aws:SecureTransport":"false"`) {
				return ""
			}
		}
	}
	return "open to plain HTTP"
}

// maySend checks that the policies and the key of a queue or topic let a service send. A topic
// without a policy has Amazon SNS's default policy, which allows the service.
func maySend(tpl template, service, policyType, attached, id string, byDefault bool) string {
	allowed := func(document any) bool {
		return slices.ContainsFunc(statementList(document), func(s map[string]any) bool {
			return s["Effect"] == "Allow" && strings.Contains(toJSON(s["Principal"]), `"`+service+`"`)
		})
	}
	may, policies := false, 0
	for _, r := range tpl.Resources {
		if r.Type == policyType && strings.Contains(toJSON(r.Properties[attached]), `"`+id+`"`) {
			policies++
			may = may || allowed(r.Properties["PolicyDocument"])
		}
	}
	if !may && !(byDefault && policies == 0) {
		return service + " may not send to " + id
	}
	if key := tpl.Resources[attributeOf(tpl.Resources[id].Properties["KmsMasterKeyId"])]; key.Type != "" && !allowed(key.Properties["KeyPolicy"]) {
		return service + " may not use the key of " + id
	}
	return ""
}

// statementList returns the statements of a policy document, or of a list of policies.
func statementList(document any) []map[string]any {
	var found []map[string]any
	switch d := document.(type) {
	case []any:
		for _, item := range d {
			found = append(found, statementList(item)...)
		}
	case map[string]any:
		if inner, ok := d["PolicyDocument"]; ok {
			return statementList(inner)
		}
		for _, s := range list(d["Statement"]) {
			if statement, ok := s.(map[string]any); ok {
				found = append(found, statement)
			}
		}
	}
	return found
}
