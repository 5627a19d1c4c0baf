package iotsql

import (
	"testing"
)

// TestReferenceStatements runs the whole statements that the AWS IoT SQL
// reference shows with their output.
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
		{`SELECT (temperature - 32) * 5 / 9 AS celsius, upper(color) as my_color FROM 'topic/subtopic'`, color, `{"celsius":10,"my_color":"RED"}`},
		{`SELECT color AS rgb FROM 'topic/subtopic' WHERE temperature > 50`, `{"color":"red", "temperature":100}`, `{"rgb":"red"}`},
		{`SELECT * from 'iot/rules' WHERE get(get(get(mydata,"item2"),"0"),"my-key") = "myValue"`,
			`{"mydata":{"item2":{"0":{"my-key":"myValue"}}}}`, `{"mydata":{"item2":{"0":{"my-key":"myValue"}}}}`},
		{`SELECT {'latitude': get(lat_long, 0),'longitude':get(lat_long, 1)} as lat_long FROM 'topic/subtopic'`,
			`{"lat_long": [47.606,-122.332]}`, `{"lat_long":{"latitude":47.606,"longitude":-122.332}}`},
		{`SELECT [lat,long] as lat_long FROM 'topic/subtopic'`, `{"lat": 47.696, "long": -122.332}`, `{"lat_long":[47.696,-122.332]}`},
		{`SELECT CASE color WHEN 'green' THEN 'go' WHEN 'yellow' THEN 'caution' WHEN 'red' THEN 'stop'
			ELSE 'you are not at a stop light' END as instructions FROM 'topic/subtopic'`, `{"color":"yellow"}`, `{"instructions":"caution"}`},
		{`SELECT NULL AS n FROM 'topic/subtopic'`, `{}`, `{"n":null}`},
		{`SELECT decode(encoded_temp,"base64").temperature AS temp from 'topic/subtopic'`,
			`{"encoded_temp": "eyAidGVtcGVyYXR1cmUiOiAzMyB9Cg=="}`, `{"temp":33}`},
		{`SELECT decode(encode(*, 'base64'), 'base64') AS value FROM 'topic/subtopic' WHERE decode(encode(*, 'base64'), 'base64') > 50`,
			`80`, `{"value":80}`},
		{`SET @celsius = (fahrenheit - 32) * 5 / 9 SELECT @celsius AS celsius, humidity FROM 'device/data'`,
			`{"fahrenheit": 77, "humidity": 60}`, `{"celsius":25,"humidity":60}`},
	} {
		got, matched, err := mustParse(t, tt.sql).Eval(Message{Topic: "topic/subtopic", Payload: []byte(tt.payload)})
		if err != nil || !matched || string(got) != tt.want {
			t.Errorf("%s\non   %s\ngot  %s, %t, %v\nwant %s", tt.sql, tt.payload, got, matched, err, tt.want)
		}
	}
}

// TestFunctionExamples runs every example of the reference and of our facts that
// an expression alone shows; empty is Undefined.
func TestFunctionExamples(t *testing.T) {
	for _, tt := range []struct{ expr, want string }{
		{`abs(-5)`, `5`}, {`abs("-5.123")`, `5.123`}, {`abs(true)`, ``}, {`abs([1])`, ``}, {`abs(null)`, ``},
		{`accountid()`, `"123456789012"`},
		{`cast(true as Int)`, `1`}, {`cast(false as Decimal)`, `0`}, {`cast(10.0 as Decimal)`, `10`},
		{`cast("-1.2" as Decimal)`, `-1.2`}, {`cast("5E-12" as Decimal)`, `5E-12`}, {`cast("x" as Int)`, ``},
		{`cast(1.9 as Int)`, `1`}, {`cast("1.9" as Integer)`, `1`},
		{`cast(0 as Bool)`, `false`}, {`cast(7.5 as Boolean)`, `true`}, {`cast("TRUE" as Boolean)`, `true`}, {`cast("yes" as Bool)`, ``},
		{`cast([1,"a",null] as String)`, `"[1,\"a\",null]"`}, {`cast({"a":1} as Text)`, `"{\"a\":1}"`}, {`cast(null as String)`, ``},
		{`cast(true as Varchar)`, `"true"`}, {`cast(null as Int)`, ``}, {`cast([1] as Boolean)`, ``},
		{`ceil(1.2)`, `2`}, {`ceil(-1.2)`, `-1`}, {`floor(1.2)`, `1`}, {`floor(-1.2)`, `-2`}, {`floor("1.9")`, `1`},
		{`concat()`, ``}, {`concat(1)`, `"1"`}, {`concat([1, 2, 3], 4)`, `[1,2,3,4]`}, {`concat([1, 2, 3], "hello")`, `[1,2,3,"hello"]`},
		{`concat("con", "cat")`, `"concat"`}, {`concat(1, "hello")`, `"1hello"`}, {`concat("he","is","man")`, `"heisman"`},
		{`concat([1, 2, 3], "hello", [4, 5, 6])`, `[1,2,3,"hello",4,5,6]`}, {`concat("a", missing)`, ``}, {`concat("a", null)`, ``},
		{`decode("%", "base64")`, `null`}, {`decode("aGk=", "base64")`, `"hi"`}, {`decode(missing, "base64")`, ``},
		{`encode("hi", 'base64')`, `"aGk="`}, {`encode(12, 'base64')`, `"MTI="`}, {`encode(missing, 'base64')`, ``},
		{`endswith("cat","at")`, `true`}, {`endswith(123, 3)`, `true`}, {`endswith("cat", null)`, ``},
		{`startswith("ranger","ran")`, `true`}, {`startswith("ranger","x")`, `false`}, {`startswith(missing,"x")`, ``},
		{`get(["a", "b", "c"], 1)`, `"b"`}, {`get({"a":"b"}, "a")`, `"b"`}, {`get("abc", 1)`, `"b"`}, {`get(["a"], 1)`, ``},
		{`get(["a"], -1)`, ``}, {`get(["a", "b"], "1")`, `"b"`}, {`get({"1":"b"}, 1)`, ``}, {`get(5, 1)`, ``}, {`get("€uro", 0)`, `"€"`},
		{`get_or_default(missing, 7)`, `7`}, {`get_or_default(null, "d")`, `"d"`}, {`get_or_default(1, 7)`, `1`},
		{`indexof("abcd", "bc")`, `1`}, {`indexof("abcd", "x")`, `-1`}, {`indexof("€uro", "uro")`, `1`},
		{`isNull(5)`, `false`}, {`isNull(Null)`, `true`}, {`isNull(missing)`, `false`},
		{`isUndefined(5)`, `false`}, {`isUndefined(floor([1,2,3]))`, `true`}, {`isUndefined(null)`, `false`}, {`isUndefined(missing)`, `true`},
		{`length("hi")`, `2`}, {`length(false)`, `5`}, {`length(null)`, ``}, {`numbytes("hi")`, `2`}, {`numbytes("€")`, `3`},
		{`lower("HELLO")`, `"hello"`}, {`lower(["HELLO"])`, `"[\"hello\"]"`}, {`upper("hello")`, `"HELLO"`}, {`upper(["hello"])`, `"[\"HELLO\"]"`},
		{`Trim(" hi ")`, `"hi"`}, {`trim(null)`, ``},
		{`Nanvl(8, 3)`, `8`}, {`nanvl(missing, 3)`, `3`}, {`nanvl(null, 3)`, `3`}, {`nanvl("x", 3)`, `"x"`},
		{`newuuid()`, `"123a4567-b89c-12d3-e456-789012345000"`},
		{`regexp_matches("aaaa", "a{2,}")`, `true`}, {`regexp_matches("aaaa", "b")`, `false`}, {`regexp_matches("a", "(")`, ``}, {`regexp_matches(null, "a")`, ``},
		{`replace("abcd", "bc", "x")`, `"axd"`}, {`replace("abcdabcd", "b", "x")`, `"axcdaxcd"`},
		{`Round(1.2)`, `1`}, {`Round(1.5)`, `2`}, {`Round(1.7)`, `2`}, {`Round(-1.1)`, `-1`}, {`Round(-1.5)`, `-2`},
		{`substring("012345", 0)`, `"012345"`}, {`substring("012345", 2)`, `"2345"`}, {`substring("012345", 2.745)`, `"2345"`},
		{`substring(123, 2)`, `"3"`}, {`substring("012345", -1)`, `"012345"`}, {`substring(true, 1.2)`, `"rue"`},
		{`substring(false, -2.411E247)`, `"false"`}, {`substring("012345", 1, 3)`, `"12"`}, {`substring("012345", -50, 50)`, `"012345"`},
		{`substring("012345", 3, 1)`, `""`}, {`substring("012345", "x")`, ``}, {`substring("012345", 1e300)`, `""`},
		{`timestamp()`, `1481825251155`},
		{`topic()`, `"things/myThings/thingOne"`}, {`topic(1)`, `"things"`}, {`topic(3)`, `"thingOne"`}, {`topic(4)`, ``}, {`topic(0)`, ``}, {`topic("2")`, `"myThings"`}, {`topic(null)`, ``},
		{`traceid()`, `"12345678-1234-1234-1234-123456789012"`}, {`clientid()`, `"device-1"`}, {`sourceip()`, `"203.0.113.7"`},
		{`principal()`, `"ba67293af50bf2506f5f93469686da660c7c844e7b3950bfb16813e0d31e9373"`},
		// A wrong number of arguments is Undefined too.
		{`length()`, ``}, {`abs(1, 2)`, ``}, {`encode(1)`, ``}, {`get_or_default(1)`, ``}, {`topic(1, 2)`, ``},
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

// evalExpr gives the JSON of an expression on the message of the tests.
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

func mustParse(t *testing.T, sql string) *Statement {
	t.Helper()
	s, err := Parse(sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}
