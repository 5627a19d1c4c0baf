package iam

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/awsapi"
	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// document is a policy document: identity-based, resource-based, or the trust policy of a role.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
type document struct {
	Version   string
	Statement statements
}

// statement is a statement of a policy document. Its patterns and conditions are parsed when it is
// evaluated, so that unsupported ones matter only for requests that they could decide.
type statement struct {
	Effect                policy.Effect
	Principal             json.RawMessage
	NotPrincipal          json.RawMessage
	Action, NotAction     policy.OneOrMore
	Resource, NotResource policy.OneOrMore
	Condition             map[string]map[string]policy.OneOrMore
}

type statements []statement

// UnmarshalJSON decodes one statement or a list of statements.
func (s *statements) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(policy.Several(data), (*[]statement)(s))
}

func parseDocument(text string) (document, error) {
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, fmt.Errorf("policy document: %w", err)
	}
	// A document without a version has the older version, which has no variables.
	if older := d.Version == "" || d.Version == "2008-10-17"; d.Version != policy.Version && !(older && !strings.Contains(text, "${")) {
		return d, &policy.UnsupportedError{Element: "policy version", Name: d.Version}
	}
	for i, s := range d.Statement {
		if s.Effect != policy.Allow && s.Effect != policy.Deny {
			return d, fmt.Errorf("policy document: Statement[%d]: Effect is %q, want Allow or Deny", i, s.Effect)
		}
	}
	return d, nil
}

// The supported condition keys: first those of services that assume a role or send, then those of
// roles, of all requests, and of the use of a key.
const (
	keySourceAccount    = "aws:SourceAccount"
	keySourceARN        = "aws:SourceArn"
	keySourceOwner      = "aws:SourceOwner"
	keyServiceName      = "aws:PrincipalServiceName"
	keyPrincipalAccount = "aws:PrincipalAccount"
	keyPrincipalARN     = "aws:PrincipalArn"
	keyIsService        = "aws:PrincipalIsAWSService"
	keyRequestedRegion  = "aws:RequestedRegion"
	keySecureTransport  = "aws:SecureTransport"
	keyViaService       = "kms:ViaService"
	keyCallerAccount    = "kms:CallerAccount"
)

var conditionKeys = []string{
	keySourceAccount, keySourceARN, keySourceOwner, keyServiceName, keyPrincipalAccount, keyPrincipalARN, keyIsService,
	keyRequestedRegion, keySecureTransport, keyViaService, keyCallerAccount,
}

// verdict is the result of evaluating a request.
type verdict int

const (
	notAllowed verdict = iota // no statement allows the request
	allowed
	denied // a statement denies the request
)

// decide evaluates all documents together: a Deny overrides every Allow. Its error is about an
// unsupported part of a statement that could decide.
func decide(documents []document, applies func(statement) (bool, error)) (verdict, error) {
	answer := notAllowed
	for _, d := range documents {
		for _, s := range d.Statement {
			ok, err := applies(s)
			switch {
			case err != nil:
				return notAllowed, err
			case ok && s.Effect == policy.Deny:
				answer = denied
			case ok && answer == notAllowed:
				answer = allowed
			}
		}
	}
	return answer, nil
}

// on reports whether the statement matches an action on a resource, which is * for actions without
// resources.
func (s statement) on(action, resource string, keys policy.Values) (bool, error) {
	ok, err := matches(s.Action, s.NotAction, action, strings.ToLower)
	if err == nil && ok {
		ok, err = matches(s.Resource, s.NotResource, resource, strings.Clone)
	}
	if err != nil || !ok {
		return false, err
	}
	return s.holds(keys)
}

// lets reports whether the statement of a trust policy matches a service that assumes the role.
func (s statement) lets(service string, keys policy.Values) (bool, error) {
	s.Resource, s.NotResource = nil, []string{""} // a trust policy has no resource
	to, err := s.reaches(caller{service: service})
	if err != nil || to == stranger {
		return false, err
	}
	return s.on("sts:AssumeRole", "*", keys)
}

// matches reports whether text matches one of the patterns, or none of the negated element's.
func matches(patterns, not []string, text string, fold func(string) string) (bool, error) {
	text = fold(text)
	negated := len(not) > 0
	if negated {
		patterns = not
	}
	for _, p := range patterns {
		pattern, err := policy.ParsePattern(fold(p))
		if err != nil {
			return false, err
		}
		if matched, _ := pattern.Match(text, nil); matched {
			return !negated, nil
		}
	}
	return negated, nil
}

// holds reports whether all conditions are met. Condition keys are case-insensitive.
func (s statement) holds(keys policy.Values) (bool, error) {
	conditions, err := policy.IAMConditions(s.Condition, func(key string) bool {
		return slices.ContainsFunc(conditionKeys, func(known string) bool { return strings.EqualFold(key, known) })
	})
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(conditions, func(c policy.Condition) bool {
		for _, known := range conditionKeys {
			if strings.EqualFold(c.Key, known) {
				c.Key = known
			}
		}
		return !c.Holds(keys)
	}), nil
}

// Roles are the roles of the account in the emulator, cached until Changed is called.
type Roles struct {
	// API is the emulator itself.
	API awsapi.Client
	// Managed returns the managed policies of a role in its stack. The emulator does not attach
	// them.
	Managed func(role string) []string
	cache[role]
}

// role is a role with all its policies.
type role struct {
	name, arn string
	trust     document
	policies  []document
	boundary  []document // empty without one
}

// find returns the role with an ARN, or nil if there is none.
func (r *Roles) find(ctx context.Context, arn string) (*role, error) {
	return r.get(arn, func() (*role, error) {
		name := arn[strings.LastIndex(arn, "/")+1:]
		found, err := r.read(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("read role %s: %w", name, err)
		}
		if found == nil || found.arn != arn {
			return nil, nil
		}
		return found, nil
	})
}

// query calls IAM for a role or a policy.
func (r *Roles) query(ctx context.Context, out any, action string, parameters ...string) error {
	form := url.Values{}
	for pair := range slices.Chunk(parameters, 2) {
		form.Set(pair[0], pair[1])
	}
	return r.API.Query(ctx, "iam", "2010-05-08", action, form, out)
}

func (r *Roles) read(ctx context.Context, name string) (*role, error) {
	var described struct {
		ARN      string `xml:"GetRoleResult>Role>Arn"`
		Trust    string `xml:"GetRoleResult>Role>AssumeRolePolicyDocument"`
		Boundary string `xml:"GetRoleResult>Role>PermissionsBoundary>PermissionsBoundaryArn"`
	}
	err := r.query(ctx, &described, "GetRole", "RoleName", name)
	if awsapi.HasCode(err, "NoSuchEntity") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	made := &role{name: name, arn: described.ARN}
	if made.trust, err = encoded(described.Trust); err != nil {
		return nil, err
	}
	var inline struct {
		Names []string `xml:"ListRolePoliciesResult>PolicyNames>member"`
	}
	var attached struct {
		ARNs []string `xml:"ListAttachedRolePoliciesResult>AttachedPolicies>member>PolicyArn"`
	}
	if err := r.query(ctx, &inline, "ListRolePolicies", "RoleName", name); err != nil {
		return nil, err
	}
	if err := r.query(ctx, &attached, "ListAttachedRolePolicies", "RoleName", name); err != nil {
		return nil, err
	}
	for _, one := range inline.Names {
		parsed, err := r.document(ctx, "GetRolePolicy", "RoleName", name, "PolicyName", one)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", one, err)
		}
		made.policies = append(made.policies, parsed)
	}
	for _, arn := range append(r.Managed(name), attached.ARNs...) {
		parsed, err := r.managed(ctx, arn)
		if err != nil {
			return nil, err
		}
		made.policies = append(made.policies, parsed)
	}
	if described.Boundary != "" {
		parsed, err := r.managed(ctx, described.Boundary)
		if err != nil {
			return nil, err
		}
		made.boundary = []document{parsed}
	}
	return made, nil
}

// managed reads the default version of a managed policy.
func (r *Roles) managed(ctx context.Context, arn string) (parsed document, err error) {
	var described struct {
		Version string `xml:"GetPolicyResult>Policy>DefaultVersionId"`
	}
	if err = r.query(ctx, &described, "GetPolicy", "PolicyArn", arn); err == nil {
		parsed, err = r.document(ctx, "GetPolicyVersion", "PolicyArn", arn, "VersionId", described.Version)
	}
	if err != nil {
		return document{}, fmt.Errorf("managed policy %s: %w", arn, err)
	}
	return parsed, nil
}

// document returns the policy document in the answer of an action.
func (r *Roles) document(ctx context.Context, action string, parameters ...string) (document, error) {
	var out struct {
		Inline  string `xml:"GetRolePolicyResult>PolicyDocument"`
		Managed string `xml:"GetPolicyVersionResult>PolicyVersion>Document"`
	}
	if err := r.query(ctx, &out, action, parameters...); err != nil {
		return document{}, err
	}
	return encoded(out.Inline + out.Managed)
}

// encoded parses a URL-encoded document, as IAM returns it.
func encoded(text string) (document, error) {
	decoded, err := url.PathUnescape(text)
	if err != nil {
		return document{}, fmt.Errorf("policy document: %w", err)
	}
	return parseDocument(decoded)
}
