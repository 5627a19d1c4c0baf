package defenderhub

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"

	"github.com/defenderhub/defenderhub/defender"
	"github.com/defenderhub/defenderhub/internal/contract"
)

// AuditSuppression keeps a resource from counting as non-compliant in one check. Audits still find
// it. Removing the entry, or the stack, deletes the suppression.
//
// The deployment fails if a suppression for the resource already exists, created by hand or by
// another stack. That suppression is not changed. The descriptions of our suppressions end with the
// stack's name and ID.
type AuditSuppression struct {
	// Check is the check, which must be enabled. defender.IntermediateCARevoked is not allowed,
	// because no AWS page says how a suppression names its resource.
	Check defender.Check
	// Resource identifies the resource:
	//   - a certificate: its ID of 64 hex digits
	//   - a policy: NAME/VERSION, such as "fleet/1"
	//   - a role alias: its name
	//   - a Cognito identity pool: its ID, such as "eu-west-1:12345678-..."
	//   - a client ID
	//   - defender.LoggingDisabled: empty, which means the account
	//
	// It may be a deploy-time reference, except for a policy.
	Resource string
	// Until is when the suppression expires, in whole seconds. The next deployment deletes an
	// expired suppression.
	// Default: the zero time, it never expires.
	Until time.Time
	// Why is the reason, which becomes the description in AWS IoT: 1 to 750 printable ASCII
	// characters. It is required.
	Why string
}

// maxSuppressions leaves room for other resources: a stack can have 500, and each suppression is
// one of them.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
const maxSuppressions = 200

// resourceForms has the allowed forms of AuditSuppression.Resource, by the field of the API.
var resourceForms = map[string]struct {
	form *regexp.Regexp
	want string
}{
	"deviceCertificateId":     {regexp.MustCompile(`^[a-f0-9]{64}$`), "the ID of a device certificate, 64 hex digits"},
	"caCertificateId":         {regexp.MustCompile(`^[a-f0-9]{64}$`), "the ID of a CA certificate, 64 hex digits"},
	"policyVersionIdentifier": {regexp.MustCompile(`^[\w+=,.@-]{1,128}/[0-9]+$`), "the name and version of a policy, such as fleet/1"},
	"roleAliasArn":            {regexp.MustCompile(`^[\w=,@-]{1,128}$`), "the name of a role alias"},
	"cognitoIdentityPoolId":   {regexp.MustCompile(`^[\w-]+:[0-9a-f-]+$`), "the ID of a Cognito identity pool, such as eu-west-1:12345678-..."},
	"clientId":                {regexp.MustCompile(`^.+$`), "a client ID of 1 to 128 bytes"},
	"account":                 {regexp.MustCompile(`^$`), "nothing: the check is about the account"},
}

// maxClientID is in bytes.
// https://docs.aws.amazon.com/general/latest/gr/iot-core.html#message-broker-limits
const maxClientID = 128

var whyForm = regexp.MustCompile(`^[[:graph:] ]*[[:graph:]][[:graph:] ]*$`)

func (p AuditProps) validateSuppressions() error {
	var f faults
	if len(p.Suppressions) > maxSuppressions {
		f.add("Suppressions", fmt.Sprintf("%d suppressions", len(p.Suppressions)), "at most %d: each is a resource of the stack", maxSuppressions)
	}
	seen := map[string]bool{}
	for i, s := range p.Suppressions {
		f.under("Suppressions"+index(i), s.validate())
		switch {
		case slices.Contains(p.Disabled, s.Check):
			f.add("Suppressions"+index(i)+".Check", s.Check.String(), "a check that Disabled does not name")
		case seen[s.key()]:
			f.add("Suppressions"+index(i)+".Resource", s.Resource, "each resource of a check once")
		}
		seen[s.key()] = true
	}
	return f.err()
}

func (s AuditSuppression) key() string { return s.Check.String() + " " + s.Resource }

func (s AuditSuppression) validate() error {
	var f faults
	field := s.Check.Info().Identifier
	if field == "" {
		f.add("Check", s.Check.String(), "one of the checks of package defender, such as defender.ConflictingClientIDs, except defender.IntermediateCARevoked: no AWS page says how to name its resource")
	} else if form := resourceForms[field]; unresolved(s.Resource) {
		if field == "policyVersionIdentifier" {
			f.add("Resource", deployTime, form.want+", known at synthesis")
		}
	} else if !form.form.MatchString(s.Resource) || field == "clientId" && len(s.Resource) > maxClientID {
		f.add("Resource", s.Resource, form.want)
	}
	if s.Until.Nanosecond() != 0 {
		f.add("Until", s.Until.Format(time.RFC3339Nano), "a time in whole seconds, or the zero time for no end")
	}
	if !unresolved(s.Why) && (len(s.Why) > contract.MaxSuppressionWhy || !whyForm.MatchString(s.Why)) {
		f.add("Why", s.Why, "a reason of 1 to %d printable ASCII characters", contract.MaxSuppressionWhy)
	}
	return f.err()
}

// identifier returns the resource identifier of the AWS IoT API.
func (s AuditSuppression) identifier() map[string]any {
	field, value := s.Check.Info().Identifier, any(s.Resource)
	switch field {
	case "policyVersionIdentifier":
		name, version, _ := strings.Cut(s.Resource, "/")
		value = map[string]any{"policyName": name, "policyVersionId": version}
	case "roleAliasArn":
		value = arn("iot", "rolealias/"+s.Resource)
	case "account":
		value = awscdk.Aws_ACCOUNT_ID()
	}
	return map[string]any{field: value}
}

// suppress creates a custom resource for each suppression, and the function behind them.
func (a *audit) suppress(p AuditProps) {
	function := newGoFunction(a, "SuppressFunction", goFunction{
		description: "Creates and deletes Device Defender audit suppressions", code: p.code, FunctionProps: value(p.Function),
		timeout: time.Minute, memoryMiB: 128, key: p.EncryptionKey,
		statements: []awsiam.PolicyStatement{allow([]string{
			"iot:CreateAuditSuppression", "iot:DeleteAuditSuppression", "iot:DescribeAuditSuppression", "iot:UpdateAuditSuppression",
		}, "*")},
		suppressions: []nagSuppression{{
			rule: "AwsSolutions-IAM5", reason: "AWS IoT defines no resource type for audit suppressions, so the actions cannot name a resource.",
			findings: []string{"Resource::*"},
		}},
	})
	a.suppressFunction = function
	for i, s := range p.Suppressions {
		id := "Suppression-" + digest(s.key())
		if unresolved(s.Resource) { // a token's text differs in each synthesis
			id = fmt.Sprintf("Suppression%d", i)
		}
		properties := map[string]any{
			contract.SuppressionCheck: s.Check.String(), contract.SuppressionResource: s.identifier(), contract.SuppressionWhy: s.Why,
		}
		if !s.Until.IsZero() {
			properties[contract.SuppressionUntil] = s.Until.UTC().Format(time.RFC3339)
		}
		made := awscdk.NewCustomResource(a, &id, &awscdk.CustomResourceProps{
			ResourceType: new(contract.SuppressionResourceType), ServiceToken: function.FunctionArn(),
			ServiceTimeout: seconds(answerTimeout), Properties: &properties,
		})
		if a.configuration != nil {
			made.Node().AddDependency(a.configuration) // AWS IoT rejects a suppression of a check that is not enabled
		}
		a.suppressions = append(a.suppressions, made)
	}
}

// dependables converts custom resources for AddDependency.
func dependables(resources []awscdk.CustomResource) []constructs.IDependable {
	var all []constructs.IDependable
	for _, r := range resources {
		all = append(all, r)
	}
	return all
}
