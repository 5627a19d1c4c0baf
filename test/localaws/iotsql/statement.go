// Package iotsql is AWS IoT SQL, version 2016-03-23: what the rules engine of
// AWS IoT does between a published message and the actions of a topic rule.
//
// [Parse] checks a whole statement, so that a function, clause or syntax that
// is unknown, or that the local cloud cannot run, is refused by name when the
// rule is deployed and never when a message arrives. [Statement.Matches] reports
// whether a message starts the rule, [Evaluation.Select] gives what its actions
// receive, and [ParseTemplate] reads the substitution templates of
// the actions.
//
// The semantics are those of the AWS IoT SQL reference in the AWS IoT Core
// Developer Guide. Two of its habits surprise:
//
//   - A missing key or a bad argument is Undefined, not an error, and Undefined
//     makes nearly every operator Undefined: one missing field poisons a whole
//     OR chain. A WHERE that is Undefined is not true.
//   - Whole numbers are Int, however they are written (10.0 is 10), and Int
//     divided by Int is an Int, truncated.
//
// Parse refuses by name what AWS has and nobody needs here (SET, CASE, nested SELECT, IN,
// EXISTS, objects and arrays in SQL, most functions), and what AWS documents without what
// it does (a dotted alias, an expression without alias).
package iotsql

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Version is the version of AWS IoT SQL that this package is, as
// AwsIotSqlVersion of a topic rule names it.
const Version = "2016-03-23"

// Statement is the SQL of one topic rule. It never changes, so that any number
// of messages may be evaluated at once.
type Statement struct {
	// value is the expression of SELECT VALUE, else nil.
	value  expr
	items  []item
	filter string
	where  expr // nil without WHERE
}

// item is a column; its expression is nil for *.
type item struct {
	key  string
	expr expr
}

// Message is what the rules engine knows of a published message.
type Message struct {
	// Topic is the topic of the PUBLISH, with the prefix of Basic Ingest.
	Topic string
	// ClientID is the MQTT client id of the publisher: empty if the message did
	// not come over MQTT, which makes clientid() "n/a".
	ClientID string
	// Principal is the thumbprint of the publisher's certificate, or its IAM
	// identity. Empty makes principal() Undefined.
	Principal string
	// SourceIP is the address of the publisher, IPv4 or IPv6. Empty makes
	// sourceip() Undefined.
	SourceIP string
	// TraceID is the UUID of the MQTT message. Empty, for what did not come over
	// MQTT, makes traceid() Undefined.
	TraceID string
	// AccountID is the account of the rule, 12 digits.
	AccountID string
	// Time is when the rules engine sees the message; timestamp() is its
	// milliseconds.
	Time time.Time
	// Payload is the payload as published, JSON or not, at most 128 KB.
	Payload []byte
	// NewUUID makes what newuuid() gives. Default: nil, a random UUID.
	NewUUID func() string
}

// Parse reads a statement and checks all that can be known before a message
// arrives. The error names each construct that is unknown, or that the local
// cloud does not run.
func Parse(sql string) (*Statement, error) {
	p, err := scan(sql)
	var s *Statement
	if err == nil {
		s, err = p.statement()
	}
	if err != nil {
		return nil, fmt.Errorf("parse AWS IoT SQL: %w", err)
	}
	return s, nil
}

// Evaluation is one message under one statement.
type Evaluation struct {
	statement *Statement
	scope     *scope
}

// Begin reads m.
func (s *Statement) Begin(m Message) *Evaluation { return &Evaluation{s, newScope(&m)} }

// Select gives what the actions of the rule receive: the output of SELECT, and false if WHERE is
// not true. After an error, which is one of the SQL, AWS IoT runs neither the actions nor the
// error action.
func (e *Evaluation) Select() (output []byte, matched bool, err error) {
	s := e.statement
	if s.where != nil {
		// A condition is a Boolean, or a String that converts to one; Undefined is not true.
		if b, ok := toBoolean(s.where.eval(e.scope)); !ok || !b {
			return nil, false, nil
		}
	}
	_, all := s.value.(payload)
	if all = all || len(s.items) == 1 && s.items[0].expr == nil; all && !e.scope.json {
		// The payload as raw bytes.
		return e.scope.message.Payload, true, nil
	}
	if all {
		return encodeJSON(e.scope.root), true, nil
	}
	if s.value != nil {
		return encodeJSON(s.value.eval(e.scope)), true, nil
	}
	result := object{}
	for _, it := range s.items {
		if err := it.addTo(result, e.scope); err != nil {
			return nil, false, fmt.Errorf("evaluate AWS IoT SQL: SELECT: %w", err)
		}
	}
	return encodeJSON(result), true, nil
}

// addTo adds a column. A missing payload has no keys.
func (it item) addTo(result object, s *scope) error {
	if it.expr != nil {
		set(result, it.key, it.expr.eval(s))
		return nil
	}
	o, ok := s.root.(object)
	if !ok && !s.empty {
		return errors.New("* with further items adds to a JSON object, and the payload is none")
	}
	maps.Copy(result, o)
	return nil
}

// expr is an expression that Parse has checked. It never fails: it gives Undefined where
// AWS does.
type expr interface{ eval(*scope) value }

type scope struct {
	message *Message
	// json is true if the payload is a JSON object or array. AWS counts a bare
	// number or string as a payload that is not JSON.
	json bool
	// empty is true if there is no payload, to which SELECT *, x adds.
	empty bool
	root  value // the payload
}

func newScope(m *Message) *scope {
	s := &scope{message: m, root: undefined{}, empty: len(m.Payload) == 0}
	if v, ok := decodeJSON(m.Payload); ok {
		switch v.(type) {
		case []any, object:
			s.root, s.json = v, true
		}
	}
	return s
}

type (
	// literal is a constant.
	literal struct{ value value }
	// payload is * as an argument: the message, or undefined if it is not JSON.
	payload struct{}
	// name is a key of the message.
	name struct{ key string }
	// member is of.key.
	member struct {
		of  expr
		key string
	}
	not    struct{ of expr }
	binary struct {
		op          string
		left, right expr
	}
)

func (l literal) eval(*scope) value  { return l.value }
func (payload) eval(s *scope) value  { return s.root }
func (n name) eval(s *scope) value   { return keyIn(s.root, n.key) }
func (m member) eval(s *scope) value { return keyIn(m.of.eval(s), m.key) }
func (n not) eval(s *scope) value    { return negate(n.of.eval(s)) }
func (b binary) eval(s *scope) value { return operate(b.op, b.left.eval(s), b.right.eval(s)) }

func keyIn(v value, key string) value {
	if o, ok := v.(object); ok {
		if inner, known := o[key]; known {
			return inner
		}
	}
	return undefined{}
}

// Template is a field of a rule action that may hold substitution templates,
// ${expression}.
type Template struct {
	parts []templatePart
}

// templatePart is literal text, or an expression if that is not nil.
type templatePart struct {
	literal string
	expr    expr
}

// ParseTemplate reads a field of an action. Its expressions see the message, never the
// aliases of SELECT: a name is a key of the payload. A $ that starts no ${ stays as it
// is, so that undoing the $$ of a republish topic is up to that action.
func ParseTemplate(field string) (*Template, error) {
	t := &Template{}
	rest := field
	for {
		before, after, found := strings.Cut(rest, "${")
		if before != "" {
			t.parts = append(t.parts, templatePart{literal: before})
		}
		if !found {
			return t, nil
		}
		end := templateEnd(after)
		if end < 0 {
			return nil, fmt.Errorf("parse substitution template %q: ${ has no }", field)
		}
		e, err := template(after[:end])
		if err != nil {
			return nil, fmt.Errorf("parse substitution template %q: %w", field, err)
		}
		t.parts = append(t.parts, templatePart{expr: e})
		rest = after[end+1:]
	}
}

// template reads the expression of one ${}.
func template(source string) (expr, error) {
	p, err := scan(source)
	if err != nil {
		return nil, err
	}
	if p.is(0, "*") {
		return nil, errors.New("*: a substitution template is an expression")
	}
	e, err := p.expression(0)
	switch {
	case err != nil:
		return nil, err
	case p.is(0, "AS"):
		return nil, errors.New("AS: a substitution template has no alias")
	case p.token().kind != end:
		return nil, p.unexpected("")
	}
	return e, nil
}

// templateEnd finds the brace that ends an expression, past strings.
func templateEnd(s string) int {
	var quote rune
	for i, c := range s {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '}':
			return i
		}
	}
	return -1
}

// Expand fills in a template of the statement. What is Undefined or Null is
// empty, a string stands without quotes, arrays and objects are JSON.
func (e *Evaluation) Expand(t *Template) string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.expr == nil {
			b.WriteString(p.literal)
			continue
		}
		s, _ := toText(p.expr.eval(e.scope))
		b.WriteString(s)
	}
	return b.String()
}

// Limits of a topic filter, from "AWS IoT Core message broker and protocol
// limits and quotas" in the AWS General Reference.
const (
	maxTopicBytes   = 256
	maxTopicSlashes = 7
)

// basicIngest is how topics start that go to one rule, past the message broker.
const basicIngest = "$aws/rules/"

// BasicIngest splits a topic of Basic Ingest, $aws/rules/RULE/REST, into the
// rule that it names and the topic that the rule sees; false for any other
// topic.
func BasicIngest(topic string) (rule, rest string, ok bool) {
	after, ok := strings.CutPrefix(topic, basicIngest)
	if !ok {
		return "", "", false
	}
	rule, rest, _ = strings.Cut(after, "/")
	return rule, rest, true
}

// Matches reports whether a message on topic starts the rule with this statement
// and the name ruleName. A topic of Basic Ingest starts the rule that it names,
// whatever its FROM; any other topic must match the FROM clause.
func (s *Statement) Matches(ruleName, topic string) bool {
	if rule, _, ok := BasicIngest(topic); ok {
		return rule == ruleName
	}
	return s.filter != "" && MatchTopic(s.filter, topic)
}

// TopicFilter is the FROM clause: empty for a rule that only Basic Ingest starts.
func (s *Statement) TopicFilter() string { return s.filter }

// MatchTopic reports whether a topic filter takes in a topic. It follows AWS's page
// "MQTT topics", by which sensor/# does not match sensor itself, and MQTT in that a
// wildcard in the first level does not match reserved topics.
func MatchTopic(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	levels := strings.Split(topic, "/")
	wanted := strings.Split(filter, "/")
	for i, want := range wanted {
		if i >= len(levels) {
			return false
		}
		if want == "#" {
			return true
		}
		if want != "+" && want != levels[i] {
			return false
		}
	}
	return len(levels) == len(wanted)
}

// checkTopicFilter refuses what no rule can subscribe to.
func checkTopicFilter(filter string) error {
	if filter == "" {
		return fmt.Errorf("FROM '': want a topic filter, or no FROM for a rule that only Basic Ingest starts")
	}
	if strings.HasPrefix(filter, basicIngest) {
		return fmt.Errorf("FROM '%s': rules cannot subscribe to Basic Ingest topics; leave FROM out", filter)
	}
	if len(filter) > maxTopicBytes {
		return fmt.Errorf("FROM: topic filter of %d bytes, want at most %d", len(filter), maxTopicBytes)
	}
	levels := strings.Split(filter, "/")
	if len(levels) > maxTopicSlashes+1 {
		return fmt.Errorf("FROM '%s': %d slashes, want at most %d", filter, len(levels)-1, maxTopicSlashes)
	}
	for i, level := range levels {
		if level == "+" || level == "#" && i == len(levels)-1 {
			continue
		}
		if level == "#" {
			return fmt.Errorf("FROM '%s': # must be the last level", filter)
		}
		if strings.ContainsAny(level, "+#") {
			return fmt.Errorf("FROM '%s': a wildcard must be the only character of its level %q", filter, level)
		}
	}
	return nil
}
