package iotcore

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Timestamp is a time that travels as seconds since 1970 with a fraction, the
// form of timestamps in this protocol.
type Timestamp time.Time

// MarshalJSON writes milliseconds as the fraction.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Time(t).UnixMilli())/1000, 'f', 3, 64), nil
}

// bind fills the fields of an operation's input from where their tags say:
// uri, query and header hold strings; payload is the whole body, raw or as JSON;
// what has a json tag is a member of the JSON body. A parameter that the input
// has no field for is refused by name.
func bind(r *http.Request, uri map[string]string, body []byte, into any) error {
	known := map[string]bool{}
	v := reflect.ValueOf(into).Elem()
	if payload, kind := payloadField(v); payload.IsValid() {
		if kind == "raw" {
			payload.SetBytes(body)
		} else if err := strictJSON(body, payload.Addr().Interface()); err != nil {
			return err
		}
	} else if len(bytes.TrimSpace(body)) > 0 {
		if err := strictJSON(body, into); err != nil {
			return err
		}
	}
	query := r.URL.Query()
	if err := bindStrings(v, uri, query, r.Header, known); err != nil {
		return err
	}
	for name := range query {
		if !known[name] {
			return errUnknownHere.new("the parameter %q is not known to the local AWS IoT", name)
		}
	}
	return nil
}

func payloadField(v reflect.Value) (reflect.Value, string) {
	for i := range v.NumField() {
		if kind := v.Type().Field(i).Tag.Get("payload"); kind != "" {
			return v.Field(i), kind
		}
	}
	return reflect.Value{}, ""
}

func bindStrings(v reflect.Value, uri map[string]string, query url.Values, header http.Header, known map[string]bool) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			if err := bindStrings(v.Field(i), uri, query, header, known); err != nil {
				return err
			}
			continue
		}
		name, text := "", ""
		if tag := f.Tag.Get("uri"); tag != "" {
			name, text = tag, uri[tag]
		} else if tag := f.Tag.Get("query"); tag != "" {
			name, text = tag, query.Get(tag)
			known[tag] = true
		} else if tag := f.Tag.Get("header"); tag != "" {
			name, text = tag, header.Get(tag)
		}
		if text == "" {
			continue
		}
		if err := setText(v.Field(i), text); err != nil {
			return errInvalidRequest.new("%s is %q: %v", name, text, err)
		}
	}
	return nil
}

func setText(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return setText(v.Elem(), text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		v.SetBool(b)
		return err
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		v.SetInt(n)
		return err
	default:
		v.SetString(text)
		return nil
	}
}

// strictJSON names a member that is not known, instead of dropping it.
func strictJSON(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, tail := d.Token(); !errors.Is(tail, io.EOF) {
			return errInvalidRequest.new("the request has text after its JSON body")
		}
		return nil
	}
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return errUnknownHere.new("the parameter %s is not known to the local AWS IoT", name)
	}
	return errInvalidRequest.new("the request body is no valid JSON for this operation: %v", err)
}
