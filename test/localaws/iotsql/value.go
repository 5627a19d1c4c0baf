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

// decimalText is what AWS converts from String to a number by itself.
var decimalText = regexp.MustCompile(`^-?\d+(\.\d+)?((?i)E-?\d+)?$`)

// number is an Int or a Decimal: in version 2016-03-23 a whole Decimal is an Int. It is exact,
// but for a quotient; AWS rounds everything to 34 digits.
type number struct{ *big.Rat }

// The range of numbers and their digits, from the page "Data types" of the AWS IoT SQL
// reference. Digits behind the point are cut only where there are more than the smallest has.
const (
	maxDigits   = 34
	maxExponent = 999
)

var tooLarge = new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(maxExponent+1), nil))

// newNumber makes the value of r: Undefined for what lies outside of AWS's range.
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

// floor is the Int at or below n.
func (n number) floor() *big.Int { return new(big.Int).Div(n.Num(), n.Denom()) }

// equal compares as the operator = does: numbers by value, arrays in order, objects in any.
// Values of different types are not equal.
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

// operateNumbers keeps Int divided by Int an Int; division by zero is Undefined. A string
// becomes a Decimal even where it is whole, so that it divides with a fraction.
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
