package iotsql

import "errors"

// query is a SELECT, of the statement or nested.
type query struct {
	// value is the expression of SELECT VALUE, else nil.
	value expr
	items []item
	// from is what a nested SELECT reads, nil in the statement itself.
	from  expr
	where expr
}

// item is one column of SELECT; with expr nil it is *.
type item struct {
	key  string
	expr expr
	// keys adds the keys of expr, an object, in place of one key.
	keys bool
}

// all tells whether the query is SELECT * or SELECT VALUE *, which passes on
// payloads that are not JSON.
func (q *query) all() bool {
	if q.value != nil {
		_, all := q.value.(payload)
		return all
	}
	return len(q.items) == 1 && q.items[0].expr == nil
}

// holds tells whether WHERE is true: Undefined is not.
func (q *query) holds(s *scope) (bool, error) {
	if q.where == nil {
		return true, nil
	}
	v, err := q.where.eval(s)
	if err != nil {
		return false, err
	}
	// A condition is a Boolean, or a String that converts to one.
	b, ok := toBoolean(v)
	return ok && bool(b.(boolean)), nil
}

// project evaluates the SELECT list.
func (q *query) project(s *scope) (value, error) {
	if q.value != nil {
		return q.value.eval(s)
	}
	result := newObject()
	for _, it := range q.items {
		if it.expr != nil {
			v, err := it.expr.eval(s)
			if err != nil {
				return undefined{}, err
			}
			if !it.keys {
				result.set(it.key, v)
				continue
			}
			o, ok := v.(*object)
			if !ok && !isUndefined(v) {
				return undefined{}, errors.New(".* selects the keys of a JSON object, and the value is none")
			}
			if ok {
				result.setAll(o)
			}
			continue
		}
		if q.all() {
			return s.element, nil
		}
		o, ok := s.element.(*object)
		if !ok && s.empty {
			continue
		}
		if !ok {
			return undefined{}, errors.New("* with further items adds to a JSON object, and the payload is none")
		}
		result.setAll(o)
	}
	return result, nil
}

// eval is a nested SELECT: an array from an array, one value from an object.
func (q *query) eval(s *scope) (value, error) {
	from, err := q.from.eval(s)
	if err != nil {
		return undefined{}, err
	}
	elements, ok := from.(array)
	if !ok {
		if _, ok := from.(*object); !ok {
			return undefined{}, nil
		}
		v, _, err := q.evalElement(s, from)
		return v, err
	}
	result := array{}
	for _, e := range elements {
		v, holds, err := q.evalElement(s, e)
		if err != nil {
			return undefined{}, err
		}
		if holds && !isUndefined(v) {
			result = append(result, v)
		}
	}
	return result, nil
}

func (q *query) evalElement(s *scope, element value) (value, bool, error) {
	inner := *s
	inner.element, inner.empty = element, false
	holds, err := q.holds(&inner)
	if err != nil || !holds {
		return undefined{}, false, err
	}
	v, err := q.project(&inner)
	return v, true, err
}
