// Package eventpatterntest matches events with event patterns as Amazon EventBridge does, also over
// arrays of objects, for tests and for the local AWS. It refuses operators that it does not support.
package eventpatterntest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Pattern is a compiled event pattern.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
type Pattern struct{ matches matcher }

// matcher reports whether a value matches. present is false for a field that the event lacks.
type matcher func(value any, present bool) bool

// Parse compiles an event pattern. Its error names an operator that the local AWS does not support.
func Parse(text []byte) (*Pattern, error) {
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
	return p.matches(v, true), nil
}

// Matches reports whether an event matches a pattern. Both are encoded as JSON first. The test fails
// if one is invalid or not supported.
func Matches(t interface{ Fatal(...any) }, pattern, event any) bool {
	p, err := json.Marshal(pattern)
	if err != nil {
		t.Fatal(err)
	}
	e, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	matches, err := parsed.Match(e)
	if err != nil {
		t.Fatal(err)
	}
	return matches
}

// decode keeps numbers as they are written: to EventBridge, 300 and 300.0 are not equal.
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

// compileObject returns the matcher of an object, of which every field must match. A list of
// objects matches if all fields of one element match.
func compileObject(path string, raw map[string]any) (matcher, error) {
	fields := map[string]matcher{}
	for key, value := range raw {
		at := strings.TrimPrefix(path+"."+key, ".")
		var err error
		switch v := value.(type) {
		case map[string]any:
			fields[key], err = compileObject(at, v)
		case []any:
			if key == "$or" && len(v) < 2 {
				return nil, fmt.Errorf("%s: want at least two alternatives", at)
			}
			fields[key], err = compileList(at, v, key == "$or")
		default:
			err = fmt.Errorf("%s: want a list or an object, not %v", at, value)
		}
		if err != nil {
			return nil, err
		}
	}
	var match matcher
	match = func(value any, _ bool) bool {
		if list, ok := value.([]any); ok {
			return slices.ContainsFunc(list, func(element any) bool { return match(element, true) })
		}
		object, _ := value.(map[string]any)
		for key, m := range fields {
			inner, present := object[key]
			if key == "$or" {
				inner, present = value, true
			}
			if !m(inner, present) {
				return false
			}
		}
		return true
	}
	return match, nil
}

// compileList returns the matcher of a list of alternatives. Those of $or are objects.
func compileList(at string, items []any, objects bool) (matcher, error) {
	if len(items) == 0 {
		return nil, fmt.Errorf("%s: an empty list matches nothing", at)
	}
	var list []matcher
	for _, item := range items {
		object, isObject := item.(map[string]any)
		var m matcher
		var err error
		switch _, nested := item.([]any); {
		case objects && isObject:
			m, err = compileObject(at, object)
		case objects, nested:
			err = fmt.Errorf("%s: want objects in $or, and no list within a list", at)
		case isObject:
			if m, err = compileOperator(object); err != nil {
				err = fmt.Errorf("%s: %w", at, err)
			}
			m = leaves(m)
		default:
			m = leaves(func(v any, present bool) bool { return present && v == item })
		}
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return anyOf(list), nil
}

func anyOf(list []matcher) matcher {
	return func(v any, present bool) bool {
		return slices.ContainsFunc(list, func(m matcher) bool { return m(v, present) })
	}
}

// leaves applies leaf to a value, or to each element of a list. An object counts as absent.
func leaves(leaf matcher) matcher {
	var match matcher
	match = func(value any, present bool) bool {
		switch v := value.(type) {
		case []any:
			return len(v) == 0 && leaf(nil, false) || slices.ContainsFunc(v, func(item any) bool { return match(item, true) })
		case map[string]any:
			present = false
		}
		return leaf(value, present)
	}
	return match
}

func compileOperator(object map[string]any) (matcher, error) {
	if len(object) != 1 {
		return nil, fmt.Errorf("a matcher has one operator, not %d", len(object))
	}
	for operator, operand := range object {
		switch operator {
		case "exists":
			want, ok := operand.(bool)
			if !ok {
				return nil, errors.New("exists: want true or false")
			}
			return func(_ any, present bool) bool { return present == want }, nil
		case "anything-but":
			return compileAnythingBut(operand)
		default:
			return compileText(operator, operand)
		}
	}
	panic("unreachable: one operator")
}

// compileText compiles an operator for strings.
func compileText(operator string, operand any) (matcher, error) {
	text, ok := operand.(string)
	var test func(s string) bool
	switch operator {
	case "prefix":
		test = func(s string) bool { return strings.HasPrefix(s, text) }
	case "suffix":
		test = func(s string) bool { return strings.HasSuffix(s, text) }
	default:
		return nil, fmt.Errorf("the local AWS does not support the operator %q here", operator)
	}
	if !ok {
		return nil, fmt.Errorf("%s: the local AWS supports only a string", operator)
	}
	return func(v any, _ bool) bool {
		s, ok := v.(string)
		return ok && test(s)
	}, nil
}

// compileAnythingBut compiles a value, a list of values, or one of the operators for strings.
func compileAnythingBut(operand any) (matcher, error) {
	operator, refusedBy := "", operand
	if inner, ok := operand.(map[string]any); ok {
		if len(inner) != 1 {
			return nil, fmt.Errorf("anything-but: a matcher has one operator, not %d", len(inner))
		}
		for operator, refusedBy = range inner {
		}
	}
	values, ok := refusedBy.([]any)
	if !ok {
		values = []any{refusedBy}
	}
	var refused []matcher
	for _, value := range values {
		m := func(v any, _ bool) bool { return v == value }
		switch value.(type) {
		case string, json.Number:
		default:
			return nil, fmt.Errorf("anything-but: %v, want strings or numbers", value)
		}
		if operator != "" {
			var err error
			if m, err = compileText(operator, value); err != nil {
				return nil, fmt.Errorf("anything-but: %w", err)
			}
		}
		refused = append(refused, m)
	}
	if len(refused) == 0 {
		return nil, errors.New("anything-but: want at least one value")
	}
	one := anyOf(refused)
	return func(v any, present bool) bool { return present && !one(v, present) }, nil
}
