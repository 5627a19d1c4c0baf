package iotsql

// expr is an expression that Parse has checked. It never fails: it gives Undefined where
// AWS does.
type expr interface{ eval(*scope) value }

// scope is what an expression sees of one message.
type scope struct {
	message   *Message
	variables map[string]value
	// json is true if the payload is a JSON object or array. AWS counts a bare
	// number or string as a payload that is not JSON.
	json bool
	// empty is true if there is no payload, to which SELECT *, x adds.
	empty bool
	root  value // the payload
}

func newScope(m *Message) *scope {
	s := &scope{message: m, variables: map[string]value{}, root: undefined{}, empty: len(m.Payload) == 0}
	if v, ok := decodeJSON(m.Payload); ok {
		switch v.(type) {
		case array, *object:
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
	arrayExpr  []expr
	objectExpr []keyValue
	keyValue   struct {
		key  string
		expr expr
	}
	simpleCase struct {
		of        expr
		branches  []branch
		otherwise expr
	}
	branch struct{ when, then expr }
)

func (l literal) eval(*scope) value     { return l.value }
func (payload) eval(s *scope) value     { return s.root }
func (n name) eval(s *scope) value      { return keyIn(s.root, n.key) }
func (r reference) eval(s *scope) value { return s.variables[r.name] }
func (m member) eval(s *scope) value    { return keyIn(m.of.eval(s), m.key) }
func (n not) eval(s *scope) value       { return negate(n.of.eval(s)) }
func (b binary) eval(s *scope) value    { return operate(b.op, b.left.eval(s), b.right.eval(s)) }

func keyIn(v value, key string) value {
	if o, ok := v.(*object); ok {
		return o.get(key)
	}
	return undefined{}
}

func (a *arrayExpr) eval(s *scope) value {
	result := array{}
	for _, e := range *a {
		if v := e.eval(s); !isUndefined(v) {
			result = append(result, v)
		}
	}
	return result
}

func (o *objectExpr) eval(s *scope) value {
	result := newObject()
	for _, kv := range *o {
		result.set(kv.key, kv.expr.eval(s))
	}
	return result
}

// eval takes the first branch that equals; without any and without ELSE, or for
// an Undefined, it is Undefined.
func (c simpleCase) eval(s *scope) value {
	of := c.of.eval(s)
	if isUndefined(of) {
		return of
	}
	for _, b := range c.branches {
		if equal(of, b.when.eval(s)) {
			return b.then.eval(s)
		}
	}
	if c.otherwise == nil {
		return undefined{}
	}
	return c.otherwise.eval(s)
}
