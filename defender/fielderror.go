package defender

import (
	"errors"
	"fmt"
	"strings"
)

// FieldError is one fault in a value that the caller wrote.
type FieldError struct {
	// Field is the path as the caller wrote it, for example
	// "Detect.Behaviors[1].Name".
	Field string
	// Value is what stood there. Nil means that the field is missing.
	Value any
	// Want names the allowed values and the way out.
	Want string
}

// Error has the form "Field: value, want ...", without the first part where the value
// stands alone.
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

// valueText quotes strings, and shortens what would hide the rest of the message.
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

// Under moves the FieldErrors of err below field: "Name" becomes
// "Behaviors[0].Name". It returns nil for nil; the parts of joined errors are moved
// one by one, and a part without FieldErrors is wrapped with the field's name.
func Under(field string, err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case *FieldError:
		return &FieldError{Field: join(field, e.Field), Value: e.Value, Want: e.Want}
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

// invalid is a FieldError; missing values are given as nil.
func invalid(field string, value any, want string, args ...any) error {
	if len(args) > 0 {
		want = fmt.Sprintf(want, args...)
	}
	return &FieldError{Field: field, Value: value, Want: want}
}

// orMissing is nil for an empty string, so that the fault reads "missing".
func orMissing(s string) any {
	if s == "" {
		return nil
	}
	return s
}
