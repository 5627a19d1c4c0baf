package engine

import (
	"encoding/json"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Limits of a measured list in state and transitions: elements, characters per element, and bytes
// of all strings as JSON, which may need six bytes per character. A product field of a finding can
// hold no more.
const (
	maxElements      = 64
	maxElementLength = 128
	maxListBytes     = 2048
)

// brief returns the value that state and transitions contain. A list that is too long loses
// conforming elements before violating ones.
func (c comparison) brief(v iotapi.Value) iotapi.Value {
	v.Ports = shorten(v.Ports, func(p uint16) Verdict { return c.judge(iotapi.Value{Ports: []uint16{p}}) })
	v.Numbers = shorten(v.Numbers, func(n float64) Verdict { return c.judge(iotapi.Value{Numbers: []float64{n}}) })
	v.CIDRs = cut(shorten(v.CIDRs, func(a string) Verdict { return c.judge(iotapi.Value{CIDRs: []string{a}}) }))
	v.Strings = cut(shorten(v.Strings, func(s string) Verdict { return c.judge(iotapi.Value{Strings: []string{s}}) }))
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
	if list == nil {
		return nil
	}
	short := make([]string, 0, len(list))
	size := 0
	for _, s := range list {
		if r := []rune(s); len(r) > maxElementLength {
			s = string(r[:maxElementLength-1]) + "…"
		}
		text, _ := json.Marshal(s) // strings always marshal
		if size += len(text); size > maxListBytes {
			break
		}
		short = append(short, s)
	}
	return short
}
