package evaluate

import (
	"slices"

	"github.com/defenderhub/defenderhub/defender"
)

// What is kept of a measured list, for the finding: elements, and characters of each.
const (
	maxElements      = 64
	maxElementLength = 128
)

// brief is the value as state and transitions keep it. Of a list that is too long it
// keeps what violates before what conforms.
func (c comparison) brief(v defender.Value) defender.Value {
	v.Ports = shorten(v.Ports, func(p uint16) Verdict { return c.judge(defender.Value{Ports: []uint16{p}}) })
	v.Numbers = shorten(v.Numbers, func(n float64) Verdict { return c.judge(defender.Value{Numbers: []float64{n}}) })
	v.CIDRs = cut(shorten(v.CIDRs, func(a string) Verdict { return c.judge(defender.Value{CIDRs: []string{a}}) }))
	v.Strings = cut(shorten(v.Strings, func(s string) Verdict { return c.judge(defender.Value{Strings: []string{s}}) }))
	return v
}

func shorten[E any](list []E, judge func(E) Verdict) []E {
	if len(list) <= maxElements {
		return list
	}
	kept := make([]E, 0, maxElements)
	for _, violating := range []bool{true, false} {
		for _, e := range list {
			if len(kept) < maxElements && (judge(e) == Violates) == violating {
				kept = append(kept, e)
			}
		}
	}
	return kept
}

func cut(list []string) []string {
	if !slices.ContainsFunc(list, func(s string) bool { return len(s) > maxElementLength }) {
		return list
	}
	short := slices.Clone(list)
	for i, s := range short {
		if r := []rune(s); len(r) > maxElementLength {
			short[i] = string(r[:maxElementLength-1]) + "…"
		}
	}
	return short
}
