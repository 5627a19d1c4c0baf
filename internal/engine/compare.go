package engine

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/defenderhub/defenderhub/internal/iotapi"
)

// Verdict is what a datapoint says about a behavior. The greater verdict of a period
// wins: one violating datapoint makes the period violate.
type Verdict int8

// The verdicts. None is a missing datapoint, and one that cannot be judged.
const (
	None Verdict = iota
	Conforms
	Violates
)

// verdict turns "is normal" into a Verdict.
func verdict(normal bool) Verdict {
	if normal {
		return Conforms
	}
	return Violates
}

// comparison is a static criteria, parsed once: an operator and its value, which say
// what is normal.
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

// judge compares a datapoint with the criteria. The set operators ask each element,
// so an empty list conforms. A datapoint of another kind than the criteria, a number
// that is none (CBOR can carry NaN) and a list in which nothing violates but an
// element cannot be read give None.
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

// numberOf is the number in a value that holds one.
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

// judgeAddresses asks each address. A measured network lies in a set if one network
// of the set holds all of it, and breaks not-in if it shares any address.
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

// network reads an address or a network. IPv4 addresses written as IPv6 are IPv4, and
// a zone says nothing about the address.
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
