// Package policy reads AWS IoT policy documents and decides what they allow.
//
// It knows the elements that AWS IoT policies have: Allow and Deny, Action and
// NotAction, Resource and NotResource, the wildcards * and ?, policy variables,
// and the common condition operators and keys. What it does not know it refuses
// by name when the document is parsed, so that no statement is ever evaluated
// as something that it does not say.
//
// Source: AWS IoT Core Developer Guide, "AWS IoT Core policies".
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSize is the most characters that a policy document may have, white space
// not counted (CreatePolicyVersion, policyDocument).
const MaxSize = 2048

// Version is the only policy language version that AWS IoT documents.
const Version = "2012-10-17"

// MalformedError says why a text is no AWS IoT policy document. AWS answers it
// with MalformedPolicyException.
type MalformedError struct{ Reason string }

func (e *MalformedError) Error() string { return "malformed policy document: " + e.Reason }

// UnsupportedError names an element of a policy document that AWS IoT may know
// but this package does not.
type UnsupportedError struct {
	Element string // "condition operator", "condition key" or "policy variable"
	Name    string // as the document spells it
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s %q is not known to the local AWS", e.Element, e.Name)
}

// Effect is what a statement does to the requests that it matches.
type Effect string

// The two effects, spelled as policy documents spell them.
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
	SID          string
	Effect       Effect
	Actions      []Pattern
	NotActions   []Pattern
	Resources    []Pattern
	NotResources []Pattern
	Conditions   []Condition
}

// Parse reads a policy document. Its errors are a *MalformedError, or an
// *UnsupportedError for an element that this package does not know.
func Parse(text string) (*Document, error) {
	if !utf8.ValidString(text) {
		return nil, malformed("it is not valid UTF-8")
	}
	if n := significantSize(text); n > MaxSize {
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
	statements, err := splitStatements(raw.Statement)
	if err != nil {
		return nil, err
	}
	doc := &Document{}
	for i, s := range statements {
		parsed, err := parseStatement(s)
		if err != nil {
			return nil, inStatement(i, err)
		}
		doc.Statements = append(doc.Statements, parsed)
	}
	return doc, nil
}

// splitStatements accepts the one statement or the list of statements that a
// document may have.
func splitStatements(raw json.RawMessage) ([]json.RawMessage, error) {
	raw = bytes.TrimSpace(raw)
	switch {
	case len(raw) == 0:
		return nil, malformed("Statement is missing")
	case raw[0] == '{':
		return []json.RawMessage{raw}, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 {
		return nil, malformed("Statement must be a statement or a list of at least one")
	}
	return list, nil
}

func parseStatement(raw json.RawMessage) (Statement, error) {
	var s struct {
		SID                   string `json:"Sid"`
		Effect                Effect
		Action, NotAction     OneOrMore
		Resource, NotResource OneOrMore
		Condition             map[string]map[string]OneOrMore
	}
	if err := decodeStrict(raw, &s); err != nil {
		return Statement{}, malformed("%v", err)
	}
	if s.Effect != Allow && s.Effect != Deny {
		return Statement{}, malformed("Effect is %q, want Allow or Deny", s.Effect)
	}
	if (len(s.Action) == 0) == (len(s.NotAction) == 0) {
		return Statement{}, malformed("want exactly one of Action and NotAction")
	}
	if (len(s.Resource) == 0) == (len(s.NotResource) == 0) {
		return Statement{}, malformed("want exactly one of Resource and NotResource")
	}
	out := Statement{SID: s.SID, Effect: s.Effect}
	var errs [5]error
	out.Actions, errs[0] = parseActions(s.Action)
	out.NotActions, errs[1] = parseActions(s.NotAction)
	out.Resources, errs[2] = parseResources(s.Resource)
	out.NotResources, errs[3] = parseResources(s.NotResource)
	out.Conditions, errs[4] = parseConditions(s.Condition, KnownKey, comparisons)
	for _, err := range errs {
		if err != nil {
			return Statement{}, err
		}
	}
	return out, nil
}

func parseActions(texts []string) ([]Pattern, error) {
	var out []Pattern
	for _, text := range texts {
		service, name, ok := strings.Cut(text, ":")
		if text != "*" && (!ok || service == "" || name == "" || strings.Contains(text, "${")) {
			return nil, malformed("action %q, want service:Action or *", text)
		}
		p, err := ParsePattern(strings.ToLower(text)) // actions compare without case
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parseResources(texts []string) ([]Pattern, error) {
	var out []Pattern
	for _, text := range texts {
		if !strings.HasPrefix(text, "arn:") && !strings.HasPrefix(text, "*") {
			return nil, malformed("resource %q, want an ARN or *", text)
		}
		p, err := ParsePattern(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// OneOrMore is a string or a list of strings. Condition values may also be
// booleans and numbers, which count as their text.
type OneOrMore []string

func (o *OneOrMore) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	var items []json.RawMessage
	if len(data) > 0 && data[0] == '[' {
		if err := json.Unmarshal(data, &items); err != nil {
			return err
		}
	} else {
		items = []json.RawMessage{data}
	}
	*o = nil
	for _, item := range items {
		var v any
		d := json.NewDecoder(bytes.NewReader(item))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return err
		}
		switch v := v.(type) {
		case string:
			*o = append(*o, v)
		case bool, json.Number:
			*o = append(*o, fmt.Sprint(v))
		default:
			return fmt.Errorf("%s where a string was expected", item)
		}
	}
	return nil
}

// decodeStrict refuses unknown elements and anything after the JSON value: an
// element that is silently dropped would change what a policy means.
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

func significantSize(text string) int {
	n := 0
	for _, r := range text {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}

func malformed(format string, args ...any) error {
	return &MalformedError{Reason: fmt.Sprintf(format, args...)}
}

func inStatement(index int, err error) error {
	var m *MalformedError
	if errors.As(err, &m) {
		return malformed("Statement[%d]: %s", index, m.Reason)
	}
	return err
}
