package functions

import (
	"encoding/json"
	"fmt"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// MayInvoke reports whether a function's resource policy lets a service, such as
// iot.amazonaws.com, invoke it for something of an account. Only what AWS::Lambda::Permission
// and AddPermission write is understood: other conditions are not met.
// https://docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html
func MayInvoke(document []byte, service, sourceARN, account string) (bool, error) {
	var p struct {
		Statement []struct {
			Effect, Action string
			Principal      json.RawMessage
			Condition      map[string]map[string]string
		}
	}
	if err := json.Unmarshal(document, &p); err != nil {
		return false, fmt.Errorf("resource policy of a function: %w", err)
	}
	for _, s := range p.Statement {
		var principal struct{ Service string }
		if json.Unmarshal(s.Principal, &principal) != nil || principal.Service != service ||
			s.Effect != "Allow" || s.Action != "lambda:InvokeFunction" && s.Action != "lambda:*" {
			continue
		}
		allowed := true
		for operator, keys := range s.Condition {
			for key, want := range keys {
				met, err := conditionMet(operator, key, want, sourceARN, account)
				if err != nil {
					return false, err
				}
				allowed = allowed && met
			}
		}
		if allowed {
			return true, nil
		}
	}
	return false, nil
}

func conditionMet(operator, key, want, sourceARN, account string) (bool, error) {
	switch operator + " " + key {
	case "ArnLike AWS:SourceArn":
		pattern, err := policy.ParsePattern(want)
		if err != nil {
			return false, fmt.Errorf("source ARN of a function's permission: %w", err)
		}
		matched, _ := pattern.Match(sourceARN, nil)
		return matched, nil
	case "StringEquals AWS:SourceAccount":
		return want == account, nil
	}
	return false, nil
}
