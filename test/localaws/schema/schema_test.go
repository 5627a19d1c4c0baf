package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/defenderhub/defenderhub/test/localaws/schema"
)

var sample = schema.Object{
	"Name":     schema.Pattern(`[a-z]+|all`, 2, 5),
	"Mode":     schema.Required(schema.Enum("ON", "OFF")),
	"Size":     schema.Integer(1, 10),
	"Ratio":    schema.Number,
	"Active":   schema.Bool,
	"Role":     schema.ARN("iam"),
	"Names":    schema.Unique(schema.List(1, 2, schema.Any)),
	"Tags":     schema.Tags,
	"Policy":   schema.Document,
	"Nested":   schema.Map(schema.Object{"Deep": schema.Required(schema.Any)}),
	"Action":   schema.OneOf(schema.Object{"A": schema.Any, "B": schema.Any}),
	"Resource": schema.OneOrMore(schema.Text(1, 3)),
	"Redrive":  schema.JSON(schema.Map(schema.Object{"Max": schema.Required(schema.Integer(1, 3))})),
	"Targets":  schema.Dictionary(`^SNS$`, schema.Any),
}

func TestConforming(t *testing.T) {
	for _, properties := range []string{
		`{"Mode":"ON"}`,
		`{"Mode":"OFF","Name":"abc","Size":10,"Ratio":0.5,"Active":true,"Names":["a","b"],"Nested":{"Deep":""},"Action":{"A":"x"},"Targets":{"SNS":"x"}}`,
		`{"Mode":"ON","Resource":"a","Redrive":{"Max":1}}`, `{"Mode":"ON","Resource":["a","b"],"Redrive":"{\"Max\":\"3\"}"}`,
		`{"Mode":"ON","Size":"3","Ratio":"1e3","Active":"false","Role":"arn:aws-us-gov:iam::123456789012:role/r","Policy":{},"Tags":[{"Key":"k","Value":""}]}`,
	} {
		var p map[string]any
		if err := json.Unmarshal([]byte(properties), &p); err != nil {
			t.Fatal(err)
		}
		if err := sample.Validate(p); err != nil {
			t.Errorf("%s: %v", properties, err)
		}
	}
}

func TestViolationsAreNamed(t *testing.T) {
	for properties, want := range map[string]string{
		`{}`:                                    "#: required key [Mode] not found",
		`{"Mode":"ON","Colour":"red"}`:          "#: extraneous key [Colour] is not permitted",
		`{"Mode":"MAYBE"}`:                      "#/Mode: MAYBE is not a valid enum value",
		`{"Mode":"ON","Name":"a"}`:              "#/Name: expected minLength: 2, actual: 1",
		`{"Mode":"ON","Name":"abcdef"}`:         "#/Name: expected maxLength: 5, actual: 6",
		`{"Mode":"ON","Name":"abc1"}`:           "#/Name: string [abc1] does not match",
		`{"Mode":"ON","Name":["abc"]}`:          "#/Name: expected type: string, found: array",
		`{"Mode":"ON","Size":11}`:               "#/Size: 11 is not within 1 to 10",
		`{"Mode":"ON","Size":1.5}`:              "#/Size: expected type: integer",
		`{"Mode":"ON","Size":null}`:             "#/Size: expected type: integer, found: null",
		`{"Mode":"ON","Ratio":"NaN"}`:           "#/Ratio: expected type: number",
		`{"Mode":"ON","Active":"yes"}`:          "#/Active: expected type: boolean",
		`{"Mode":"ON","Role":"arn:aws:sns:x"}`:  "#/Role: string",
		`{"Mode":"ON","Names":[]}`:              "#/Names: expected item count: 1 to 2, found: 0",
		`{"Mode":"ON","Names":["a","a"]}`:       "#/Names: array items are not unique",
		`{"Mode":"ON","Names":"a"}`:             "#/Names: expected type: array, found: string",
		`{"Mode":"ON","Policy":"{}"}`:           "#/Policy: expected type: object, found: string",
		`{"Mode":"ON","Nested":{}}`:             "#/Nested: required key [Deep] not found",
		`{"Mode":"ON","Nested":true}`:           "#/Nested: expected type: object, found: boolean",
		`{"Mode":"ON","Action":{}}`:             "#/Action: exactly one of [A B] is expected, found 0",
		`{"Mode":"ON","Action":{"C":"x"}}`:      "#/Action: extraneous key [C] is not permitted",
		`{"Mode":"ON","Targets":{"SQS":"x"}}`:   "#/Targets: extraneous key [SQS] is not permitted",
		`{"Mode":"ON","Resource":[]}`:           "#/Resource: expected item count",
		`{"Mode":"ON","Resource":["a","long"]}`: "#/Resource/1: expected maxLength: 3",
		`{"Mode":"ON","Resource":{}}`:           "#/Resource: expected type: string, found: object",
		`{"Mode":"ON","Redrive":"{"}`:           "#/Redrive: expected JSON",
		`{"Mode":"ON","Redrive":"{\"Min\":1}"}`: "#/Redrive: extraneous key [Min] is not permitted",
		`{"Mode":"ON","Targets":1}`:             "#/Targets: expected type: object, found: number",
		`{"Mode":"ON","Tags":[{"Key":"only"}]}`: "#/Tags/0: required key [Value] not found",
	} {
		var p map[string]any
		if err := json.Unmarshal([]byte(properties), &p); err != nil {
			t.Fatal(err)
		}
		if err := sample.Validate(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", properties, err, want)
		}
	}
}

func TestAllViolationsAreReportedAtOnce(t *testing.T) {
	err := sample.Validate(map[string]any{"Size": 0.0, "Extra": "x"})
	for _, want := range []string{"[Mode] not found", "#/Size", "[Extra]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}
