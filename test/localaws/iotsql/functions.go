package iotsql

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// maxTransformBytes is the limit of the array that transform returns.
const maxTransformBytes = 128 << 10

// functions is the table of the reference, by name in lower case. cast, encode
// and get_or_default are special forms and not in it.
var functions = func() map[string]function {
	all := map[string]function{
		"topic":     {min: 0, max: 1, eval: topic},
		"clientid":  {eval: clientID},
		"principal": {eval: messageText(func(m *Message) string { return m.Principal })},
		"sourceip":  {eval: messageText(func(m *Message) string { return m.SourceIP })},
		"traceid":   {eval: messageText(func(m *Message) string { return m.TraceID })},
		"accountid": {eval: messageText(func(m *Message) string { return m.AccountID })},
		"timestamp": {eval: timestamp},
		"newuuid":   {eval: newUUID},
		"sql_version": {eval: func(*scope, []value) (value, error) {
			return text(Version), nil
		}},
		"get_registry_data": {min: 3, max: 3, eval: getRegistryData, check: wantRegistryAPI},
		"get":               {min: 2, max: 2, eval: pure(get)},
		"decode":            {min: 2, max: 2, eval: pure(decode), check: wantBase64},
		"isundefined": {min: 1, max: 1, eval: pure(func(args []value) value {
			return boolean(isUndefined(args[0]))
		})},
		"isnull": {min: 1, max: 1, eval: pure(func(args []value) value {
			return boolean(isNull(args[0]))
		})},
		"nanvl":     {min: 2, max: 2, eval: pure(nanvl)},
		"transform": {min: 3, max: 3, eval: transform, check: wantTransformMode},
	}
	for _, table := range []map[string]function{textFunctions, mathFunctions, timeFunctions} {
		for name, f := range table {
			all[name] = f
		}
	}
	return all
}()

// pure makes a function of its arguments alone, that cannot fail.
func pure(f func(args []value) value) func(*scope, []value) (value, error) {
	return func(_ *scope, args []value) (value, error) { return f(args), nil }
}

// messageText makes a function that gives a property of the message, Undefined
// if it has none.
func messageText(property func(*Message) string) func(*scope, []value) (value, error) {
	return func(s *scope, _ []value) (value, error) {
		if p := property(s.message); p != "" {
			return text(p), nil
		}
		return undefined{}, nil
	}
}

// topic gives the whole topic or a segment from 1 on, of Basic Ingest without
// the prefix.
func topic(s *scope, args []value) (value, error) {
	t := s.message.Topic
	if _, rest, ok := BasicIngest(t); ok {
		t = rest
	}
	if len(args) == 0 {
		return text(t), nil
	}
	n, ok := toNumber(args[0])
	if !ok {
		return undefined{}, nil
	}
	levels := strings.Split(t, "/")
	i, ok := n.int64()
	if !ok || i < 1 || i > int64(len(levels)) {
		return undefined{}, nil
	}
	return text(levels[i-1]), nil
}

func clientID(s *scope, _ []value) (value, error) {
	if s.message.ClientID == "" {
		return text("n/a"), nil
	}
	return text(s.message.ClientID), nil
}

func timestamp(s *scope, _ []value) (value, error) {
	return newInt(s.message.Time.UnixMilli()), nil
}

func newUUID(s *scope, _ []value) (value, error) {
	if s.message.NewUUID == nil {
		return undefined{}, errors.New("newuuid(): Message.NewUUID is missing")
	}
	return text(s.message.NewUUID()), nil
}

func getRegistryData(s *scope, args []value) (value, error) {
	if s.message.RegistryData == nil {
		return undefined{}, errors.New("get_registry_data(): Message.RegistryData is missing")
	}
	thing, ok := toText(args[1])
	if !ok {
		return undefined{}, nil
	}
	api, role := string(args[0].(text)), string(args[2].(text))
	answer, err := s.message.RegistryData(api, thing, role)
	if err != nil {
		return undefined{}, fmt.Errorf("get_registry_data(%q, %q): %w", api, thing, err)
	}
	v, ok := decodeJSON(answer)
	if !ok {
		return undefined{}, fmt.Errorf("get_registry_data(%q, %q): the answer is not JSON", api, thing)
	}
	return v, nil
}

// get takes an element by index, a character by index, or a value by key.
func get(args []value) value {
	switch of := args[0].(type) {
	case *object:
		if key, ok := args[1].(text); ok {
			return of.get(string(key))
		}
	case array:
		if i, ok := index(args[1], len(of)); ok {
			return of[i]
		}
	case text:
		runes := []rune(of)
		if i, ok := index(args[1], len(runes)); ok {
			return text(runes[i])
		}
	}
	return undefined{}
}

// index converts to an index below length.
func index(v value, length int) (int, bool) {
	n, ok := toNumber(v)
	if !ok {
		return 0, false
	}
	i, ok := n.int64()
	return int(i), ok && i >= 0 && i < int64(length)
}

// decode gives a JSON document as a value and anything else as a string; what is
// not base64 is Null.
func decode(args []value) value {
	encoded, ok := toText(args[0])
	if !ok {
		return undefined{}
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return null{}
	}
	if v, ok := decodeJSON(decoded); ok {
		return v
	}
	return text(strings.ToValidUTF8(string(decoded), "\uFFFD"))
}

func nanvl(args []value) value {
	if isUndefined(args[0]) || isNull(args[0]) {
		return args[1]
	}
	return args[0]
}

// transform merges an object into each object of an array.
func transform(_ *scope, args []value) (value, error) {
	mode, _ := args[0].(text)
	with, ok := args[1].(*object)
	elements, isArray := args[2].(array)
	if mode != "enrichArray" || !ok || !isArray {
		return undefined{}, nil
	}
	result := array{}
	for _, e := range elements {
		of, ok := e.(*object)
		if !ok {
			return undefined{}, nil
		}
		enriched := newObject()
		for _, o := range []*object{of, with} {
			for _, key := range o.keys {
				enriched.set(key, o.values[key])
			}
		}
		result = append(result, enriched)
	}
	if size := len(encodeJSON(result)); size > maxTransformBytes {
		return undefined{}, fmt.Errorf("transform(): result of %d bytes, want at most %d", size, maxTransformBytes)
	}
	return result, nil
}
