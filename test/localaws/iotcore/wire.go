package iotcore

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// member is a member of an operation's input.
type member struct {
	name  string // of the member
	in    string // path, query, header, payload or body
	field []int  // of the input's Go type
	wire  string // how a query or header calls it
}

// members reads a list of members. It panics where the input has no such member.
func members(input reflect.Type, path, reads string) []member {
	var all []member
	for _, word := range strings.Fields(reads) {
		m := member{in: "body"}
		switch word[0] {
		case '?':
			m.in, word = "query", word[1:]
		case '@':
			m.in, word = "header", word[1:]
		case '=':
			m.in, word = "payload", word[1:]
		}
		m.name, m.wire, _ = strings.Cut(word, ":")
		if m.wire == "" {
			m.wire = m.name
		}
		if strings.Contains(path, "{"+m.name+"}") {
			m.in = "path"
		}
		f, ok := input.FieldByName(exported(m.name))
		if !ok {
			panic(fmt.Sprintf("iotcore: %s has no member %s", input, m.name))
		}
		m.field = f.Index
		all = append(all, m)
	}
	return all
}

func exported(member string) string { return strings.ToUpper(member[:1]) + member[1:] }

// bind fills an input. A parameter that the operation does not read is refused by name.
func bind(r *http.Request, uri map[string]string, body []byte, reads []member, input reflect.Value) error {
	document := map[string]any{}
	wholeBody := slices.ContainsFunc(reads, func(m member) bool { return m.in == "payload" })
	if len(bytes.TrimSpace(body)) > 0 && !wholeBody {
		var err error
		if document, err = decodeObject(body); err != nil {
			return err
		}
	}
	query := r.URL.Query()
	for _, m := range reads {
		field := input.FieldByIndex(m.field)
		var err error
		switch m.in {
		case "path":
			err = setText(field, m.name, uri[m.name])
		case "query":
			err = setText(field, m.wire, query.Get(m.wire))
			query.Del(m.wire)
		case "header":
			err = setText(field, m.wire, r.Header.Get(m.wire))
		case "payload":
			if field.Kind() == reflect.Slice {
				field.SetBytes(body)
				continue
			}
			var o map[string]any
			if o, err = decodeObject(body); err == nil {
				err = set(field, m.name, o)
			}
		case "body":
			err = set(field, m.name, document[m.name])
			delete(document, m.name)
		}
		if err != nil {
			return err
		}
	}
	for name := range query {
		return errUnknownHere.new("the parameter %q is not known to the local AWS IoT", name)
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-Mqtt5-") {
			return errUnknownHere.new("the properties of MQTT 5 (%s) are not known to the local AWS IoT", name)
		}
	}
	for name := range document {
		return errUnknownHere.new("the parameter %q is not known to the local AWS IoT", name)
	}
	return nil
}

func decodeObject(data []byte) (object map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&object); err != nil {
		return nil, errInvalidRequest.new("the request body is no valid JSON for this operation: %v", err)
	}
	if _, tail := d.Token(); !errors.Is(tail, io.EOF) {
		return nil, errInvalidRequest.new("the request has text after its JSON body")
	}
	return object, nil
}

// setText sets a member that travels as text.
func setText(v reflect.Value, name, text string) error {
	if text == "" {
		return nil
	}
	kind := v.Kind()
	if kind == reflect.Pointer {
		kind = v.Type().Elem().Kind()
	}
	var raw any = text
	switch kind {
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errInvalidRequest.new("%s is %q: %v", name, text, err)
		}
		raw = b
	case reflect.Int32, reflect.Int64:
		raw = json.Number(text)
	case reflect.Struct:
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return errInvalidRequest.new("%s is %q, want a time such as 2026-01-31T12:00:00Z", name, text)
		}
		raw = t
	}
	return set(v, name, raw)
}

// set converts what JSON holds into a type of AWS's SDK.
func set(v reflect.Value, name string, raw any) error {
	if raw == nil {
		return nil
	}
	ok := false
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return set(v.Elem(), name, raw)
	case reflect.String:
		var text string
		text, ok = raw.(string)
		v.SetString(text)
	case reflect.Bool:
		var b bool
		b, ok = raw.(bool)
		v.SetBool(b)
	case reflect.Int32, reflect.Int64:
		n, _ := raw.(json.Number)
		i, err := n.Int64()
		ok = err == nil && !v.OverflowInt(i)
		v.SetInt(i)
	case reflect.Float64:
		n, _ := raw.(json.Number)
		f, err := n.Float64()
		ok = err == nil
		v.SetFloat(f)
	case reflect.Slice:
		if text, isText := raw.(string); isText && v.Type().Elem().Kind() == reflect.Uint8 {
			data, err := base64.StdEncoding.DecodeString(text)
			ok = err == nil
			v.SetBytes(data)
			break
		}
		var items []any
		if items, ok = raw.([]any); !ok {
			break
		}
		v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
		for i, item := range items {
			if err := set(v.Index(i), fmt.Sprintf("%s[%d]", name, i), item); err != nil {
				return err
			}
		}
	case reflect.Map:
		var object map[string]any
		object, ok = raw.(map[string]any)
		v.Set(reflect.MakeMap(v.Type()))
		for key, value := range object {
			element := reflect.New(v.Type().Elem()).Elem()
			if err := set(element, name+"."+key, value); err != nil {
				return err
			}
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return setTime(v, name, raw)
		}
		var object map[string]any
		object, ok = raw.(map[string]any)
		for key, value := range object {
			field := reflect.Value{}
			if key != "" {
				field = v.FieldByName(exported(key))
			}
			if !field.IsValid() {
				return errUnknownHere.new("the parameter %q is not known to the local AWS IoT", name+"."+key)
			}
			if err := set(field, name+"."+key, value); err != nil {
				return err
			}
		}
	}
	if !ok {
		return errInvalidRequest.new("%s is %v, which is no valid JSON for it", name, raw)
	}
	return nil
}

// setTime takes seconds since 1970, or a time that travelled as text.
func setTime(v reflect.Value, name string, raw any) error {
	t, isTime := raw.(time.Time)
	if !isTime {
		n, _ := raw.(json.Number)
		seconds, err := n.Float64()
		if err != nil || math.Abs(seconds) > 1e11 {
			return errInvalidRequest.new("%s is %v, which is no time, or not in seconds since 1970", name, raw)
		}
		t = time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
	}
	v.Set(reflect.ValueOf(t))
	return nil
}

// JSON is what an operation answers, from a type of AWS's SDK: members without a value are
// left out, but for its own lists, and times are seconds since 1970, with milliseconds.
func JSON(v any) any {
	out := jsonOf(reflect.ValueOf(v))
	of := reflect.Indirect(reflect.ValueOf(v))
	for i := range of.NumField() {
		if of.Field(i).Kind() == reflect.Slice && of.Field(i).IsNil() {
			out.(map[string]any)[wireName(of.Type(), i)] = []any{}
		}
	}
	return out
}

// wireName is how a member is called in JSON. Only two types have members with capitals.
func wireName(of reflect.Type, field int) string {
	name := of.Field(field).Name
	if of.Name() == "Tag" || of.Name() == "KeyPair" {
		return name
	}
	return strings.ToLower(name[:1]) + name[1:]
}

func jsonOf(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		if kind := v.Elem().Kind(); kind != reflect.Struct {
			return v.Elem().Interface()
		}
		return jsonOf(v.Elem())
	case reflect.String:
		if v.String() == "" {
			return nil
		}
		return v.String()
	case reflect.Int32, reflect.Int64:
		if v.IsZero() {
			return nil // a number that may be 0 has a pointer
		}
		return v.Interface()
	case reflect.Slice:
		if v.IsNil() || v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Interface()
		}
		items := make([]any, v.Len())
		for i := range items {
			items[i] = jsonOf(v.Index(i))
		}
		return items
	case reflect.Map:
		if v.IsNil() {
			return nil
		}
		object := map[string]any{}
		for _, key := range v.MapKeys() {
			object[key.String()] = jsonOf(v.MapIndex(key))
		}
		return object
	case reflect.Struct:
		if t, ok := v.Interface().(time.Time); ok {
			return json.Number(strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64))
		}
		object := map[string]any{}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Name == "ResultMetadata" {
				continue
			}
			empty := v.Field(i).Kind() == reflect.Slice && v.Field(i).IsNil()
			if value := jsonOf(v.Field(i)); value != nil && !empty {
				object[wireName(v.Type(), i)] = value
			}
		}
		return object
	}
	return v.Interface()
}

// DefaultPage is the number of items of a page that asks for none; also the most, but for
// rules.
const DefaultPage = 250

// Page cuts a page of the wanted size out of items, which are in their order, and makes the
// token of the next. It continues behind the item whose order the token holds, so that items
// that come or go between two pages shift nothing.
func Page[T any](items []T, order func(T) string, token *string, size *int32, standard int) (page []T, next *string, err error) {
	wanted := standard
	if size != nil {
		wanted = int(*size)
	}
	if wanted < 1 || wanted > DefaultPage {
		return nil, nil, errInvalidRequest.new("The page size is %d, want 1 to %d", wanted, DefaultPage)
	}
	start := 0
	if token != nil {
		last, err := base64.StdEncoding.DecodeString(*token)
		if err != nil || len(last) == 0 {
			return nil, nil, errInvalidRequest.new("nextToken or marker %q is not one of this service", *token)
		}
		descending, behind := last[0] == '-', string(last[1:])
		for start < len(items) && (order(items[start]) == behind || order(items[start]) < behind != descending) {
			start++
		}
	}
	end := min(start+wanted, len(items))
	if end < len(items) {
		text := "+" + order(items[end-1])
		if order(items[end]) < order(items[end-1]) {
			text = "-" + text[1:]
		}
		text = base64.StdEncoding.EncodeToString([]byte(text))
		next = &text
	}
	return append([]T{}, items[start:end]...), next, nil
}

func itself(name string) string { return name }
