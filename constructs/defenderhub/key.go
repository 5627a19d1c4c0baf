package defenderhub

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/constructs-go/constructs/v10"
)

// withKey allows a role actions with key. IAM knows keys only by their own ARN, so an alias of an
// unknown key becomes a condition on all keys of its account and Region.
// https://docs.aws.amazon.com/kms/latest/developerguide/alias-authorization.html
func withKey(key awskms.IKey, actions ...string) awsiam.PolicyStatement {
	key, alias := behindAlias(key)
	if alias == "" {
		return allow(actions, *key.KeyArn())
	}
	return awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: texts(actions), Resources: texts([]string{keysBeside(key, alias)}),
		Conditions: &map[string]any{"ForAnyValue:StringEquals": map[string]any{"kms:ResourceAliases": alias}},
	})
}

// aliasSuppressions returns the suppressions for statements of scope that cannot name their keys.
func aliasSuppressions(scope constructs.Construct, keys ...awskms.IKey) []nagSuppression {
	var findings []string
	for _, key := range keys {
		if key == nil {
			continue
		}
		if key, alias := behindAlias(key); alias != "" {
			findings = append(findings, fmt.Sprint("Resource::", readable(awscdk.Stack_Of(scope).Resolve(keysBeside(key, alias)), "<", ">")))
		}
	}
	if findings == nil {
		return nil
	}
	slices.Sort(findings)
	return []nagSuppression{{
		rule: "AwsSolutions-IAM5", reason: "The key is known only by its alias, which a condition names. IAM does not accept an alias as a resource.",
		findings: slices.Compact(findings),
	}}
}

// suppressAliases writes aliasSuppressions to the IAM resources in scope.
func suppressAliases(scope constructs.Construct, keys ...awskms.IKey) {
	if suppressions := aliasSuppressions(scope, keys...); suppressions != nil {
		suppressNag(scope, "AWS::IAM::", suppressions...)
	}
}

// keysBeside returns the ARN pattern of all keys in the account and Region of an alias.
func keysBeside(key awskms.IKey, alias string) string {
	return strings.TrimSuffix(*key.KeyArn(), alias) + "key/*"
}

// behindAlias returns the key of an alias, or the alias itself and its name if the app does not
// know the key.
func behindAlias(key awskms.IKey) (_ awskms.IKey, name string) {
	if alias, ok := key.(awskms.IAlias); ok {
		if target := targetOf(alias); target != nil {
			return behindAlias(target)
		}
		return key, *alias.AliasName()
	}
	if _, name, ok := strings.Cut(*key.KeyArn(), ":alias/"); ok {
		return key, "alias/" + name
	}
	return key, ""
}

// targetOf returns the key of an alias, nil for an alias that is imported by name: the CDK throws
// an error for that.
func targetOf(alias awskms.IAlias) (key awskms.IKey) {
	defer func() { _ = recover() }()
	return alias.AliasTargetKey()
}

// managedByAWS returns the alias of an AWS managed key, "" for another key.
func managedByAWS(key awskms.IKey) string {
	if key == nil {
		return ""
	}
	if _, alias := behindAlias(key); strings.HasPrefix(alias, "alias/aws/") {
		return alias
	}
	return ""
}

// key reports an AWS managed key, whose policy allows no other service to use it.
// https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#aws-managed-cmk
func (f *faults) key(field string, key awskms.IKey) {
	if alias := managedByAWS(key); alias != "" {
		f.add(field, alias, "a customer-managed key, or nil for the default: other services cannot use a key that AWS manages")
	}
}

// letService adds a statement to the key's policy that lets a service use it for the stated
// purpose. The policy of an imported key cannot be extended, so a warning prints the statement.
func letService(key awskms.IKey, service, purpose string, actions []string, conditions map[string]any) {
	statement := serviceStatement(service, actions, "*", conditions)
	if *key.AddToResourcePolicy(statement, new(true)).StatementAdded {
		return
	}
	awscdk.Annotations_Of(key).AddWarningV2(new("defenderhub:key-policy:"+strings.Split(service, ".")[0]), new(fmt.Sprintf(
		"This key is imported, so its policy cannot be extended here. %s, add to the policy: %s", purpose, statementText(key, statement))))
}

// serviceStatement allows a service actions on resource.
func serviceStatement(service string, actions []string, resource string, conditions map[string]any) awsiam.PolicyStatement {
	return awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(new(service), nil)},
		Actions:    texts(actions), Resources: texts([]string{resource}), Conditions: &conditions,
	})
}

// statementText returns a statement as JSON, with deploy-time values as in Fn::Sub.
func statementText(scope constructs.IConstruct, statement awsiam.PolicyStatement) string {
	text, err := json.Marshal(readable(awscdk.Stack_Of(scope).Resolve(statement.ToStatementJson()), "${", "}"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// readable converts a resolved value with its intrinsic functions to text: begin and end surround
// deploy-time values.
func readable(v any, begin, end string) any {
	switch v := v.(type) {
	case []any:
		list := slices.Clone(v)
		for i := range list {
			list[i] = readable(list[i], begin, end)
		}
		return list
	case map[string]any:
		for function, of := range v {
			if len(v) > 1 {
				break
			}
			args, _ := of.([]any)
			switch {
			case function == "$jsii.map": // the CDK's Go runtime wraps maps in it
				return readable(of, begin, end)
			case function == "Ref":
				return begin + fmt.Sprint(of) + end
			case function == "Fn::GetAtt" && len(args) == 2:
				return begin + fmt.Sprintf("%v.%v", args...) + end
			case function == "Fn::Join" && len(args) == 2:
				var text []string
				parts, _ := args[1].([]any)
				for _, part := range parts {
					text = append(text, fmt.Sprint(readable(part, begin, end)))
				}
				return strings.Join(text, fmt.Sprint(args[0]))
			}
		}
		m := map[string]any{}
		for k, of := range v {
			m[k] = readable(of, begin, end)
		}
		return m
	}
	return v
}
