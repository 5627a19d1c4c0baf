package iotsql

import (
	"fmt"
	"strings"
	"testing"
)

// operands has an operand of each type.
const operands = `{"i":2,"d":1.5,"t":true,"s":"x","n":"10","a":[1],"o":{"k":1},"z":null,
	"a2":[1,2],"a3":[2,1],"p":{"a":1,"b":2},"q":{"b":2,"a":1},"r":{"j":1}}`

func checkOperands(t *testing.T, table []struct{ expr, want string }) {
	t.Helper()
	for _, tt := range table {
		if got := evalExpr(t, tt.expr, operands); got != tt.want {
			t.Errorf("%s = %s, want %s", tt.expr, got, tt.want)
		}
	}
}

func TestUndefinedOperandMakesTheResultUndefined(t *testing.T) {
	for _, op := range []string{"=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "AND", "OR"} {
		for _, other := range []string{"i", "d", "t", "s", "n", "a", "o", "z", "missing"} {
			for _, expr := range []string{
				fmt.Sprintf("missing %s %s", op, other),
				fmt.Sprintf("%s %s missing", other, op),
			} {
				if got := evalExpr(t, expr, operands); got != "" {
					t.Errorf("%s = %s, want Undefined", expr, got)
				}
			}
		}
	}
	if got := evalExpr(t, "NOT missing", operands); got != "" {
		t.Errorf("NOT missing = %s, want Undefined", got)
	}
}

func TestOrWithAMissingFieldDoesNotMatch(t *testing.T) {
	s := mustParse(t, `SELECT * FROM 'a' WHERE reason = 'AUTH_ERROR' OR code = 5`)
	if _, matched, err := s.Eval(Message{Payload: []byte(`{"reason":"AUTH_ERROR"}`)}); matched || err != nil {
		t.Errorf("matched %t, %v, want no match: code is Undefined", matched, err)
	}
	if _, matched, _ := s.Eval(Message{Payload: []byte(`{"reason":"AUTH_ERROR","code":1}`)}); !matched {
		t.Error("no match with both fields")
	}
}

func TestBooleanOperatorsAcceptBooleansAndTheirNames(t *testing.T) {
	checkOperands(t, []struct{ expr, want string }{
		{"t AND true", "true"}, {"t AND false", "false"}, {"false OR t", "true"}, {"false or false", "false"},
		{`"TRUE" AND t`, "true"}, {`"False" OR "true"`, "true"}, {`NOT "false"`, "true"}, {"NOT t", "false"}, {"NOT NOT t", "true"},
		{"t AND s", ""}, {"t OR i", ""}, {"t OR z", ""}, {"NOT i", ""}, {"NOT z", ""}, {"t OR a", ""},
		{"true OR false AND false", "true"}, {"NOT false AND false", "false"}, {"NOT i = 3", "true"},
	})
}

func TestEqualityByType(t *testing.T) {
	checkOperands(t, []struct{ expr, want string }{
		{"i = 2", "true"}, {"i = 2.0", "true"}, {"d = 1.50", "true"}, {"i <> 2", "false"}, {"i = 3", "false"},
		{`s = 'x'`, "true"}, {`s = "X"`, "false"}, {`s <> "X"`, "true"}, {"t = TRUE", "true"}, {"t = false", "false"},
		{"a = a", "true"}, {"a = a2", "false"}, {"a2 = a3", "false"}, {"a <> a2", "true"},
		{"o = o", "true"}, {"p = q", "true"}, {"o <> p", "true"}, {"o = r", "false"},
		// Mismatched types, among them a numeric string and a number.
		{`n = 10`, "false"}, {`n <> 10`, "true"}, {`t = "true"`, "false"}, {`z = s`, "false"}, {`z <> s`, "true"}, {`a = o`, "false"}, {`i = t`, "false"},
		{"z = null", "true"}, {"z <> null", "false"}, {"null <> null", "false"},
	})
}

func TestOrderConvertsToDecimal(t *testing.T) {
	checkOperands(t, []struct{ expr, want string }{
		{"i < 3", "true"}, {"i <= 2", "true"}, {"i > d", "true"}, {"i >= 2.5", "false"},
		{"n > 9", "true"}, {`"9" < "10"`, "true"}, {`"-1.2e1" < 0`, "true"}, {`"5E-12" > 0`, "true"},
		{"s > 1", ""}, {"t < 2", ""}, {"z < 2", ""}, {"a < 2", ""}, {"o > 1", ""}, {`"1." > 0`, ""}, {`" 1" > 0`, ""}, {`"+1" > 0`, ""}, {`".5" > 0`, ""},
	})
}

func TestArithmetic(t *testing.T) {
	checkOperands(t, []struct{ expr, want string }{
		{"1 + 2", "3"}, {"1 + 2.5", "3.5"}, {"2 - 3", "-1"}, {"2*3", "6"}, {"2 * 1.5", "3"}, {"10.0", "10"}, {"1e3", "1000"}, {"1.50", "1.5"},
		// The result of two Ints is an Int, truncated.
		{"7 / 2", "3"}, {"-7 / 2", "-3"}, {"7.0 / 2", "3"}, {"7 / 2.5", "2.8"}, {"1 / 3", "0"},
		{"1.5 / 3", "0.5"}, {"1.5 / 4.5", "0.3333333333333333333333333333333333"}, {"2 + 3 * 4", "14"}, {"(2 + 3) * 4", "20"}, {"7 - 2 - 1", "4"}, {"8 / 2 / 2", "2"},
		// A string converts to a Decimal.
		{`n / 4`, "2.5"}, {`n - 1`, "9"}, {`n * "2"`, "20"}, {"s - 1", ""}, {"s * 2", ""}, {"t + 1", ""}, {"z - 1", ""}, {"a * 2", ""}, {"o - 1", ""}, {"t - t", ""},
		{"1 / 0", ""}, {"1.5 / 0", ""}, {"0 / 0", ""}, {"0 * -1", "0"},
		// All results but quotients are exact, within AWS's range.
		{"9999999999999999999999999999999999 + 1", "10000000000000000000000000000000000"},
		{"2.5 / 3.75", "0.6666666666666666666666666666666667"}, {"0.1 + 0.2", "0.3"}, {"9E999 * 10", ""}, {"1E-999 / 10", "0"}, {"1E40 * 1", "10000000000000000000000000000000000000000"}, {"1E999 * 9", "9" + strings.Repeat("0", 999)},
		// + with a string concatenates.
		{`"a" + 1`, `"a1"`}, {`1 + "a"`, `"1a"`}, {`n + 1`, `"101"`}, {`"a" + t`, `"atrue"`}, {`"a" + a`, `"a[1]"`}, {`"a" + o`, `"a{\"k\":1}"`}, {`"a" + z`, ""}, {`"a" + 0.0000001`, `"a0.0000001"`},
	})
}
