// Package policy parses AWS IoT policy documents and evaluates them.
//
// It supports the elements of AWS IoT policies: Allow and Deny, Action and NotAction, Resource and
// NotResource, the wildcards * and ?, policy variables, and the common condition operators and
// keys. A document with any other element is refused and the error names it, so that no statement
// is evaluated with another meaning than it has.
//
// Source: AWS IoT Core Developer Guide, "AWS IoT Core policies".
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxSize is the maximum number of characters of a policy document, without white space
// (CreatePolicyVersion, policyDocument).
const MaxSize = 2048

// Version is the only policy language version that AWS IoT documents.
const Version = "2012-10-17"

// MalformedError is the error for a text that is not a valid policy document: AWS's
// MalformedPolicyException.
type MalformedError struct{ Reason string }

func (e *MalformedError) Error() string { return "malformed policy document: " + e.Reason }

// UnsupportedError is the error for an element of a policy document that this package does not
// support, though AWS may.
type UnsupportedError struct {
	Element string // "condition operator", "condition key" or "policy variable"
	Name    string // as in the document
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s %q is not supported by the local AWS", e.Element, e.Name)
}

// Effect is what a statement does to the requests that it matches.
type Effect string

// The effects, as policy documents spell them.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Document is a parsed policy document.
type Document struct {
	Statements []Statement
}

// Statement is one statement of a policy document. Exactly one of Actions and
// NotActions, and exactly one of Resources and NotResources, is set.
type Statement struct {
	Effect                  Effect
	Actions, NotActions     []Pattern
	Resources, NotResources []Pattern
	Conditions              []Condition
}

// Parse parses a policy document. Its error is a *MalformedError, or an *UnsupportedError for an
// element that this package does not support.
func Parse(text string) (*Document, error) {
	if !utf8.ValidString(text) {
		return nil, malformed("it is not valid UTF-8")
	}
	if n := utf8.RuneCountInString(strings.Join(strings.Fields(text), "")); n > MaxSize {
		return nil, malformed("it has %d characters besides white space, at most %d are allowed", n, MaxSize)
	}
	var raw struct {
		Version   string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	if err := decodeStrict([]byte(text), &raw); err != nil {
		return nil, malformed("%v", err)
	}
	if raw.Version != Version {
		return nil, malformed("Version is %q, want %q", raw.Version, Version)
	}
	if len(raw.Statement) == 0 {
		return nil, malformed("Statement is missing")
	}
	var list []json.RawMessage
	if err := json.Unmarshal(Several(raw.Statement), &list); err != nil || len(list) == 0 {
		return nil, malformed("Statement must be a statement or a list of at least one")
	}
	doc := &Document{}
	for i, one := range list {
		s, err := parseStatement(one)
		if m := (*MalformedError)(nil); errors.As(err, &m) {
			return nil, malformed("Statement[%d]: %s", i, m.Reason)
		}
		if err != nil {
			return nil, err
		}
		doc.Statements = append(doc.Statements, s)
	}
	return doc, nil
}

func parseStatement(raw json.RawMessage) (out Statement, err error) {
	var s struct {
		SID                   string `json:"Sid"`
		Effect                Effect
		Action, NotAction     OneOrMore
		Resource, NotResource OneOrMore
		Condition             map[string]map[string]OneOrMore
	}
	if err := decodeStrict(raw, &s); err != nil {
		return out, malformed("%v", err)
	}
	switch {
	case s.Effect != Allow && s.Effect != Deny:
		return out, malformed("Effect is %q, want Allow or Deny", s.Effect)
	case (len(s.Action) == 0) == (len(s.NotAction) == 0):
		return out, malformed("want exactly one of Action and NotAction")
	case (len(s.Resource) == 0) == (len(s.NotResource) == 0):
		return out, malformed("want exactly one of Resource and NotResource")
	}
	for _, action := range slices.Concat(s.Action, s.NotAction) {
		service, name, ok := strings.Cut(action, ":")
		if action != "*" && (!ok || service == "" || name == "" || strings.Contains(action, "${")) {
			return out, malformed("action %q, want service:Action or *", action)
		}
	}
	for _, resource := range slices.Concat(s.Resource, s.NotResource) {
		if !strings.HasPrefix(resource, "arn:") && !strings.HasPrefix(resource, "*") {
			return out, malformed("resource %q, want an ARN or *", resource)
		}
	}
	patterns := func(texts []string, fold func(string) string) (all []Pattern) {
		for _, text := range texts {
			p, wrong := ParsePattern(fold(text))
			all, err = append(all, p), errors.Join(err, wrong)
		}
		return all
	}
	same := func(s string) string { return s }
	out = Statement{
		Effect: s.Effect, Actions: patterns(s.Action, strings.ToLower), NotActions: patterns(s.NotAction, strings.ToLower),
		Resources: patterns(s.Resource, same), NotResources: patterns(s.NotResource, same),
	}
	if err == nil {
		out.Conditions, err = parseConditions(s.Condition, KnownKey, comparisons)
	}
	return out, err
}

// Several returns a JSON list: raw itself, or a list with raw as its only element.
func Several(raw []byte) []byte {
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("[")) {
		return raw
	}
	return slices.Concat([]byte("["), raw, []byte("]"))
}

// OneOrMore is a string or a list of strings. Booleans and numbers, which condition values may be,
// become strings.
type OneOrMore []string

// UnmarshalJSON implements json.Unmarshaler.
func (o *OneOrMore) UnmarshalJSON(data []byte) error {
	var items []any
	d := json.NewDecoder(bytes.NewReader(Several(data)))
	d.UseNumber()
	if err := d.Decode(&items); err != nil {
		return err
	}
	*o = nil
	for _, item := range items {
		switch item.(type) {
		case string, bool, json.Number:
			*o = append(*o, fmt.Sprint(item))
		default:
			return fmt.Errorf("%v where a string was expected", item)
		}
	}
	return nil
}

// decodeStrict refuses unknown elements, and text after the JSON value. To ignore an element could
// change the meaning of a policy.
func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the JSON document")
	}
	return nil
}

func malformed(format string, args ...any) error {
	return &MalformedError{Reason: fmt.Sprintf(format, args...)}
}

// Request is an action on a resource, for which policies are evaluated.
type Request struct {
	Action   string // "iot:Publish"
	Resource string // "arn:aws:iot:us-east-1:123456789012:topic/a/b"
	Values   Values
}

// Decision is the answer to a request.
type Decision struct {
	Allowed bool
	// ExplicitDeny reports whether a Deny statement matched. A request that no statement matches is
	// denied too.
	ExplicitDeny bool
}

// Evaluate evaluates a request against all documents together. A Deny overrides every Allow, and a
// request that no statement allows is denied.
func Evaluate(documents []*Document, request Request) Decision {
	allowed := false
	for _, d := range documents {
		for _, s := range d.Statements {
			if !s.applies(request) {
				continue
			}
			if s.Effect == Deny {
				return Decision{ExplicitDeny: true}
			}
			allowed = true
		}
	}
	return Decision{Allowed: allowed}
}

// applies reports whether the statement matches a request. A pattern with a variable without a value
// matches nothing. An Allow with NotResource must not match because of that.
func (s Statement) applies(r Request) bool {
	action := strings.ToLower(r.Action)
	of := func(p Pattern) bool { m, _ := p.Match(action, nil); return m }
	unresolved := false
	on := func(p Pattern) bool {
		matched, resolved := p.Match(r.Resource, r.Values)
		unresolved = unresolved || !resolved
		return matched
	}
	if len(s.Actions) > 0 && !slices.ContainsFunc(s.Actions, of) || slices.ContainsFunc(s.NotActions, of) ||
		len(s.Resources) > 0 && !slices.ContainsFunc(s.Resources, on) || slices.ContainsFunc(s.NotResources, on) {
		return false
	}
	if len(s.NotResources) > 0 && unresolved && s.Effect == Allow {
		return false
	}
	return !slices.ContainsFunc(s.Conditions, func(c Condition) bool { return !c.Holds(r.Values) })
}
