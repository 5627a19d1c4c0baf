package iotsql

import (
	"bytes"
	"encoding/json"
	"strings"
)

// value is one of undefined, null, boolean, number, text, array and *object.
type value any

type (
	// undefined is what AWS calls Undefined: not a value of JSON, but an
	// operand of SQL.
	undefined struct{}
	null      struct{}
	boolean   bool
	text      string
	array     []value
)

// object is a JSON object whose keys keep their order.
type object struct {
	keys   []string
	values map[string]value
}

func newObject() *object {
	return &object{values: map[string]value{}}
}

// set gives key a value: a new key comes last, a known one keeps its place.
// Undefined has no JSON and is left out.
func (o *object) set(key string, v value) {
	if isUndefined(v) {
		return
	}
	if _, known := o.values[key]; !known {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

// setAll sets the keys of another object, if there is one.
func (o *object) setAll(from *object) {
	if from == nil {
		return
	}
	for _, key := range from.keys {
		o.set(key, from.values[key])
	}
}

func (o *object) get(key string) value {
	if v, ok := o.values[key]; ok {
		return v
	}
	return undefined{}
}

func isUndefined(v value) bool {
	_, ok := v.(undefined)
	return ok
}

func isNull(v value) bool {
	_, ok := v.(null)
	return ok
}

// decodeJSON reads a JSON document, keeping the order of keys and the form of
// numbers; false if b is none.
func decodeJSON(b []byte) (value, bool) {
	// Valid also bounds the depth, which the recursion below does not.
	if !json.Valid(b) {
		return undefined{}, false
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	v, err := decodeValue(dec)
	return v, err == nil
}

func decodeValue(dec *json.Decoder) (value, error) {
	token, err := dec.Token()
	if err != nil {
		return undefined{}, err
	}
	switch t := token.(type) {
	case bool:
		return boolean(t), nil
	case string:
		return text(t), nil
	case json.Number:
		return parseNumber(t.String()), nil
	case json.Delim:
		if t == '[' {
			return decodeArray(dec)
		}
		return decodeObject(dec)
	default:
		return null{}, nil
	}
}

func decodeArray(dec *json.Decoder) (value, error) {
	a := array{}
	for dec.More() {
		v, err := decodeValue(dec)
		if err != nil {
			return undefined{}, err
		}
		a = append(a, v)
	}
	_, err := dec.Token()
	return a, err
}

func decodeObject(dec *json.Decoder) (value, error) {
	o := newObject()
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return undefined{}, err
		}
		v, err := decodeValue(dec)
		if err != nil {
			return undefined{}, err
		}
		o.set(key.(string), v)
	}
	_, err := dec.Token()
	return o, err
}

// encodeJSON writes v as JSON. Undefined by itself is empty, inside of an array
// or object it is left out.
func encodeJSON(v value) []byte {
	var b bytes.Buffer
	writeJSON(&b, v)
	return b.Bytes()
}

func writeJSON(b *bytes.Buffer, v value) {
	switch v := v.(type) {
	case undefined:
	case null:
		b.WriteString("null")
	case boolean:
		if v {
			b.WriteString("true")
		} else {
			b.WriteString("false")
		}
	case number:
		b.WriteString(v.String())
	case text:
		writeText(b, string(v))
	case array:
		b.WriteByte('[')
		separator := ""
		for _, e := range v {
			if isUndefined(e) {
				continue
			}
			b.WriteString(separator)
			separator = ","
			writeJSON(b, e)
		}
		b.WriteByte(']')
	case *object:
		b.WriteByte('{')
		for i, key := range v.keys {
			if i > 0 {
				b.WriteByte(',')
			}
			writeText(b, key)
			b.WriteByte(':')
			writeJSON(b, v.values[key])
		}
		b.WriteByte('}')
	}
}

// writeText writes a JSON string without the escapes that are for HTML only.
func writeText(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	// A string always encodes; the encoder ends it with a newline.
	_ = enc.Encode(s)
	b.Truncate(b.Len() - 1)
}

// toText is the conversion "To string" of the page "Data types": Null and
// Undefined have none.
func toText(v value) (string, bool) {
	switch v := v.(type) {
	case undefined, null:
		return "", false
	case text:
		return string(v), true
	default:
		return string(encodeJSON(v)), true
	}
}

// toNumber is the conversion "To decimal": of strings only those that look like
// numbers.
func toNumber(v value) (number, bool) {
	switch v := v.(type) {
	case number:
		return v, true
	case text:
		if !decimalText.MatchString(string(v)) {
			return number{}, false
		}
		n, ok := parseNumber(string(v)).(number)
		return n, ok
	default:
		return number{}, false
	}
}

// toBoolean is the conversion "To Boolean": of strings only "true" and "false",
// in any case.
func toBoolean(v value) (value, bool) {
	switch v := v.(type) {
	case boolean:
		return v, true
	case text:
		switch {
		case strings.EqualFold(string(v), "true"):
			return boolean(true), true
		case strings.EqualFold(string(v), "false"):
			return boolean(false), true
		}
	}
	return undefined{}, false
}
