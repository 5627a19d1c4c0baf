// Package iotapi holds the rows and values of the AWS IoT API that both the vocabulary and
// our own two sides read: metrics, operators, values and audit checks.
package iotapi

import "fmt"

// Operator compares a datapoint with the value of a behavior. It states what is
// normal: a datapoint for which the comparison is false is a violation. The set
// operators ask it of every element, so an empty list conforms.
type Operator string

// The comparison operators, spelled as the AWS IoT API spells them.
const (
	LessThan          Operator = "less-than"
	LessThanEquals    Operator = "less-than-equals"
	GreaterThan       Operator = "greater-than"
	GreaterThanEquals Operator = "greater-than-equals"
	InCIDRSet         Operator = "in-cidr-set"
	NotInCIDRSet      Operator = "not-in-cidr-set"
	InPortSet         Operator = "in-port-set"
	NotInPortSet      Operator = "not-in-port-set"
	InSet             Operator = "in-set"
	NotInSet          Operator = "not-in-set"
)

// ValueKind is the kind of a metric's datapoints.
type ValueKind int

// The kinds; each is one field of [Value].
const (
	CountValue ValueKind = iota + 1
	CIDRsValue
	PortsValue
	NumberValue
	NumbersValue
	StringsValue
)

// String is the name of the field in the AWS IoT API.
func (k ValueKind) String() string {
	names := [...]string{"", "count", "cidrs", "ports", "number", "numbers", "strings"}
	if k < 0 || int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// MetricSide tells where a metric's datapoints come from.
type MetricSide int

const (
	// CloudSide metrics are measured by AWS IoT.
	CloudSide MetricSide = iota + 1
	// DeviceSide metrics stand in the reports of an agent on the device.
	DeviceSide
	// CustomSide metrics are defined by the user and reported by the device.
	CustomSide
)

// MetricInfo is the row of the metrics table.
type MetricInfo struct {
	// Name is the metric's name in the AWS IoT API.
	Name string
	// Unit is what a datapoint counts.
	Unit string
	Side MetricSide
	Kind ValueKind
	// Windowed tells that a static value is compared over a window.
	Windowed bool
	// UpperBoundOnly tells that only less-than and less-than-equals are allowed.
	UpperBoundOnly bool
	// Statistical tells that statistical thresholds and learned behaviors exist.
	Statistical bool
	// Dimensional tells that a dimension by topic filter can be set.
	Dimensional bool
}

// Operators returns those that AWS allows for the metric.
func (i MetricInfo) Operators() []Operator {
	switch {
	case i.UpperBoundOnly:
		return []Operator{LessThan, LessThanEquals}
	case i.Kind == CIDRsValue:
		return []Operator{InCIDRSet, NotInCIDRSet}
	case i.Kind == PortsValue:
		return []Operator{InPortSet, NotInPortSet}
	case i.Kind == NumbersValue || i.Kind == StringsValue:
		return []Operator{InSet, NotInSet}
	}
	return []Operator{LessThan, LessThanEquals, GreaterThan, GreaterThanEquals}
}

// CustomMetricType is the type of a custom metric in AWS::IoT::CustomMetric, ""
// for a metric that AWS defines.
func (i MetricInfo) CustomMetricType() string {
	if i.Side != CustomSide {
		return ""
	}
	return map[ValueKind]string{NumberValue: "number", NumbersValue: "number-list", StringsValue: "string-list", CIDRsValue: "ip-address-list"}[i.Kind]
}

// Value is what a datapoint is compared with, and what a datapoint is: exactly one
// field is set. The JSON form is that of the AWS IoT API.
type Value struct {
	Count   *int64    `json:"count,omitempty"`
	CIDRs   []string  `json:"cidrs,omitempty"`
	Ports   []uint16  `json:"ports,omitempty"`
	Number  *float64  `json:"number,omitempty"`
	Numbers []float64 `json:"numbers,omitempty"`
	Strings []string  `json:"strings,omitempty"`
}

// Kind is the field that is set, 0 if none is.
func (v Value) Kind() ValueKind {
	switch {
	case v.Count != nil:
		return CountValue
	case v.CIDRs != nil:
		return CIDRsValue
	case v.Ports != nil:
		return PortsValue
	case v.Number != nil:
		return NumberValue
	case v.Numbers != nil:
		return NumbersValue
	case v.Strings != nil:
		return StringsValue
	}
	return 0
}

// Elements is the number of elements of a set, 0 for a single number.
func (v Value) Elements() int {
	return len(v.CIDRs) + len(v.Ports) + len(v.Numbers) + len(v.Strings)
}

// String is the value as a finding shows it: "8", "[443 80]".
func (v Value) String() string {
	switch v.Kind() {
	case CountValue:
		return fmt.Sprint(*v.Count)
	case NumberValue:
		return fmt.Sprint(*v.Number)
	case CIDRsValue:
		return fmt.Sprint(v.CIDRs)
	case PortsValue:
		return fmt.Sprint(v.Ports)
	case NumbersValue:
		return fmt.Sprint(v.Numbers)
	case StringsValue:
		return fmt.Sprintf("%q", v.Strings)
	}
	return ""
}

// Partial says that a list in a device report is not whole. The zero value is a list of
// which elements cannot be read.
type Partial struct {
	// Listed and Total are how many elements the report lists and how many it says there
	// are, where the list is a sample; else both are 0.
	Listed int64 `json:"listed,omitempty"`
	Total  int64 `json:"total,omitempty"`
}

// Sampled reports whether the device listed a sample only.
func (p Partial) Sampled() bool { return p.Total > 0 }

// String is how a finding shows a sample: "50 of 126".
func (p Partial) String() string { return fmt.Sprintf("%d of %d", p.Listed, p.Total) }
