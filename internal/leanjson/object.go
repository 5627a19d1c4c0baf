package leanjson

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Value is one value of a valid document, as written.
type Value string

// Object reads the members of a JSON object in the order in which they are written. Members with
// the same name are all read.
type Object struct {
	Name  string
	Value Value
	rest  string
}

// List reads the elements of a JSON array.
type List struct {
	Value Value
	rest  string
}

// Parse returns the value that data holds. Its error is that of [json.Unmarshal].
func Parse(data []byte) (Value, error) {
	if !json.Valid(data) {
		var v any
		return "", json.Unmarshal(data, &v)
	}
	return Value(strings.Trim(string(data), space)), nil
}

// Kind returns the first character of v: { for an object, [ for an array, " for a string, t or f
// for a boolean, n for null, and a digit or - for a number.
func (v Value) Kind() byte { return v[0] }

// Object returns the members of v, which is an object.
func (v Value) Object() Object { return Object{rest: string(v[1:])} }

// List returns the elements of v, which is an array.
func (v Value) List() List { return List{rest: string(v[1:])} }

// Text returns the text of v, and reports whether v is a string. The text shares the document's
// memory if the document has neither escapes nor invalid UTF-8 there.
func (v Value) Text() (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	return unquote(string(v)), true
}

// Next reads the next member, and reports whether there is one.
func (o *Object) Next() bool {
	rest := strings.TrimLeft(o.rest, separators)
	if rest[0] == '}' {
		return false
	}
	end := valueEnd(rest)
	o.Name, rest = unquote(rest[:end]), strings.TrimLeft(rest[end:], separators)
	end = valueEnd(rest)
	o.Value, o.rest = Value(rest[:end]), rest[end:]
	return true
}

// Next reads the next element, and reports whether there is one.
func (l *List) Next() bool {
	rest := strings.TrimLeft(l.rest, separators)
	if rest[0] == ']' {
		return false
	}
	end := valueEnd(rest)
	l.Value, l.rest = Value(rest[:end]), rest[end:]
	return true
}

// A valid document has these between values, and a colon only after a name.
const (
	space      = " \t\r\n"
	separators = space + ",:"
)

// valueEnd returns the length of the value with which text begins.
func valueEnd(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth == 0 { // of what holds a number or a literal
				return i
			}
			depth--
		case '"':
			i += stringEnd(text[i:]) - 1
		case ' ', '\t', '\r', '\n', ',', ':':
			if depth == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(text)
}

// stringEnd returns the length of the string with which text begins.
func stringEnd(text string) int {
	for i := 1; ; i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

func unquote(quoted string) string {
	if strings.IndexByte(quoted, '\\') < 0 && utf8.ValidString(quoted) {
		return quoted[1 : len(quoted)-1]
	}
	var text string
	_ = json.Unmarshal([]byte(quoted), &text) // a valid document has only valid strings
	return text
}
