package iotsql

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// jsonDocument generates JSON objects.
func jsonDocument() *rapid.Generator[map[string]any] {
	return rapid.MapOfN(rapid.StringMatching(`[a-e]{1,2}`), jsonValue(3), 0, 5)
}

func jsonValue(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int().AsAny(), rapid.Float64Range(-1e9, 1e9).AsAny(),
		rapid.String().AsAny(), rapid.StringMatching(`-?[0-9]{1,3}(\.[0-9])?`).AsAny(), rapid.SampledFrom([]string{"true", "FALSE"}).AsAny(),
	}
	if depth > 0 {
		leaves = append(leaves, rapid.SliceOfN(jsonValue(depth-1), 0, 4).AsAny(),
			rapid.MapOfN(rapid.StringMatching(`[a-e]`), jsonValue(depth-1), 0, 4).AsAny())
	}
	return rapid.OneOf(leaves...)
}

// sqlExpression generates expressions that are legal in WHERE.
func sqlExpression(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		if depth == 0 {
			return rapid.SampledFrom([]string{"a", "b.c", "missing", "1", "-2.50", "'x'", `"10"`, "true", "NULL", "topic()", "encode(*, 'base64')"}).Draw(t, "leaf")
		}
		sub := func() string { return sqlExpression(rapid.IntRange(0, depth-1).Draw(t, "depth")).Draw(t, "operand") }
		switch rapid.IntRange(0, 5).Draw(t, "form") {
		case 0:
			return "(" + sub() + ")"
		case 1:
			return "(NOT " + sub() + ")"
		case 2:
			return "cast(" + sub() + " AS Int)"
		case 3:
			names := make([]string, 0, len(functions))
			for name := range functions {
				names = append(names, name)
			}
			slices.Sort(names)
			name := rapid.SampledFrom(names).Draw(t, "function")
			args := make([]string, max(functions[name].min, functions[name].max))
			for i := range args {
				args[i] = sub()
			}
			if name == "encode" {
				args[1] = "'base64'"
			}
			return name + "(" + strings.Join(args, ", ") + ")"
		default:
			op := rapid.SampledFrom([]string{"AND", "OR", "=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/"}).Draw(t, "op")
			return "(" + sub() + " " + op + " " + sub() + ")"
		}
	})
}

func TestLegalExpressionsNeverFail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		expr := sqlExpression(3).Draw(t, "expr")
		payload, err := json.Marshal(jsonDocument().Draw(t, "payload"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse("SELECT *, 1 AS one FROM '#' WHERE isUndefined(" + expr + ") OR true")
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		out, matched, err := s.Eval(exampleMessage(string(payload)))
		if err != nil || !matched || !json.Valid(out) {
			t.Fatalf("%s on %s: output %s, matched %t, error %v", expr, payload, out, matched, err)
		}
	})
}

func TestSelectAllReturnsTheSameDocument(t *testing.T) {
	s := mustParse(t, "SELECT * FROM '#'")
	rapid.Check(t, func(t *rapid.T) {
		in, err := json.Marshal(jsonDocument().Draw(t, "payload"))
		if err != nil {
			t.Fatal(err)
		}
		out, _, err := s.Eval(Message{Payload: in})
		if err != nil {
			t.Fatal(err)
		}
		want, _ := decodeJSON(in)
		got, ok := decodeJSON(out)
		if !ok || !equal(got, want) {
			t.Fatalf("in  %s\nout %s", in, out)
		}
		if again := encodeJSON(got); string(again) != string(out) {
			t.Fatalf("not stable: %s, then %s", out, again)
		}
	})
}

func TestEncodeOfAnyPayload(t *testing.T) {
	s := mustParse(t, "SELECT encode(*, 'base64') AS all, encode(s, 'base64') AS part FROM '#'")
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		payload, err := json.Marshal(map[string]string{"s": text})
		if err != nil {
			t.Fatal(err)
		}
		out, _, err := s.Eval(Message{Payload: payload})
		encoded := base64.StdEncoding.EncodeToString
		want := fmt.Sprintf(`{"all":%q,"part":%q}`, encoded(payload), encoded([]byte(text)))
		if err != nil || string(out) != want {
			t.Fatalf("%s: %s, %v, want %s", payload, out, err, want)
		}
	})
}

func TestIntDivisionTruncates(t *testing.T) {
	s := mustParse(t, "SELECT a / b AS q, a - a / b * b AS r, a < b AS less FROM '#'")
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.Int64().Draw(t, "a")
		b := rapid.Int64().Filter(func(i int64) bool { return i != 0 && i != -1 }).Draw(t, "b")
		out, _, err := s.Eval(Message{Payload: fmt.Appendf(nil, `{"a":%d,"b":%d}`, a, b)})
		want := fmt.Sprintf(`{"less":%t,"q":%d,"r":%d}`, a < b, a/b, a%b)
		if err != nil || string(out) != want {
			t.Fatalf("got %s, %v, want %s", out, err, want)
		}
	})
}

func TestFilterDerivedFromATopicMatchesIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		levels := rapid.SliceOfN(rapid.StringMatching(`[a-c]{0,2}`), 1, 8).Draw(t, "levels")
		topic := strings.Join(levels, "/")
		filter := slices.Clone(levels)
		for i := range filter {
			if rapid.Bool().Draw(t, "wild") {
				filter[i] = "+"
			}
		}
		if rapid.Bool().Draw(t, "cut") {
			filter[rapid.IntRange(0, len(filter)-1).Draw(t, "at")] = "#"
			filter = filter[:slices.Index(filter, "#")+1]
		}
		joined := strings.Join(filter, "/")
		if joined == "" {
			return
		}
		s, err := Parse("SELECT * FROM '" + joined + "'")
		if err != nil {
			t.Fatal(err)
		}
		if !s.Matches("r", topic) {
			t.Fatalf("%s does not match %s", joined, topic)
		}
		if !strings.HasSuffix(joined, "#") && s.Matches("r", topic+"/more") {
			t.Fatalf("%s matches a deeper topic than %s", joined, topic)
		}
	})
}
