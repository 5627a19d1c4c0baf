// Package eventbridge delivers events as Amazon EventBridge does: event patterns
// with arrays of objects included, targets and dead-letter queues.
package eventbridge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Pattern is a compiled event pattern.
// https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
type Pattern struct{ matches matcher }

// matcher judges one value; present is false for a field that the event lacks.
type matcher func(value any, present bool) bool

// ParsePattern compiles an event pattern. An operator that the local AWS does not have
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
	return p.matches(v, true), nil
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

// compileObject returns what judges an object, of which every field must match. A list
// of objects matches if one element does, as a whole: EventBridge does not mix fields of
// different elements.
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
			return nil, fmt.Errorf("%s: want a list or an object, not %v", at, value)
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

// compileList returns what judges by a list of matchers, or of objects, of which one must match.
func compileList(at string, items []any, objects bool) (matcher, error) {
	if len(items) == 0 {
		return nil, fmt.Errorf("%s: an empty list matches nothing", at)
	}
	var list []matcher
	for _, item := range items {
		object, isObject := item.(map[string]any)
		var m matcher
		err := fmt.Errorf("%s: want objects", at)
		switch {
		case objects && isObject:
			m, err = compileObject(at, object)
		case !objects:
			m, err = compileMatcher(at, item)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return func(v any, present bool) bool {
		return slices.ContainsFunc(list, func(m matcher) bool { return m(v, present) })
	}, nil
}

// compileMatcher returns what judges leaves: one of a list, and no object.
func compileMatcher(at string, item any) (matcher, error) {
	leaf := func(v any, present bool) bool { return present && v == item }
	switch item := item.(type) {
	case []any:
		return nil, fmt.Errorf("%s: a list within a list", at)
	case map[string]any:
		operator, operand, err := only(item)
		if err == nil {
			leaf, err = compileOperator(operator, operand)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
	}
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
	return match, nil
}

// only is the operator of an object that has one.
func only(object map[string]any) (operator string, operand any, err error) {
	if len(object) != 1 {
		return "", nil, fmt.Errorf("a matcher has one operator, not %d", len(object))
	}
	for operator, operand = range object {
	}
	return operator, operand, nil
}

func compileOperator(operator string, operand any) (matcher, error) {
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
	}
	return compileText(operator, operand)
}

// compileText compiles the operators of texts.
func compileText(operator string, operand any) (matcher, error) {
	text, ok := operand.(string)
	var test func(s string) bool
	switch operator {
	case "prefix":
		test = func(s string) bool { return strings.HasPrefix(s, text) }
	case "suffix":
		test = func(s string) bool { return strings.HasSuffix(s, text) }
	case "equals-ignore-case":
		test = func(s string) bool { return strings.EqualFold(s, text) }
	case "wildcard":
		if strings.Contains(text, "**") || strings.Contains(text, `\`) {
			return nil, fmt.Errorf("wildcard %q: the local AWS takes neither ** nor a backslash", text)
		}
		test = regexp.MustCompile(`(?s)^` + strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, `.*`) + `$`).MatchString
	default:
		return nil, fmt.Errorf("unknown operator %q here", operator)
	}
	if !ok {
		return nil, fmt.Errorf("%s: the local AWS takes a string", operator)
	}
	return func(v any, _ bool) bool {
		s, ok := v.(string)
		return ok && test(s)
	}, nil
}

// compileAnythingBut takes a value, a list of values, or one of the text operators.
func compileAnythingBut(operand any) (matcher, error) {
	operator, refusedBy := "", operand
	if inner, ok := operand.(map[string]any); ok {
		var err error
		if operator, refusedBy, err = only(inner); err != nil {
			return nil, fmt.Errorf("anything-but: %w", err)
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
		return nil, errors.New("anything-but: an empty list refuses nothing")
	}
	return func(v any, present bool) bool {
		return present && !slices.ContainsFunc(refused, func(m matcher) bool { return m(v, present) })
	}, nil
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
