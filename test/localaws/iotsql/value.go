package iotsql

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// value is one of undefined, null, boolean, number, text, array and *object.
type value any

type (
	// undefined is what AWS calls Undefined: not a value of JSON, but an
	// operand of SQL.
	undefined struct{}
	null      struct{}
	boolean   bool
	text      string
	array     []value
)

// object is a JSON object whose keys keep their order.
type object struct {
	keys   []string
	values map[string]value
}

func newObject() *object {
	return &object{values: map[string]value{}}
}

// set gives key a value: a new key comes last, a known one keeps its place.
// Undefined has no JSON and is left out.
func (o *object) set(key string, v value) {
	if isUndefined(v) {
		return
	}
	if _, known := o.values[key]; !known {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

func (o *object) setAll(from *object) {
	if from == nil {
		return
	}
	for _, key := range from.keys {
		o.set(key, from.values[key])
	}
}

func (o *object) get(key string) value {
	if v, ok := o.values[key]; ok {
		return v
	}
	return undefined{}
}

func isUndefined(v value) bool {
	_, ok := v.(undefined)
	return ok
}

func isNull(v value) bool {
	_, ok := v.(null)
	return ok
}

// decodeJSON reads a JSON document, keeping the order of keys and the form of
// numbers; false if b is none.
func decodeJSON(b []byte) (value, bool) {
	// Valid also bounds the depth, which the recursion below does not.
	if !json.Valid(b) {
		return undefined{}, false
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	v, err := decodeValue(dec)
	return v, err == nil
}

func decodeValue(dec *json.Decoder) (value, error) {
	token, err := dec.Token()
	if err != nil {
		return undefined{}, err
	}
	switch t := token.(type) {
	case bool:
		return boolean(t), nil
	case string:
		return text(t), nil
	case json.Number:
		return parseNumber(t.String()), nil
	case json.Delim:
		if t == '[' {
			return decodeArray(dec)
		}
		return decodeObject(dec)
	default:
		return null{}, nil
	}
}

func decodeArray(dec *json.Decoder) (value, error) {
	a := array{}
	for dec.More() {
		v, err := decodeValue(dec)
		if err != nil {
			return undefined{}, err
		}
		a = append(a, v)
	}
	_, err := dec.Token()
	return a, err
}

func decodeObject(dec *json.Decoder) (value, error) {
	o := newObject()
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return undefined{}, err
		}
		v, err := decodeValue(dec)
		if err != nil {
			return undefined{}, err
		}
		o.set(key.(string), v)
	}
	_, err := dec.Token()
	return o, err
}

// encodeJSON writes v as JSON. Undefined by itself is empty, inside of an array
// or object it is left out.
func encodeJSON(v value) []byte {
	var b bytes.Buffer
	writeJSON(&b, v)
	return b.Bytes()
}

func writeJSON(b *bytes.Buffer, v value) {
	switch v := v.(type) {
	case undefined:
	case null:
		b.WriteString("null")
	case boolean:
		if v {
			b.WriteString("true")
		} else {
			b.WriteString("false")
		}
	case number:
		b.WriteString(v.String())
	case text:
		writeText(b, string(v))
	case array:
		b.WriteByte('[')
		separator := ""
		for _, e := range v {
			if isUndefined(e) {
				continue
			}
			b.WriteString(separator)
			separator = ","
			writeJSON(b, e)
		}
		b.WriteByte(']')
	case *object:
		b.WriteByte('{')
		for i, key := range v.keys {
			if i > 0 {
				b.WriteByte(',')
			}
			writeText(b, key)
			b.WriteByte(':')
			writeJSON(b, v.values[key])
		}
		b.WriteByte('}')
	}
}

// writeText writes a JSON string without the escapes that are for HTML only.
func writeText(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	// A string always encodes; the encoder ends it with a newline.
	_ = enc.Encode(s)
	b.Truncate(b.Len() - 1)
}

// toText is the conversion "To string" of the page "Data types": Null and
// Undefined have none.
func toText(v value) (string, bool) {
	switch v := v.(type) {
	case undefined, null:
		return "", false
	case text:
		return string(v), true
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
	case text:
		if !decimalText.MatchString(string(v)) {
			return number{}, false
		}
		n, ok := parseNumber(string(v)).(number)
		return n, ok
	default:
		return number{}, false
	}
}

// toBoolean is the conversion "To Boolean": of strings only "true" and "false",
// in any case.
func toBoolean(v value) (value, bool) {
	switch v := v.(type) {
	case boolean:
		return v, true
	case text:
		switch {
		case strings.EqualFold(string(v), "true"):
			return boolean(true), true
		case strings.EqualFold(string(v), "false"):
			return boolean(false), true
		}
	}
	return undefined{}, false
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

// equal compares as the operator = does, which never sees Undefined here:
// numbers by value, arrays in order, objects in any order. Values of different
// types are not equal.
func equal(x, y value) bool {
	switch x := x.(type) {
	case null:
		return isNull(y)
	case boolean:
		y, ok := y.(boolean)
		return ok && x == y
	case number:
		y, ok := y.(number)
		return ok && x.d.Cmp(y.d) == 0
	case text:
		y, ok := y.(text)
		return ok && x == y
	case array:
		y, ok := y.(array)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !equal(x[i], y[i]) {
				return false
			}
		}
		return true
	case *object:
		y, ok := y.(*object)
		if !ok || len(x.keys) != len(y.keys) {
			return false
		}
		for key, v := range x.values {
			if other, known := y.values[key]; !known || !equal(v, other) {
				return false
			}
		}
		return true
	}
	return false
}

func operate(op string, x, y value) value {
	switch op {
	case "AND", "OR":
		return connect(op, x, y)
	case "=", "<>":
		if isUndefined(x) || isUndefined(y) {
			return undefined{}
		}
		return boolean(equal(x, y) == (op == "="))
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
		return l.(boolean) && r.(boolean)
	}
	return l.(boolean) || r.(boolean)
}

func negate(x value) value {
	b, ok := toBoolean(x)
	if !ok {
		return undefined{}
	}
	return !b.(boolean)
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
		return boolean(order < 0)
	case "<=":
		return boolean(order <= 0)
	case ">":
		return boolean(order > 0)
	}
	return boolean(order >= 0)
}

// add concatenates as soon as one side is a String, and adds two numbers.
func add(x, y value) value {
	_, left := x.(text)
	_, right := y.(text)
	if left || right {
		l, ok := toText(x)
		r, ok2 := toText(y)
		if !ok || !ok2 {
			return undefined{}
		}
		return text(l + r)
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
	if _, isText := x.(text); isText {
		l.whole = false
	}
	if _, isText := y.(text); isText {
		r.whole = false
	}
	return calculate(op, l, r)
}
