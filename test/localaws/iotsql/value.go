package iotsql

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// value is undefined{} or a value of JSON: nil, bool, number, string, []any or map[string]any.
type value = any

// undefined is AWS's Undefined, an operand of SQL that JSON does not have.
type undefined struct{}

type object = map[string]any

// set sets a key, unless the value is Undefined, which JSON does not have.
func set(o object, key string, v value) {
	if !isUndefined(v) {
		o[key] = v
	}
}

func isUndefined(v value) bool { return v == undefined{} }

// decodeJSON decodes a JSON document. It returns false if b is not one.
func decodeJSON(b []byte) (value, bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if !json.Valid(b) || d.Decode(&v) != nil {
		return undefined{}, false
	}
	return withNumbers(v), true
}

// withNumbers converts the numbers of a document. It leaves out a number beyond AWS's range,
// which is Undefined.
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

// encodeJSON encodes v with sorted keys. It returns nil for Undefined.
func encodeJSON(v value) []byte {
	if isUndefined(v) {
		return nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // all values have types of JSON
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// toText is the conversion "To string" of the page "Data types". Null and Undefined do not
// convert.
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

// toNumber is the conversion "To decimal". Of strings, only decimal numbers convert.
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

// toBoolean is the conversion "To Boolean". Of strings, only "true" and "false" convert, in any
// case.
func toBoolean(v value) (truth, ok bool) {
	if s, isText := v.(string); isText {
		return strings.EqualFold(s, "true"), strings.EqualFold(s, "true") || strings.EqualFold(s, "false")
	}
	truth, ok = v.(bool)
	return truth, ok
}

// decimalText matches the strings that AWS converts to a number.
var decimalText = regexp.MustCompile(`^-?\d+(\.\d+)?((?i)E-?\d+)?$`)

// number is an Int or a Decimal. In version 2016-03-23, a whole Decimal is an Int. Only quotients
// are rounded here; AWS rounds every number to 34 digits.
type number struct{ *big.Rat }

// The digits and the largest exponent of a number, from the page "Data types" of the AWS IoT SQL
// reference.
const (
	maxDigits   = 34
	maxExponent = 999
)

var tooLarge = new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(maxExponent+1), nil))

// newNumber returns r, or Undefined beyond AWS's range. It rounds r to maxDigits if r has
// infinitely many digits, or more than the smallest number of AWS.
func newNumber(r *big.Rat) value {
	if new(big.Rat).Abs(r).Cmp(tooLarge) >= 0 {
		return undefined{}
	}
	if digits, exact := r.FloatPrec(); !exact || digits > maxExponent {
		r.SetString(r.FloatString(maxDigits))
	}
	return number{r}
}

func newInt(i int64) number { return number{big.NewRat(i, 1)} }

func parseNumber(s string) value {
	r, ok := new(big.Rat), false
	if _, exponent, _ := strings.Cut(strings.ToLower(s), "e"); len(exponent) <= len("-999") {
		_, ok = r.SetString(s)
	}
	if !ok {
		return undefined{}
	}
	return newNumber(r)
}

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	digits, _ := n.FloatPrec()
	return []byte(n.FloatString(digits)), nil
}

// floor returns the largest Int that is not above n.
func (n number) floor() *big.Int { return new(big.Int).Div(n.Num(), n.Denom()) }

// equal is the operator =. Values of different types are not equal.
func equal(x, y value) bool {
	switch x := x.(type) {
	case number:
		y, ok := y.(number)
		return ok && x.Cmp(y.Rat) == 0
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

// connect is AND and OR. If either side does not convert to a Boolean, the result is Undefined:
// there is no short circuit.
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
	order := l.Cmp(r.Rat)
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

// add concatenates if one side is a String, and otherwise adds two numbers.
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

// operateNumbers truncates the quotient of two Ints. Division by zero is Undefined. A String
// converts to a Decimal even if it is whole, so its quotients have a fraction.
func operateNumbers(op string, x, y value) value {
	l, ok := toNumber(x)
	r, ok2 := toNumber(y)
	if !ok || !ok2 || op == "/" && r.Sign() == 0 {
		return undefined{}
	}
	z := new(big.Rat)
	switch op {
	case "+":
		z.Add(l.Rat, r.Rat)
	case "-":
		z.Sub(l.Rat, r.Rat)
	case "*":
		z.Mul(l.Rat, r.Rat)
	case "/":
		z.Quo(l.Rat, r.Rat)
		_, text := x.(string)
		_, text2 := y.(string)
		if !text && !text2 && l.IsInt() && r.IsInt() {
			z.SetInt(new(big.Int).Quo(z.Num(), z.Denom()))
		}
	}
	return newNumber(z)
}
