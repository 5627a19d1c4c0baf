package iotsql

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

// operate applies an operator between two values.
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
	if !ok {
		return undefined{}
	}
	r, ok := toBoolean(y)
	if !ok {
		return undefined{}
	}
	if op == "AND" {
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
	if !ok {
		return undefined{}
	}
	r, ok := toNumber(y)
	if !ok {
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
	default:
		return boolean(order >= 0)
	}
}

// add concatenates as soon as one side is a String, and adds two numbers.
func add(x, y value) value {
	_, left := x.(text)
	_, right := y.(text)
	if left || right {
		l, ok := toText(x)
		if !ok {
			return undefined{}
		}
		r, ok := toText(y)
		if !ok {
			return undefined{}
		}
		return text(l + r)
	}
	return operateNumbers("+", x, y)
}

func operateNumbers(op string, x, y value) value {
	l, ok := toNumber(x)
	if !ok {
		return undefined{}
	}
	r, ok := toNumber(y)
	if !ok {
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
