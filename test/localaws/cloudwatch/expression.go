package cloudwatch

import (
	"fmt"
	"slices"

	"github.com/alecthomas/participle/v2"
)

// The part of metric math that is understood: + - * / with numbers and metrics,
// FILL(m, number), and MAX, MIN, SUM, AVG over METRICS() or a list.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
type (
	sum struct {
		First *product  `parser:"@@"`
		Rest  []*addend `parser:"@@*"`
	}
	addend struct {
		Operator string   `parser:"@('+' | '-')"`
		Value    *product `parser:"@@"`
	}
	product struct {
		First *operand  `parser:"@@"`
		Rest  []*factor `parser:"@@*"`
	}
	factor struct {
		Operator string   `parser:"@('*' | '/')"`
		Value    *operand `parser:"@@"`
	}
	operand struct {
		Negated *operand `parser:"  '-' @@"`
		Number  *float64 `parser:"| @(Float | Int)"`
		Call    *call    `parser:"| @@"`
		ID      string   `parser:"| @Ident"`
		Inner   *sum     `parser:"| '(' @@ ')'"`
	}
	call struct {
		Name      string      `parser:"@Ident '('"`
		Arguments []*argument `parser:"( @@ ( ',' @@ )* )? ')'"`
	}
	argument struct {
		List  []*sum `parser:"  '[' @@ ( ',' @@ )* ']'"`
		Value *sum   `parser:"| @@"`
	}
)

var grammar = participle.MustBuild[sum](participle.UseLookahead(2))

// values are the values of metrics in one period, by id; a missing one is not there.
type values map[string]float64

// expression computes a value; false says that it is missing.
type expression func(values) (float64, bool)

// parseExpression compiles an expression over the metrics with these ids.
func parseExpression(text string, ids []string) (expression, error) {
	tree, err := grammar.ParseString("", text)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", text, err)
	}
	e, err := compiler{ids}.sum(tree)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", text, err)
	}
	return e, nil
}

type compiler struct{ ids []string }

func (c compiler) sum(s *sum) (expression, error) {
	e, err := c.product(s.First)
	for _, next := range s.Rest {
		if err != nil {
			return nil, err
		}
		var right expression
		right, err = c.product(next.Value)
		e = binary(next.Operator, e, right)
	}
	return e, err
}

func (c compiler) product(p *product) (expression, error) {
	e, err := c.operand(p.First)
	for _, next := range p.Rest {
		if err != nil {
			return nil, err
		}
		var right expression
		right, err = c.operand(next.Value)
		e = binary(next.Operator, e, right)
	}
	return e, err
}

// binary is missing where one of its sides is, and where it divides by 0.
func binary(operator string, left, right expression) expression {
	return func(v values) (float64, bool) {
		x, okX := left(v)
		y, okY := right(v)
		if !okX || !okY {
			return 0, false
		}
		switch operator {
		case "+":
			return x + y, true
		case "-":
			return x - y, true
		case "*":
			return x * y, true
		}
		return x / y, y != 0
	}
}

func (c compiler) operand(o *operand) (expression, error) {
	switch {
	case o.Negated != nil:
		e, err := c.operand(o.Negated)
		return func(v values) (float64, bool) {
			x, ok := e(v)
			return -x, ok
		}, err
	case o.Number != nil:
		return func(values) (float64, bool) { return *o.Number, true }, nil
	case o.Call != nil:
		return c.call(o.Call)
	case o.Inner != nil:
		return c.sum(o.Inner)
	}
	if !slices.Contains(c.ids, o.ID) {
		return nil, fmt.Errorf("%s is not the id of a metric of the alarm", o.ID)
	}
	return func(v values) (float64, bool) {
		x, ok := v[o.ID]
		return x, ok
	}, nil
}

func (c compiler) call(f *call) (expression, error) {
	switch f.Name {
	case "FILL":
		return c.fill(f)
	case "MAX", "MIN", "SUM", "AVG":
		if len(f.Arguments) == 1 {
			return c.aggregate(f.Name, f.Arguments[0])
		}
	}
	return nil, fmt.Errorf("the local AWS does not know %s with %d arguments", f.Name, len(f.Arguments))
}

func (c compiler) fill(f *call) (expression, error) {
	if len(f.Arguments) != 2 || f.Arguments[0].Value == nil || f.Arguments[1].Value == nil {
		return nil, fmt.Errorf("FILL: want a metric and a number")
	}
	filled, err := c.sum(f.Arguments[0].Value)
	if err != nil {
		return nil, err
	}
	// Without ids: a number, not REPEAT or LINEAR.
	filler, err := compiler{}.sum(f.Arguments[1].Value)
	if err != nil {
		return nil, fmt.Errorf("FILL: the local AWS fills with numbers: %w", err)
	}
	return func(v values) (float64, bool) {
		if x, ok := filled(v); ok {
			return x, true
		}
		return filler(v)
	}, nil
}

// aggregate works across metrics, over those that are there. Over one metric these
// functions would look at all periods.
func (c compiler) aggregate(name string, a *argument) (expression, error) {
	var members []expression
	for _, s := range a.List {
		e, err := c.sum(s)
		if err != nil {
			return nil, err
		}
		members = append(members, e)
	}
	if a.List == nil {
		if !isMetrics(a.Value) {
			return nil, fmt.Errorf("%s: the local AWS knows METRICS() and lists, no single metric", name)
		}
		for _, id := range c.ids {
			members = append(members, func(v values) (float64, bool) {
				x, ok := v[id]
				return x, ok
			})
		}
	}
	return func(v values) (float64, bool) {
		var all Statistics
		for _, m := range members {
			if x, ok := m(v); ok {
				all.add(Statistics{1, x, x, x})
			}
		}
		return all.value(map[string]string{"MAX": "Maximum", "MIN": "Minimum", "SUM": "Sum", "AVG": "Average"}[name]), all.Count > 0
	}, nil
}

func isMetrics(s *sum) bool {
	f := s.First.First.Call
	return f != nil && f.Name == "METRICS" && len(f.Arguments) == 0 && len(s.Rest) == 0 && len(s.First.Rest) == 0
}
