// Package eventbridge delivers events as Amazon EventBridge does: event patterns
// with arrays of objects included, targets, input transformers and dead-letter
// queues.
package eventbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Pattern is a compiled event pattern.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
type Pattern struct{ root node }

// node matches an object; every field must match.
type node struct {
	fields map[string]field
	or     []node
}

// field is a nested object or a list of matchers, one of which must match.
type field struct {
	object   *node
	matchers []matcher
}

// matcher judges one value; present is false for a field that the event lacks.
type matcher func(value any, present bool) bool

// ParsePattern compiles an event pattern. An operator that EventBridge does not have
// is an error that names it.
func ParsePattern(text []byte) (*Pattern, error) {
	decoded, err := decode(text)
	raw, ok := decoded.(map[string]any)
	if err != nil || !ok {
		return nil, fmt.Errorf("event pattern is not a JSON object: %w", err)
	}
	if len(raw) == 0 {
		return nil, errors.New("event pattern is empty")
	}
	root, err := compileObject("", raw)
	if err != nil {
		return nil, fmt.Errorf("event pattern: %w", err)
	}
	return &Pattern{root}, nil
}

// Match reports whether the event, a JSON object, matches.
func (p *Pattern) Match(event []byte) (bool, error) {
	v, err := decode(event)
	if _, ok := v.(map[string]any); err != nil || !ok {
		return false, fmt.Errorf("event is not a JSON object: %w", err)
	}
	return p.root.match(v), nil
}

// decode leaves numbers as they are written: to EventBridge, 300 and 300.0 are not equal.
func decode(text []byte) (any, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON value")
	}
	return v, nil
}

func compileObject(path string, raw map[string]any) (node, error) {
	n := node{fields: map[string]field{}}
	for key, value := range raw {
		at := strings.TrimPrefix(path+"."+key, ".")
		switch v := value.(type) {
		case map[string]any:
			inner, err := compileObject(at, v)
			if err != nil {
				return n, err
			}
			n.fields[key] = field{object: &inner}
		case []any:
			if key == "$or" {
				alternatives, err := compileOr(at, v)
				if err != nil {
					return n, err
				}
				n.or = alternatives
				continue
			}
			if len(v) == 0 {
				return n, fmt.Errorf("%s: an empty list matches nothing", at)
			}
			var list []matcher
			for _, item := range v {
				m, err := compileMatcher(at, item)
				if err != nil {
					return n, err
				}
				list = append(list, m)
			}
			n.fields[key] = field{matchers: list}
		default:
			return n, fmt.Errorf("%s: want a list or an object, not %v", at, value)
		}
	}
	return n, nil
}

func compileOr(at string, items []any) ([]node, error) {
	var alternatives []node
	for _, item := range items {
		object, ok := item.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: want objects", at)
		}
		n, err := compileObject(at, object)
		if err != nil {
			return nil, err
		}
		alternatives = append(alternatives, n)
	}
	if len(alternatives) < 2 {
		return nil, fmt.Errorf("%s: want at least two alternatives", at)
	}
	return alternatives, nil
}

// match judges an object. A list of objects matches if one element does, as a whole:
// EventBridge does not mix fields of different elements.
func (n node) match(value any) bool {
	if list, ok := value.([]any); ok {
		return slices.ContainsFunc(list, n.match)
	}
	object, _ := value.(map[string]any)
	for key, f := range n.fields {
		inner, present := object[key]
		if f.object != nil {
			if !f.object.match(inner) {
				return false
			}
			continue
		}
		if !slices.ContainsFunc(f.matchers, func(m matcher) bool { return matchValue(m, inner, present) }) {
			return false
		}
	}
	return len(n.or) == 0 || slices.ContainsFunc(n.or, func(alternative node) bool { return alternative.match(value) })
}

func matchValue(m matcher, value any, present bool) bool {
	if list, ok := value.([]any); ok && present {
		if len(list) == 0 {
			return m(nil, false)
		}
		return slices.ContainsFunc(list, func(item any) bool { return matchValue(m, item, true) })
	}
	if _, ok := value.(map[string]any); ok {
		present = false // matchers are about leaves
	}
	return m(value, present)
}

func compileMatcher(at string, item any) (matcher, error) {
	object, ok := item.(map[string]any)
	if _, isList := item.([]any); isList {
		return nil, fmt.Errorf("%s: a list within a list", at)
	}
	if !ok {
		return func(v any, present bool) bool { return present && v == item }, nil
	}
	if len(object) != 1 {
		return nil, fmt.Errorf("%s: a matcher has one operator, not %d", at, len(object))
	}
	for operator, operand := range object {
		m, err := compileOperator(operator, operand)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		return m, nil
	}
	panic("unreachable: one operator")
}

func compileOperator(operator string, operand any) (matcher, error) {
	text, isText := operand.(string)
	switch operator {
	case "exists":
		want, ok := operand.(bool)
		if !ok {
			return nil, errors.New("exists: want true or false")
		}
		return func(_ any, present bool) bool { return present == want }, nil
	case "numeric":
		return compileNumeric(operand)
	case "anything-but":
		return compileAnythingBut(operand)
	case "prefix", "suffix":
		if folded, ok := operand.(map[string]any); ok {
			s, ok := folded["equals-ignore-case"].(string)
			if !ok || len(folded) != 1 {
				return nil, fmt.Errorf("%s: want a string, or equals-ignore-case with a string", operator)
			}
			m := textMatcher(operator, strings.ToLower(s))
			return func(v any, present bool) bool {
				s, ok := v.(string)
				return ok && m(strings.ToLower(s), present)
			}, nil
		}
	case "equals-ignore-case", "wildcard":
	case "cidr":
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("cidr: %w", err)
		}
		return func(v any, _ bool) bool {
			s, _ := v.(string)
			address, err := netip.ParseAddr(s)
			return err == nil && network.Contains(address)
		}, nil
	default:
		return nil, fmt.Errorf("unknown operator %q", operator)
	}
	if !isText {
		return nil, fmt.Errorf("%s: want a string", operator)
	}
	if operator == "wildcard" {
		return compileWildcard(text)
	}
	return textMatcher(operator, text), nil
}

func textMatcher(operator, text string) matcher {
	return func(v any, _ bool) bool {
		s, ok := v.(string)
		if !ok {
			return false
		}
		switch operator {
		case "prefix":
			return strings.HasPrefix(s, text)
		case "suffix":
			return strings.HasSuffix(s, text)
		}
		return strings.EqualFold(s, text)
	}
}

// compileWildcard takes * for any run of characters, \* and \\ for the characters themselves.
func compileWildcard(pattern string) (matcher, error) {
	parts := []string{""}
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*' && strings.HasPrefix(pattern[i+1:], "*"):
			return nil, fmt.Errorf("wildcard %q: consecutive wildcard characters", pattern)
		case c == '*':
			parts = append(parts, "")
		case c == '\\' && (i+1 == len(pattern) || pattern[i+1] != '*' && pattern[i+1] != '\\'):
			return nil, fmt.Errorf("wildcard %q: \\ stands before * or \\ only", pattern)
		default:
			if c == '\\' {
				i++
			}
			parts[len(parts)-1] += pattern[i : i+1]
		}
	}
	return func(v any, _ bool) bool {
		s, ok := v.(string)
		return ok && wildcard(parts, s)
	}, nil
}

// wildcard reports whether s consists of the parts, with anything between them.
func wildcard(parts []string, s string) bool {
	if len(parts) == 1 {
		return parts[0] == s
	}
	if !strings.HasPrefix(s, parts[0]) {
		return false
	}
	s = s[len(parts[0]):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}

// withinAnythingBut are the operators that anything-but may have.
var withinAnythingBut = []string{"prefix", "suffix", "equals-ignore-case", "wildcard"}

// compileAnythingBut takes a value, a list of values, or one of the text operators.
func compileAnythingBut(operand any) (matcher, error) {
	if inner, ok := operand.(map[string]any); ok {
		if len(inner) != 1 {
			return nil, fmt.Errorf("anything-but: one operator is expected, not %d", len(inner))
		}
		for operator, value := range inner {
			if !slices.Contains(withinAnythingBut, operator) {
				return nil, fmt.Errorf("anything-but: operator %q, want one of %v", operator, withinAnythingBut)
			}
			texts, ok := value.([]any)
			if !ok {
				texts = []any{value}
			}
			var refused []matcher
			for _, text := range texts {
				m, err := compileOperator(operator, text)
				if err != nil {
					return nil, fmt.Errorf("anything-but: %w", err)
				}
				refused = append(refused, m)
			}
			return func(v any, present bool) bool {
				return present && !slices.ContainsFunc(refused, func(m matcher) bool { return m(v, present) })
			}, nil
		}
	}
	refused, ok := operand.([]any)
	if !ok {
		refused = []any{operand}
	}
	for _, r := range refused {
		switch r.(type) {
		case string, json.Number:
		default:
			return nil, fmt.Errorf("anything-but: %v, want strings or numbers", r)
		}
	}
	if len(refused) == 0 {
		return nil, errors.New("anything-but: an empty list refuses nothing")
	}
	return func(v any, present bool) bool { return present && !slices.Contains(refused, v) }, nil
}

// float is the value of a number.
func float(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

func compileNumeric(operand any) (matcher, error) {
	list, ok := operand.([]any)
	if !ok || len(list) != 2 && len(list) != 4 {
		return nil, errors.New(`numeric: want ["operator", number] once or twice`)
	}
	var bounds []func(float64) bool
	for i := 0; i < len(list); i += 2 {
		operator, _ := list[i].(string)
		limit, ok := float(list[i+1])
		if !ok || math.Abs(limit) > 5e9 {
			return nil, errors.New("numeric: want a number from -5e9 to 5e9")
		}
		bound, ok := map[string]func(float64) bool{
			"=":  func(f float64) bool { return f == limit },
			"<":  func(f float64) bool { return f < limit },
			"<=": func(f float64) bool { return f <= limit },
			">":  func(f float64) bool { return f > limit },
			">=": func(f float64) bool { return f >= limit },
		}[operator]
		if !ok {
			return nil, fmt.Errorf("numeric: unknown operator %q", operator)
		}
		bounds = append(bounds, bound)
	}
	return func(v any, _ bool) bool {
		f, ok := float(v)
		return ok && !slices.ContainsFunc(bounds, func(b func(float64) bool) bool { return !b(f) })
	}, nil
}
