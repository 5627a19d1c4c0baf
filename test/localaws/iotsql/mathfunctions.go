package iotsql

import (
	"errors"
	"math"

	"github.com/cockroachdb/apd/v3"
)

// mathFunctions convert their arguments to numbers; without conversion the
// result is Undefined.
var mathFunctions = map[string]function{
	"abs": {min: 1, max: 1, eval: numbers(func(n []number) value {
		return newNumber(new(apd.Decimal).Abs(n[0].d))
	})},
	"sign":      {min: 1, max: 1, eval: numbers(func(n []number) value { return newInt(int64(n[0].d.Sign())) })},
	"ceil":      {min: 1, max: 1, eval: numbers(func(n []number) value { return n[0].integral(arithmetic.Ceil) })},
	"floor":     {min: 1, max: 1, eval: numbers(func(n []number) value { return n[0].floor() })},
	"round":     {min: 1, max: 1, eval: numbers(func(n []number) value { return n[0].integral(halfUp.RoundToIntegralValue) })},
	"trunc":     {min: 2, max: 2, eval: numbers(truncate)},
	"mod":       {min: 2, max: 2, eval: numbers(remainder)},
	"remainder": {min: 2, max: 2, eval: numbers(remainder)},
	"bitand":    {min: 2, max: 2, eval: bits(func(x, y int64) int64 { return x & y })},
	"bitor":     {min: 2, max: 2, eval: bits(func(x, y int64) int64 { return x | y })},
	"bitxor":    {min: 2, max: 2, eval: bits(func(x, y int64) int64 { return x ^ y })},
	"rand":      {eval: random},

	"acos":  {min: 1, max: 1, eval: double(math.Acos)},
	"asin":  {min: 1, max: 1, eval: double(math.Asin)},
	"atan":  {min: 1, max: 1, eval: double(math.Atan)},
	"cos":   {min: 1, max: 1, eval: double(math.Cos)},
	"cosh":  {min: 1, max: 1, eval: double(math.Cosh)},
	"exp":   {min: 1, max: 1, eval: double(math.Exp)},
	"ln":    {min: 1, max: 1, eval: double(math.Log)},
	"log":   {min: 1, max: 1, eval: double(math.Log10)},
	"sin":   {min: 1, max: 1, eval: double(math.Sin)},
	"sinh":  {min: 1, max: 1, eval: double(math.Sinh)},
	"sqrt":  {min: 1, max: 1, eval: double(math.Sqrt)},
	"tan":   {min: 1, max: 1, eval: double(math.Tan)},
	"tanh":  {min: 1, max: 1, eval: double(math.Tanh)},
	"atan2": {min: 2, max: 2, eval: double2(math.Atan2)},
	"power": {min: 2, max: 2, eval: double2(math.Pow)},
}

// halfUp rounds 1.5 to 2 and -1.5 to -2, as AWS's examples of round do.
var halfUp = func() *apd.Context {
	c := arithmetic
	c.Rounding = apd.RoundHalfUp
	return &c
}()

// down cuts digits off.
var down = func() *apd.Context {
	c := arithmetic
	c.Rounding = apd.RoundDown
	return &c
}()

// numbers makes a function of numbers, Undefined where an argument is none.
func numbers(f func([]number) value) func(*scope, []value) (value, error) {
	return pure(func(args []value) value {
		converted := make([]number, len(args))
		for i, a := range args {
			n, ok := toNumber(a)
			if !ok {
				return undefined{}
			}
			converted[i] = n
		}
		return f(converted)
	})
}

// double makes a function with double precision.
func double(f func(float64) float64) func(*scope, []value) (value, error) {
	return numbers(func(n []number) value {
		x, ok := n[0].float64()
		if !ok {
			return undefined{}
		}
		return newDouble(f(x))
	})
}

func double2(f func(x, y float64) float64) func(*scope, []value) (value, error) {
	return numbers(func(n []number) value {
		x, ok := n[0].float64()
		if !ok {
			return undefined{}
		}
		y, ok := n[1].float64()
		if !ok {
			return undefined{}
		}
		return newDouble(f(x, y))
	})
}

// bits makes a function of two Ints of 64 bits; numbers are rounded down.
func bits(f func(x, y int64) int64) func(*scope, []value) (value, error) {
	return numbers(func(n []number) value {
		x, ok := n[0].int64()
		if !ok {
			return undefined{}
		}
		y, ok := n[1].int64()
		if !ok {
			return undefined{}
		}
		return newInt(f(x, y))
	})
}

func remainder(n []number) value { return calculate("%", n[0], n[1]) }

// truncate cuts off all but a number of decimal places, and trailing zeros.
func truncate(n []number) value {
	if n[0].whole {
		return n[0]
	}
	places := int32(n[1].clamp(0, maxDigits))
	if n[0].d.Exponent >= -places {
		return newNumber(new(apd.Decimal).Set(n[0].d))
	}
	var d apd.Decimal
	if _, err := down.Quantize(&d, n[0].d, -places); err != nil {
		return undefined{}
	}
	d.Reduce(&d)
	return newNumber(&d)
}

func random(s *scope, _ []value) (value, error) {
	if s.message.Random == nil {
		return undefined{}, errors.New("rand(): Message.Random is missing")
	}
	return newDouble(s.message.Random()), nil
}
