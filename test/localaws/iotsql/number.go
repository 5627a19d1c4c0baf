package iotsql

import (
	"regexp"

	"github.com/cockroachdb/apd/v3"
)

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

// halfUp rounds 1.5 to 2 and -1.5 to -2, as AWS's examples of round do.
var halfUp = func() *apd.Context {
	c := arithmetic
	c.Rounding = apd.RoundHalfUp
	return &c
}()

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

// parseNumber reads the text of a JSON or SQL number.
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

// floor rounds down to the nearest Int.
func (n number) floor() value {
	return n.integral(arithmetic.Floor)
}

func (n number) integral(round func(d, x *apd.Decimal) (apd.Condition, error)) value {
	if n.whole {
		return n
	}
	var d apd.Decimal
	if _, err := round(&d, n.d); err != nil {
		return undefined{}
	}
	return newNumber(&d)
}

// clamp gives the Int at or below n, held between low and high.
func (n number) clamp(low, high int64) int64 {
	if n.d.Cmp(apd.New(low, 0)) < 0 {
		return low
	}
	if n.d.Cmp(apd.New(high, 0)) > 0 {
		return high
	}
	f, ok := n.floor().(number)
	if !ok {
		return low
	}
	i, err := f.d.Int64()
	if err != nil {
		return low
	}
	return i
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
	case "%":
		cond, err = arithmetic.Rem(&d, x.d, y.d)
	}
	if err != nil || cond.Overflow() || cond.DivisionByZero() || cond.InvalidOperation() || cond.DivisionImpossible() {
		return undefined{}
	}
	return newNumber(&d)
}
