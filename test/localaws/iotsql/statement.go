package iotsql

import (
	"fmt"
	"time"
)

// Version is the version of AWS IoT SQL that this package is, as
// AwsIotSqlVersion of a topic rule names it.
const Version = "2016-03-23"

// Statement is the SQL of one topic rule. It never changes, so that any number
// of messages may be evaluated at once.
type Statement struct {
	variables []variable
	query     *query
	filter    string
}

// variable is one assignment of the SET clause.
type variable struct {
	name string
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

	// NewUUID makes what newuuid() gives. A statement that calls it fails
	// without.
	NewUUID func() string
	// Random makes what rand() gives, from 0 up to and without 1. A statement
	// that calls it fails without.
	Random func() float64
	// RegistryData answers get_registry_data: api is DescribeThing or
	// ListThingGroupsForThing, the answer is the API's JSON. A statement that
	// calls it fails without.
	RegistryData func(api, thingName, roleARN string) ([]byte, error)
}

// Parse reads a statement and checks all that can be known before a message
// arrives. The error names each construct that is unknown, or that the local
// cloud does not run.
func Parse(sql string) (*Statement, error) {
	tokens, err := scan(sql)
	if err != nil {
		return nil, fmt.Errorf("parse AWS IoT SQL: %w", err)
	}
	syntax, err := statementParser.ParseString("", sql)
	if err != nil {
		return nil, fmt.Errorf("parse AWS IoT SQL: %w", syntaxError(err, sql, tokens))
	}
	s, err := compileStatement(syntax)
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
	e, err := s.Begin(m)
	if err != nil {
		return nil, false, err
	}
	return e.Select()
}

// Evaluation is one message under one statement. The SET variables are
// computed once, so that SELECT and all templates see the same values.
type Evaluation struct {
	statement *Statement
	scope     *scope
}

// Begin computes the SET variables for m.
func (s *Statement) Begin(m Message) (*Evaluation, error) {
	sc := newScope(&m)
	for _, v := range s.variables {
		result, err := v.expr.eval(sc)
		if err != nil {
			return nil, fmt.Errorf("evaluate AWS IoT SQL: SET %s: %w", v.name, err)
		}
		sc.variables[v.name] = result
	}
	return &Evaluation{statement: s, scope: sc}, nil
}

// Select gives the output of SELECT, and false if WHERE is not true.
func (e *Evaluation) Select() (output []byte, matched bool, err error) {
	q := e.statement.query
	ok, err := q.holds(e.scope)
	if err != nil {
		return nil, false, fmt.Errorf("evaluate AWS IoT SQL: WHERE: %w", err)
	}
	if !ok {
		return nil, false, nil
	}
	if q.all() && !e.scope.json {
		// The payload as raw bytes.
		return e.scope.message.Payload, true, nil
	}
	result, err := q.project(e.scope)
	if err != nil {
		return nil, false, fmt.Errorf("evaluate AWS IoT SQL: SELECT: %w", err)
	}
	return encodeJSON(result), true, nil
}
