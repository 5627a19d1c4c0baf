package iotsql

import (
	"testing"
)

// TestReferenceStatements runs the whole statements that the AWS IoT SQL
// reference shows with their output.
func TestReferenceStatements(t *testing.T) {
	const color = `{"color":"red", "temperature":50}`
	const sensors = `{"e": [
		{ "n": "temperature", "u": "Cel", "t": 1234, "v": 22.5 },
		{ "n": "light", "u": "lm", "t": 1235, "v": 135 },
		{ "n": "acidity", "u": "pH", "t": 1235, "v": 7 }]}`
	const enrich = `{"attributes": {"data1": 1, "data2": 2}, "values": [{"a": 3}, {"b": 4}, {"c": 5}]}`
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
		{`SELECT temp, md5(deviceid) AS hashed_id FROM 'topic/#'`, `{"deviceid":"iot123","temp":54.98,"humidity":32.43}`,
			`{"temp":54.98,"hashed_id":"e37f81fb397e595c4aeb5645b8cbbbd1"}`},
		{`SELECT {'latitude': get(lat_long, 0),'longitude':get(lat_long, 1)} as lat_long FROM 'topic/subtopic'`,
			`{"lat_long": [47.606,-122.332]}`, `{"lat_long":{"latitude":47.606,"longitude":-122.332}}`},
		{`SELECT [lat,long] as lat_long FROM 'topic/subtopic'`, `{"lat": 47.696, "long": -122.332}`, `{"lat_long":[47.696,-122.332]}`},
		{`SELECT CASE color WHEN 'green' THEN 'go' WHEN 'yellow' THEN 'caution' WHEN 'red' THEN 'stop'
			ELSE 'you are not at a stop light' END as instructions FROM 'topic/subtopic'`, `{"color":"yellow"}`, `{"instructions":"caution"}`},
		{`SELECT (SELECT VALUE n FROM e) as sensors FROM 'my/topic'`, sensors, `{"sensors":["temperature","light","acidity"]}`},
		{`SELECT (SELECT v FROM e WHERE n = 'temperature') as temperature FROM 'my/topic'`, sensors, `{"temperature":[{"v":22.5}]}`},
		{`SELECT get((SELECT v FROM e WHERE n = 'temperature'), 0).v as temperature FROM 'topic'`, sensors, `{"temperature":22.5}`},
		{`SELECT NULL AS n FROM 'topic/subtopic'`, `{}`, `{"n":null}`},
		{`SELECT decode(encoded_temp,"base64").temperature AS temp from 'topic/subtopic'`,
			`{"encoded_temp": "eyAidGVtcGVyYXR1cmUiOiAzMyB9Cg=="}`, `{"temp":33}`},
		{`SELECT decode(encode(*, 'base64'), 'base64') AS value FROM 'topic/subtopic' WHERE decode(encode(*, 'base64'), 'base64') > 50`,
			`80`, `{"value":80}`},
		{`select value transform("enrichArray", attributes, values) from 'A/B'`, enrich,
			`[{"a":3,"data1":1,"data2":2},{"b":4,"data1":1,"data2":2},{"c":5,"data1":1,"data2":2}]`},
		{`select value transform("enrichArray", {"key": attributes.data1}, values) from 'A/B'`, enrich,
			`[{"a":3,"key":1},{"b":4,"key":1},{"c":5,"key":1}]`},
		{`select value transform('enrichArray', (select a, b from data2), (select value c from data2)) from 'A/B'`,
			`{"data1":"example","data2":{"a":"first attribute","b":"second attribute",
				"c":[{"x":{"someInt":5,"someString":"hello"},"y":true},{"x":{"someInt":10,"someString":"world"},"y":false}]}}`,
			`[{"x":{"someInt":5,"someString":"hello"},"y":true,"a":"first attribute","b":"second attribute"},` +
				`{"x":{"someInt":10,"someString":"world"},"y":false,"a":"first attribute","b":"second attribute"}]`},
		{`SELECT parse_time("yyyy.MM.dd G 'at' HH:mm:ss z", 100000000, 'America/Belize' ) as ts FROM 'A/B'`, `{}`,
			`{"ts":"1970.01.01 AD at 21:46:40 CST"}`},
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
		{`acos(0)`, `1.5707963267948966`}, {`acos(2)`, ``}, {`asin(0)`, `0`}, {`atan(0)`, `0`},
		{`atan2(1, 0)`, `1.5707963267948966`}, {`cos(0)`, `1`}, {`cosh(2.3)`, `5.037220649268761`},
		{`sin(0)`, `0`}, {`sinh(2.3)`, `4.936961805545957`}, {`tan(3)`, `-0.1425465430742778`}, {`tanh(2.3)`, `0.9800963962661914`},
		{`bitand(13, 5)`, `5`}, {`bitor(8, 5)`, `13`}, {`bitxor(13, 5)`, `8`}, {`bitand("13", 5.9)`, `5`},
		{`cast(true as Int)`, `1`}, {`cast(false as Decimal)`, `0`}, {`cast(10.0 as Decimal)`, `10`},
		{`cast("-1.2" as Decimal)`, `-1.2`}, {`cast("5E-12" as Decimal)`, `5E-12`}, {`cast("x" as Int)`, ``},
		{`cast(1.9 as Int)`, `1`}, {`cast("1.9" as Integer)`, `1`}, {`cast(1 as Double)`, `1`},
		{`cast(0 as Bool)`, `false`}, {`cast(7.5 as Boolean)`, `true`}, {`cast("TRUE" as Boolean)`, `true`}, {`cast("yes" as Bool)`, ``},
		{`cast([1,"a",null] as String)`, `"[1,\"a\",null]"`}, {`cast({"a":1} as Text)`, `"{\"a\":1}"`}, {`cast(null as String)`, ``},
		{`cast(true as Varchar)`, `"true"`}, {`cast(null as Int)`, ``}, {`cast([1] as Boolean)`, ``},
		{`ceil(1.2)`, `2`}, {`ceil(-1.2)`, `-1`}, {`floor(1.2)`, `1`}, {`floor(-1.2)`, `-2`}, {`floor("1.9")`, `1`},
		{`chr(65)`, `"A"`}, {`chr(49)`, `"1"`}, {`chr(128)`, ``}, {`chr(-1)`, ``},
		{`concat()`, ``}, {`concat(1)`, `"1"`}, {`concat([1, 2, 3], 4)`, `[1,2,3,4]`}, {`concat([1, 2, 3], "hello")`, `[1,2,3,"hello"]`},
		{`concat("con", "cat")`, `"concat"`}, {`concat(1, "hello")`, `"1hello"`}, {`concat("he","is","man")`, `"heisman"`},
		{`concat([1, 2, 3], "hello", [4, 5, 6])`, `[1,2,3,"hello",4,5,6]`}, {`concat("a", missing)`, ``}, {`concat("a", null)`, ``},
		{`decode("%", "base64")`, `null`}, {`decode("aGk=", "base64")`, `"hi"`}, {`decode(missing, "base64")`, ``},
		{`encode("hi", 'base64')`, `"aGk="`}, {`encode(12, 'base64')`, `"MTI="`}, {`encode(missing, 'base64')`, ``},
		{`endswith("cat","at")`, `true`}, {`endswith(123, 3)`, `true`}, {`endswith("cat", null)`, ``},
		{`startswith("ranger","ran")`, `true`}, {`startswith("ranger","x")`, `false`}, {`startswith(missing,"x")`, ``},
		{`exp(1)`, `2.718281828459045`}, {`ln(2.718281828459045)`, `1`}, {`log(100)`, `2`}, {`ln(-1)`, ``}, {`ln(0)`, ``},
		{`get(["a", "b", "c"], 1)`, `"b"`}, {`get({"a":"b"}, "a")`, `"b"`}, {`get("abc", 1)`, `"b"`}, {`get(["a"], 1)`, ``},
		{`get(["a"], -1)`, ``}, {`get(["a", "b"], "1")`, `"b"`}, {`get({"1":"b"}, 1)`, ``}, {`get(5, 1)`, ``}, {`get("€uro", 0)`, `"€"`},
		{`get_or_default(missing, 7)`, `7`}, {`get_or_default(null, "d")`, `"d"`}, {`get_or_default(1, 7)`, `1`},
		{`md5("hello")`, `"5d41402abc4b2a76b9719d911017c592"`},
		{`sha1("hello")`, `"aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"`},
		{`sha224("hello")`, `"ea09ae9cc6768c50fcee903ed054556e5bfc8347907f12598aa24193"`},
		{`sha256("hello")`, `"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"`},
		{`length(sha384("hello"))`, `96`}, {`length(sha512("hello"))`, `128`}, {`md5(null)`, ``},
		{`indexof("abcd", "bc")`, `1`}, {`indexof("abcd", "x")`, `-1`}, {`indexof("€uro", "uro")`, `1`},
		{`isNull(5)`, `false`}, {`isNull(Null)`, `true`}, {`isNull(missing)`, `false`},
		{`isUndefined(5)`, `false`}, {`isUndefined(floor([1,2,3]))`, `true`}, {`isUndefined(null)`, `false`}, {`isUndefined(missing)`, `true`},
		{`length("hi")`, `2`}, {`length(false)`, `5`}, {`length(null)`, ``}, {`numbytes("hi")`, `2`}, {`numbytes("€")`, `3`},
		{`lower("HELLO")`, `"hello"`}, {`lower(["HELLO"])`, `"[\"hello\"]"`}, {`upper("hello")`, `"HELLO"`}, {`upper(["hello"])`, `"[\"HELLO\"]"`},
		{`lpad("hello", 2)`, `"  hello"`}, {`lpad(1, 3)`, `"   1"`}, {`rpad("hello", 2)`, `"hello  "`}, {`rpad(1, 3)`, `"1   "`},
		{`length(lpad("", 5000))`, `1000`}, {`lpad("a", -3)`, `"a"`}, {`lpad("a", "x")`, ``},
		{`Ltrim(" h i ")`, `"h i "`}, {`rtrim(" h i ")`, `" h i"`}, {`Trim(" hi ")`, `"hi"`}, {`trim(null)`, ``},
		{`mod(8, 3)`, `2`}, {`remainder(8, 3)`, `2`}, {`mod("8", 3)`, `2`}, {`mod(8, 0)`, ``},
		{`Nanvl(8, 3)`, `8`}, {`nanvl(missing, 3)`, `3`}, {`nanvl(null, 3)`, `3`}, {`nanvl("x", 3)`, `"x"`},
		{`newuuid()`, `"123a4567-b89c-12d3-e456-789012345000"`}, {`rand()`, `0.8231909191640703`},
		{`power(2, 5)`, `32`}, {`power("2", "5")`, `32`}, {`power(-1, 0.5)`, ``}, {`power(10, 999)`, ``},
		{`regexp_matches("aaaa", "a{2,}")`, `true`}, {`regexp_matches("aaaa", "b")`, `false`}, {`regexp_matches("a", "(")`, ``}, {`regexp_matches(null, "a")`, ``},
		{`regexp_replace("abcd", "bc", "x")`, `"axd"`}, {`regexp_replace("abcd", "b(.*)d", "$1")`, `"ac"`},
		{`regexp_replace("abcd", "b(.*)d", "$12")`, `"ac2"`}, {`regexp_replace("abcd", "b", "$9")`, ``}, {`regexp_replace("abcd", "b", "\$")`, `"a$cd"`},
		{`regexp_replace("abcd", "b", "$")`, ``}, {`regexp_replace("abcd", "(?P<x>b)", "${x}${x}")`, `"abbcd"`},
		{`regexp_substr("hihihello", "hi")`, `"hi"`}, {`regexp_substr("hihihello", "(hi)*")`, `"hihi"`}, {`regexp_substr("hihi", "x")`, ``},
		{`replace("abcd", "bc", "x")`, `"axd"`}, {`replace("abcdabcd", "b", "x")`, `"axcdaxcd"`},
		{`Round(1.2)`, `1`}, {`Round(1.5)`, `2`}, {`Round(1.7)`, `2`}, {`Round(-1.1)`, `-1`}, {`Round(-1.5)`, `-2`},
		{`sign(-7)`, `-1`}, {`sign(0)`, `0`}, {`sign(13)`, `1`},
		{`substring("012345", 0)`, `"012345"`}, {`substring("012345", 2)`, `"2345"`}, {`substring("012345", 2.745)`, `"2345"`},
		{`substring(123, 2)`, `"3"`}, {`substring("012345", -1)`, `"012345"`}, {`substring(true, 1.2)`, `"rue"`},
		{`substring(false, -2.411E247)`, `"false"`}, {`substring("012345", 1, 3)`, `"12"`}, {`substring("012345", -50, 50)`, `"012345"`},
		{`substring("012345", 3, 1)`, `""`}, {`substring("012345", "x")`, ``}, {`substring("012345", 1e300)`, `""`},
		{`sql_version()`, `"2016-03-23"`}, {`sqrt(9)`, `3`}, {`sqrt(-9)`, ``}, {`sqrt(2)`, `1.4142135623730951`},
		{`time_to_epoch("2020-04-03 09:45:18 UTC+01:00", "yyyy-MM-dd HH:mm:ss VV")`, `1585903518000`},
		{`time_to_epoch("18 December 2015", "dd MMMM yyyy")`, `1450396800000`},
		{`time_to_epoch("2007-12-03 10:15:30.592 America/Los_Angeles", "yyyy-MM-dd HH:mm:ss.SSS z")`, `1196705730592`},
		{`timestamp()`, `1481825251155`},
		{`parse_time("yyyy.MM.dd G 'at' HH:mm:ss z", timestamp())`, `"2016.12.15 AD at 18:07:31 UTC"`},
		{`topic()`, `"things/myThings/thingOne"`}, {`topic(1)`, `"things"`}, {`topic(3)`, `"thingOne"`}, {`topic(4)`, ``}, {`topic(0)`, ``}, {`topic("2")`, `"myThings"`}, {`topic(null)`, ``},
		{`traceid()`, `"12345678-1234-1234-1234-123456789012"`}, {`clientid()`, `"device-1"`}, {`sourceip()`, `"203.0.113.7"`},
		{`principal()`, `"ba67293af50bf2506f5f93469686da660c7c844e7b3950bfb16813e0d31e9373"`},
		{`trunc(2.3, 0)`, `2`}, {`trunc(2.3123, 2)`, `2.31`}, {`trunc(2.888, 2)`, `2.88`}, {`trunc(2.00, 5)`, `2`}, {`trunc(7, 3)`, `7`}, {`trunc(-2.889, -4)`, `-2`}, {`trunc("2.888", 1)`, `2.8`},
		// A wrong number of arguments is Undefined too.
		{`length()`, ``}, {`abs(1, 2)`, ``}, {`encode(1)`, ``}, {`get_or_default(1)`, ``}, {`topic(1, 2)`, ``},
		{`transform("other", {}, [])`, ``}, {`transform("enrichArray", {}, [1])`, ``}, {`transform("enrichArray", 1, [])`, ``},
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
