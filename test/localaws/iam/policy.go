package iam

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/defenderhub/defenderhub/test/localaws/iotcore/policy"
)

// document is a policy of an identity, or one of who may assume a role.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
type document struct {
	Version   string
	Statement statements
}

// statement is one of a document. What it holds is read when it is asked: patterns and
// conditions that are not known here matter to the requests only that they could decide.
type statement struct {
	Effect                policy.Effect
	Principal             json.RawMessage
	NotPrincipal          json.RawMessage
	Action, NotAction     policy.OneOrMore
	Resource, NotResource policy.OneOrMore
	Condition             map[string]map[string]policy.OneOrMore
}

type statements []statement

// UnmarshalJSON takes the one statement or the list of them that a document may have.
func (s *statements) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(policy.Several(data), (*[]statement)(s))
}

func parseDocument(text string) (document, error) {
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, fmt.Errorf("policy document: %w", err)
	}
	// The older version, which is that of a document without one, has no variables.
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

// The condition keys that requests have here: the first are of services, as they assume a
// role or send, then those of what is done in a role, of everybody, and of the use of a key.
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

// verdict is IAM's answer to one request.
type verdict int

const (
	notAllowed verdict = iota // because nothing allows it
	allowed
	denied // by a statement
)

// decide judges by all documents together: a Deny wins over every Allow. An error says
// what is not known here of a statement that could decide.
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

// on reports whether the statement is about the action on the resource, which is * for
// actions that take none.
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

// lets reports whether the statement of a trust policy is about a service that assumes
// the role.
func (s statement) lets(service string, keys policy.Values) (bool, error) {
	s.Resource, s.NotResource = nil, []string{""} // it has none
	to, err := s.reaches(caller{service: service})
	if err != nil || to == stranger {
		return false, err
	}
	return s.on("sts:AssumeRole", "*", keys)
}

// matches reports whether text has one of the patterns, or none of those of the negated
// element.
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

// holds reports whether all conditions are met. Their keys compare without case.
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
