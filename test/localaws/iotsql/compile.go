package iotsql

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/participle/v2/lexer"
)

// Limits of the SET clause. The number of variables is from the page "SET
// clause" of the AWS IoT SQL reference, as is the length of their names.
const (
	maxVariables     = 10
	maxVariableRunes = 64
)

// compiler turns syntax into expressions, refusing what cannot run.
type compiler struct {
	variables map[string]bool
	// where is true inside of WHERE, the only place for IN and EXISTS.
	where bool
	// registryCalls counts get_registry_data, of which a statement has one.
	registryCalls int
}

func compileStatement(syntax *statementSyntax) (*Statement, error) {
	c := &compiler{variables: map[string]bool{}}
	s := &Statement{}
	if len(syntax.Set) > maxVariables {
		return nil, fmt.Errorf("SET of %d variables, want at most %d", len(syntax.Set), maxVariables)
	}
	for _, a := range syntax.Set {
		if len(a.Name) > maxVariableRunes+len("@") {
			return nil, fmt.Errorf("SET %s: name of %d characters, want at most %d", a.Name, len(a.Name)-1, maxVariableRunes)
		}
		if c.variables[a.Name] {
			return nil, fmt.Errorf("SET %s: set twice, and variables are immutable", a.Name)
		}
		e, err := c.expression(a.Expr)
		if err != nil {
			return nil, fmt.Errorf("SET %s: %w", a.Name, err)
		}
		c.variables[a.Name] = true
		s.variables = append(s.variables, variable{name: a.Name, expr: e})
	}
	if from := syntax.Query.From; from != nil {
		filter, err := topicFilter(from)
		if err != nil {
			return nil, err
		}
		s.filter = filter
	}
	var err error
	s.query, err = c.projection(syntax.Query)
	return s, err
}

// topicFilter is the FROM of the statement itself, a string in single quotes.
func topicFilter(from *expressionSyntax) (string, error) {
	quoted, ok := loneString(from)
	if !ok || !strings.HasPrefix(quoted, "'") {
		return "", errors.New("FROM: want a topic filter in single quotes")
	}
	filter := unquote(quoted)
	return filter, checkTopicFilter(filter)
}

// loneString is the string, still quoted, that is the whole of an expression.
func loneString(e *expressionSyntax) (string, bool) {
	if len(e.Rest) > 0 || len(e.First.Rest) > 0 || len(e.First.First.Not) > 0 {
		return "", false
	}
	comparison := e.First.First.Expr
	sum := comparison.Left
	if comparison.Right != nil || len(sum.Rest) > 0 || len(sum.First.Rest) > 0 || len(sum.First.First.Keys) > 0 {
		return "", false
	}
	quoted := sum.First.First.Primary.String
	if quoted == nil {
		return "", false
	}
	return *quoted, true
}

func unquote(s string) string { return s[1 : len(s)-1] }

// projection compiles SELECT and WHERE, not FROM.
func (c *compiler) projection(syntax *querySyntax) (*query, error) {
	q := &query{}
	if syntax.Value != nil {
		var err error
		if q.value, err = c.selectValue(syntax.Value); err != nil {
			return nil, fmt.Errorf("SELECT VALUE: %w", err)
		}
	}
	for i, it := range syntax.Items {
		compiled, err := c.item(it)
		if err != nil {
			return nil, fmt.Errorf("SELECT item %d: %w", i+1, err)
		}
		q.items = append(q.items, compiled)
	}
	if syntax.Where == nil {
		return q, nil
	}
	outside := c.where
	c.where = true
	where, err := c.expression(syntax.Where)
	c.where = outside
	if err != nil {
		return nil, fmt.Errorf("WHERE: %w", err)
	}
	q.where = where
	return q, nil
}

func (c *compiler) selectValue(a *argumentSyntax) (expr, error) {
	if a.Type != "" {
		return nil, fmt.Errorf("AS %s: one value has no key; leave AS out", a.Type)
	}
	if a.All {
		return payload{}, nil
	}
	return c.expression(a.Expr)
}

// item compiles one column. Without AS only a key of the message has a name
// that AWS documents.
func (c *compiler) item(it *itemSyntax) (item, error) {
	if it.All {
		switch len(it.Alias) {
		case 0:
			return item{}, nil
		case 1:
			return item{key: it.Alias[0], expr: document{}}, nil
		}
		return item{}, dottedAlias(it)
	}
	e, err := c.expression(it.Expr)
	if err != nil {
		return item{}, err
	}
	if it.Keys {
		if len(it.Alias) > 0 {
			return item{}, errors.New(".* AS: AWS does not document what it makes; use the path without .*")
		}
		return item{expr: e, keys: true}, nil
	}
	switch len(it.Alias) {
	case 0:
		key, ok := keyOf(e)
		if !ok {
			return item{}, errors.New("no AS: AWS documents no key for an expression without alias")
		}
		return item{key: key, expr: e}, nil
	case 1:
		return item{key: it.Alias[0], expr: e}, nil
	default:
		return item{}, dottedAlias(it)
	}
}

func dottedAlias(it *itemSyntax) error {
	return fmt.Errorf("AS %s: AWS does not document what an alias with a dot makes", strings.Join(it.Alias, "."))
}

// keyOf is the key of an expression that only names one: the last of its path.
func keyOf(e expr) (string, bool) {
	switch e := e.(type) {
	case name:
		return e.key, true
	case member:
		_, ok := keyOf(e.of)
		return e.key, ok
	default:
		return "", false
	}
}

// nested compiles a SELECT in parentheses, which reads an array or object.
func (c *compiler) nested(syntax *querySyntax) (expr, error) {
	if syntax.From == nil {
		return nil, errors.New("nested SELECT without FROM: want an array or object of the message")
	}
	from, err := c.expression(syntax.From)
	if err != nil {
		return nil, fmt.Errorf("nested FROM: %w", err)
	}
	q, err := c.projection(syntax)
	if err != nil {
		return nil, fmt.Errorf("nested %w", err)
	}
	q.from = from
	return q, nil
}

func (c *compiler) expression(e *expressionSyntax) (expr, error) {
	left, err := c.and(e.First)
	if err != nil {
		return nil, err
	}
	for _, r := range e.Rest {
		right, err := c.and(r)
		if err != nil {
			return nil, err
		}
		left = binary{op: "OR", left: left, right: right}
	}
	return left, nil
}

func (c *compiler) and(e *andSyntax) (expr, error) {
	left, err := c.not(e.First)
	if err != nil {
		return nil, err
	}
	for _, r := range e.Rest {
		right, err := c.not(r)
		if err != nil {
			return nil, err
		}
		left = binary{op: "AND", left: left, right: right}
	}
	return left, nil
}

func (c *compiler) not(e *notSyntax) (expr, error) {
	of, err := c.comparison(e.Expr)
	if err != nil {
		return nil, err
	}
	for range e.Not {
		of = not{of: of}
	}
	return of, nil
}

func (c *compiler) comparison(e *comparisonSyntax) (expr, error) {
	left, err := c.sum(e.Left)
	if err != nil || e.Right == nil {
		return left, err
	}
	op := strings.ToUpper(e.Op)
	if op == "IN" && !c.where {
		return nil, at(e.Pos, errors.New("IN outside of WHERE"))
	}
	right, err := c.sum(e.Right)
	if err != nil {
		return nil, err
	}
	return binary{op: op, left: left, right: right}, nil
}

func (c *compiler) sum(e *sumSyntax) (expr, error) {
	left, err := c.product(e.First)
	if err != nil {
		return nil, err
	}
	for _, term := range e.Rest {
		right, err := c.product(term.Expr)
		if err != nil {
			return nil, err
		}
		left = binary{op: term.Op, left: left, right: right}
	}
	return left, nil
}

func (c *compiler) product(e *productSyntax) (expr, error) {
	left, err := c.member(e.First)
	if err != nil {
		return nil, err
	}
	for _, term := range e.Rest {
		right, err := c.member(term.Expr)
		if err != nil {
			return nil, err
		}
		left = binary{op: term.Op, left: left, right: right}
	}
	return left, nil
}

func (c *compiler) member(e *memberSyntax) (expr, error) {
	of, err := c.primary(e.Primary)
	if err != nil {
		return nil, err
	}
	for _, key := range e.Keys {
		of = member{of: of, key: key}
	}
	return of, nil
}

func (c *compiler) primary(e *primarySyntax) (expr, error) {
	switch {
	case e.Number != nil:
		v := parseNumber(*e.Number)
		if isUndefined(v) {
			return nil, at(e.Pos, fmt.Errorf("number %s is out of range, want at most 9.999E999", *e.Number))
		}
		return literal{v}, nil
	case e.String != nil:
		return literal{text(unquote(*e.String))}, nil
	case e.Constant != nil:
		return constant(*e.Constant), nil
	case e.Case != nil:
		return c.simpleCase(e.Case)
	case e.Exists != nil:
		return c.exists(e)
	case e.Query != nil:
		return c.nested(e.Query)
	case e.Group != nil:
		return c.expression(e.Group)
	case e.Array != nil:
		return c.array(e.Array)
	case e.Object != nil:
		return c.object(e.Object)
	case e.Call != nil:
		call, err := c.call(e.Call)
		return call, at(e.Call.Pos, err)
	case e.Variable != nil:
		if !c.variables[*e.Variable] {
			return nil, at(e.Pos, fmt.Errorf("variable %s is not set before", *e.Variable))
		}
		return reference{*e.Variable}, nil
	default:
		return name{*e.Name}, nil
	}
}

func constant(keyword string) literal {
	switch strings.ToUpper(keyword) {
	case "TRUE":
		return literal{boolean(true)}
	case "FALSE":
		return literal{boolean(false)}
	default:
		return literal{null{}}
	}
}

func (c *compiler) exists(e *primarySyntax) (expr, error) {
	if !c.where {
		return nil, at(e.Pos, errors.New("EXISTS outside of WHERE"))
	}
	of, err := c.nested(e.Exists)
	if err != nil {
		return nil, err
	}
	return exists{of: of.(*query)}, nil
}

func (c *compiler) simpleCase(e *caseSyntax) (expr, error) {
	of, err := c.expression(e.Of)
	if err != nil {
		return nil, err
	}
	result := simpleCase{of: of}
	for _, w := range e.When {
		when, err := c.expression(w.When)
		if err != nil {
			return nil, err
		}
		then, err := c.expression(w.Then)
		if err != nil {
			return nil, err
		}
		result.branches = append(result.branches, branch{when: when, then: then})
	}
	if e.Else != nil {
		if result.otherwise, err = c.expression(e.Else); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func (c *compiler) array(e *arraySyntax) (expr, error) {
	result := arrayExpr{}
	for _, element := range e.Elements {
		compiled, err := c.expression(element)
		if err != nil {
			return nil, err
		}
		result = append(result, compiled)
	}
	return result, nil
}

func (c *compiler) object(e *objectSyntax) (expr, error) {
	result := objectExpr{}
	for _, m := range e.Members {
		compiled, err := c.expression(m.Value)
		if err != nil {
			return nil, err
		}
		result = append(result, item{key: unquote(m.Key), expr: compiled})
	}
	return result, nil
}

// at puts the place before an error that has none yet.
func at(pos lexer.Position, err error) error {
	var placed placedError
	if err == nil || errors.As(err, &placed) {
		return err
	}
	return placedError{pos: pos, err: err}
}

type placedError struct {
	pos lexer.Position
	err error
}

func (e placedError) Error() string {
	return fmt.Sprintf("line %d column %d: %v", e.pos.Line, e.pos.Column, e.err)
}

func (e placedError) Unwrap() error { return e.err }
