package iotsql

import (
	"strings"
	"testing"
)

func TestSubstitutionTemplates(t *testing.T) {
	s := mustParse(t, `SELECT color AS alias FROM 'things/#'`)
	for _, tt := range []struct{ field, want string }{
		{"plain", "plain"}, {"", ""}, {"${topic()}/republish", "things/myThings/thingOne/republish"},
		{"device/${device_id}", "device/"}, {"${color}-${encode(color, 'base64')}", "red-cmVk"}, {"${alias}", ""}, {"${n}", ""},
		{"${1 + 2}", "3"}, {"${o}", `{"a":1}`}, {"${o.a}", "1"},
		{"${'}' + \"}\"}", "}}"}, {"$$aws/things/${topic(3)}", "$$aws/things/thingOne"}, {"$", "$"}, {"a}b", "a}b"},
		{"${ l }", "[1,2]"}, {"${color = 'red'}", "true"},
	} {
		tmpl, err := ParseTemplate(tt.field)
		if err != nil {
			t.Errorf("%s: %v", tt.field, err)
			continue
		}
		e := s.Begin(exampleMessage(`{"color":"red","n":null,"o":{"a":1},"l":[1,2]}`))
		if got := e.Expand(tmpl); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.field, got, tt.want)
		}
	}
	for field, want := range map[string]string{
		"${topic()": "has no }", "${}": "unexpected", "${nope()}": "nope", "${@w}": "its variables", "${a AS b}": "no alias",
		"${*}": "is an expression", "${'a}": "has no }", "${get_secret('a')}": "get_secret", "${x IN y}": "does not support IN",
	} {
		if _, err := ParseTemplate(field); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", field, err, want)
		}
	}
}
