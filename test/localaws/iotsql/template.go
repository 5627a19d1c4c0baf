package iotsql

import (
	"errors"
	"fmt"
	"strings"
)

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

// ParseTemplate reads a field of an action of the rule with this statement. Its
// expressions see the message and the SET variables, never the aliases of
// SELECT: a name is a key of the payload. A $ that starts no ${ stays as it is,
// so that undoing the $$ of a republish topic is up to that action.
func (s *Statement) ParseTemplate(field string) (*Template, error) {
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
		e, err := s.template(after[:end])
		if err != nil {
			return nil, fmt.Errorf("parse substitution template %q: %w", field, err)
		}
		t.parts = append(t.parts, templatePart{expr: e})
		rest = after[end+1:]
	}
}

// template reads the expression of one ${}.
func (s *Statement) template(source string) (expr, error) {
	p, err := scan(source)
	if err != nil {
		return nil, err
	}
	for _, v := range s.variables {
		p.variables = append(p.variables, v.name)
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

// templateEnd finds the brace that ends an expression, past strings and the
// braces of objects.
func templateEnd(s string) int {
	depth := 0
	var quote rune
	for i, c := range s {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '{':
			depth++
		case c == '}' && depth == 0:
			return i
		case c == '}':
			depth--
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
