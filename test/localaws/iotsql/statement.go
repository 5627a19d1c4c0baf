// Package iotsql is AWS IoT SQL, version 2016-03-23. It selects from a published message what the
// actions of a topic rule receive.
//
// [Parse] checks the whole statement when the rule is deployed, and names a function, clause or
// form that AWS does not have or that the local AWS does not support. So no statement fails to
// parse when a message arrives. [Statement.Matches] reports whether a message triggers the rule,
// [Evaluation.Select] returns what its actions receive, and [ParseTemplate] reads the
// substitution templates of the actions.
//
// The semantics are those of the AWS IoT SQL reference in the AWS IoT Core Developer Guide. Two
// of them surprise:
//
//   - A missing key or an invalid argument is Undefined, not an error. Nearly every operator
//     with an Undefined operand is Undefined: one missing field makes a whole OR chain
//     Undefined. A WHERE that is Undefined is not true.
//   - Whole numbers are Int, however they are written (10.0 is 10), and Int divided by Int is an
//     Int, truncated.
//
// Parse rejects parts of AWS IoT SQL that nobody needs here (SET, CASE, nested SELECT, IN, EXISTS,
// objects and arrays in SQL, most functions), and parts whose result AWS does not document (an
// alias with a dot, an expression without alias).
package iotsql

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/defenderhub/defenderhub/internal/topicfilter"
)

// Version is the AwsIotSqlVersion of a topic rule that this package supports.
const Version = "2016-03-23"

// Statement is the SQL of one topic rule. It is safe for concurrent use.
type Statement struct {
	// value is the expression of SELECT VALUE, or nil.
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

// Message is a published message as the rules engine gets it.
type Message struct {
	// Topic is the topic of the PUBLISH, with the prefix of Basic Ingest.
	Topic string
	// ClientID is the MQTT client ID of the publisher. It is empty for a message that was not
	// published over MQTT; clientid() is then "n/a".
	ClientID string
	// Principal is the thumbprint of the publisher's certificate, or its IAM
	// identity. Empty makes principal() Undefined.
	Principal string
	// SourceIP is the address of the publisher, IPv4 or IPv6. Empty makes
	// sourceip() Undefined.
	SourceIP string
	// TraceID is the UUID of the MQTT message. It is empty for a message that was not published
	// over MQTT; traceid() is then Undefined.
	TraceID string
	// AccountID is the account of the rule, 12 digits.
	AccountID string
	// Time is when the rules engine got the message; timestamp() returns it in milliseconds.
	Time time.Time
	// Payload is the payload as published, JSON or not, at most 128 KB.
	Payload []byte
	// NewUUID is the function newuuid(). Default: nil, a random UUID.
	NewUUID func() string
}

// Parse reads a statement and checks it. The error names the part that AWS IoT SQL does not have,
// or that the local AWS does not support.
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

// Begin decodes the payload of m.
func (s *Statement) Begin(m Message) *Evaluation { return &Evaluation{s, newScope(&m)} }

// Select returns the output of SELECT, which the actions of the rule receive. matched reports
// whether WHERE is true. An error is one of the SQL: after it, AWS IoT runs neither the actions
// nor the error action.
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

// addTo adds a column to the result. An empty payload counts as an object without keys.
func (it item) addTo(result object, s *scope) error {
	if it.expr != nil {
		set(result, it.key, it.expr.eval(s))
		return nil
	}
	o, ok := s.root.(object)
	if !ok && !s.empty {
		return errors.New("* with further items needs a payload that is a JSON object")
	}
	maps.Copy(result, o)
	return nil
}

// expr is an expression that Parse has checked. It never fails: an invalid operand gives
// Undefined, as in AWS.
type expr interface{ eval(*scope) value }

type scope struct {
	message *Message
	// json reports whether the payload is a JSON object or array. To AWS, a payload that is a
	// single number or string is not JSON.
	json bool
	// empty reports whether the payload is empty: SELECT *, x is then x alone.
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
	// payload is * as an argument: the payload, or Undefined if that is not JSON.
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

// Template is a field of a rule action, which may contain substitution templates:
// ${expression}.
type Template struct {
	parts []templatePart
}

// templatePart is literal text, or an expression if that is not nil.
type templatePart struct {
	literal string
	expr    expr
}

// ParseTemplate reads a field of an action. A name in its expressions is a key of the payload,
// never an alias of SELECT. A $ without { is literal: the republish action itself replaces the
// $$ of its topic.
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

// templateEnd returns the index of the brace that ends an expression. Braces in strings do not
// count.
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

// Expand returns the text of a template. Undefined and Null are empty, strings have no quotes,
// and arrays and objects are JSON.
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

// basicIngest begins the topics of messages that go to one rule and not to the message broker.
const basicIngest = "$aws/rules/"

// BasicIngest splits a topic of Basic Ingest, $aws/rules/RULE/REST, into the rule's name and the
// topic that the rule's SQL sees. ok is false for any other topic.
func BasicIngest(topic string) (rule, rest string, ok bool) {
	after, ok := strings.CutPrefix(topic, basicIngest)
	if !ok {
		return "", "", false
	}
	rule, rest, _ = strings.Cut(after, "/")
	return rule, rest, true
}

// Matches reports whether a message on topic triggers the rule with this statement and this name.
// A topic of Basic Ingest triggers the rule that it names, whatever its FROM. Any other topic
// must match the FROM clause.
func (s *Statement) Matches(ruleName, topic string) bool {
	if rule, _, ok := BasicIngest(topic); ok {
		return rule == ruleName
	}
	return s.filter != "" && topicfilter.Matches(s.filter, topic)
}

// TopicFilter returns the FROM clause. It is empty for a rule that only Basic Ingest triggers.
func (s *Statement) TopicFilter() string { return s.filter }

// checkTopicFilter refuses a filter to which no rule can subscribe.
func checkTopicFilter(filter string) error {
	switch fault := topicfilter.Fault(filter); {
	case filter == "":
		return errors.New("FROM '': want a topic filter, or no FROM for a rule that only Basic Ingest triggers")
	case strings.HasPrefix(filter, basicIngest):
		return fmt.Errorf("FROM '%s': rules cannot subscribe to Basic Ingest topics; leave FROM out", filter)
	case fault != "":
		return fmt.Errorf("FROM '%s': want %s", filter, fault)
	}
	return nil
}
