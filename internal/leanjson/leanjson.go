// Package leanjson decodes JSON as [encoding/json] does, with few allocations: the forwarder decodes
// each message of a fleet. It reads only documents that [json.Valid] accepts, and leaves everything
// unusual to encoding/json.
package leanjson

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// mostShared is the size of the largest document whose texts share its memory: a text that is
// kept must not keep a large document.
const mostShared = 1024

// Unmarshaler is implemented by types that decode themselves. They also implement
// [json.Unmarshaler], with the same result.
type Unmarshaler interface {
	// UnmarshalValue decodes a value that is not null.
	UnmarshalValue(Value) error
}

// Unmarshal decodes data into v, a pointer to the zero value of a struct. The result is that of
// [json.Unmarshal], which decodes data if a member is null, is written in another case, or is of
// another kind than its field. The struct has no embedded fields.
func Unmarshal(data []byte, v any) error {
	target := reflect.ValueOf(v).Elem()
	if json.Valid(data) {
		text := Value(strings.Trim(string(data), space))
		if decodeStruct(text, target, len(data) > mostShared) {
			return nil
		}
		target.SetZero()
	}
	return json.Unmarshal(data, v)
}

// decodeStruct reports whether it decoded text as encoding/json does. clone reports whether texts
// are copied into memory of their own.
func decodeStruct(text Value, target reflect.Value, clone bool) bool {
	if text.Kind() != '{' {
		return false
	}
	fields := fieldsOf(target.Type())
	for o := text.Object(); o.Next(); {
		for i := range fields {
			if fields[i].name == o.Name {
				if !decodeField(o.Value, target.Field(fields[i].index), clone) {
					return false
				}
				break
			}
			if strings.EqualFold(fields[i].name, o.Name) {
				return false
			}
		}
	}
	return true
}

func decodeField(text Value, target reflect.Value, clone bool) bool {
	if text.Kind() == 'n' {
		return false
	}
	if u, ok := target.Addr().Interface().(Unmarshaler); ok {
		return u.UnmarshalValue(text) == nil
	}
	switch kind := target.Kind(); {
	case kind == reflect.Struct:
		return decodeStruct(text, target, clone)
	case kind == reflect.Bool:
		target.SetBool(text.Kind() == 't')
		return text.Kind() == 't' || text.Kind() == 'f'
	case kind == reflect.Int64:
		n, err := strconv.ParseInt(string(text), 10, 64)
		target.SetInt(n)
		return err == nil
	case kind == reflect.String && target.Type() == numberType:
		target.SetString(keep(string(text), clone))
		return text.Kind() == '-' || '0' <= text.Kind() && text.Kind() <= '9'
	case kind == reflect.String:
		s, ok := text.Text()
		target.SetString(keep(s, clone))
		return ok
	case target.Type() == bytesType:
		s, ok := text.Text()
		decoded, err := base64.StdEncoding.DecodeString(s)
		target.SetBytes(decoded)
		return ok && err == nil
	}
	return false
}

func keep(text string, clone bool) string {
	if clone {
		return strings.Clone(text)
	}
	return text
}

var numberType, bytesType = reflect.TypeFor[json.Number](), reflect.TypeFor[[]byte]()

// field is a field that encoding/json decodes.
type field struct {
	name  string
	index int
}

var known sync.Map // of []field by reflect.Type

func fieldsOf(t reflect.Type) []field {
	if fields, ok := known.Load(t); ok {
		return fields.([]field)
	}
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Tag.Get("json") == "-" || !f.IsExported():
			continue
		case name == "":
			name = f.Name
		}
		fields = append(fields, field{name, i})
	}
	known.Store(t, fields)
	return fields
}
