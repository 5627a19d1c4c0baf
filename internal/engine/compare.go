package engine

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Verdict is the result of comparing a datapoint with a behavior. The greatest verdict of a
// window counts: one violating datapoint makes the window violate.
type Verdict int8

// The verdicts. None is a datapoint that is missing or cannot be judged.
const (
	None Verdict = iota
	Conforms
	Violates
)

// verdict converts a comparison with the normal values to a Verdict.
func verdict(normal bool) Verdict {
	if normal {
		return Conforms
	}
	return Violates
}

// comparison is a static criteria, parsed once. A measured value is normal if the comparison with
// value is true.
type comparison struct {
	operator iotapi.Operator
	value    iotapi.Value
	networks []netip.Prefix
}

func newComparison(op iotapi.Operator, value iotapi.Value) comparison {
	c := comparison{operator: op, value: value}
	for _, text := range value.CIDRs {
		if p, ok := network(text); ok {
			c.networks = append(c.networks, p)
		}
	}
	return c
}

// judge compares a datapoint with the criteria. The set operators compare each element, so an empty
// list conforms. The result is None for a value of another type than the criteria, for NaN (which
// CBOR allows), and for a list with an invalid element but no violating one.
func (c comparison) judge(measured iotapi.Value) Verdict {
	switch c.operator {
	case iotapi.LessThan, iotapi.LessThanEquals, iotapi.GreaterThan, iotapi.GreaterThanEquals:
		return c.judgeNumber(measured)
	case iotapi.InPortSet, iotapi.NotInPortSet:
		if measured.Ports == nil {
			return None
		}
		return judgeEach(measured.Ports, c.value.Ports, c.operator == iotapi.InPortSet)
	case iotapi.InCIDRSet, iotapi.NotInCIDRSet:
		if measured.CIDRs == nil {
			return None
		}
		return c.judgeAddresses(measured.CIDRs)
	case iotapi.InSet, iotapi.NotInSet:
		in := c.operator == iotapi.InSet
		switch {
		case measured.Numbers != nil && c.value.Numbers != nil:
			return judgeEach(measured.Numbers, c.value.Numbers, in)
		case measured.Strings != nil && c.value.Strings != nil:
			return judgeEach(measured.Strings, c.value.Strings, in)
		}
	}
	return None
}

func (c comparison) judgeNumber(measured iotapi.Value) Verdict {
	if m, n := measured.Count, c.value.Count; m != nil && n != nil {
		return verdict(holds(c.operator, cmp.Compare(*m, *n)))
	}
	m, ok := numberOf(measured)
	n, known := numberOf(c.value)
	if !ok || !known {
		return None
	}
	return verdict(holds(c.operator, cmp.Compare(m, n)))
}

// holds reports whether op is true of two numbers that compare as order, -1 to 1.
func holds(op iotapi.Operator, order int) bool {
	switch op {
	case iotapi.LessThan:
		return order < 0
	case iotapi.LessThanEquals:
		return order <= 0
	case iotapi.GreaterThan:
		return order > 0
	}
	return order >= 0
}

// numberOf returns the number of a value, false if it has none.
func numberOf(v iotapi.Value) (float64, bool) {
	switch {
	case v.Count != nil:
		return float64(*v.Count), true
	case v.Number != nil && !math.IsNaN(*v.Number):
		return *v.Number, true
	}
	return 0, false
}

func judgeEach[E comparable](measured, set []E, in bool) Verdict {
	for _, e := range measured {
		if slices.Contains(set, e) != in {
			return Violates
		}
	}
	return Conforms
}

// judgeAddresses compares each address. A measured network is in a set if one network of the set
// contains it, and violates not-in if it shares any address with one.
func (c comparison) judgeAddresses(measured []string) Verdict {
	all := Conforms
	for _, text := range measured {
		p, ok := network(text)
		if !ok {
			all = None
			continue
		}
		if !c.addressConforms(p) {
			return Violates
		}
	}
	return all
}

func (c comparison) addressConforms(p netip.Prefix) bool {
	if c.operator == iotapi.NotInCIDRSet {
		return !slices.ContainsFunc(c.networks, p.Overlaps)
	}
	return slices.ContainsFunc(c.networks, func(n netip.Prefix) bool {
		return n.Bits() <= p.Bits() && n.Overlaps(p)
	})
}

// network parses an address or a network. IPv4 addresses written as IPv6 become IPv4. A zone is
// ignored.
func network(text string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}
