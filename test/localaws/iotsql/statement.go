package iotsql

import (
	"errors"
	"fmt"
	"time"
)

// Version is the version of AWS IoT SQL that this package is, as
// AwsIotSqlVersion of a topic rule names it.
const Version = "2016-03-23"

// Statement is the SQL of one topic rule. It never changes, so that any number
// of messages may be evaluated at once.
type Statement struct {
	variables []assignment
	// value is the expression of SELECT VALUE, else nil.
	value  expr
	items  []item
	filter string
	where  expr // nil without WHERE
}

// assignment is one of the SET clause.
type assignment struct {
	name string
	expr expr
}

// item is one column of SELECT.
type item struct {
	kind itemKind
	key  string
	expr expr
}

type itemKind int

const (
	oneKey   itemKind = iota
	allKeys           // *
	document          // * AS key
	keysOf            // path.*
)

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

// Eval gives what the actions of the rule receive for m: the output of SELECT,
// and false if WHERE is not true. An error means that the SQL failed, upon which
// AWS IoT runs neither the actions nor the error action. Whether m starts the
// rule at all is [Statement.Matches].
func (s *Statement) Eval(m Message) (output []byte, matched bool, err error) {
	return s.Begin(m).Select()
}

// Evaluation is one message under one statement. The SET variables are
// computed once, so that SELECT and all templates see the same values.
type Evaluation struct {
	statement *Statement
	scope     *scope
}

// Begin computes the SET variables for m.
func (s *Statement) Begin(m Message) *Evaluation {
	sc := newScope(&m)
	for _, v := range s.variables {
		sc.variables[v.name] = v.expr.eval(sc)
	}
	return &Evaluation{s, sc}
}

// Select gives the output of SELECT, and false if WHERE is not true.
func (e *Evaluation) Select() (output []byte, matched bool, err error) {
	s := e.statement
	if s.where != nil {
		// A condition is a Boolean, or a String that converts to one; Undefined is not true.
		if b, ok := toBoolean(s.where.eval(e.scope)); !ok || !bool(b.(boolean)) {
			return nil, false, nil
		}
	}
	_, all := s.value.(payload)
	if all = all || len(s.items) == 1 && s.items[0].kind == allKeys; all && !e.scope.json {
		// The payload as raw bytes.
		return e.scope.message.Payload, true, nil
	}
	if all {
		return encodeJSON(e.scope.root), true, nil
	}
	if s.value != nil {
		return encodeJSON(s.value.eval(e.scope)), true, nil
	}
	result := newObject()
	for _, it := range s.items {
		if err := it.addTo(result, e.scope); err != nil {
			return nil, false, fmt.Errorf("evaluate AWS IoT SQL: SELECT: %w", err)
		}
	}
	return encodeJSON(result), true, nil
}

// addTo adds a column. A missing payload has no keys.
func (it item) addTo(result *object, s *scope) error {
	switch it.kind {
	case oneKey:
		result.set(it.key, it.expr.eval(s))
	case document:
		if !s.json && !s.empty {
			return errors.New("* AS a key nests a JSON document, and the payload is none; use encode(*, 'base64')")
		}
		result.set(it.key, s.root)
	case allKeys:
		o, ok := s.root.(*object)
		if !ok && !s.empty {
			return errors.New("* with further items adds to a JSON object, and the payload is none")
		}
		result.setAll(o)
	case keysOf:
		v := it.expr.eval(s)
		o, ok := v.(*object)
		if !ok && !isUndefined(v) {
			return errors.New(".* selects the keys of a JSON object, and the value is none")
		}
		result.setAll(o)
	}
	return nil
}
