package defender

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// FieldError describes one invalid value that the caller passed.
type FieldError struct {
	// Field is the path as the caller wrote it, for example
	// "Detect.Behaviors[1].Name".
	Field string
	// Value is the invalid value. Nil means that the field is missing.
	Value any
	// Want says which values are allowed, and how to fix the fault.
	Want string
	// Code identifies the kind of fault for programs, such as "no-behaviors". It stays the same
	// when the words of Want change. Package defenderhub has a constant for each code.
	// Code is "" if only a change of Field fixes the fault.
	Code string
	// Alternatives are changes of other fields that also fix the fault, in the order of Want. It is
	// empty if only Field can fix it.
	Alternatives []Alternative
}

// Alternative is a change of another field that fixes a [FieldError].
type Alternative struct {
	// Field is the path as the caller writes it. [Under] prefixes it as it does FieldError.Field.
	Field string
	// Value is the new value in Go syntax, for example "Off". "" means that any value fixes the
	// fault, "nil" that the field must be left out.
	Value string
}

// Error returns "Field: value, want ...", or "value, want ..." without a field.
func (e *FieldError) Error() string {
	found := "missing"
	if e.Value != nil {
		found = valueText(e.Value)
	}
	text := found + ", want " + e.Want
	if e.Field != "" {
		text = e.Field + ": " + text
	}
	return text
}

// valueText quotes strings, and shortens long values.
func valueText(v any) string {
	const longest = 80
	s, isString := v.(string)
	if !isString {
		s = fmt.Sprint(v)
	}
	if r := []rune(s); len(r) > longest {
		s = fmt.Sprintf("%s... (%d characters)", string(r[:longest]), len(r))
	}
	if isString {
		return fmt.Sprintf("%q", s)
	}
	return s
}

// FieldErrors returns every FieldError in the tree of joined and wrapped errors,
// in the order in which they were found.
func FieldErrors(err error) []*FieldError {
	if fe, ok := err.(*FieldError); ok {
		return []*FieldError{fe}
	}
	var all []*FieldError
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			all = append(all, FieldErrors(part)...)
		}
	case interface{ Unwrap() error }:
		all = FieldErrors(e.Unwrap())
	}
	return all
}

// Under prefixes the Field of each FieldError in err with field: "Name" becomes
// "Behaviors[0].Name". It treats each part of joined errors separately. An error without
// FieldErrors is wrapped with the field's name. It returns nil for nil.
func Under(field string, err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case *FieldError:
		moved := *e
		moved.Field, moved.Alternatives = join(field, e.Field), slices.Clone(e.Alternatives)
		for i, a := range moved.Alternatives {
			moved.Alternatives[i].Field = join(field, a.Field)
		}
		return &moved
	case interface{ Unwrap() []error }:
		return underEach(field, e.Unwrap())
	}
	if found := FieldErrors(err); len(found) > 0 {
		return underEach(field, found)
	}
	return fmt.Errorf("%s: %w", field, err)
}

func underEach[E error](field string, parts []E) error {
	moved := make([]error, len(parts))
	for i, part := range parts {
		moved[i] = Under(field, part)
	}
	return errors.Join(moved...)
}

// join appends a path to a field: an index follows directly, a name after a dot.
func join(field, path string) string {
	switch {
	case field == "" || path == "":
		return field + path
	case strings.HasPrefix(path, "["):
		return field + path
	}
	return field + "." + path
}

// invalid returns a FieldError; nil means that the value is missing.
func invalid(field string, value any, want string, args ...any) error {
	if len(args) > 0 {
		want = fmt.Sprintf(want, args...)
	}
	return &FieldError{Field: field, Value: value, Want: want}
}

// orMissing returns nil for an empty string, so that the fault says "missing".
func orMissing(s string) any {
	if s == "" {
		return nil
	}
	return s
}
