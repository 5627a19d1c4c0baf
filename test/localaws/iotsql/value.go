package iotsql

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// value is undefined or one of JSON: nil, bool, number, string, []any and map[string]any.
type value = any

// undefined is what AWS calls Undefined: not a value of JSON, but an operand of SQL.
type undefined struct{}

type object = map[string]any

// set gives key a value. Undefined has no JSON and is left out.
func set(o object, key string, v value) {
	if !isUndefined(v) {
		o[key] = v
	}
}

func isUndefined(v value) bool { return v == undefined{} }

// decodeJSON reads a JSON document; false if b is none.
func decodeJSON(b []byte) (value, bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if !json.Valid(b) || d.Decode(&v) != nil {
		return undefined{}, false
	}
	return withNumbers(v), true
}

// withNumbers gives the numbers of a document their value. One that is out of AWS's range is
// Undefined, and left out.
func withNumbers(v any) value {
	switch v := v.(type) {
	case json.Number:
		return parseNumber(v.String())
	case []any:
		items := []any{}
		for _, item := range v {
			if item = withNumbers(item); !isUndefined(item) {
				items = append(items, item)
			}
		}
		return items
	case map[string]any:
		for key, inner := range v {
			delete(v, key)
			set(v, key, withNumbers(inner))
		}
	}
	return v
}

// encodeJSON writes v as JSON, with keys in their order, and Undefined as nothing.
func encodeJSON(v value) []byte {
	if isUndefined(v) {
		return nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // it has types of JSON only
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// toText is the conversion "To string" of the page "Data types": Null and
// Undefined have none.
func toText(v value) (string, bool) {
	switch v := v.(type) {
	case undefined, nil:
		return "", false
	case string:
		return v, true
	default:
		return string(encodeJSON(v)), true
	}
}

// toNumber is the conversion "To decimal": of strings only those that look like
// numbers.
func toNumber(v value) (number, bool) {
	switch v := v.(type) {
	case number:
		return v, true
	case string:
		if !decimalText.MatchString(v) {
			return number{}, false
		}
		n, ok := parseNumber(v).(number)
		return n, ok
	default:
		return number{}, false
	}
}

// toBoolean is the conversion "To Boolean": of strings only "true" and "false",
// in any case.
func toBoolean(v value) (truth, ok bool) {
	if s, isText := v.(string); isText {
		return strings.EqualFold(s, "true"), strings.EqualFold(s, "true") || strings.EqualFold(s, "false")
	}
	truth, ok = v.(bool)
	return truth, ok
}

// maxDigits is the precision of Int and Decimal, from the page "Data types" of
// the AWS IoT SQL reference.
const maxDigits = 34

// arithmetic holds AWS's limits: 34 digits, magnitudes from 1E-999 to
// 9.999...E999. Rounding half even is IEEE 754's decimal128, which has these
// 34 digits; AWS names no rounding.
var arithmetic = apd.Context{
	Precision:   maxDigits,
	MaxExponent: 999,
	MinExponent: -999,
	Rounding:    apd.RoundHalfEven,
}

// decimalText is what AWS converts from String to a number by itself.
var decimalText = regexp.MustCompile(`^-?\d+(\.\d+)?((?i)E-?\d+)?$`)

// number is an Int or a Decimal. In version 2016-03-23 a whole Decimal is an
// Int, so that which of the two it is follows from the value.
type number struct {
	d *apd.Decimal
	// whole is true for an Int.
	whole bool
}

// newNumber makes the value of d, which it takes over: Undefined for what lies
// outside of AWS's range, an Int for what is whole.
func newNumber(d *apd.Decimal) value {
	cond, err := arithmetic.Round(d, d)
	if err != nil || cond.Overflow() || d.Form != apd.Finite {
		return undefined{}
	}
	if cond.Subnormal() || d.IsZero() {
		return number{d: new(apd.Decimal), whole: true}
	}
	var whole apd.Decimal
	whole.Reduce(d)
	if whole.Exponent < 0 || whole.NumDigits()+int64(whole.Exponent) > maxDigits {
		return number{d: d}
	}
	if whole.Exponent > 0 {
		if _, err := arithmetic.Quantize(&whole, &whole, 0); err != nil {
			return undefined{}
		}
	}
	return number{d: &whole, whole: true}
}

func newInt(i int64) number {
	return number{d: apd.New(i, 0), whole: true}
}

func parseNumber(s string) value {
	d, _, err := apd.NewFromString(s)
	if err != nil {
		return undefined{}
	}
	return newNumber(d)
}

// String is the number in standard notation for an Int, possibly in scientific
// notation for a Decimal. Both are JSON.
func (n number) String() string {
	if n.whole {
		return n.d.Text('f')
	}
	return n.d.String()
}

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) { return []byte(n.String()), nil }

func (n number) floor() value {
	if n.whole {
		return n
	}
	var d apd.Decimal
	if _, err := arithmetic.Floor(&d, n.d); err != nil {
		return undefined{}
	}
	return newNumber(&d)
}

// int64 gives the Int at or below n, false if it has no 64 bits.
func (n number) int64() (int64, bool) {
	f, ok := n.floor().(number)
	if !ok {
		return 0, false
	}
	i, err := f.d.Int64()
	return i, err == nil
}

// calculate applies an arithmetic operator to two numbers. Int with Int stays
// Int; division by zero is Undefined.
func calculate(op string, x, y number) value {
	var d apd.Decimal
	var cond apd.Condition
	var err error
	switch op {
	case "+":
		cond, err = arithmetic.Add(&d, x.d, y.d)
	case "-":
		cond, err = arithmetic.Sub(&d, x.d, y.d)
	case "*":
		cond, err = arithmetic.Mul(&d, x.d, y.d)
	case "/":
		if x.whole && y.whole {
			cond, err = arithmetic.QuoInteger(&d, x.d, y.d)
		} else {
			cond, err = arithmetic.Quo(&d, x.d, y.d)
			if !cond.Inexact() {
				d.Reduce(&d) // Quo fills up with zeros to 34 digits
			}
		}
	}
	if err != nil || cond.Overflow() || cond.DivisionByZero() || cond.InvalidOperation() || cond.DivisionImpossible() {
		return undefined{}
	}
	return newNumber(&d)
}

// equal compares as the operator = does: numbers by value, arrays in order, objects in any.
// Values of different types are not equal.
func equal(x, y value) bool {
	switch x := x.(type) {
	case number:
		y, ok := y.(number)
		return ok && x.d.Cmp(y.d) == 0
	case []any:
		y, ok := y.([]any)
		return ok && slices.EqualFunc(x, y, equal)
	case object:
		y, ok := y.(object)
		return ok && maps.EqualFunc(x, y, equal)
	}
	return reflect.DeepEqual(x, y)
}

func operate(op string, x, y value) value {
	switch op {
	case "AND", "OR":
		return connect(op, x, y)
	case "=", "<>":
		if isUndefined(x) || isUndefined(y) {
			return undefined{}
		}
		return equal(x, y) == (op == "=")
	case "<", "<=", ">", ">=":
		return compare(op, x, y)
	case "+":
		return add(x, y)
	default:
		return operateNumbers(op, x, y)
	}
}

// connect evaluates both sides always: Undefined, or any value that is not
// Boolean, makes the whole Undefined.
func connect(op string, x, y value) value {
	l, ok := toBoolean(x)
	r, ok2 := toBoolean(y)
	switch {
	case !ok || !ok2:
		return undefined{}
	case op == "AND":
		return l && r
	}
	return l || r
}

func negate(x value) value {
	b, ok := toBoolean(x)
	if !ok {
		return undefined{}
	}
	return !b
}

func compare(op string, x, y value) value {
	l, ok := toNumber(x)
	r, ok2 := toNumber(y)
	if !ok || !ok2 {
		return undefined{}
	}
	order := l.d.Cmp(r.d)
	switch op {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

// add concatenates as soon as one side is a String, and adds two numbers.
func add(x, y value) value {
	_, left := x.(string)
	_, right := y.(string)
	if left || right {
		l, ok := toText(x)
		r, ok2 := toText(y)
		if !ok || !ok2 {
			return undefined{}
		}
		return l + r
	}
	return operateNumbers("+", x, y)
}

func operateNumbers(op string, x, y value) value {
	l, ok := toNumber(x)
	r, ok2 := toNumber(y)
	if !ok || !ok2 {
		return undefined{}
	}
	// A string becomes a Decimal even where it is whole, so that it divides
	// with a fraction.
	if _, isText := x.(string); isText {
		l.whole = false
	}
	if _, isText := y.(string); isText {
		r.whole = false
	}
	return calculate(op, l, r)
}
