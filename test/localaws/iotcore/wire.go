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

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/go-viper/mapstructure/v2"
)

// member is a member of an operation's input.
type member struct {
	name string // of the member
	in   string // path, query, header, payload or body
	wire string // its name in a query or header
	raw  bool   // the payload is bytes, not JSON
}

// members parses a list of members. It panics if the input has no such member.
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
		m.raw = f.Type == reflect.TypeFor[[]byte]()
		all = append(all, m)
	}
	return all
}

func exported(member string) string { return strings.ToUpper(member[:1]) + member[1:] }

// bind reads an input from a request. It refuses a parameter that the operation does not read.
func bind(r *http.Request, body []byte, reads []member, input reflect.Value) error {
	document := map[string]any{}
	wholeBody := slices.ContainsFunc(reads, func(m member) bool { return m.in == "payload" })
	if len(bytes.TrimSpace(body)) > 0 && !wholeBody {
		var err error
		if document, err = decodeObject(body); err != nil {
			return err
		}
	}
	query := r.URL.Query()
	given := map[string]any{}
	for _, m := range reads {
		var err error
		switch m.in {
		case "path":
			given[m.name] = text(r.PathValue(m.name))
		case "query":
			given[m.name] = text(query.Get(m.wire))
			query.Del(m.wire)
		case "header":
			given[m.name] = text(r.Header.Get(m.wire))
		case "payload":
			if given[m.name] = body; !m.raw {
				given[m.name], err = decodeObject(body)
			}
		case "body":
			given[m.name] = document[m.name]
			delete(document, m.name)
		}
		if err != nil {
			return err
		}
		if given[m.name] == text("") {
			delete(given, m.name)
		}
	}
	for name := range query {
		return errUnknownHere.new("the parameter %q is not supported by the local AWS IoT", name)
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-Mqtt5-") {
			return errUnknownHere.new("the properties of MQTT 5 (%s) are not supported by the local AWS IoT", name)
		}
	}
	for name := range document {
		return errUnknownHere.new("the parameter %q is not supported by the local AWS IoT", name)
	}
	return fill(input, given)
}

// text is a value from a path, query or header.
type text string

// fill sets the members of a type of AWS's SDK from JSON values and texts.
func fill(input reflect.Value, given map[string]any) error {
	var found mapstructure.Metadata
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: input.Addr().Interface(), Metadata: &found, Squash: true, DecodeHook: convert,
		MatchName: func(key, field string) bool { return key != "" && exported(key) == field },
	})
	if err == nil {
		err = d.Decode(given)
	}
	if err != nil {
		return errInvalidRequest.new("the request is not valid JSON for this operation: %v", err)
	}
	for _, name := range found.Unused {
		return errUnknownHere.new("the parameter %q is not supported by the local AWS IoT", name)
	}
	return nil
}

// convert converts a value to its type in the SDK. It does not change a value of a wrong type, which
// the decoder then refuses.
func convert(_, to reflect.Type, value any) (any, error) {
	isTime := to == reflect.TypeFor[time.Time]()
	switch v := value.(type) {
	case text:
		switch kind := to.Kind(); {
		case kind == reflect.Bool:
			return strconv.ParseBool(string(v))
		case kind == reflect.Int32, kind == reflect.Int64:
			return json.Number(v), nil
		case isTime:
			return time.Parse(time.RFC3339, string(v))
		case kind == reflect.String:
			return string(v), nil
		}
	case string:
		if to == reflect.TypeFor[[]byte]() {
			return base64.StdEncoding.DecodeString(v)
		}
		if isTime {
			return nil, fmt.Errorf("%q is not a time in seconds since 1970", v)
		}
	case json.Number:
		if to.Kind() == reflect.String {
			return nil, fmt.Errorf("%s is not a string", v)
		}
		if isTime {
			seconds, err := v.Float64()
			if err != nil || math.Abs(seconds) > 1e11 {
				return nil, fmt.Errorf("%s is not a time, or not in seconds since 1970", v)
			}
			return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), nil
		}
	}
	return value, nil
}

func decodeObject(data []byte) (object map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&object); err != nil {
		return nil, errInvalidRequest.new("the request body is not valid JSON for this operation: %v", err)
	}
	if _, tail := d.Token(); !errors.Is(tail, io.EOF) {
		return nil, errInvalidRequest.new("the request has text after its JSON body")
	}
	return object, nil
}

// JSON converts a type of AWS's SDK to the answer of an operation. It leaves out members without a
// value, except v's own lists. Times are seconds since 1970, with milliseconds.
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

// wireName returns the name of a member in JSON. Only two types have members in upper camel case.
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

// DefaultPage is the default size of a page, and the largest one.
const DefaultPage = 250

// Page returns one page of items, and the token of the next page: the index of its first item.
func Page[T any](items []T, token *string, size *int32, standard int) (page []T, next *string, err error) {
	wanted, start := standard, 0
	if size != nil {
		wanted = int(*size)
	}
	if wanted < 1 || wanted > DefaultPage {
		return nil, nil, errInvalidRequest.new("The page size is %d, want 1 to %d", wanted, DefaultPage)
	}
	if token != nil {
		if start, err = strconv.Atoi(*token); err != nil || start < 0 || start > len(items) {
			return nil, nil, errInvalidRequest.new("nextToken or marker %q is not one that this service returned", *token)
		}
	}
	end := min(start+wanted, len(items))
	if end < len(items) {
		next = aws.String(strconv.Itoa(end))
	}
	return append([]T{}, items[start:end]...), next, nil
}
