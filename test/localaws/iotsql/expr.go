package iotsql

import "errors"

// expr is an expression that Parse has checked.
type expr interface {
	// eval gives Undefined where AWS does; an error means that the SQL fails.
	eval(*scope) (value, error)
}

// scope is what an expression sees of one message.
type scope struct {
	message   *Message
	variables map[string]value
	// json is true if the payload is a JSON object or array. AWS counts a bare
	// number or string as a payload that is not JSON.
	json bool
	// empty is true if there is no payload, to which SELECT *, x adds.
	empty bool
	// root is the payload, element is what names refer to: the payload, or in a
	// nested SELECT the element of its FROM.
	root, element value
}

func newScope(m *Message) *scope {
	s := &scope{message: m, variables: map[string]value{}, root: undefined{}, empty: len(m.Payload) == 0}
	if v, ok := decodeJSON(m.Payload); ok {
		switch v.(type) {
		case array, *object:
			s.root, s.json = v, true
		}
	}
	s.element = s.root
	return s
}

type (
	// literal is a constant.
	literal struct{ value value }
	// payload is * as an argument: the message, or undefined if it is not JSON.
	payload struct{}
	// document is * AS key: the message, which must be JSON.
	document struct{}
	// name is a key of the message or of a nested SELECT's element.
	name struct{ key string }
	// reference is a SET variable.
	reference struct{ name string }
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
	exists     struct{ of *query }
	arrayExpr  []expr
	objectExpr []item
	simpleCase struct {
		of        expr
		branches  []branch
		otherwise expr
	}
	branch struct{ when, then expr }
)

func (l literal) eval(*scope) (value, error) { return l.value, nil }

func (payload) eval(s *scope) (value, error) { return s.element, nil }

func (document) eval(s *scope) (value, error) {
	if isUndefined(s.element) && !s.empty {
		return undefined{}, errors.New("* AS a key nests a JSON document, and the payload is none; use encode(*, 'base64')")
	}
	return s.element, nil
}

func (n name) eval(s *scope) (value, error) {
	if o, ok := s.element.(*object); ok {
		return o.get(n.key), nil
	}
	return undefined{}, nil
}

func (r reference) eval(s *scope) (value, error) { return s.variables[r.name], nil }

func (m member) eval(s *scope) (value, error) {
	v, err := m.of.eval(s)
	if err != nil {
		return undefined{}, err
	}
	if o, ok := v.(*object); ok {
		return o.get(m.key), nil
	}
	return undefined{}, nil
}

func (n not) eval(s *scope) (value, error) {
	v, err := n.of.eval(s)
	if err != nil {
		return undefined{}, err
	}
	return negate(v), nil
}

func (b binary) eval(s *scope) (value, error) {
	l, err := b.left.eval(s)
	if err != nil {
		return undefined{}, err
	}
	r, err := b.right.eval(s)
	if err != nil {
		return undefined{}, err
	}
	return operate(b.op, l, r), nil
}

// eval is true from one element on.
func (e exists) eval(s *scope) (value, error) {
	v, err := e.of.eval(s)
	if err != nil {
		return undefined{}, err
	}
	switch v := v.(type) {
	case undefined:
		return boolean(false), nil
	case array:
		return boolean(len(v) > 0), nil
	default:
		return boolean(true), nil
	}
}

func (a arrayExpr) eval(s *scope) (value, error) {
	result := array{}
	for _, e := range a {
		v, err := e.eval(s)
		if err != nil {
			return undefined{}, err
		}
		if !isUndefined(v) {
			result = append(result, v)
		}
	}
	return result, nil
}

func (o objectExpr) eval(s *scope) (value, error) {
	result := newObject()
	for _, it := range o {
		v, err := it.expr.eval(s)
		if err != nil {
			return undefined{}, err
		}
		result.set(it.key, v)
	}
	return result, nil
}

// eval takes the first branch that equals; without any and without ELSE, or for
// an Undefined, it is Undefined.
func (c simpleCase) eval(s *scope) (value, error) {
	of, err := c.of.eval(s)
	if err != nil || isUndefined(of) {
		return undefined{}, err
	}
	for _, b := range c.branches {
		when, err := b.when.eval(s)
		if err != nil {
			return undefined{}, err
		}
		if equal(of, when) {
			return b.then.eval(s)
		}
	}
	if c.otherwise == nil {
		return undefined{}, nil
	}
	return c.otherwise.eval(s)
}
