package iotsql

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// castTypes are the keywords after AS in cast.
var castTypes = map[string]func(value) value{
	"string": castText, "nvarchar": castText, "text": castText, "ntext": castText, "varchar": castText,
	"int": castInt, "integer": castInt,
	"decimal": castDecimal, "double": castDouble,
	"bool": castBoolean, "boolean": castBoolean,
}

type cast struct {
	of expr
	to func(value) value
}

func newCast(args []expr, syntax []*argumentSyntax) (expr, error) {
	if len(args) != 1 || syntax[0].Type == "" {
		return nil, fmt.Errorf("function cast: want cast(value AS type)")
	}
	to, ok := castTypes[strings.ToLower(syntax[0].Type)]
	if !ok {
		return nil, fmt.Errorf("function cast: AS %s, want String, Int, Decimal, Double or Boolean", syntax[0].Type)
	}
	return cast{of: args[0], to: to}, nil
}

func (c cast) eval(s *scope) (value, error) {
	v, err := c.of.eval(s)
	if err != nil {
		return undefined{}, err
	}
	return c.to(v), nil
}

func castText(v value) value {
	s, ok := toText(v)
	if !ok {
		return undefined{}
	}
	return text(s)
}

// castDecimal is the conversion to Decimal plus that of Booleans.
func castDecimal(v value) value {
	if b, ok := v.(boolean); ok {
		if b {
			return newInt(1)
		}
		return newInt(0)
	}
	if n, ok := toNumber(v); ok {
		return n
	}
	return undefined{}
}

func castInt(v value) value {
	if n, ok := castDecimal(v).(number); ok {
		return n.floor()
	}
	return undefined{}
}

func castDouble(v value) value {
	n, ok := castDecimal(v).(number)
	if !ok {
		return undefined{}
	}
	f, ok := n.float64()
	if !ok {
		return undefined{}
	}
	return newDouble(f)
}

func castBoolean(v value) value {
	if n, ok := v.(number); ok {
		return boolean(!n.d.IsZero())
	}
	b, _ := toBoolean(v)
	return b
}

// encode is encode(value, 'base64').
type encode struct{ of expr }

func newEncode(args []expr) (expr, error) {
	if err := wantBase64(args); err != nil {
		return nil, fmt.Errorf("function encode: %w", err)
	}
	if len(args) != 2 {
		return literal{undefined{}}, nil
	}
	return encode{of: args[0]}, nil
}

// eval encodes the whole payload byte for byte for *, JSON or not.
func (e encode) eval(s *scope) (value, error) {
	if _, all := e.of.(payload); all {
		return text(base64.StdEncoding.EncodeToString(s.message.Payload)), nil
	}
	v, err := e.of.eval(s)
	if err != nil {
		return undefined{}, err
	}
	plain, ok := toText(v)
	if !ok {
		return undefined{}, nil
	}
	return text(base64.StdEncoding.EncodeToString([]byte(plain))), nil
}

// getOrDefault is get_or_default(expression, default).
type getOrDefault struct{ of, otherwise expr }

func newGetOrDefault(args []expr) expr {
	if len(args) != 2 {
		return literal{undefined{}}
	}
	return getOrDefault{of: args[0], otherwise: args[1]}
}

// eval takes the default where the expression is Undefined, Null or fails.
func (g getOrDefault) eval(s *scope) (value, error) {
	v, err := g.of.eval(s)
	if err != nil || isUndefined(v) || isNull(v) {
		return g.otherwise.eval(s)
	}
	return v, nil
}
