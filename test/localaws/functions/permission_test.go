package functions_test

import (
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/functions"
)

func TestPermissions(t *testing.T) {
	const rule, account = "arn:aws:iot:eu-west-1:123456789012:rule/mine", "123456789012"
	policy := func(statement string) string { return `{"Version":"2012-10-17","Statement":[` + statement + `]}` }
	allow := func(condition string) string {
		return policy(`{"Effect":"Allow","Action":"lambda:InvokeFunction","Principal":{"Service":"iot.amazonaws.com"},"Condition":{` + condition + `}}`)
	}
	source := func(arn string) string { return `"ArnLike":{"AWS:SourceArn":"` + arn + `"}` }
	for name, tt := range map[string]struct {
		policy string
		want   bool
	}{
		"none":                   {policy(""), false},
		"any source":             {allow(""), true},
		"this rule":              {allow(source(rule)), true},
		"another rule":           {allow(source(rule + "s")), false},
		"any rule":               {allow(source("arn:aws:iot:*:123456789012:rule/*")), true},
		"this account":           {allow(`"StringEquals":{"AWS:SourceAccount":"` + account + `"},` + source(rule)), true},
		"another account":        {allow(`"StringEquals":{"AWS:SourceAccount":"210987654321"},` + source(rule)), false},
		"an organization":        {allow(`"StringEquals":{"aws:PrincipalOrgID":"o-1"}`), false},
		"another service":        {strings.Replace(allow(source(rule)), "iot.", "events.", 1), false},
		"another action":         {strings.Replace(allow(""), "lambda:InvokeFunction", "lambda:GetFunction", 1), false},
		"all actions":            {strings.Replace(allow(""), "lambda:InvokeFunction", "lambda:*", 1), true},
		"an account's principal": {policy(`{"Effect":"Allow","Action":"lambda:InvokeFunction","Principal":{"AWS":"arn:aws:iam::123456789012:root"}}`), false},
		"everybody":              {policy(`{"Effect":"Allow","Action":"lambda:InvokeFunction","Principal":"*"}`), false},
		"second of two":          {policy(`{"Effect":"Allow","Action":"lambda:InvokeFunction","Principal":{"Service":"sns.amazonaws.com"}},{"Effect":"Allow","Action":"lambda:InvokeFunction","Principal":{"Service":"iot.amazonaws.com"}}`), true},
	} {
		got, err := functions.MayInvoke([]byte(tt.policy), "iot.amazonaws.com", rule, account)
		if err != nil || got != tt.want {
			t.Errorf("%s: %t, error %v; want %t", name, got, err, tt.want)
		}
	}
	if _, err := functions.MayInvoke([]byte("no JSON"), "iot.amazonaws.com", rule, account); err == nil {
		t.Error("a policy that is no JSON is read")
	}
}
