package iotsql

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestReferenceStatements runs the statements whose output the AWS IoT SQL reference shows.
func TestReferenceStatements(t *testing.T) {
	const color = `{"color":"red", "temperature":50}`
	for _, tt := range []struct{ sql, payload, want string }{
		{`SELECT * FROM 'topic/subtopic'`, color, `{"color":"red","temperature":50}`},
		{`SELECT color FROM 'topic/subtopic'`, color, `{"color":"red"}`},
		{`SELECT color AS my_color FROM 'topic/subtopic'`, color, `{"my_color":"red"}`},
		{`SELECT color as my_color, temperature as fahrenheit FROM 'topic/subtopic'`, color, `{"my_color":"red","fahrenheit":50}`},
		{`SELECT *, 15 as speed FROM 'topic/subtopic'`, color, `{"color":"red","temperature":50,"speed":15}`},
		{`SELECT VALUE color FROM 'topic/subtopic'`, color, `"red"`},
		{`SELECT color.red as red_value FROM 'topic/subtopic'`, `{"color":{"red":255,"green":0,"blue":0}, "temperature":50}`, `{"red_value":255}`},
		{`SELECT (temperature - 32) * 5 / 9 AS celsius, color as my_color FROM 'topic/subtopic'`, color, `{"celsius":10,"my_color":"red"}`},
		{`SELECT color AS rgb FROM 'topic/subtopic' WHERE temperature > 50`, `{"color":"red", "temperature":100}`, `{"rgb":"red"}`},
		{`SELECT NULL AS n FROM 'topic/subtopic'`, `{}`, `{"n":null}`},
	} {
		got, matched, err := mustParse(t, tt.sql).Eval(Message{Topic: "topic/subtopic", Payload: []byte(tt.payload)})
		if err != nil || !matched || string(got) != sorted(tt.want) {
			t.Errorf("%s\non   %s\ngot  %s, %t, %v\nwant %s", tt.sql, tt.payload, got, matched, err, tt.want)
		}
	}
}

// TestFunctionExamples runs the examples of the reference, and more, that are a single expression.
// An empty result is Undefined.
func TestFunctionExamples(t *testing.T) {
	for _, tt := range []struct{ expr, want string }{
		{`accountid()`, `"123456789012"`},
		{`cast(true as Int)`, `1`}, {`cast(false as Integer)`, `0`}, {`cast(10.0 as Int)`, `10`}, {`cast("x" as Int)`, ``},
		{`cast(1.9 as Int)`, `1`}, {`cast("1.9" as Integer)`, `1`}, {`cast(-1.2 as Int)`, `-2`}, {`cast(null as Int)`, ``},
		{`encode("text", "base64")`, `"dGV4dA=="`}, {`encode(1.5, "base64")`, `"MS41"`}, {`encode(null, "base64")`, ``},
		{`endswith("cat","at")`, `true`}, {`endswith("cat","ca")`, `false`}, {`startswith("ranger","ran")`, `true`}, {`startswith(10, 1)`, `true`}, {`startswith(null, "a")`, ``},
		{`isNull(5)`, `false`}, {`isNull(Null)`, `true`}, {`isNull(missing)`, `false`},
		{`isUndefined(5)`, `false`}, {`isUndefined(cast(null as Int))`, `true`}, {`isUndefined(null)`, `false`}, {`isUndefined(missing)`, `true`},
		{`length("hi")`, `2`}, {`length("€uro")`, `4`}, {`length(false)`, `5`}, {`length(null)`, ``},
		{`newuuid()`, `"123a4567-b89c-12d3-e456-789012345000"`},
		{`timestamp()`, `1481825251155`},
		{`topic()`, `"things/myThings/thingOne"`}, {`topic(1)`, `"things"`}, {`topic(3)`, `"thingOne"`}, {`topic(4)`, ``}, {`topic(0)`, ``}, {`topic("2")`, `"myThings"`}, {`topic(null)`, ``},
		{`traceid()`, `"12345678-1234-1234-1234-123456789012"`}, {`clientid()`, `"device-1"`}, {`sourceip()`, `"203.0.113.7"`},
		{`principal()`, `"ba67293af50bf2506f5f93469686da660c7c844e7b3950bfb16813e0d31e9373"`},
		// A wrong number of arguments is Undefined too.
		{`length()`, ``}, {`isNull(1, 2)`, ``}, {`encode(1)`, ``}, {`topic(1, 2)`, ``},
	} {
		if got := evalExpr(t, tt.expr, `{}`); got != tt.want {
			t.Errorf("%s = %s, want %s", tt.expr, orUndefined(got), orUndefined(tt.want))
		}
	}
}

func orUndefined(s string) string {
	if s == "" {
		return "Undefined"
	}
	return s
}

// evalExpr returns the JSON of an expression on exampleMessage.
func evalExpr(t *testing.T, expr, payload string) string {
	t.Helper()
	return evalOn(t, "SELECT VALUE "+expr+" FROM 'things/#'", exampleMessage(payload))
}

func evalOn(t *testing.T, sql string, m Message) string {
	t.Helper()
	out, matched, err := mustParse(t, sql).Eval(m)
	if err != nil || !matched {
		t.Fatalf("%s: matched %t, error %v", sql, matched, err)
	}
	return string(out)
}

// sorted returns a JSON document with its keys in order, and other text unchanged.
func sorted(text string) string {
	var v map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	for key, inner := range v {
		v[key] = json.RawMessage(sorted(string(inner)))
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(v)
	return strings.TrimSpace(b.String())
}

func mustParse(t *testing.T, sql string) *Statement {
	t.Helper()
	s, err := Parse(sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}
