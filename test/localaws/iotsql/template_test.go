package iotsql

import (
	"strings"
	"testing"
)

func TestSubstitutionTemplates(t *testing.T) {
	s := mustParse(t, `SET @v = upper(color) SELECT color AS alias FROM 'things/#'`)
	for _, tt := range []struct{ field, want string }{
		{"plain", "plain"}, {"", ""}, {"${topic()}/republish", "things/myThings/thingOne/republish"},
		{"device/${device_id}", "device/"}, {"${color}-${@v}", "red-RED"}, {"${alias}", ""}, {"${n}", ""},
		{"${parse_time('yyyy', timestamp(), 'UTC')}", "2016"}, {"${1 + 2}", "3"}, {"${o}", `{"a":1}`}, {"${o.a}", "1"},
		{"${get({'a}': '}'}, \"a}\")}", "}"}, {"$$aws/things/${topic(3)}", "$$aws/things/thingOne"}, {"$", "$"}, {"a}b", "a}b"},
		{"${ [1, 2] }", "[1,2]"}, {"${CASE color WHEN 'red' THEN 'stop' END}", "stop"},
	} {
		tmpl, err := s.ParseTemplate(tt.field)
		if err != nil {
			t.Errorf("%s: %v", tt.field, err)
			continue
		}
		e, err := s.Begin(exampleMessage(`{"color":"red","n":null,"o":{"a":1}}`))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.Expand(tmpl); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v, want %q", tt.field, got, err, tt.want)
		}
	}
	for field, want := range map[string]string{
		"${topic()": "has no }", "${}": "unexpected", "${nope()}": "nope", "${@w}": "@w", "${a AS b}": "no alias",
		"${*}": "is an expression", "${'a}": "has no }", "${get_secret('a')}": "get_secret", "${x IN y}": "IN outside of WHERE",
	} {
		if _, err := s.ParseTemplate(field); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", field, err, want)
		}
	}
	tmpl, err := s.ParseTemplate("${rand()}")
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Begin(Message{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Expand(tmpl); err == nil {
		t.Error("a template that fails gave no error")
	}
}
