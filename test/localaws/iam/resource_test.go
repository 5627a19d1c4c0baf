package iam

import (
	"strings"
	"testing"
)

const (
	jobs   = "arn:aws:sqs:eu-west-1:123456789012:jobs"
	news   = "arn:aws:sns:eu-west-1:123456789012:news"
	keyARN = "arn:aws:kms:eu-west-1:123456789012:key/k"
	rule   = "arn:aws:events:eu-west-1:123456789012:rule/r"
	alarm  = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a"
)

// put sets the statements of the policy of a queue, a topic or a function, and of the key that
// encrypts it.
func (e *Enforcer) put(t *testing.T, arn, encryptedBy, statements, keyStatements string) {
	t.Helper()
	parse := func(version, statements string) document {
		d, err := parseDocument(`{"Version": "` + version + `", "Statement": [` + statements + `]}`)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	e.Resources.known = map[string]*guarded{
		arn: {policy: parse("2008-10-17", statements), key: encryptedBy},
		"k": {arn: keyARN, policy: parse("2012-10-17", keyStatements)},
	}
}

// byDefault is the policy that Amazon SNS gives each topic.
const byDefault = `{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["SNS:Publish"], "Resource": "` + news + `", "Condition": {"StringEquals": {"AWS:SourceOwner": "123456789012"}}}`

const (
	tlsOnly  = `{"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "sqs:*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}`
	forRule  = `{"Effect": "Allow", "Principal": {"Service": ["events.amazonaws.com"]}, "Action": "sqs:SendMessage", "Resource": "` + jobs + `", "Condition": {"ArnEquals": {"aws:SourceArn": "` + rule + `"}}}`
	forAll   = `{"Effect": "Allow", "Principal": "*", "Action": "sns:Publish", "Resource": "*"}`
	byRoot   = `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::123456789012:root"}, "Action": "kms:*", "Resource": "*"}`
	forSNS   = `{"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": ["kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*"}`
	unmet    = "because no resource-based policy allows the "
	explicit = "with an explicit deny in a resource-based policy"
)

func TestServicesNeedTheResourcesPolicy(t *testing.T) {
	for name, tt := range map[string]struct {
		service, source, resource, action string
		policy, encryptedBy, keyPolicy    string
		want                              string // "" when it is allowed
	}{
		"no statement":                   {"events", rule, jobs, "sqs:SendMessage", tlsOnly, "", "", unmet + "sqs:SendMessage action"},
		"named":                          {"events", rule, jobs, "sqs:SendMessage", tlsOnly + "," + forRule, "", "", ""},
		"another rule":                   {"events", rule + "2", jobs, "sqs:SendMessage", forRule, "", "", unmet},
		"another service":                {"sns", rule, jobs, "sqs:SendMessage", forRule, "", "", unmet},
		"denied":                         {"events", rule, jobs, "sqs:SendMessage", forRule + "," + strings.Replace(tlsOnly, "false", "true", 1), "", "", explicit},
		"everybody":                      {"events", rule, news, "sns:Publish", forAll, "", "", ""},
		"the default policy, an alarm":   {"cloudwatch", alarm, news, "sns:Publish", byDefault, "", "", ""},
		"the default policy, a rule":     {"events", rule, news, "sns:Publish", byDefault, "", "", unmet},
		"the account is not a service":   {"sns", news, jobs, "sqs:SendMessage", strings.Replace(byRoot, "kms:*", "sqs:*", 1), "", "", unmet},
		"a key for the account only":     {"sns", news, jobs, "sqs:SendMessage", strings.Replace(forAll, "sns:Publish", "sqs:*", 1), "k", byRoot, "kms:GenerateDataKey on resource: " + keyARN + " " + unmet},
		"a key that the service may use": {"sns", news, jobs, "sqs:SendMessage", strings.Replace(forAll, "sns:Publish", "sqs:*", 1), "k", byRoot + "," + forSNS, ""},
		"a key of AWS":                   {"cloudwatch", alarm, news, "sns:Publish", forAll, "alias/aws/sns", byRoot, "does not let cloudwatch.amazonaws.com use the key"},
		"NotPrincipal":                   {"events", rule, news, "sns:Publish", strings.Replace(forAll, "Principal", "NotPrincipal", 1), "", "", `policy element "NotPrincipal" is not supported by the local AWS`},
		"an unsupported condition key":   {"events", rule, news, "sns:Publish", strings.Replace(byDefault, "AWS:SourceOwner", "aws:SourceOrgID", 1), "", "", `condition key "aws:SourceOrgID" is not supported by the local AWS`},
		"a queue that does not exist":    {"events", rule, jobs + "2", "sqs:SendMessage", forRule, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := enforcer(t, "")
			e.put(t, tt.resource, tt.encryptedBy, tt.policy, tt.keyPolicy)
			if strings.HasSuffix(tt.resource, "2") {
				e.Resources.known = nil
			}
			err := e.Deliver(t.Context(), tt.service+".amazonaws.com", tt.source, tt.resource, tt.action)
			if tt.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if denials := e.Denials(); tt.want == "" != (len(denials) == 0) {
				t.Errorf("denials %v after %v", denials, err)
			}
		})
	}
}

func TestServicesNeedTheFunctionsPolicy(t *testing.T) {
	const function, rule = "arn:aws:lambda:eu-west-1:123456789012:function:f", "arn:aws:iot:eu-west-1:123456789012:rule/mine"
	allow := func(condition string) string {
		return `{"Effect":"Allow","Action":"lambda:InvokeFunction","Principal":{"Service":"iot.amazonaws.com"},"Resource":"` + function + `","Condition":{` + condition + `}}`
	}
	source := func(arn string) string { return `"ArnLike":{"AWS:SourceArn":"` + arn + `"}` }
	for name, tt := range map[string]struct{ policy, want string }{
		"none":                   {"", unmet},
		"any source":             {allow(""), ""},
		"this rule":              {allow(source(rule)), ""},
		"another rule":           {allow(source(rule + "s")), unmet},
		"any rule":               {allow(source("arn:aws:iot:*:123456789012:rule/*")), ""},
		"this account":           {allow(`"StringEquals":{"AWS:SourceAccount":"123456789012"},` + source(rule)), ""},
		"another account":        {allow(`"StringEquals":{"AWS:SourceAccount":"210987654321"},` + source(rule)), unmet},
		"an organization":        {allow(`"StringEquals":{"aws:PrincipalOrgID":"o-1"}`), `condition key "aws:PrincipalOrgID" is not supported by the local AWS`},
		"another service":        {strings.Replace(allow(source(rule)), "iot.", "events.", 1), unmet},
		"another action":         {strings.Replace(allow(""), "lambda:InvokeFunction", "lambda:GetFunction", 1), unmet},
		"all actions":            {strings.Replace(allow(""), "lambda:InvokeFunction", "lambda:*", 1), ""},
		"an account's principal": {strings.Replace(allow(""), `"Service":"iot.amazonaws.com"`, `"AWS":"arn:aws:iam::123456789012:root"`, 1), unmet},
		"second of two":          {strings.Replace(allow(""), "iot.", "sns.", 1) + "," + allow(""), ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := enforcer(t, "")
			e.put(t, function, "", tt.policy, "")
			err := e.Deliver(t.Context(), "iot.amazonaws.com", rule, function, "lambda:InvokeFunction")
			if tt.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestResourcesPolicyAppliesToRolesToo(t *testing.T) {
	const send = `{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}`
	const useKey = `{"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "` + keyARN + `", "Condition": {"StringEquals": {"kms:ViaService": "sqs.eu-west-1.amazonaws.com"}}}`
	forRole := `{"Effect": "Allow", "Principal": {"AWS": "` + roleARN + `"}, "Action": "sqs:SendMessage", "Resource": "*"}`
	for name, tt := range map[string]struct {
		identity, policy, encryptedBy, keyPolicy string
		want                                     string
	}{
		"denied":                         {send, strings.Replace(tlsOnly, "false", "true", 1), "", "", explicit},
		"over TLS":                       {send, tlsOnly, "", "", ""},
		"allowed by the queue":           {`{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}`, forRole, "", "", ""},
		"denied by the role's policy":    {strings.Replace(send, "Allow", "Deny", 1), forRole, "", "", "with an explicit deny in an identity-based policy"},
		"only the account is allowed":    {`{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}`, strings.Replace(byRoot, "kms:*", "sqs:*", 1), "", "", "because no identity-based policy allows the sqs:SendMessage action"},
		"the account is denied":          {send, strings.Replace(strings.Replace(byRoot, "kms:*", "sqs:*", 1), "Allow", "Deny", 1), "", "", explicit},
		"a key, no permission for it":    {send, "", "k", byRoot, "kms:GenerateDataKey on resource: " + keyARN + " because no identity-based policy"},
		"a key":                          {send + "," + useKey, "", "k", byRoot, ""},
		"a key that trusts no policy":    {send + "," + useKey, "", "k", forSNS, "kms:GenerateDataKey on resource: " + keyARN + " " + unmet},
		"a key that names the role":      {send, "", "k", strings.Replace(forRole, "sqs:SendMessage", "kms:*", 1), ""},
		"a key of AWS":                   {send, "", "alias/aws/sqs", "", ""},
		"a key by its alias":             {send + "," + strings.Replace(useKey, `{"StringEquals": {"kms:ViaService": "sqs.eu-west-1.amazonaws.com"}}`, `{"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/fleet"}}`, 1), "", "k", byRoot, `condition key "kms:ResourceAliases" is not supported by the local AWS`},
		"a key that everybody is denied": {send + "," + useKey, "", "k", byRoot + "," + strings.Replace(forAll, `"Allow"`, `"Deny"`, 1) + "," + strings.Replace(strings.Replace(forAll, "sns:Publish", "kms:Decrypt", 1), "Allow", "Deny", 1), "kms:Decrypt on resource: " + keyARN + " " + explicit},
	} {
		t.Run(name, func(t *testing.T) {
			e := enforcer(t, "", tt.identity)
			e.put(t, jobs, tt.encryptedBy, tt.policy, tt.keyPolicy)
			err := e.Allow(t.Context(), Session{Role: roleARN, Name: "run"}, jobs, "sqs:SendMessage")
			if tt.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
