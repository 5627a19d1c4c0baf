package iotsql

import (
	"strings"
	"testing"
)

// TestErrorsNameTheUnsupportedPart pairs statements with a part of their error, "" if they are
// legal.
func TestErrorsNameTheUnsupportedPart(t *testing.T) {
	for _, tt := range []struct{ sql, want string }{
		{`SELECT frobnicate(a) AS x FROM 't'`, "frobnicate"},
		{`SELECT a FROM 't' WHERE Frobnicate(a)`, "Frobnicate"},
		{`SET @x = 1 SELECT a FROM 't'`, "the local AWS does not support SET"},
		{`SELECT {"k": a} AS y FROM 't'`, "does not support objects"},
		{`SELECT length(aws_lambda("arn", *)) AS x FROM 't'`, "function aws_lambda: the local AWS does not support it"},
		{`SELECT get_dynamodb("t","k","v","r") AS x FROM 't'`, "function get_dynamodb: the local AWS"},
		{`SELECT get_secret("s","SecretString","r") AS x FROM 't'`, "function get_secret: the local AWS"},
		{`SELECT Get_Thing_Shadow("t","r") AS x FROM 't'`, "function get_thing_shadow: the local AWS"},
		{`SELECT machinelearning_predict("m","r",a) AS x FROM 't'`, "function machinelearning_predict: the local AWS"},
		{`SELECT get_or_default(a, 0) AS x FROM 't'`, "a payload that is not JSON"},
		{`SELECT get_mqtt_property('content_type') AS x FROM 't'`, "get_mqtt_property"},
		{`SELECT get_user_properties('k') AS x FROM 't'`, "get_user_properties"},
		{`SELECT bitnot(13) AS x FROM 't'`, "bitnot"},
		{`SELECT md2('a') AS x FROM 't'`, "md2"},
		{`SELECT a FROM 't' WHERE a LIKE 'x%'`, "LIKE"},
		{`SELECT a FROM 't' WHERE a BETWEEN 1 AND 2`, "BETWEEN"},
		{`SELECT a FROM 't' GROUP BY a`, "GROUP BY"},
		{`SELECT a FROM 't' WHERE a = 1 ORDER BY a`, "ORDER BY"},
		{`SELECT a FROM 't' JOIN 'u'`, "JOIN"},
		{`SELECT a FROM 't' LIMIT 1`, "LIMIT"},
		{`SELECT DISTINCT a FROM 't'`, "DISTINCT"},
		{`SELECT a FROM 't' WHERE a IS NULL`, "isNull"},
		{`SELECT a FROM 't' WHERE a != 1`, "<>"},
		{`SELECT a[0] AS x FROM 't'`, "does not support arrays"},
		{`SELECT [a, b] AS x FROM 't'`, "does not support arrays"},
		{`SELECT a % 2 AS x FROM 't'`, "does not support %"},
		{`SELECT a FROM 't' -- comment`, "comments"},
		{`SELECT /* c */ a FROM 't'`, "comments"},
		{`SELECT CASE WHEN a = 1 THEN 2 END AS x FROM 't'`, "the local AWS does not support CASE"},
		{`SELECT CASE a WHEN 1 THEN 2 END AS x FROM 't'`, "the local AWS does not support CASE"},
		{`SELECT ${a} AS x FROM 't'`, "substitution template"},
		{`SELECT a FROM 't';`, "no end mark"},
		{`SELECT a FROM 't`, "the string has no end"},
		{`SELECT a`, ``},
		{`SELECT a FROM "t"`, "single quotes"},
		{`SELECT a FROM t`, "single quotes"},
		{`SELECT a FROM topic/#`, `"#"`},
		{`SELECT a FROM 't' + 'u'`, "single quotes"},
		{`SELECT a FROM ''`, "FROM ''"},
		{`SELECT a FROM 'a/#/b'`, "# alone in the last level"},
		{`SELECT a FROM 'a/b+'`, "+ alone in a level"},
		{`SELECT a FROM '$aws/rules/r/x'`, "Basic Ingest"},
		{`SELECT a FROM '1/2/3/4/5/6/7/8/9'`, "at most 7 slashes"},
		{`SELECT a FROM '` + strings.Repeat("x", 257) + `'`, "1 to 256 bytes"},
		{`SELECT topic() FROM 't'`, "no AS"},
		{`SELECT @v FROM 't'`, "its variables"},
		{`SELECT @v AS v FROM 't'`, "its variables"},
		{`SELECT encode(a, 'base64').v FROM 't'`, "no AS"},
		{`SELECT foo.bar AS bar.baz FROM 't'`, "bar.baz"},
		{`SELECT * AS x FROM 't'`, "does not nest the message"},
		{`SELECT a.* AS x FROM 't'`, "keys of an object"},
		{`SELECT a.*, b FROM 't'`, "keys of an object"},
		{`SELECT VALUE a.* FROM 't'`, "keys of an object"},
		{`SELECT encode(a.*, 'base64') AS x FROM 't'`, "keys of an object"},
		{`SELECT length(a.*) AS x FROM 't'`, "keys of an object"},
		{`SELECT a FROM 't' WHERE a.* = 1`, "keys of an object"},
		{`SELECT *.a FROM 't'`, `"."`},
		{`SELECT VALUE a AS x FROM 't'`, "SELECT VALUE"},
		{`SELECT VALUE a, b FROM 't'`, `","`},
		{`SELECT a AS 'x' FROM 't'`, `"'x'"`},
		{`SELECT a IN b AS x FROM 't'`, "the local AWS does not support IN"},
		{`SELECT EXISTS (SELECT a FROM b) AS x FROM 't'`, "the local AWS does not support EXISTS"},
		{`SELECT a FROM 't' WHERE a IN ('x','y')`, "the local AWS does not support IN"},
		{`SELECT a FROM 't' WHERE a = b = c`, `"="`},
		{`SELECT a FROM 't' WHERE EXISTS (SELECT * FROM e WHERE v > 5)`, "the local AWS does not support EXISTS"},
		{`SELECT (SELECT a) AS x FROM 't'`, "the local AWS does not support nested SELECT"},
		{`SELECT length((SELECT v FROM e WHERE n = 'x')) AS x FROM 't'`, "the local AWS does not support nested SELECT"},
		{`SELECT a FROM 't' WHERE`, "unexpected end"},
		{`SELECT FROM 't'`, `"FROM"`},
		{`a FROM 't'`, `"a"`},
		{``, "unexpected end"},
		{`UPDATE t`, `"UPDATE"`},
		{`SELECT a.0 AS x FROM 't'`, `"0"`},
		{`SELECT {a:1} AS x FROM 't'`, "does not support objects"},
		{`SELECT -a AS x FROM 't'`, `"a"`},
		{`SELECT 1E1000 AS x FROM 't'`, "1E1000"},
		{`SELECT length(*) AS x FROM 't'`, "length: *"},
		{`SELECT encode(a, *) AS x FROM 't'`, "encode: *"},
		{`SELECT length(a AS Int) AS x FROM 't'`, "AS Int is for cast"},
		{`SELECT cast(a) AS x FROM 't'`, "cast(value AS type)"},
		{`SELECT cast(a AS Blob) AS x FROM 't'`, "AS blob"},
		{`SELECT cast(a AS String) AS x FROM 't'`, "casts to Int only"},
		{`SELECT encode(a, 'hex') AS x FROM 't'`, "'hex'"},
		{`SELECT encode(a, scheme) AS x FROM 't'`, "literal"},
		{`SELECT encode(a, 'proto') AS x FROM 't'`, "proto"},
		{`SELECT encode(a, 'cbor') AS x FROM 't'`, "'cbor'"},
		{`SELECT decode(a, 'base64') AS x FROM 't'`, "function decode: the local AWS does not support it"},
		{`SELECT my field AS x FROM 't'`, `"field"`},
		{`SELECT regexp_matches(a, 'x') AS x FROM 't'`, "function regexp_matches: the local AWS does not support it"},
		{`SELECT get_registry_data("DescribeThing", a, "r") AS x FROM 't'`, "function get_registry_data: the local AWS does not support it"},
		{`SET @a = 1, @b = 2 SELECT a FROM 't'`, "the local AWS does not support SET"},
		{`SELECT ` + strings.Repeat("(", 101) + `1` + strings.Repeat(")", 101) + ` AS x FROM 't'`, "deeper than 100"},
		{`SELECT '` + strings.Repeat("x", 128<<10) + `' AS x FROM 't'`, "131072"},
	} {
		if tt.want == "" {
			if _, err := Parse(tt.sql); err != nil {
				t.Errorf("%s: %v, want it legal", tt.sql, err)
			}
			continue
		}
		_, err := Parse(tt.sql)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "parse AWS IoT SQL: ") {
			t.Errorf("%.120s\ngot  %v\nwant %s", tt.sql, err, tt.want)
		}
	}
}

// TestEveryFunctionOfAWSIsKnown checks that each function of AWS's reference either runs or is
// refused as unsupported, not as unknown.
func TestEveryFunctionOfAWSIsKnown(t *testing.T) {
	for _, fn := range strings.Fields("abs accountid acos asin atan atan2 aws_lambda bitand bitor bitxor bitnot cast ceil chr clientid concat cos cosh decode encode " +
		"endswith exp floor get get_dynamodb get_mqtt_property get_or_default get_registry_data get_secret get_thing_shadow get_user_properties indexof isNull " +
		"isUndefined length ln log lower lpad ltrim machinelearning_predict mod nanvl newuuid numbytes parse_time power principal rand regexp_matches " +
		"regexp_replace regexp_substr remainder replace round rpad rtrim sign sin sinh sourceip sqrt startswith substring sql_version tan tanh time_to_epoch " +
		"timestamp topic traceid transform trim trunc upper md2 md5 sha1 sha224 sha256 sha384 sha512") {
		_, runs := functions[strings.ToLower(fn)]
		_, err := Parse("SELECT " + fn + "('a', 'base64', 'x') AS x FROM 't'")
		if want := "function " + fn + ": the local AWS does not support it"; !runs && fn != "cast" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", fn, err, want)
		}
	}
}

// TestErrorsSayWhere compares whole error texts.
func TestErrorsSayWhere(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT a\nFROM 't' WHERE a LIKE 'x'":            `parse AWS IoT SQL: line 2 column 18: unexpected "LIKE": AWS IoT SQL has no LIKE; use startswith or endswith`,
		"SELECT a FROM 't' WHERE nope(a)":                `parse AWS IoT SQL: WHERE: line 1 column 25: function nope: AWS IoT SQL 2016-03-23 has no such function`,
		"SELECT a FROM 't' WHERE a =":                    `parse AWS IoT SQL: line 1 column 28: unexpected end`,
		"SELECT 1 AS one, get_secret('a') AS b FROM 't'": `parse AWS IoT SQL: SELECT item 2: line 1 column 18: function get_secret: the local AWS does not support it, it calls an external service`,
		"SELECT (a AS x FROM 't'":                        `parse AWS IoT SQL: line 1 column 11: unexpected "AS": want ")"`,
	} {
		if _, err := Parse(sql); err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", sql, err, want)
		}
	}
}
