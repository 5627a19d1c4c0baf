package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// node is an object of the report and its path, for errors.
type node struct {
	path   string
	fields map[string]any
}

var cborMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DefaultMapType: reflect.TypeFor[map[string]any](), DupMapKey: cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels: 16, MaxArrayElements: 16384, MaxMapPairs: 16384, IndefLength: cbor.IndefLengthAllowed,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return mode
}()

// decodeTree reads JSON, or CBOR where no JSON object can begin: a CBOR map begins
// with a byte from 0xA0 on, or with a tag, never with a brace or white space.
func decodeTree(payload []byte) (node, error) {
	trimmed := bytes.TrimLeft(payload, " \t\r\n")
	if len(trimmed) == 0 {
		return node{}, errors.New("empty, want a JSON or CBOR object")
	}
	var v any
	if trimmed[0] == '{' {
		d := json.NewDecoder(bytes.NewReader(trimmed))
		if err := d.Decode(&v); err != nil {
			return node{}, fmt.Errorf("want a JSON object: %w", err)
		}
		if _, err := d.Token(); err != io.EOF {
			return node{}, errors.New("want one JSON object and nothing behind it")
		}
	} else if err := cborMode.Unmarshal(payload, &v); err != nil {
		return node{}, fmt.Errorf("want a JSON or CBOR object: %w", err)
	}
	fields, ok := plain(v).(map[string]any)
	if !ok {
		return node{}, errors.New("want a JSON or CBOR object")
	}
	return node{fields: fields}, nil
}

// plain turns every number of CBOR into float64, as JSON has it. What no report holds
// (tags, byte strings, NaN) becomes nil, which no field accepts.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			v[k] = plain(inner)
		}
		return v
	case []any:
		for i, inner := range v {
			v[i] = plain(inner)
		}
		return v
	case string, bool:
		return v
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return v
	case float32:
		return plain(float64(v))
	case uint64:
		return float64(v)
	case int64:
		return float64(v)
	}
	return nil
}

func asNode(v any, path string) node {
	fields, _ := v.(map[string]any)
	return node{path, fields}
}

// pick returns the field under its long or its short name.
func (n node) pick(long, short string) (any, bool) {
	if v, ok := n.fields[long]; ok {
		return v, true
	}
	v, ok := n.fields[short]
	return v, ok
}

// find is pick, but both names at once are an error: nobody could say which one holds.
func (n node) find(long, short string) (any, bool, error) {
	_, hasLong := n.fields[long]
	_, hasShort := n.fields[short]
	if hasLong && hasShort {
		return nil, false, fmt.Errorf("%s: given as %s too, want one of them", n.child(long), short)
	}
	v, ok := n.pick(long, short)
	return v, ok, nil
}

func (n node) child(name string) string {
	if n.path == "" {
		return name
	}
	return n.path + "." + name
}

func (n node) object(long, short string) (node, bool, error) {
	v, ok, err := n.find(long, short)
	if !ok || err != nil {
		return node{}, false, err
	}
	fields, ok := v.(map[string]any)
	if !ok {
		return node{}, false, fmt.Errorf("%s: want an object", n.child(long))
	}
	return node{n.child(long), fields}, true, nil
}

func (n node) list(long, short string) ([]any, bool, error) {
	v, ok, err := n.find(long, short)
	if !ok || err != nil {
		return nil, false, err
	}
	list, ok := v.([]any)
	if !ok {
		return nil, false, fmt.Errorf("%s: want a list", n.child(long))
	}
	return list, true, nil
}

func (n node) number(long, short string) (float64, bool, error) {
	v, ok, err := n.find(long, short)
	if !ok || err != nil {
		return 0, false, err
	}
	f, ok := v.(float64)
	if !ok {
		return 0, false, fmt.Errorf("%s: want a number", n.child(long))
	}
	return f, true, nil
}
